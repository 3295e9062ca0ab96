//! Structural similarity.

use super::Refusal;

/// Columns and rows of the Gaussian window; its standard deviation is 1.5 pixels.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// K1 and K2 of Wang et al. (2004), squared: what keeps the quotients finite, for images of range 1.
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
/// What each scale counts, finest first: Wang, Simoncelli & Bovik (2003), section 3.2. Their sum is 1.0001.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Multi-scale structural similarity, and over how many scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MsSsim {
    /// At most 1, which equal images reach.
    pub value: f64,
    /// From 1 to 5. Values over different numbers of scales do not compare.
    pub scales: usize,
}

/// Structural similarity of two images of range 1, at most 1: Wang, Bovik, Sheikh & Simoncelli (2004).
///
/// The mean over all places where the window of 11 pixels fits; refuses smaller images.
pub fn ssim(a: &[f32], b: &[f32], width: usize, height: usize) -> Result<f64, Refusal> {
    let (a, b) = (Plane::new(a, width, height)?, Plane::new(b, width, height)?);
    Ok(likeness(&a, &b).whole)
}

/// Multi-scale structural similarity of two images of range 1: Wang, Simoncelli & Bovik (2003).
///
/// Uses as many of the five scales as leave the coarsest image at least as large as the window, with
/// the weights of those used rescaled to the sum of all five. Negative terms count as 0.
pub fn ms_ssim(a: &[f32], b: &[f32], width: usize, height: usize) -> Result<MsSsim, Refusal> {
    let (mut a, mut b) = (Plane::new(a, width, height)?, Plane::new(b, width, height)?);
    let scales = num_scales(width, height);
    let rescale = WEIGHTS.iter().sum::<f64>() / WEIGHTS[..scales].iter().sum::<f64>();
    let mut value = 1.0;
    for (scale, weight) in WEIGHTS[..scales].iter().enumerate() {
        let likeness = likeness(&a, &b);
        let is_coarsest = scale + 1 == scales;
        let term = if is_coarsest { likeness.whole } else { likeness.contrast_and_structure };
        value *= term.max(0.0).powf(weight * rescale);
        if !is_coarsest {
            (a, b) = (a.halved(), b.halved());
        }
    }
    Ok(MsSsim { value, scales })
}

/// How many scales of [`ms_ssim`] fit an image: 0 to 5.
pub fn num_scales(width: usize, height: usize) -> usize {
    let side = width.min(height);
    (0..WEIGHTS.len()).take_while(|&scale| side >> scale >= WINDOW).count()
}

/// Means over all window places.
struct Likeness {
    /// Luminance, contrast and structure.
    whole: f64,
    contrast_and_structure: f64,
}

fn likeness(a: &Plane, b: &Plane) -> Likeness {
    let (mean_a, mean_b) = (a.blurred(), b.blurred());
    let (square_a, square_b) = (a.times(a).blurred(), b.times(b).blurred());
    let product = a.times(b).blurred();
    let (mut whole, mut contrast_and_structure) = (0.0, 0.0);
    for at in 0..product.values.len() {
        let (mean_a, mean_b) = (mean_a.values[at], mean_b.values[at]);
        let variances =
            square_a.values[at] - mean_a * mean_a + square_b.values[at] - mean_b * mean_b;
        let covariance = product.values[at] - mean_a * mean_b;
        let term = (2.0 * covariance + C2) / (variances + C2);
        contrast_and_structure += term;
        whole += term * (2.0 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1);
    }
    let num_places = product.values.len() as f64;
    Likeness {
        whole: whole / num_places,
        contrast_and_structure: contrast_and_structure / num_places,
    }
}

struct Plane {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Plane {
    fn new(pixels: &[f32], width: usize, height: usize) -> Result<Self, Refusal> {
        assert_eq!(pixels.len(), width * height, "an image of other than width · height pixels");
        if width < WINDOW || height < WINDOW {
            return Err(Refusal::TooSmall { width, height });
        }
        if !pixels.iter().all(|pixel| pixel.is_finite()) {
            return Err(Refusal::NotFinite);
        }
        let values = pixels.iter().map(|&pixel| f64::from(pixel)).collect();
        Ok(Self { width, height, values })
    }

    fn times(&self, other: &Plane) -> Plane {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a * b).collect();
        Plane { width: self.width, height: self.height, values }
    }

    /// The Gaussian mean around every pixel whose window lies inside: 10 columns and rows fewer.
    fn blurred(&self) -> Plane {
        let kernel = kernel();
        let (width, height) = (self.width + 1 - WINDOW, self.height + 1 - WINDOW);
        let mut across = vec![0.0; width * self.height];
        for (to, from) in across.chunks_exact_mut(width).zip(self.values.chunks_exact(self.width)) {
            for (offset, weight) in kernel.iter().enumerate() {
                to.iter_mut().zip(&from[offset..]).for_each(|(to, from)| *to += weight * from);
            }
        }
        let mut values = vec![0.0; width * height];
        for (row, to) in values.chunks_exact_mut(width).enumerate() {
            for (offset, weight) in kernel.iter().enumerate() {
                let from = &across[(row + offset) * width..];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
            }
        }
        Plane { width, height, values }
    }

    /// Means of 2 × 2 pixels; an odd last column or row is left out.
    fn halved(&self) -> Plane {
        let (width, height) = (self.width / 2, self.height / 2);
        let at = |x: usize, y: usize| self.values[y * self.width + x];
        let mean = |x: usize, y: usize| {
            (at(2 * x, 2 * y)
                + at(2 * x + 1, 2 * y)
                + at(2 * x, 2 * y + 1)
                + at(2 * x + 1, 2 * y + 1))
                / 4.0
        };
        let values = (0..width * height).map(|at| mean(at % width, at / width)).collect();
        Plane { width, height, values }
    }
}

fn kernel() -> [f64; WINDOW] {
    let bell: [f64; WINDOW] = std::array::from_fn(|at| {
        let distance = at as f64 - (WINDOW / 2) as f64;
        (-distance * distance / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = bell.iter().sum();
    bell.map(|value| value / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// References: scikit-image and pytorch-msssim.
    #[test]
    fn ssim_matches_the_references() {
        let (a, b) = (golden::image(64, 3, 0.02), golden::image(64, 4, 0.2));
        let found = ssim(&a, &b, 64, 64).unwrap();
        golden::assert_close(found, "/ssim");
        golden::assert_close(found, "/ssim_torch");
    }

    /// Reference: pytorch-msssim.
    #[test]
    fn ms_ssim_matches_the_reference() {
        let both = |size| (golden::image(size, 3, 0.02), golden::image(size, 4, 0.2));
        let (a, b) = both(64);
        let found = ms_ssim(&a, &b, 64, 64).unwrap();
        assert_eq!(found.scales, 3);
        golden::assert_close(found.value, "/ms_ssim_64");
        let (a, b) = both(176);
        let found = ms_ssim(&a, &b, 176, 176).unwrap();
        assert_eq!(found.scales, 5);
        golden::assert_close(found.value, "/ms_ssim_176");
    }

    #[test]
    fn scales_fit_the_window() {
        let sizes = [10, 11, 21, 22, 64, 128, 175, 176, 512];
        assert_eq!(sizes.map(|size| num_scales(size, 600)), [0, 1, 1, 2, 3, 4, 4, 5, 5]);
        assert_eq!(
            ms_ssim(&[0.0; 100], &[0.0; 100], 10, 10),
            Err(Refusal::TooSmall { width: 10, height: 10 })
        );
        assert_eq!(ssim(&[f32::NAN; 121], &[0.0; 121], 11, 11), Err(Refusal::NotFinite));
    }

    #[test]
    fn odd_sizes_work() {
        let a = golden::image(45, 3, 0.1);
        let found = ms_ssim(&a, &a, 45, 45).unwrap();
        assert!((found.value - 1.0).abs() < 1e-12 && found.scales == 3, "{found:?}");
    }
}
