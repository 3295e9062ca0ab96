//! Images cut into patches.

use crate::models::Compute;
use crate::models::layers::Conv2d;
use burn::tensor::Tensor;

/// `pixels` [B, C, H, W] to [B, N, D], patches row by row, computed in the format of `compute`.
///
/// A single channel is repeated where `projection` wants more. Pixels beyond whole patches are not seen.
pub(super) fn project(projection: &Conv2d, pixels: Tensor<4>, compute: Compute) -> Tensor<3> {
    let [b, c, h, w] = pixels.dims();
    let num_channels = projection.weight.lazy_shape()[1];
    let pixels =
        if c == 1 && num_channels > 1 { pixels.expand([b, num_channels, h, w]) } else { pixels };
    let patches = projection.forward(compute.enter(pixels)).permute([0, 2, 3, 1]); // [B, h, w, D]
    patches.flatten::<3>(1, 2)
}
