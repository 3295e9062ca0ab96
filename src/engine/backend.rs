//! What a device must be able to do.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

/// How a square kernel moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Pixels per step.
    pub stride: usize,
    /// Zeros before and after each axis.
    pub padding: (usize, usize),
}

/// What a group norm is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Groups {
    /// Groups of channels; divides their number.
    pub count: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether SiLU follows.
    pub with_silu: bool,
}

/// Gradients of a group norm.
#[derive(Debug)]
pub struct GroupNormGradients<B: Backend> {
    /// Of the input.
    pub x: FloatTensor<B>,
    /// Of what was added to it, `[B, C]`, if something was.
    pub shift: Option<FloatTensor<B>>,
    /// Of the scale, `[C]`.
    pub weight: FloatTensor<B>,
    /// Of the shift after it, `[C]`.
    pub bias: FloatTensor<B>,
}

/// The operations of [`super`] on plain tensors, each with its gradients.
///
/// Weights are f32 whatever the format of the activations, and so are their gradients.
pub trait Engine: Backend {
    /// A kernel [out, in, k, k] as convolutions of `x` take it; both ways use the same.
    fn prepare_kernel(weight: &FloatTensor<Self>, x: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// A matrix [out, in] as affine maps of `x` take it.
    fn prepare_matrix(weight: &FloatTensor<Self>, x: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// [B, in, H, W], a prepared kernel of `shape` [out, in, k, k] and `[out]` to [B, out, H', W'].
    fn convolve(
        x: &FloatTensor<Self>,
        kernel: &FloatTensor<Self>,
        shape: [usize; 4],
        bias: Option<&FloatTensor<Self>>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution's input.
    fn convolve_x_gradient(
        x: &FloatTensor<Self>,
        kernel: &FloatTensor<Self>,
        shape: [usize; 4],
        grad: &FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution's kernel, as it was before it was prepared.
    fn convolve_weight_gradient(
        x: &FloatTensor<Self>,
        shape: [usize; 4],
        grad: &FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;

    /// The sum of [B, C, H, W] over all but the channels.
    fn sum_channels(grad: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// Output and what [`norm_groups_gradients`](Self::norm_groups_gradients) wants to know again: mean and one over
    /// the standard deviation of each group of each image.
    fn norm_groups(
        x: &FloatTensor<Self>,
        shift: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        groups: Groups,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of [`norm_groups`](Self::norm_groups).
    fn norm_groups_gradients(
        x: &FloatTensor<Self>,
        shift: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        grad: &FloatTensor<Self>,
        groups: Groups,
        statistics: &FloatTensor<Self>,
    ) -> GroupNormGradients<Self>;

    /// [R, in], a prepared [out, in] and `[out]` to [R, out].
    fn affine(
        x: &FloatTensor<Self>,
        matrix: &FloatTensor<Self>,
        bias: Option<&FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// The gradient of an affine map's input.
    fn affine_x_gradient(matrix: &FloatTensor<Self>, grad: &FloatTensor<Self>)
    -> FloatTensor<Self>;

    /// The gradient of an affine map's matrix.
    fn affine_weight_gradient(x: &FloatTensor<Self>, grad: &FloatTensor<Self>)
    -> FloatTensor<Self>;

    /// The sum of [R, C] over the rows.
    fn sum_rows(grad: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// Output and what the gradients want to know again: mean and one over the standard deviation of each row.
    fn norm_layers(
        x: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, scale and shift of a layer norm.
    fn norm_layers_gradients(
        x: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        grad: &FloatTensor<Self>,
        statistics: &FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// [R, 2 D] to [R, D].
    fn geglu(x: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// Its gradient.
    fn geglu_gradient(x: &FloatTensor<Self>, grad: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// Output [B, heads, N, d] and the logarithm of each query's sum of exponentials, f32 [B, heads, N, 1].
    fn attend(
        q: &FloatTensor<Self>,
        k: &FloatTensor<Self>,
        v: &FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of queries, keys and values.
    fn attend_gradients(
        inputs: [&FloatTensor<Self>; 3],
        output: &FloatTensor<Self>,
        log_sums: &FloatTensor<Self>,
        grad: &FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// [B, C, H, W] and [B, D, H, W] to [B, C + D, H, W].
    fn join(a: &FloatTensor<Self>, b: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// The first `channels` of [B, C, H, W] and the rest.
    fn part(x: &FloatTensor<Self>, channels: usize) -> [FloatTensor<Self>; 2];

    /// [B, C, H, W] to [B, C, h, w], each 2 H or 2 H - 1.
    fn repeat_pixels(x: &FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self>;

    /// Its gradient: [B, C, h, w] to [B, C, H, W] for `size` [H, W].
    fn sum_pixels(grad: &FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self>;
}
