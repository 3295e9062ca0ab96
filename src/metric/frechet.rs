//! Fréchet distance.

use super::{Features, Refusal, at_least, unless_stopped};
use nalgebra::{DMatrix, Dyn, SymmetricEigen};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Rows whose products are summed at once.
const BLOCK: usize = 1024;

/// Fréchet distance of two normal distributions fitted to the features: Heusel et al. (2017).
///
/// ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), at least 0, in squared feature units. The trace of the root
/// is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric, so that no complex numbers arise. Refuses fewer
/// images than twice the features' width: a covariance from so few is mostly noise.
pub fn frechet_distance(real: Features, generated: Features) -> Result<f64, Refusal> {
    assert_eq!(real.width(), generated.width(), "features of different widths");
    at_least(2 * real.width(), real.len().min(generated.len()))?;
    real.finite()?;
    generated.finite()?;
    let (mean_real, covariance_real) = moments(real)?;
    let (mean_generated, covariance_generated) = moments(generated)?;
    let between: f64 = mean_real.iter().zip(&mean_generated).map(|(a, b)| (a - b).powi(2)).sum();
    let root = square_root(covariance_real.clone())?;
    let cross = &root * &covariance_generated * &root;
    let cross = (&cross + cross.transpose()) * 0.5;
    let trace_of_root: f64 =
        eigen(cross)?.eigenvalues.iter().map(|&value| value.max(0.0).sqrt()).sum();
    let spread = covariance_real.trace() + covariance_generated.trace() - 2.0 * trace_of_root;
    Ok((between + spread).max(0.0))
}

/// Mean and covariance (divided by n − 1).
fn moments(features: Features) -> Result<(Vec<f64>, DMatrix<f64>), Refusal> {
    let mean = features.mean();
    let mut scatter = DMatrix::zeros(features.width(), features.width());
    for block in features.blocks(BLOCK) {
        unless_stopped()?;
        let centered = block.centered(&mean);
        scatter.gemm(1.0, &centered.transpose(), &centered, 1.0);
    }
    Ok((mean, scatter / (features.len() as f64 - 1.0)))
}

fn square_root(covariance: DMatrix<f64>) -> Result<DMatrix<f64>, Refusal> {
    let SymmetricEigen { eigenvectors, eigenvalues } = eigen(covariance)?;
    let roots = DMatrix::from_diagonal(&eigenvalues.map(|value| value.max(0.0).sqrt()));
    Ok(&eigenvectors * roots * eigenvectors.transpose())
}

/// Thousands of features take the better part of a minute, and the solver cannot be asked to stop: a signal leaves
/// it to its thread, which ends with the process.
pub(super) fn eigen(symmetric: DMatrix<f64>) -> Result<SymmetricEigen<f64, Dyn>, Refusal> {
    let most_steps = 100 * symmetric.nrows().max(10);
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        let solved = SymmetricEigen::try_new(symmetric, f64::EPSILON, most_steps);
        // Nobody listens any more where a signal came.
        let _ = give.send(solved.ok_or(Refusal::NoConvergence));
    });
    loop {
        match take.recv_timeout(Duration::from_millis(50)) {
            Ok(solved) => return solved,
            Err(RecvTimeoutError::Timeout) => unless_stopped()?,
            Err(RecvTimeoutError::Disconnected) => return Err(Refusal::NoConvergence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: scipy's `sqrtm`.
    #[test]
    fn matches_the_reference() {
        let (real, generated) = golden::real_and_generated();
        let (real, generated) = (Features::new(&real, 12), Features::new(&generated, 12));
        golden::assert_close(frechet_distance(real, generated).unwrap(), "/frechet");
        let back = frechet_distance(generated, real).unwrap();
        golden::assert_close(back, "/frechet");
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself() {
        let (real, _) = golden::real_and_generated();
        let real = Features::new(&real, 12);
        let found = frechet_distance(real, real).unwrap();
        // Traces of about 20, each good to 1e-13.
        assert!(found < 1e-11, "{found}");
        // Features that do not vary at all have a covariance of 0, and still a distance.
        let (zeros, ones) = (vec![0.0; 24], vec![1.0; 24]);
        let found = frechet_distance(Features::new(&zeros, 3), Features::new(&ones, 3));
        assert_eq!(found, Ok(3.0));
    }

    #[test]
    fn refuses_what_it_cannot_answer() {
        let (real, generated) = golden::real_and_generated();
        let few = Features::new(&real[..23 * 12], 12);
        let many = Features::new(&generated, 12);
        assert_eq!(frechet_distance(few, many), Err(Refusal::TooFew { found: 23, needed: 24 }));
        let mut broken = generated.clone();
        broken[7] = f32::NAN;
        let broken = Features::new(&broken, 12);
        assert_eq!(frechet_distance(many, broken), Err(Refusal::NotFinite));
    }
}
