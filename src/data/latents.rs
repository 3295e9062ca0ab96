//! The store as training sees it: latents and condition tokens of one split.

use super::catalog::Entry;
use super::store::Store;
use crate::interrupt::{self, Interrupted};
use crate::random::{Draws, Permutation, Stream};
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::sync::Arc;

/// How the store names an image: by its content, so that another ingest of the same files finds it again.
pub fn key(entry: &Entry) -> i64 {
    i64::from_le_bytes(entry.hash[..8].try_into().expect("8 bytes of 32"))
}

/// Most rows that statistics are measured on: more would change the third digit at most.
const MEASURED: usize = 10_000;

/// What a condition's numbers never vary less than, as a share of all their variance: what hardly varies says nothing,
/// and would be all rounding once it is divided by its deviation.
const LEAST_VARIANCE: f64 = 1e-4;

/// One split's rows of a store, as training sees them: latents shifted and scaled to mean 0 and variance 1, channel by
/// channel.
#[derive(Debug)]
pub struct Latents {
    store: Arc<Store>,
    rows: Vec<u64>,
    latent_shape: [usize; 3],
    token_shape: [usize; 2],
    /// Patches and their width, where the store has any.
    patch_shape: Option<[usize; 2]>,
    scale: Arc<Scale>,
}

/// What turns raw latents into what the denoiser sees: (latent - mean) / std, channel by channel.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    /// Mean of each channel over the training split.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over the training split, posterior noise included.
    pub std: Vec<f64>,
}

/// How the condition's numbers are spread over the training split: mean and standard deviation of each number of each
/// token, [N · d].
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStatistics {
    /// Their means.
    pub mean: Vec<f32>,
    /// Their standard deviations, all above 0.
    pub std: Vec<f32>,
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
    scale: Arc<Scale>,
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
        let patch_shape = store.column("patches").ok().map(|it| it.spec().shape.clone());
        let mut latents = Self {
            latent_shape: latent_shape.try_into().ok().context("latents must be [C, H, W]")?,
            patch_shape: patch_shape.and_then(|shape| shape.try_into().ok()),
            token_shape: token_shape.try_into().ok().context("tokens must be [N, D]")?,
            store,
            rows,
            scale: Arc::new(Scale { mean: Vec::new(), std: Vec::new() }),
        };
        latents.scale = Arc::new(match scale {
            Some(scale) => scale,
            None => latents.measure()?,
        });
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

    /// Patches of the encoder and their width, where they are kept.
    pub fn patch_shape(&self) -> Option<[usize; 2]> {
        self.patch_shape
    }

    /// The encoder's patches of the image at `index`, [P · d]; empty where they are not kept.
    pub fn patches(&self, index: usize) -> Vec<f32> {
        let kept = self.patch_shape.map(|_| self.store.row(self.rows[index], "patches"));
        kept.map_or_else(Vec::new, |row| row.expect("the columns were there when it was opened"))
    }

    /// What the latents are shifted and scaled by.
    pub fn scale(&self) -> &Scale {
        &self.scale
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
            scale: self.scale.clone(),
        }
    }

    /// The condition tokens of the image at `index`.
    pub fn tokens(&self, index: usize) -> Vec<f32> {
        self.store
            .row(self.rows[index], "tokens")
            .expect("the columns were there when it was opened")
    }

    /// How the condition's numbers are spread.
    /// Fails where a signal came first.
    pub fn token_statistics(&self) -> Result<TokenStatistics, Interrupted> {
        let [num_tokens, width] = self.token_shape;
        let moments = self.moments(num_tokens * width, |index| {
            let squared = |value: f32| [f64::from(value), f64::from(value).powi(2)];
            self.tokens(index).into_iter().map(squared).collect()
        })?;
        let mut statistics = TokenStatistics { mean: Vec::new(), std: Vec::new() };
        for token in moments.chunks(width) {
            let variance = token.iter().map(|(_, variance)| variance).sum::<f64>() / width as f64;
            let least = (LEAST_VARIANCE * variance).max(1e-12);
            statistics.mean.extend(token.iter().map(|(mean, _)| *mean as f32));
            statistics.std.extend(token.iter().map(|(_, of_it)| (of_it + least).sqrt() as f32));
        }
        Ok(statistics)
    }

    fn measure(&self) -> Result<Scale, Interrupted> {
        let [channels, height, width] = self.latent_shape;
        let area = height * width;
        let moments = self.moments(channels, |index| {
            let Row { mean, logvar, .. } = self.row(index);
            let channel = |(means, logvars): (&[f32], &[f32])| {
                let mut sums = [0.0; 2];
                for (mean, logvar) in means.iter().zip(logvars) {
                    let mean = f64::from(*mean);
                    sums[0] += mean;
                    sums[1] += mean * mean + f64::from(*logvar).exp();
                }
                sums.map(|sum| sum / area as f64)
            };
            mean.chunks(area).zip(logvar.chunks(area)).map(channel).collect()
        })?;
        let (mean, variance): (Vec<f64>, Vec<f64>) = moments.into_iter().unzip();
        Ok(Scale { mean, std: variance.into_iter().map(|it| it.max(1e-12).sqrt()).collect() })
    }

    /// Mean and variance of `count` numbers, whose first and second moments in a row `of_row` gives; over all rows or,
    /// where there are many, over some that are always the same.
    fn moments(
        &self,
        count: usize,
        of_row: impl Fn(usize) -> Vec<[f64; 2]> + Sync,
    ) -> Result<Vec<(f64, f64)>, Interrupted> {
        let order = Permutation::new(self.len() as u64, Stream::new(0, "latents/statistics"), 0);
        let mut rows: Vec<usize> =
            (0..self.len().min(MEASURED) as u64).map(|at| order.apply(at) as usize).collect();
        rows.sort_unstable();
        let mut sums = vec![[0.0; 2]; count];
        // Summed in the order of the rows, so that threads change nothing.
        for batch in rows.chunks(256) {
            interrupt::unless_requested()?;
            let found: Vec<Vec<[f64; 2]>> = batch.par_iter().map(|&row| of_row(row)).collect();
            for row in found {
                for (sum, of_row) in sums.iter_mut().zip(row) {
                    *sum = [sum[0] + of_row[0], sum[1] + of_row[1]];
                }
            }
        }
        let rows = rows.len().max(1) as f64;
        let moments = sums.into_iter().map(|[first, second]| {
            let mean = first / rows;
            (mean, (second / rows - mean * mean).max(0.0))
        });
        Ok(moments.collect())
    }
}

impl Row {
    /// A draw from the posterior, shifted and scaled.
    pub fn sample(&self, draws: &mut Draws) -> Vec<f32> {
        let mut noise = draws.normals(self.mean.len());
        let area = self.mean.len() / self.scale.mean.len();
        for (at, value) in noise.iter_mut().enumerate() {
            let (mean, logvar) = (f64::from(self.mean[at]), f64::from(self.logvar[at]));
            let latent = mean + (0.5 * logvar).exp() * f64::from(*value);
            let channel = at / area;
            *value = ((latent - self.scale.mean[channel]) / self.scale.std[channel]) as f32;
        }
        noise
    }
}
