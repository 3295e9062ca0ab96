//! One vector per text.

use burn::tensor::{Int, Tensor};

/// The mean of a text's tokens, scaled to length 1: [B, N, D] and `attention_mask` [B, N] to [B, D].
///
/// As sentence-transformers' mean pooling and normalisation (Reimers & Gurevych 2019); tokens whose mask
/// is 0 do not count. A text without tokens gives zeros.
pub fn sentence_embeddings(tokens: Tensor<3>, attention_mask: Tensor<2, Int>) -> Tensor<2> {
    let [b, n, width] = tokens.dims();
    let mask = attention_mask.float().reshape([b, n, 1]);
    let sum = (tokens * mask.clone()).sum_dim(1).reshape([b, width]);
    let count = mask.sum_dim(1).reshape([b, 1]).clamp_min(1e-9);
    let mean = sum / count;
    let length = mean.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    mean / length
}
