//! One scan of JPEG-LS: prediction, contexts and run mode, T.87 annex A. Names follow the standard where it has them.

use super::{super::super::super::Refusal, Bits, DAMAGED};

/// How the components of a scan take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interleave {
    /// A line of each, which for one component is no interleaving at all.
    Line,
    /// A sample of each.
    Sample,
}

/// What an LSE segment sets; 0 stands for the default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Presets {
    pub(super) max_value: i32,
    pub(super) thresholds: [i32; 3],
    pub(super) reset: i32,
}

/// What all samples of a scan are coded with (T.87 A.2.1 and C.2.4.1.1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    max_value: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i32,
    /// Number of distinct prediction errors.
    range: i32,
    /// Bits that hold `range`.
    error_bits: u32,
    /// Longest code in bits.
    limit: u32,
}

/// The lengths of runs are coded in units of 2 to the power of these.
const RUN_ORDERS: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

/// Contexts of the regular mode: 9³ triples of quantised gradients, up to their sign.
const NUM_CONTEXTS: usize = 365;

impl Parameters {
    /// `None` if the numbers contradict each other.
    pub(super) fn new(precision: u32, near: i32, presets: &Presets) -> Option<Self> {
        let highest = (1 << precision) - 1;
        let max_value = if presets.max_value == 0 { highest } else { presets.max_value };
        if max_value > highest || near > 255.min(max_value / 2) {
            return None;
        }
        let clamp =
            |value: i32, low: i32| if value > max_value || value < low { low } else { value };
        let [t1, t2, t3] = if max_value >= 128 {
            let factor = (max_value.min(4095) + 128) / 256;
            [factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near]
        } else {
            let factor = 256 / (max_value + 1);
            [
                (3 / factor + 3 * near).max(2),
                (7 / factor + 5 * near).max(3),
                (21 / factor + 7 * near).max(4),
            ]
        };
        let [p1, p2, p3] = presets.thresholds;
        let chosen = |preset: i32, default: i32, low: i32| {
            if preset == 0 { clamp(default, low) } else { preset }
        };
        let t1 = chosen(p1, t1, near + 1);
        let t2 = chosen(p2, t2, t1);
        let t3 = chosen(p3, t3, t2);
        if !(near < t1 && t1 <= t2 && t2 <= t3 && t3 <= max_value) {
            return None;
        }
        let range = (max_value + 2 * near) / (2 * near + 1) + 1;
        let bits = |count: i32| i32::BITS - (count - 1).leading_zeros();
        let sample_bits = bits(max_value + 1).max(2);
        Some(Self {
            max_value,
            near,
            thresholds: [t1, t2, t3],
            reset: if presets.reset == 0 { 64 } else { presets.reset.max(3) },
            range,
            error_bits: bits(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
        })
    }

    /// Quantises a gradient to -4 ..= 4.
    fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let level = match size {
            _ if size <= self.near => 0,
            _ if size < t1 => 1,
            _ if size < t2 => 2,
            _ if size < t3 => 3,
            _ => 4,
        };
        level * gradient.signum()
    }

    /// Adds a (dequantised) error to a prediction, modulo the range.
    fn reconstruct(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = prediction + error * step;
        let wrapped = match value {
            _ if value < -self.near => value + self.range * step,
            _ if value > self.max_value + self.near => value - self.range * step,
            _ => value,
        };
        wrapped.clamp(0, self.max_value)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// T.87 table C.3: the defaults for 8, 12 and 16 bits.
    #[test]
    fn thresholds_have_their_defaults() {
        let thresholds = |precision, near| {
            Parameters::new(precision, near, &Presets::default()).unwrap().thresholds
        };
        assert_eq!(thresholds(8, 0), [3, 7, 21]);
        assert_eq!(thresholds(12, 0), [18, 67, 276]);
        assert_eq!(thresholds(16, 0), [18, 67, 276]);
        assert_eq!(thresholds(8, 2), [9, 17, 35]);
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(Parameters::new(8, 200, &Presets::default()), None);
        let presets = Presets { max_value: 300, ..Presets::default() };
        assert_eq!(Parameters::new(8, 0, &presets), None);
        let presets = Presets { thresholds: [9, 5, 20], ..Presets::default() };
        assert_eq!(Parameters::new(8, 0, &presets), None);
    }
}
