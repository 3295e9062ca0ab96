//! One scan of JPEG-LS: prediction, contexts and run mode, T.87 annex A. Names follow the standard where it has them.

use super::{super::super::super::Refusal, Bits, DAMAGED, Parameters};

/// How the components of a scan take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interleave {
    /// A line of each, which for one component is no interleaving at all.
    Line,
    /// A sample of each.
    Sample,
}

/// The lengths of runs are coded in units of 2 to the power of these.
const RUN_ORDERS: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

/// Contexts of the regular mode: 9³ triples of quantised gradients, up to their sign.
const NUM_CONTEXTS: usize = 365;

/// Statistics of one context of the regular mode.
#[derive(Debug, Clone, Copy)]
struct Context {
    /// Sum of error sizes.
    a: i32,
    /// Sum of errors, kept within (-n, 0].
    b: i32,
    /// Correction of the prediction.
    c: i32,
    /// Occurrences.
    n: i32,
}

/// Statistics of one context of the run mode.
#[derive(Debug, Clone, Copy)]
struct RunContext {
    a: i32,
    n: i32,
    /// Negative errors.
    negatives: i32,
}

pub(super) struct Scan<'a> {
    parameters: &'a Parameters,
    contexts: Vec<Context>,
    run_contexts: [RunContext; 2],
}

/// What is around a sample: left, above, above left, above right.
#[derive(Debug, Clone, Copy)]
struct Around {
    a: i32,
    b: i32,
    c: i32,
    d: i32,
}

/// A line of samples of one component, with one more on either side.
type Line = Vec<i32>;

impl<'a> Scan<'a> {
    pub(super) fn new(parameters: &'a Parameters) -> Self {
        let a = ((parameters.range + 32) / 64).max(2);
        Self {
            parameters,
            contexts: vec![Context { a, b: 0, c: 0, n: 1 }; NUM_CONTEXTS],
            run_contexts: [RunContext { a, n: 1, negatives: 0 }; 2],
        }
    }

    /// Decodes `members` of pixels of `stride` samples, line by line, into `pixels`.
    pub(super) fn decode(
        &mut self,
        bits: &mut Bits<'_>,
        interleave: Interleave,
        members: &[usize],
        stride: usize,
        columns: usize,
        pixels: &mut [u16],
    ) -> Result<(), Refusal> {
        let mut above = vec![vec![0; columns + 2]; members.len()];
        let mut lines = above.clone();
        let mut run_indices = vec![0; members.len()];
        for row in pixels.chunks_exact_mut(columns * stride) {
            for (line, above) in lines.iter_mut().zip(&mut above) {
                above[columns + 1] = above[columns];
                line[0] = above[1];
            }
            match interleave {
                Interleave::Line => {
                    for (index, run_index) in run_indices.iter_mut().enumerate() {
                        self.line(
                            bits,
                            &above[index..=index],
                            &mut lines[index..=index],
                            run_index,
                        )?;
                    }
                }
                Interleave::Sample => self.line(bits, &above, &mut lines, &mut run_indices[0])?,
            }
            for (line, &member) in lines.iter().zip(members) {
                for (to, &value) in row[member..].iter_mut().step_by(stride).zip(&line[1..=columns])
                {
                    *to = value as u16;
                }
            }
            std::mem::swap(&mut above, &mut lines);
        }
        Ok(())
    }

    /// One line of components that take turns sample by sample; often only one.
    fn line(
        &mut self,
        bits: &mut Bits<'_>,
        above: &[Line],
        lines: &mut [Line],
        run_index: &mut usize,
    ) -> Result<(), Refusal> {
        let columns = lines[0].len() - 2;
        let mut x = 1;
        while x <= columns {
            let is_flat = |component: usize| self.context(around(above, lines, component, x)) == 0;
            if (0..lines.len()).all(is_flat) {
                let length = self.run_length(bits, columns + 1 - x, run_index)?;
                for line in lines.iter_mut() {
                    let value = line[x - 1];
                    line[x..x + length].fill(value);
                }
                x += length;
                if x > columns {
                    break;
                }
                for component in 0..lines.len() {
                    let near_by = around(above, lines, component, x);
                    let is_alone = lines.len() == 1;
                    lines[component][x] = self.after_run(bits, near_by, is_alone, *run_index)?;
                }
                *run_index = run_index.saturating_sub(1);
            } else {
                for component in 0..lines.len() {
                    let near_by = around(above, lines, component, x);
                    lines[component][x] = self.regular(bits, near_by)?;
                }
            }
            x += 1;
        }
        Ok(())
    }

    /// The context by the gradients, negative where the signs are mirrored (A.3.3, A.3.4).
    fn context(&self, Around { a, b, c, d }: Around) -> i32 {
        let q = |gradient| self.parameters.quantize(gradient);
        81 * q(d - b) + 9 * q(b - c) + q(c - a)
    }

    /// A sample of the regular mode (A.4 to A.6).
    fn regular(&mut self, bits: &mut Bits<'_>, near_by: Around) -> Result<i32, Refusal> {
        let parameters = self.parameters;
        let signed_context = self.context(near_by);
        let sign = if signed_context < 0 { -1 } else { 1 };
        let context = &mut self.contexts[signed_context.unsigned_abs() as usize];
        let prediction = (predict(near_by) + sign * context.c).clamp(0, parameters.max_value);
        let order = order(context.a, context.n)?;
        let mapped = golomb(bits, order, parameters.limit, parameters.error_bits)?;
        let is_mirrored = parameters.near == 0 && order == 0 && 2 * context.b <= -context.n;
        let error = match (mapped & 1 == 0, is_mirrored) {
            (true, false) => mapped / 2,
            (false, false) => -(mapped + 1) / 2,
            (true, true) => -(mapped / 2) - 1,
            (false, true) => mapped / 2,
        };
        if error.abs() > parameters.range {
            return Err(DAMAGED);
        }
        context.update(error, parameters);
        Ok(parameters.reconstruct(prediction, sign * error))
    }

    /// How many samples repeat the one on the left (A.7.1).
    fn run_length(
        &self,
        bits: &mut Bits<'_>,
        left: usize,
        index: &mut usize,
    ) -> Result<usize, Refusal> {
        let mut length = 0;
        while length < left {
            let unit = 1 << RUN_ORDERS[*index];
            if bits.read(1)? == 0 {
                length += bits.read(RUN_ORDERS[*index])? as usize;
                return if length <= left { Ok(length) } else { Err(DAMAGED) };
            }
            if length + unit <= left {
                *index = (*index + 1).min(31);
            }
            length += unit;
        }
        Ok(left)
    }

    /// The sample that ends a run (A.7.2).
    fn after_run(
        &mut self,
        bits: &mut Bits<'_>,
        Around { a, b, .. }: Around,
        is_alone: bool,
        run_index: usize,
    ) -> Result<i32, Refusal> {
        let parameters = self.parameters;
        // With interleaved samples the standard's test is made for all together, and they differ.
        let is_like_above = is_alone && (a - b).abs() <= parameters.near;
        let kind = i32::from(is_like_above);
        let context = &mut self.run_contexts[usize::from(is_like_above)];
        let order = order(context.a + (context.n >> 1) * kind, context.n)?;
        let limit = parameters.limit - RUN_ORDERS[run_index] - 1;
        let mapped = golomb(bits, order, limit, parameters.error_bits)?;
        let size = (mapped + kind + 1) / 2;
        let is_odd = (mapped + kind) & 1 == 1;
        let error =
            if (order != 0 || 2 * context.negatives >= context.n) == is_odd { -size } else { size };
        if size > parameters.range {
            return Err(DAMAGED);
        }
        context.update(error, (mapped + 1 - kind) >> 1, parameters);
        if is_like_above {
            return Ok(parameters.reconstruct(a, error));
        }
        Ok(parameters.reconstruct(b, if a > b { -error } else { error }))
    }
}

impl Context {
    /// A.6.1 and A.6.2.
    fn update(&mut self, error: i32, parameters: &Parameters) {
        self.b += error * (2 * parameters.near + 1);
        self.a += error.abs();
        if self.n == parameters.reset {
            self.a >>= 1;
            self.b >>= 1; // rounds down, as the standard does for either sign
            self.n >>= 1;
        }
        self.n += 1;
        if self.b <= -self.n {
            self.b = (self.b + self.n).max(1 - self.n);
            self.c = (self.c - 1).max(-128);
        } else if self.b > 0 {
            self.b = (self.b - self.n).min(0);
            self.c = (self.c + 1).min(127);
        }
    }
}

impl RunContext {
    /// A.7.2.
    fn update(&mut self, error: i32, size: i32, parameters: &Parameters) {
        self.negatives += i32::from(error < 0);
        self.a += size;
        if self.n == parameters.reset {
            self.a >>= 1;
            self.n >>= 1;
            self.negatives >>= 1;
        }
        self.n += 1;
    }
}

fn around(above: &[Line], lines: &[Line], component: usize, x: usize) -> Around {
    let (above, line) = (&above[component], &lines[component]);
    Around { a: line[x - 1], b: above[x], c: above[x - 1], d: above[x + 1] }
}

/// The median of left, above, and the plane through the three (A.4.1).
fn predict(Around { a, b, c, .. }: Around) -> i32 {
    let (low, high) = (a.min(b), a.max(b));
    if c >= high {
        low
    } else if c <= low {
        high
    } else {
        a + b - c
    }
}

/// The order of the Golomb code for errors of this mean size (A.5.1).
fn order(sum: i32, count: i32) -> Result<u32, Refusal> {
    (0..24).find(|&order| i64::from(count) << order >= i64::from(sum)).ok_or(DAMAGED)
}

/// A Golomb code of limited length (A.5.3).
fn golomb(bits: &mut Bits<'_>, order: u32, limit: u32, error_bits: u32) -> Result<i32, Refusal> {
    let escape = limit.checked_sub(error_bits + 1).ok_or(DAMAGED)?;
    let zeros = bits.zeros(escape)?;
    if zeros == escape {
        return Ok(bits.read(error_bits)? + 1);
    }
    Ok(((zeros as i32) << order) | bits.read(order)?)
}
