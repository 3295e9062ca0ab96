//! Classifier-free guidance: Ho & Salimans (2022).

use burn::tensor::Tensor;

/// unconditional + `scale` · (conditional − unconditional).
///
/// `scale` 1 is the condition alone, 0 none of it, above 1 overstates it. Any prediction will do, and
/// so will clean images: all of them are weighted sums of each other at the same noise.
pub fn guide(conditional: Tensor<4>, unconditional: Tensor<4>, scale: f64) -> Tensor<4> {
    conditional.mul_scalar(scale) + unconditional.mul_scalar(1.0 - scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn scale_moves_along_the_line_through_both() {
        let tensor = |value: f32| {
            Tensor::<4>::from_data(TensorData::new(vec![value], [1, 1, 1, 1]), &Device::flex())
        };
        for (scale, expected) in [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0), (2.0, 5.0)] {
            let guided: f32 = guide(tensor(3.0), tensor(1.0), scale).into_scalar();
            assert_eq!(guided, expected);
        }
    }
}
