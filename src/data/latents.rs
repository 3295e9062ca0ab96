//! The store as training sees it: latents and condition tokens of one split.

use super::catalog::Entry;
use super::store::Store;
use crate::interrupt::{self, Interrupted};
use crate::random::Draws;
use anyhow::{Context, Result};
use std::sync::Arc;

/// How the store names an image: by its content, so that another ingest of the same files finds it again.
pub fn key(entry: &Entry) -> i64 {
    i64::from_le_bytes(entry.hash[..8].try_into().expect("8 bytes of 32"))
}

/// One split's rows of a store, as training sees them: latents shifted and scaled to mean 0 and variance 1.
#[derive(Debug)]
pub struct Latents {
    store: Arc<Store>,
    rows: Vec<u64>,
    latent_shape: [usize; 3],
    token_shape: [usize; 2],
    scale: Scale,
}

/// What turns raw latents into what the denoiser sees: (latent - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    /// Mean over the training split.
    pub mean: f64,
    /// Standard deviation over the training split, posterior noise included.
    pub std: f64,
}

/// One image in the store.
#[derive(Debug, Clone)]
pub struct Row {
    /// Posterior mean, raw.
    pub mean: Vec<f32>,
    /// Posterior log-variance.
    pub logvar: Vec<f32>,
    /// Condition tokens, [N · d].
    pub tokens: Vec<f32>,
    scale: Scale,
}

impl Latents {
    /// The rows of `entries` in `store`, in their order. All of them must be there.
    ///
    /// `scale` is the training split's; None measures it on these rows.
    pub fn new(store: Arc<Store>, entries: &[Entry], scale: Option<Scale>) -> Result<Self> {
        let rows = entries
            .iter()
            .map(|entry| {
                store.row_of(key(entry)).context("an image of the catalog is not in the store")
            })
            .collect::<Result<Vec<_>>>()?;
        let latent_shape = store.column("mean")?.spec().shape.clone();
        let token_shape = store.column("tokens")?.spec().shape.clone();
        let mut latents = Self {
            latent_shape: latent_shape.try_into().ok().context("latents must be [C, H, W]")?,
            token_shape: token_shape.try_into().ok().context("tokens must be [N, D]")?,
            store,
            rows,
            scale: scale.unwrap_or(Scale { mean: 0.0, std: 1.0 }),
        };
        if scale.is_none() {
            latents.scale = latents.measure()?;
        }
        Ok(latents)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Channels, height, width.
    pub fn latent_shape(&self) -> [usize; 3] {
        self.latent_shape
    }

    /// Tokens and their width.
    pub fn token_shape(&self) -> [usize; 2] {
        self.token_shape
    }

    /// What the latents are shifted and scaled by.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The image at `index` below `len`.
    pub fn row(&self, index: usize) -> Row {
        let read = |name| {
            self.store
                .row(self.rows[index], name)
                .expect("the columns were there when it was opened")
        };
        Row {
            mean: read("mean"),
            logvar: read("logvar"),
            tokens: read("tokens"),
            scale: self.scale,
        }
    }

    /// The condition tokens of the image at `index`.
    pub fn tokens(&self, index: usize) -> Vec<f32> {
        self.store
            .row(self.rows[index], "tokens")
            .expect("the columns were there when it was opened")
    }

    /// Fails where a signal came first: at a million images it takes minutes.
    fn measure(&self) -> Result<Scale, Interrupted> {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for index in 0..self.len() {
            interrupt::unless_requested()?;
            let Row { mean, logvar, .. } = self.row(index);
            for (mean, logvar) in mean.iter().zip(&logvar) {
                let mean = f64::from(*mean);
                count += 1.0;
                sum += mean;
                squares += mean * mean + f64::from(*logvar).exp();
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let variance = squares / f64::max(count, 1.0) - mean * mean;
        Ok(Scale { mean, std: variance.max(1e-12).sqrt() })
    }
}

impl Row {
    /// A draw from the posterior, shifted and scaled.
    pub fn sample(&self, draws: &mut Draws) -> Vec<f32> {
        let mut noise = draws.normals(self.mean.len());
        for ((value, mean), logvar) in noise.iter_mut().zip(&self.mean).zip(&self.logvar) {
            let latent = f64::from(*mean) + (0.5 * f64::from(*logvar)).exp() * f64::from(*value);
            *value = ((latent - self.scale.mean) / self.scale.std) as f32;
        }
        noise
    }
}
