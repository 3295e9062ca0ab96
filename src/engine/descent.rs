//! A step of AdamW over all parameters at once, and of their running average after it.

use burn::backend::DispatchTensorKind;
use burn::tensor::Tensor;

/// One parameter, flat and off the graph, all of it f32.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its values.
    pub value: Tensor<1>,
    /// The sum of its gradients over all rounds; where there is none, its values stay as they are.
    pub gradient: Option<Moving>,
    /// The running average of its values.
    pub average: Option<Tensor<1>>,
}

/// What a parameter with a gradient brings along.
#[derive(Debug, Clone)]
pub struct Moving {
    /// The sum of its gradients.
    pub sum: Tensor<1>,
    /// Running mean of the gradient.
    pub mean: Tensor<1>,
    /// Running mean of its square.
    pub square: Tensor<1>,
    /// Times the learning rate.
    pub rate: f64,
    /// Share of itself taken away per unit of learning rate.
    pub weight_decay: f64,
    /// 1 − β₁ᵏ and 1 − β₂ᵏ after this, its k-th, step.
    pub corrections: [f64; 2],
}

/// How far a step goes.
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// Rounds whose gradients were added up.
    pub rounds: u32,
    /// Largest norm of the mean gradient; infinite for any.
    pub clip_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Share of itself that the average keeps.
    pub decay: f64,
}

/// Takes the step, in place where nobody else holds the values, and gives the norm of the mean gradient `[1]`.
///
/// Nothing moves where that norm is not a finite f32. All parameters are on one device.
///
/// # Panics
///
/// Where there is no parameter at all.
pub fn descend(parameters: Vec<Parameter>, descent: &Descent) -> (Vec<Parameter>, Tensor<1>) {
    match parameters[0].value.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(_) => super::cpu::descend(parameters, descent),
        #[cfg(feature = "cuda")]
        DispatchTensorKind::Cube(_) => super::cuda::descend(parameters, descent),
        _ => unreachable!("parameters are plain tensors of the CPU or a GPU"),
    }
}

/// Takes `averages` after `values`, as [`descend`] takes the one that goes along: each keeps the share `decay` of itself,
/// and all of itself where the step of `norm` `[1]` was left out. In one pass on the CPU; on a GPU it waits for nothing.
pub fn follow(
    values: &[Tensor<1>],
    averages: Vec<Tensor<1>>,
    decay: f64,
    norm: &Tensor<1>,
) -> Vec<Tensor<1>> {
    let share = (1.0 - decay) as f32;
    if let DispatchTensorKind::Flex(_) = norm.clone().into_dispatch().kind {
        let is_taken = norm.clone().into_scalar::<f32>().is_finite();
        return if is_taken { super::cpu::follow(values, averages, share) } else { averages };
    }
    let all = Tensor::from_data([share], &norm.device());
    let share = all.zeros_like().mask_where(norm.clone().is_finite(), all);
    let follow = |(average, value): (Tensor<1>, &Tensor<1>)| {
        average.clone() + (value.clone() - average) * share.clone()
    };
    averages.into_iter().zip(values).map(follow).collect()
}

/// A flat tensor of a device out of burn's hands, and back.
macro_rules! primitive {
    ($kind:ident, $tensor:expr) => {
        match $tensor.into_dispatch().kind {
            burn::backend::DispatchTensorKind::$kind(tensor) => tensor.float(),
            _ => unreachable!("all parameters are on one device"),
        }
    };
}
macro_rules! wrapped {
    ($kind:ident, $primitive:expr) => {
        burn::tensor::Tensor::from_dispatch(burn::backend::DispatchTensor {
            kind: burn::backend::DispatchTensorKind::$kind(burn::backend::BackendTensor::Float(
                $primitive,
            )),
            autodiff: burn::backend::DispatchAutodiffContext::Disabled,
        })
    };
}
pub(super) use {primitive, wrapped};
