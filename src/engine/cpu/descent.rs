//! AdamW and the running average in one pass over memory.

use crate::engine::descent::{Descent, Moving, Parameter, primitive, wrapped};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Values that one thread takes at a time.
const CHUNK: usize = 1 << 16;

type Floats = FloatTensor<Flex>;

/// Rate, weight decay and corrections of a parameter.
type Pace = ([f64; 2], [f64; 2]);

/// The tensors of a parameter, out of burn's hands.
struct Held {
    value: Floats,
    moving: Option<([Floats; 3], Pace)>,
    average: Option<Floats>,
}

/// Gradients, both moments, and how a step meets them.
type Slope<'a> = (&'a [f32], [&'a mut [f32]; 2], Factors);

/// The same stretch of each of them.
struct Piece<'a> {
    value: &'a mut [f32],
    moving: Option<Slope<'a>>,
    average: Option<&'a mut [f32]>,
}

/// Numbers of a step, as each value meets them.
#[derive(Clone, Copy)]
struct Factors {
    mean: [f32; 2],
    square: [f32; 2],
    root: f32,
    epsilon: f32,
    step: f32,
    kept: f32,
}

impl Factors {
    /// The gradient is `sum` · `scale`; the scale is folded into the factors of the moments.
    fn of(descent: &Descent, moving: &Moving, scale: f64) -> Self {
        let [beta1, beta2] = descent.betas;
        let [first, second] = moving.corrections;
        let learning_rate = descent.learning_rate * moving.rate;
        Self {
            mean: [beta1 as f32, ((1.0 - beta1) * scale) as f32],
            square: [beta2 as f32, ((1.0 - beta2) * scale * scale) as f32],
            root: second.sqrt() as f32,
            epsilon: descent.epsilon as f32,
            step: (learning_rate / first) as f32,
            kept: (1.0 - learning_rate * moving.weight_decay) as f32,
        }
    }
}

/// See [`crate::engine::descent::descend`].
pub(in crate::engine) fn descend(
    mut parameters: Vec<Parameter>,
    descent: &Descent,
) -> (Vec<Parameter>, Tensor<1>) {
    let norm = norm(&parameters, descent.rounds);
    let result = Tensor::from_data([norm], &parameters[0].value.device());
    if !norm.is_finite() {
        return (parameters, result);
    }
    // torch.nn.utils.clip_grad_norm_ has this 1e-6.
    let clip = (descent.clip_norm / (f64::from(norm) + 1e-6)).min(1.0);
    let scale = clip / f64::from(descent.rounds.max(1));
    let factors: Vec<Option<Factors>> = parameters
        .iter()
        .map(|parameter| {
            parameter.gradient.as_ref().map(|moving| Factors::of(descent, moving, scale))
        })
        .collect();
    let mut held: Vec<Held> = parameters.drain(..).map(Held::of).collect();
    let mut pieces = Vec::new();
    for (held, factors) in held.iter_mut().zip(&factors) {
        held.cut(*factors, &mut pieces);
    }
    let follow = (1.0 - descent.decay) as f32;
    pieces.into_par_iter().for_each(|piece| piece.step(follow));
    (held.into_iter().map(Held::give_back).collect(), result)
}

/// See [`crate::engine::descent::follow`].
pub(in crate::engine) fn follow(
    values: &[Tensor<1>],
    averages: Vec<Tensor<1>>,
    share: f32,
) -> Vec<Tensor<1>> {
    let contiguous = |tensor: Tensor<1>| primitive!(Flex, tensor).to_contiguous();
    let values: Vec<Floats> = values.iter().cloned().map(contiguous).collect();
    let mut averages: Vec<Floats> = averages.into_iter().map(contiguous).collect();
    let mut pieces = Vec::new();
    for (average, value) in averages.iter_mut().zip(&values) {
        let len = value.layout().shape().num_elements();
        let value = value.storage::<f32>()[..len].chunks(CHUNK);
        pieces.extend(average.storage_mut::<f32>()[..len].chunks_mut(CHUNK).zip(value));
    }
    pieces.into_par_iter().for_each(|(average, value)| {
        for (average, value) in average.iter_mut().zip(value) {
            *average += (*value - *average) * share;
        }
    });
    averages.into_iter().map(|average| wrapped!(Flex, average)).collect()
}

/// Norm of the mean gradient. The order of the sums does not depend on the number of threads.
fn norm(parameters: &[Parameter], rounds: u32) -> f32 {
    let sums: Vec<Floats> = parameters
        .iter()
        .filter_map(|parameter| parameter.gradient.as_ref())
        .map(|moving| primitive!(Flex, moving.sum.clone()).to_contiguous())
        .collect();
    let chunks: Vec<&[f32]> = sums.iter().flat_map(|sum| sum.storage().chunks(CHUNK)).collect();
    let squares: Vec<f64> = chunks
        .into_par_iter()
        .map(|chunk| {
            let (whole, rest) = chunk.as_chunks::<8>();
            let mut lanes = [0.0f64; 8];
            for values in whole {
                for (lane, value) in lanes.iter_mut().zip(values) {
                    *lane += f64::from(*value) * f64::from(*value);
                }
            }
            let rest = rest.iter().map(|value| f64::from(*value) * f64::from(*value));
            lanes.iter().sum::<f64>() + rest.sum::<f64>()
        })
        .collect();
    (squares.iter().sum::<f64>().sqrt() / f64::from(rounds.max(1))) as f32
}

impl Held {
    fn of(parameter: Parameter) -> Self {
        let take = |tensor: Tensor<1>| primitive!(Flex, tensor).to_contiguous();
        let Parameter { value, gradient, average } = parameter;
        let moving = gradient.map(|moving| {
            let Moving { sum, mean, square, rate, weight_decay, corrections } = moving;
            ([sum, mean, square].map(take), ([rate, weight_decay], corrections))
        });
        Self { value: take(value), moving, average: average.map(take) }
    }

    fn give_back(self) -> Parameter {
        let gradient = self.moving.map(|([sum, mean, square], pace)| {
            let ([rate, weight_decay], corrections) = pace;
            let [sum, mean, square] = [sum, mean, square].map(|tensor| wrapped!(Flex, tensor));
            Moving { sum, mean, square, rate, weight_decay, corrections }
        });
        let average = self.average.map(|average| wrapped!(Flex, average));
        Parameter { value: wrapped!(Flex, self.value), gradient, average }
    }

    fn cut<'a>(&'a mut self, factors: Option<Factors>, pieces: &mut Vec<Piece<'a>>) {
        let len = self.value.layout().shape().num_elements();
        let values = self.value.storage_mut::<f32>()[..len].chunks_mut(CHUNK);
        let mut moving = self.moving.as_mut().map(|([sum, mean, square], ..)| {
            (
                sum.storage::<f32>()[..len].chunks(CHUNK),
                mean.storage_mut::<f32>()[..len].chunks_mut(CHUNK),
                square.storage_mut::<f32>()[..len].chunks_mut(CHUNK),
            )
        });
        let mut averages = self
            .average
            .as_mut()
            .map(|tensor| tensor.storage_mut::<f32>()[..len].chunks_mut(CHUNK));
        for value in values {
            let moving = moving.as_mut().zip(factors).and_then(|((sum, mean, square), factors)| {
                Some((sum.next()?, [mean.next()?, square.next()?], factors))
            });
            let average = averages.as_mut().and_then(Iterator::next);
            pieces.push(Piece { value, moving, average });
        }
    }
}

impl Piece<'_> {
    /// One step, and the average `follow` of the way after it.
    fn step(self, follow: f32) {
        if let Some((sum, [mean, square], factors)) = self.moving {
            let moments = mean.iter_mut().zip(square);
            for ((value, sum), (mean, square)) in self.value.iter_mut().zip(sum).zip(moments) {
                *square = *square * factors.square[0] + sum * sum * factors.square[1];
                *mean = *mean * factors.mean[0] + sum * factors.mean[1];
                let root = square.sqrt() / factors.root + factors.epsilon;
                *value = *value * factors.kept - *mean / root * factors.step;
            }
        }
        if let Some(average) = self.average {
            for (average, value) in average.iter_mut().zip(self.value) {
                *average += (*value - *average) * follow;
            }
        }
    }
}
