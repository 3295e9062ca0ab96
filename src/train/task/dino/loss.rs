//! Self-distillation's losses, from scores and embeddings.
//!
//! B images, K prototypes, D width of an embedding. Rows lie view by view: all images' first view, then their
//! second one, the two global views first.

use super::head::unit;
use crate::models::layers::affine;
use burn::tensor::{
    Int, Tensor,
    activation::{log_softmax, softmax},
};

/// What keeps two rows that fell together from a distance of 0, as in DINOv2.
const EPSILON: f64 = 1e-8;

/// The teacher's probabilities: `scores` [R, K] less their running mean `center` [1, K], sharpened by
/// `temperature` (arXiv 2104.14294, section 3.1).
pub(super) fn centered(scores: Tensor<2>, center: Tensor<2>, temperature: f64) -> Tensor<2> {
    softmax((scores - center) / temperature, 1)
}

/// The teacher's probabilities [R, K] from `scores` [R, K] over its temperature: rows sum to 1, columns are
/// balanced (arXiv 2006.09882, listing 1; arXiv 2304.07193, section 4).
///
/// In the log domain, where large scores over small temperatures stay finite.
pub(super) fn sinkhorn_knopp(scores: Tensor<2>, iterations: usize) -> Tensor<2> {
    let mut log = scores;
    for _ in 0..iterations {
        log = log.clone() - log_sum_exp(log, 0);
        log = log.clone() - log_sum_exp(log, 1);
    }
    log.exp()
}

/// Mean cross-entropy of every student view against every teacher view of the same image, but for a view
/// against itself (arXiv 2104.14294, equation 3).
///
/// `targets` are the teacher's probabilities [2B, K], `scores` the student's [V·B, K] before its temperature.
/// Shape `[1]`.
pub(super) fn cross_view(targets: Tensor<2>, scores: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [rows, prototypes] = targets.dims();
    let batch = rows / 2;
    let views = scores.dims()[0] / batch;
    let log = log_softmax(scores / temperature, 1).reshape([views, batch, prototypes]);
    let others = log.clone().sum_dim(0) - log.slice_dim(0, 0..2); // [2, B, K]
    let pairs = 2 * (views - 1);
    -(targets.reshape([2, batch, prototypes]) * others).sum() / (pairs * batch) as f64
}

/// Cross-entropy of the student's `scores` [M, K] of masked patches, before its temperature, against the teacher's
/// probabilities `targets` [M, K], each by its weight [M, 1] (arXiv 2111.07832, equation 2). Shape `[1]`.
pub(super) fn masked_patches(
    targets: Tensor<2>,
    scores: Tensor<2>,
    weights: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    -(targets * log_softmax(scores / temperature, 1) * weights).sum()
}

/// Mean negative log distance of each embedding [B, D], on the unit sphere, to the nearest other one, which
/// spreads them apart (arXiv 2304.07193, section 4). 0 for a single one, which has no other. Shape `[1]`.
///
/// Distances are those of differences: a cosine in f32 does not tell a distance of 2e-4 from 0, and the nearer two
/// embeddings are, the harder they must be driven apart. Which is nearest is told after the mean is taken off, for
/// the same reason.
pub(super) fn koleo(embeddings: Tensor<2>) -> Tensor<1> {
    let [batch, _] = embeddings.dims();
    let device = embeddings.device();
    if batch < 2 {
        return Tensor::zeros([1], &device);
    }
    let rows = unit(embeddings);
    let fixed = rows.clone().detach();
    let spread = fixed.clone() - fixed.mean_dim(0);
    let squares = spread.clone().square().sum_dim(1); // [B, 1]
    // The square of a distance, less that of the row's own length; a row itself is further away than any other.
    let itself = Tensor::<2>::eye(batch, &device) * 16.0;
    let distances = squares.transpose() - affine(spread.clone(), spread, None) * 2.0 + itself;
    let nearest: Tensor<1, Int> = distances.argmin(1).reshape([batch]);
    let apart = rows.clone() - rows.select(0, nearest) + EPSILON;
    let distance = apart.square().sum_dim(1).sqrt();
    -(distance + EPSILON).log().mean()
}

/// Mean entropy of the rows of `probabilities` [R, K], in nats. Shape `[1]`.
pub(super) fn entropy(probabilities: Tensor<2>) -> Tensor<1> {
    -(probabilities.clone() * (probabilities + 1e-9).log()).sum_dim(1).mean()
}

fn log_sum_exp(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let most = x.clone().max_dim(dim);
    (x - most.clone()).exp().sum_dim(dim).log() + most
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;
    use crate::random::Stream;
    use burn::tensor::{Device, TensorData};

    fn plain() -> Device {
        Device::flex()
    }

    fn tracked() -> Device {
        Device::flex().autodiff()
    }

    fn normals(rows: usize, columns: usize) -> Tensor<2> {
        let values = Stream::new(1, "scores").at(0).normals(rows * columns);
        Tensor::from_data(TensorData::new(values, [rows, columns]), &plain())
    }

    fn scalar(x: Tensor<1>) -> f64 {
        f64::from(x.into_scalar::<f32>())
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn the_teacher_answers_as_in_the_reference() {
        let golden = Golden::read();
        let scores = || golden.tensor::<2>("teacher", &plain());
        let center = golden.tensor("center", &plain());
        // Scores over a temperature of 0.04: an error of 6e-8 is one of 2e-6 in the exponent.
        golden.assert_close("targets/mean", &centered(scores(), center, 0.04), 1e-5);
        for iterations in [1, 3] {
            let found = sinkhorn_knopp(scores() / 0.04, iterations);
            golden.assert_close(&format!("targets/sinkhorn_{iterations}"), &found, 2e-5);
        }
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn the_student_is_judged_as_in_the_reference() {
        let golden = Golden::read();
        for name in ["mean", "sinkhorn_1", "sinkhorn_3"] {
            let scores = golden.tensor::<2>("student", &tracked()).require_grad();
            let targets = golden.tensor(&format!("targets/{name}"), &tracked());
            let loss = cross_view(targets, scores.clone(), 0.1);
            // One softmax and a sum of 200 terms in f32.
            golden.assert_close(&format!("loss/{name}"), &loss.clone().inner(), 1e-6);
            let gradient = scores.grad_remove(&mut loss.backward()).unwrap();
            golden.assert_close(&format!("gradient/{name}"), &gradient, 1e-5);
        }
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn embeddings_are_driven_apart_as_in_the_reference_even_where_they_nearly_coincide() {
        let golden = Golden::read();
        // Unit rows in f32 are off by 3e-8 a component: of a distance of 2e-4 that is 1 in 2,000.
        for (name, tolerance) in [("apart", 1e-5), ("together", 5e-3)] {
            let rows = golden.tensor::<2>(&format!("koleo/{name}/embeddings"), &tracked());
            let rows = rows.require_grad();
            let loss = koleo(rows.clone());
            golden.assert_close(&format!("koleo/{name}/loss"), &loss.clone().inner(), tolerance);
            let gradient = rows.grad_remove(&mut loss.backward()).unwrap();
            golden.assert_close(&format!("koleo/{name}/gradient"), &gradient, tolerance);
        }
    }

    #[test]
    fn the_nearest_other_embedding_is_never_the_embedding_itself() {
        let opposite = Tensor::from_data([[0.6, 0.8], [-1.2, -1.6]], &plain());
        assert!((scalar(koleo(opposite)) + 2f64.ln()).abs() < 1e-6);
        let alone = Tensor::from_data([[0.6, 0.8]], &plain());
        assert_eq!(scalar(koleo(alone)), 0.0);
    }

    #[test]
    fn balancing_shares_the_prototypes_evenly() {
        let [rows, columns] = [24, 6];
        let balanced = sinkhorn_knopp(normals(rows, columns) / 0.2, 100);
        let sums = |dim| balanced.clone().sum_dim(dim).to_data().try_to_vec::<f32>().unwrap();
        assert!(sums(1).iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{:?}", sums(1));
        // 24 rows over 6 prototypes.
        assert!(sums(0).iter().all(|sum| (sum - 4.0).abs() < 1e-3), "{:?}", sums(0));
    }

    #[test]
    fn a_student_that_tells_nothing_apart_loses_the_logarithm_of_the_prototypes() {
        let prototypes = 16;
        let targets = softmax(normals(2 * 5, prototypes), 1);
        let loss = cross_view(targets, Tensor::ones([4 * 5, prototypes], &plain()), 0.1);
        assert!((scalar(loss) - (prototypes as f64).ln()).abs() < 1e-5);
        let uniform = Tensor::full([3, prototypes], 1.0 / prototypes as f64, &plain());
        assert!((scalar(entropy(uniform)) - (prototypes as f64).ln()).abs() < 1e-5);
    }
}
