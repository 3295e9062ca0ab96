//! AdamW and the running average of all parameters in one launch, in place.

use super::bridge::enqueue;
use super::prepared;
use super::tensor::{dense, empty, int};
use crate::engine::descent::{Descent, Moving, Parameter, primitive, wrapped};
use crate::engine::nvidia::driver::Argument::{Float, Int, Long};
use crate::engine::nvidia::kernels::{self, Chunk, Format};
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;

/// Rate, weight decay and corrections of a parameter.
type Pace = ([f64; 2], [f64; 2]);

/// The tensors of a parameter, out of burn's hands, each of them held by nobody else.
struct Held {
    value: CubeTensor,
    moving: Option<([CubeTensor; 3], Pace)>,
    average: Option<CubeTensor>,
    /// The bf16 copy that products take.
    shadow: Option<CubeTensor>,
}

/// A row of the kernels' table, but for the addresses.
#[derive(Clone, Copy)]
struct Row {
    len: u64,
    numbers: [f32; 3],
    has_gradient: bool,
    has_average: bool,
    has_shadow: bool,
}

/// See [`crate::engine::descent::descend`].
pub(in crate::engine) fn descend(
    parameters: Vec<Parameter>,
    descent: &Descent,
) -> (Vec<Parameter>, Tensor<1>) {
    prepared::sweep();
    let numbers: Vec<Row> = parameters.iter().map(Row::of).collect();
    let held: Vec<Held> = parameters.into_iter().map(Held::of).collect();
    let of_held = |(row, held): (Row, &Held)| Row { has_shadow: held.shadow.is_some(), ..row };
    let rows: Vec<Row> = numbers.into_iter().zip(&held).map(of_held).collect();
    let near = &held[0].value;
    let norm = empty(near, [1], DType::F32);
    let mut reads: Vec<&CubeTensor> = Vec::new();
    let mut writes: Vec<&CubeTensor> = vec![&norm];
    for held in &held {
        writes.push(&held.value);
        if let Some(([sum, mean, square], ..)) = &held.moving {
            reads.push(sum);
            writes.extend([mean, square]);
        }
        writes.extend(&held.average);
        writes.extend(&held.shadow);
    }
    let (num_read, descent) = (reads.len(), *descent);
    enqueue(near, &reads, &writes, move |call| {
        let chunks = Chunk::all(rows.iter().map(|row| row.len));
        let (read, written) = call.at.split_at(num_read);
        let table = table(&rows, read, &written[1..]);
        let pieces: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| [chunk.tensor, chunk.index])
            .flat_map(u32::to_ne_bytes)
            .collect();
        let sizes = [table.len(), pieces.len(), 4 * chunks.len()];
        let sizes = sizes.map(|size| size.next_multiple_of(256));
        let at = call.runner.scratch(sizes.iter().sum())?;
        let (chunks_at, partial_at) = (at + sizes[0] as u64, at + (sizes[0] + sizes[1]) as u64);
        call.runner.upload(at, &table)?;
        call.runner.upload(chunks_at, &pieces)?;
        let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let (table, chunks_at, partial) = (Long(at), Long(chunks_at), Long(partial_at));
        let norm = Long(written[0]);
        let rounds = Int(descent.rounds.max(1).cast_signed());
        call.runner.launch(&kernels::gradient_squares(count), &[table, chunks_at, partial])?;
        call.runner
            .launch(&kernels::gradient_norm(), &[partial, norm, int(chunks.len()), rounds])?;
        let float = |value: f64| Float(value as f32);
        let [beta1, beta2] = descent.betas.map(float);
        call.runner.note_memory()?;
        call.runner.launch(
            &kernels::adamw(count),
            &[
                table,
                chunks_at,
                norm,
                rounds,
                float(descent.clip_norm),
                float(descent.learning_rate),
                beta1,
                beta2,
                float(descent.epsilon),
                float(descent.decay),
            ],
        )
    });
    (held.into_iter().map(Held::give_back).collect(), wrapped!(Cube, norm))
}

impl Row {
    fn of(parameter: &Parameter) -> Self {
        let numbers = parameter.gradient.as_ref().map_or([0.0, 1.0, 1.0], |moving| {
            let [first, second] = moving.corrections;
            // The kernel has one learning rate for all: what it multiplies or divides by takes the parameter's own.
            [moving.rate * moving.weight_decay, first / moving.rate, second]
        });
        Self {
            len: parameter.value.dims()[0] as u64,
            numbers: numbers.map(|number| number as f32),
            has_gradient: parameter.gradient.is_some(),
            has_average: parameter.average.is_some(),
            has_shadow: false,
        }
    }
}

/// The bytes of [`kernels::Parameter`]s.
fn table(rows: &[Row], read: &[u64], written: &[u64]) -> Vec<u8> {
    let (mut read, mut written) = (read.iter().copied(), written.iter().copied());
    let next = |wanted: bool, from: &mut dyn Iterator<Item = u64>| match wanted {
        true => from.next().unwrap_or(0),
        false => 0,
    };
    let mut bytes = Vec::with_capacity(rows.len() * size_of::<kernels::Parameter>());
    for row in rows {
        let value = next(true, &mut written);
        let gradient = next(row.has_gradient, &mut read);
        let mean = next(row.has_gradient, &mut written);
        let square = next(row.has_gradient, &mut written);
        let average = next(row.has_average, &mut written);
        let shadow = next(row.has_shadow, &mut written);
        for long in [value, gradient, mean, square, average, shadow, row.len] {
            bytes.extend(long.to_ne_bytes());
        }
        for number in row.numbers {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(0u32.to_ne_bytes());
    }
    bytes
}

impl Held {
    /// What others hold, too, is copied.
    fn of(parameter: Parameter) -> Self {
        let Parameter { value, gradient, average } = parameter;
        let take = |tensor: Tensor<1>| primitive!(Cube, tensor);
        let own = |tensor: CubeTensor| {
            if tensor.handle.can_mut() { dense(&tensor) } else { copy(&tensor) }
        };
        let (value, average) = (take(value), average.map(take));
        let shadow = if gradient.is_some() { prepared::release(&value) } else { None };
        average.as_ref().and_then(prepared::release);
        Self {
            value: if gradient.is_some() { own(value) } else { dense(&value) },
            shadow,
            moving: gradient.map(|moving| {
                let Moving { sum, mean, square, rate, weight_decay, corrections } = moving;
                let tensors = [dense(&take(sum)), own(take(mean)), own(take(square))];
                (tensors, ([rate, weight_decay], corrections))
            }),
            average: average.map(own),
        }
    }

    fn give_back(self) -> Parameter {
        if let Some(shadow) = self.shadow {
            prepared::keep(&self.value, shadow);
        }
        let gradient = self.moving.map(|([sum, mean, square], pace)| {
            let ([rate, weight_decay], corrections) = pace;
            let [sum, mean, square] = [sum, mean, square].map(|tensor| wrapped!(Cube, tensor));
            Moving { sum, mean, square, rate, weight_decay, corrections }
        });
        let average = self.average.map(|average| wrapped!(Cube, average));
        Parameter { value: wrapped!(Cube, self.value), gradient, average }
    }
}

fn copy(tensor: &CubeTensor) -> CubeTensor {
    let from = dense(tensor);
    let len = from.meta.num_elements();
    let out = empty(&from, [len], DType::F32);
    let launch = kernels::cast(Format::F32, Format::F32, len as u64);
    enqueue(&from, &[&from], &[&out], move |call| {
        call.runner.launch(&launch, &[Long(call.at[0]), Long(call.at[1]), Long(len as u64)])
    });
    out
}
