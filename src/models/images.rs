//! Images on their way into networks and out of them.

use burn::tensor::{DataError, Device, Tensor, TensorData};

/// Images of `size` × `size` as a tensor [B, 1, size, size], values as they are.
pub fn stack<'a>(
    images: impl IntoIterator<Item = &'a [f32]>,
    size: usize,
    device: &Device,
) -> Tensor<4> {
    let values: Vec<f32> = images.into_iter().flatten().copied().collect();
    let batch = values.len() / (size * size);
    Tensor::from_data(TensorData::new(values, [batch, 1, size, size]), device)
}

/// Grey images [B, 1, H, W] as a network of `channels` channels takes them: the same in each.
pub fn with_channels(images: Tensor<4>, channels: usize) -> Tensor<4> {
    let [b, _, h, w] = images.dims();
    if channels == 1 { images } else { images.expand([b, channels, h, w]) }
}

/// A decoder's output [B, C, H, W] in [-1, 1] as grey images in [0, 1], channels averaged.
pub fn to_images(decoded: Tensor<4>) -> Result<Vec<Vec<f32>>, DataError> {
    let [_, _, height, width] = decoded.dims();
    let gray = decoded.mean_dim(1).clamp(-1.0, 1.0) * 0.5 + 0.5;
    let values = gray.into_data().try_into_vec::<f32>()?;
    Ok(values.chunks_exact(height * width).map(<[f32]>::to_vec).collect())
}

/// A tensor's numbers, row after row.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DataError> {
    tensor.into_data().try_into_vec::<f32>()
}
