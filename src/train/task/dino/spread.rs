//! KoLeo over a whole batch, however it is cut.

use super::loss;
use burn::tensor::Tensor;

/// KoLeo over the embeddings of a batch, and its gradient with respect to them, [2, B, D]: with it, a micro-batch pulls
/// at the network as the whole batch would, without the others' graph (gradient caching, arXiv 2101.06983).
pub(super) struct Spread {
    value: Tensor<1>,
    gradient: Tensor<3>,
}

impl Spread {
    /// Of the student's embeddings [2, B, D] of both global views.
    pub(super) fn of(embeddings: Tensor<3>) -> Self {
        let embeddings = Tensor::from_inner(embeddings).require_grad();
        let value = koleo_of_views(embeddings.clone());
        let gradient =
            embeddings.grad(&value.backward()).expect("KoLeo depends on what it spreads");
        Self { value: value.inner(), gradient }
    }

    /// The whole batch's value, with its gradient with respect to the `embeddings` [2b, D], tracked, of the images from
    /// `first` on. Shape `[1]`.
    pub(super) fn part(&self, embeddings: Tensor<2>, first: usize) -> Tensor<1> {
        let [_, whole, _] = self.gradient.dims();
        let batch = embeddings.dims()[0] / 2;
        let slope: Tensor<2> =
            self.gradient.clone().slice_dim(1, first..first + batch).flatten(0, 1);
        let rise = (embeddings * Tensor::from_inner(slope)).sum() * (whole as f64 / batch as f64);
        rise.clone() - rise.detach() + Tensor::from_inner(self.value.clone())
    }
}

/// KoLeo over each of two views by itself, of embeddings [2, B, D].
pub(super) fn koleo_of_views(embeddings: Tensor<3>) -> Tensor<1> {
    let view = |at| loss::koleo(embeddings.clone().slice_dim(0, at..at + 1).squeeze_dim(0));
    view(0) + view(1)
}
