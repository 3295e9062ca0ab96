//! How a condition guides: from one prediction with it, and one without it or of a weaker network.

use crate::faults::demand;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// In which way, and how strongly, a condition guides, as a recipe names it.
///
/// All but [`Guidance::None`] ask two networks, or one network twice, in each step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Guidance {
    /// The condition as it is.
    #[default]
    None,
    /// Classifier-free guidance (CFG).
    Scale(Scale),
    /// Autoguidance, by an earlier checkpoint of the same denoiser.
    Auto(Auto),
    /// CFG++.
    PlusPlus(PlusPlus),
}

/// Classifier-free guidance: Ho & Salimans (2022), eq. 6; unconditional + scale · (conditional − unconditional).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scale {
    /// Guidance scale: 1 is the condition as it is, 0 ignores it, above 1 overstates it.
    pub scale: f64,
    /// Times in [0, 1] between which it guides (Kynkäänniemi et al. 2024): t = 0 is the image, 1 noise. Elsewhere the
    /// condition is taken as it is, by one evaluation.
    pub interval: (f64, f64),
    /// Share in [0, 1] of the prediction that is brought back to the conditional one's standard deviation
    /// (Lin et al. 2023, eqs. 15 and 16): against overexposed images at high scales.
    pub rescale: f64,
}

/// Autoguidance: Karras et al. (2024), eq. 3; weaker + scale · (better − weaker), both with the condition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auto {
    /// Guidance scale: 1 is the denoiser as it is.
    pub scale: f64,
    /// Images that the weaker denoiser had seen: one of `denoiser.train.milestones`.
    pub images: u64,
    /// Times in [0, 1] between which it guides.
    pub interval: (f64, f64),
}

/// CFG++: Chung et al. (2024), algorithm 2; the image of a small scale, and the noise of the unconditional prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlusPlus {
    /// Share of the way from the unconditional to the conditional image, in [0, 1]; 0.6 is about a scale of 7.5 of CFG.
    pub scale: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { scale: 1.0, interval: (0.0, 1.0), rescale: 0.0 }
    }
}

impl Default for Auto {
    fn default() -> Self {
        Self { scale: 2.0, images: 0, interval: (0.0, 1.0) }
    }
}

impl Default for PlusPlus {
    fn default() -> Self {
        Self { scale: 0.6 }
    }
}

impl Guidance {
    /// Classifier-free guidance of this scale, at all times.
    pub fn scale(scale: f64) -> Self {
        match scale {
            1.0 => Self::None,
            scale => Self::Scale(Scale { scale, ..Scale::default() }),
        }
    }

    /// Is anything but the condition asked for at time `t`?
    pub fn is_on(&self, t: f64) -> bool {
        let within = |(low, high): (f64, f64)| low <= t && t <= high;
        match self {
            Self::None => false,
            Self::Scale(Scale { scale, interval, .. })
            | Self::Auto(Auto { scale, interval, .. }) => *scale != 1.0 && within(*interval),
            Self::PlusPlus(_) => true,
        }
    }

    /// Images that the denoiser had seen by which it is guided, if it is an earlier one.
    pub fn milestone(&self) -> Option<u64> {
        match self {
            Self::Auto(Auto { images, .. }) => Some(*images),
            _ => None,
        }
    }

    /// How strongly it guides, for a table.
    pub fn strength(&self) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Scale(Scale { scale, .. })
            | Self::Auto(Auto { scale, .. })
            | Self::PlusPlus(PlusPlus { scale }) => *scale,
        }
    }

    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Scale(_) => "Scale",
            Self::Auto(_) => "Auto",
            Self::PlusPlus(_) => "PlusPlus",
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_scale = |scale: f64| {
            demand(scale >= 0.0 && scale.is_finite(), "scale", scale, "a number from 0 up")
        };
        let is_interval = |(low, high): (f64, f64)| {
            let told = format!("({low}, {high})");
            demand(
                0.0 <= low && low <= high && high <= 1.0,
                "interval",
                told,
                "a range within 0 to 1",
            )
        };
        let faults = match *self {
            Self::None => vec![],
            Self::Scale(Scale { scale, interval, rescale }) => vec![
                is_scale(scale),
                is_interval(interval),
                demand((0.0..=1.0).contains(&rescale), "rescale", rescale, "0 to 1"),
            ],
            Self::Auto(Auto { scale, interval, .. }) => {
                vec![is_scale(scale), is_interval(interval)]
            }
            Self::PlusPlus(PlusPlus { scale }) => {
                vec![demand((0.0..=1.0).contains(&scale), "scale", scale, "0 to 1")]
            }
        };
        faults.into_iter().flatten().collect()
    }
}

/// unconditional + `scale` · (conditional − unconditional).
///
/// Any prediction will do, and so will clean images: all of them are weighted sums of each other at the same noise.
pub fn guide(conditional: Tensor<4>, unconditional: Tensor<4>, scale: f64) -> Tensor<4> {
    conditional.mul_scalar(scale) + unconditional.mul_scalar(1.0 - scale)
}

/// `guided` [B, C, h, w] with a `share` of it brought to the standard deviation of `conditional`, image by image.
pub fn rescaled(guided: Tensor<4>, conditional: Tensor<4>, share: f64) -> Tensor<4> {
    if share == 0.0 {
        return guided;
    }
    let deviation = |values: Tensor<4>| {
        let mean = values.clone().mean_dims(&[1, 2, 3]);
        (values - mean).square().mean_dims(&[1, 2, 3]).sqrt() // [B, 1, 1, 1]
    };
    let ratio = deviation(conditional) / deviation(guided.clone()).clamp_min(f32::MIN_POSITIVE);
    guided * ratio.mul_scalar(share).add_scalar(1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor<const N: usize>(values: [f32; N]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, 1, N]), &Device::flex())
    }

    #[test]
    fn scale_moves_along_the_line_through_both() {
        for (scale, expected) in [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0), (2.0, 5.0)] {
            let guided: f32 = guide(tensor([3.0]), tensor([1.0]), scale).into_scalar();
            assert_eq!(guided, expected);
        }
    }

    /// Reference: torch 2.15, with diffusers' `rescale_noise_cfg` on these numbers.
    #[test]
    fn rescaling_is_that_of_the_reference() {
        let (guided, conditional) = (tensor([1.0, 3.0, -2.0, 0.5]), tensor([0.2, 1.1, -0.4, 0.3]));
        let found: Vec<f64> =
            rescaled(guided.clone(), conditional.clone(), 0.7).into_data().iter::<f64>().collect();
        let expected = [0.509_827_55, 1.529_482_6, -1.019_655_1, 0.254_913_78];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let same = rescaled(guided.clone(), conditional, 0.0);
        assert_eq!(same.into_data(), guided.into_data());
    }

    #[test]
    fn it_guides_within_its_interval_and_nowhere_else() {
        let guidance = Guidance::Scale(Scale { scale: 2.0, interval: (0.2, 0.7), rescale: 0.0 });
        for (t, is_on) in [(0.0, false), (0.2, true), (0.5, true), (0.7, true), (1.0, false)] {
            assert_eq!(guidance.is_on(t), is_on, "{t}");
            assert!(!Guidance::None.is_on(t) && !Guidance::scale(1.0).is_on(t));
            assert!(Guidance::PlusPlus(PlusPlus::default()).is_on(t));
        }
    }

    #[test]
    fn impossible_numbers_are_told() {
        let wrong = [
            Guidance::Scale(Scale { scale: -1.0, interval: (0.5, 0.2), rescale: 2.0 }),
            Guidance::Auto(Auto { scale: f64::NAN, images: 1, interval: (0.0, 2.0) }),
            Guidance::PlusPlus(PlusPlus { scale: 7.5 }),
        ];
        assert_eq!(wrong.map(|it| it.check().len()), [3, 2, 1]);
        assert!(wrong[0].check()[0].starts_with("scale is -1; expected a number from 0 up"));
        assert_eq!(Guidance::default().check().len(), 0);
    }
}
