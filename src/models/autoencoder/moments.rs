//! The distribution over latents that the encoder gives for an image.

use burn::tensor::Tensor;

/// Independent normal distributions, one per latent value. Not yet scaled for the denoiser.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Means, [B, C, h, w].
    pub mean: Tensor<4>,
    /// Logarithms of the variances, [B, C, h, w], within -30 and 20.
    pub logvar: Tensor<4>,
}

/// Least logarithm of a variance. A standard deviation of 3·10⁻⁷ is nothing beside latents of order 1: less than
/// half precision, in which they are stored, and about the last digit of single precision.
const LEAST_LOGVAR: f64 = -30.0;

impl Moments {
    /// Means of which an encoder without variances is certain: a draw is the mean.
    pub fn certain(mean: Tensor<4>) -> Self {
        let logvar = mean.full_like(LEAST_LOGVAR);
        Self { mean, logvar }
    }

    /// The two halves of the channels of `moments` [B, 2 C, h, w].
    pub fn from_channels(moments: Tensor<4>) -> Self {
        let channels = moments.dims()[1] / 2;
        let mean = moments.clone().narrow(1, 0, channels);
        let logvar = moments.narrow(1, channels, channels).clamp(LEAST_LOGVAR, 20.0);
        Self { mean, logvar }
    }

    /// A draw, from standard normal `noise` of the means' shape.
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + self.logvar.clone().mul_scalar(0.5).exp() * noise
    }

    /// Kullback-Leibler divergence from the standard normal, in nats, summed over each image: `[B]`.
    pub fn kl(&self) -> Tensor<1> {
        let [b, ..] = self.mean.dims();
        let logvar = self.logvar.clone();
        let terms = self.mean.clone().square() + logvar.clone().exp() - logvar - 1.0;
        terms.reshape([b as i64, -1]).sum_dim(1).mul_scalar(0.5).reshape([b])
    }
}
