//! Averages beside the first, which alone goes along in the optimizer's pass.

use crate::train::adamw::Norm;
use crate::train::parameters::{flat_values, put_flat_values, take_flat_values};
use burn::module::Module;
use burn::tensor::Tensor;

/// `average` after a step that left `model` as it is: each value keeps the share `decay` of itself. Where the step of
/// `norm` was left out, it stays as it was. Waits for nothing, and computes bit for bit what the optimizer's pass does.
pub(in crate::train) fn follow<M: Module>(average: M, model: &M, decay: f64, norm: &Norm) -> M {
    let (hollow, averages) = take_flat_values(average);
    let mut share: Option<Tensor<1>> = None;
    let followed = averages
        .into_iter()
        .zip(flat_values(model))
        .map(|((_, average), (_, value))| {
            let share = share.get_or_insert_with(|| {
                let all = Tensor::from_data([(1.0 - decay) as f32], &average.device());
                norm.choose(all.clone(), all.zeros_like())
            });
            average.clone() + (value - average) * share.clone()
        })
        .collect();
    put_flat_values(hollow, followed)
}
