//! Networks that compress: images to latents and back.

mod kl;
mod kl_config;
mod moments;

pub use kl::AutoencoderKl;
pub use kl_config::AutoencoderKlConfig;
pub use moments::Moments;
