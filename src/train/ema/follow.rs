//! Averages beside the first, which alone goes along in the optimizer's pass.

use crate::train::adamw::Norm;
use crate::train::parameters::{flat_values, put_flat_values, take_flat_values};
use burn::module::Module;
use burn::tensor::Tensor;

/// `average` after a step that left `model` as it is: each value keeps the share `decay` of itself. Where the step of
/// `norm` was left out, it stays as it was. Computes bit for bit what the optimizer's pass does.
pub(in crate::train) fn follow<M: Module>(average: M, model: &M, decay: f64, norm: &Norm) -> M {
    let (hollow, averages) = take_flat_values(average);
    let averages = averages.into_iter().map(|(_, average)| average).collect();
    let values: Vec<Tensor<1>> = flat_values(model).into_iter().map(|(_, value)| value).collect();
    put_flat_values(hollow, norm.follow(&values, averages, decay))
}
