//! What the networks see of every image, computed once: latents and condition tokens into the store.

mod embedder;

use crate::data::catalog::Entry;
use crate::data::radiographs::{Radiographs, Sample};
use crate::data::store::{Check, ColumnSpec, Dtype, Store, StoreSpec, StoreWriter, Values};
use crate::models::autoencoder::Autoencoder;
use crate::models::condition::Tokens;
use crate::models::images::{stack, with_channels};
use crate::random::Draws;
use crate::telemetry::Watch;
use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
pub use embedder::{Embedder, trained_input};

use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Raised when a store of the same inputs would hold other numbers.
pub const VERSION: u32 = 1;

/// Rows per shard, or a little fewer: what a store that is cut off or lacks a row has to make again.
const SHARD_ROWS: usize = 1024;

/// What fills a store.
pub struct Networks<'a> {
    /// Makes the tokens.
    pub encoder: &'a Embedder,
    /// Which of them.
    pub tokens: Tokens,
    /// Makes the latents.
    pub autoencoder: &'a Autoencoder,
    /// Where the autoencoder computes.
    pub device: &'a Device,
    /// Channels, height and width of its latents.
    pub latent_shape: [usize; 3],
    /// Number and width of the tokens.
    pub token_shape: [usize; 2],
}

/// Encodes all of `splits` into the store at `path`. Goes on where an interrupted call stopped; where a store is
/// there that lacks rows, encodes only the shards that lack them.
///
/// An image that cannot be opened is left out and named in the log by its row; more than `most_missing` of them in one
/// call are an error, and so is [`Interrupted`](crate::interrupt::Interrupted). One call at a time per store: hold a [`Lock`](crate::artifact::Lock).
pub fn run(
    networks: &Networks<'_>,
    splits: &[&Radiographs],
    path: &Path,
    input_hash: &str,
    batch_size: usize,
    most_missing: u64,
    watch: &Watch,
) -> Result<()> {
    let rows: Vec<(&Radiographs, usize)> =
        splits.iter().flat_map(|split| (0..split.len()).map(move |at| (*split, at))).collect();
    ensure!(!rows.is_empty(), "the catalog has no images to encode");
    let mut writer = StoreWriter::open(path, spec(input_hash, networks, batch_size))?;
    let mut missing = 0;
    loop {
        let at = usize::try_from(writer.rows()).unwrap_or(usize::MAX);
        if at >= rows.len() {
            break;
        }
        watch.reach(at as u64)?;
        if writer.keep_shard()? {
            continue;
        }
        let batch = &rows[at..(at + batch_size).min(rows.len())];
        let mut images = Vec::with_capacity(batch.len());
        for (split, index) in batch {
            let image = split.get(*index);
            if let Err(error) = &image
                && !writer.has_before(key(&split.entries()[*index]))
            {
                let (image, reason) = (error.id, &error.source);
                tracing::warn!(image, %reason, "image left out of the store");
                missing += 1;
            }
            images.push(match image {
                Err(error) if missing > most_missing => {
                    return Err(error).with_context(|| too_many(missing, most_missing, rows.len()));
                }
                image => image.ok(),
            });
        }
        encode(networks, batch, &images, &mut writer)?;
    }
    Ok(writer.finish()?)
}

fn too_many(missing: u64, most_missing: u64, images: usize) -> String {
    format!(
        "{missing} of {images} images can no longer be opened, data.max_damaged allows {most_missing}; the log names \
         them; the last"
    )
}

/// Gives the writer its next rows: those of the images that are there, through the networks in one batch.
fn encode(
    networks: &Networks<'_>,
    batch: &[(&Radiographs, usize)],
    images: &[Option<Arc<Sample>>],
    writer: &mut StoreWriter,
) -> Result<()> {
    let pixels: Vec<&[f32]> =
        images.iter().flatten().map(|sample| &sample.square.pixels[..]).collect();
    let mut encoded = match images.iter().flatten().next() {
        Some(sample) => Encoded::new(networks, &pixels, sample.square.size)?,
        None => Encoded::default(),
    };
    for ((split, index), image) in batch.iter().zip(images) {
        let key = key(&split.entries()[*index]);
        match image {
            Some(_) => encoded.push_next(key, pixels.len(), writer)?,
            None => writer.push_unmade(key)?,
        }
    }
    Ok(())
}

/// What the networks make of a batch, row after row.
#[derive(Default)]
struct Encoded {
    mean: Vec<f32>,
    logvar: Vec<f32>,
    tokens: Vec<f32>,
    /// Rows that the writer has.
    pushed: usize,
}

impl Encoded {
    fn new(networks: &Networks<'_>, pixels: &[&[f32]], size: usize) -> Result<Self> {
        let images = stack(pixels.iter().copied(), size, networks.device);
        let channels = networks.autoencoder.config().in_channels();
        let moments = networks.autoencoder.encode(with_channels(images * 2.0 - 1.0, channels));
        let tokens = networks.encoder.condition_tokens(networks.tokens, pixels, size);
        Ok(Self {
            mean: values(moments.mean)?,
            logvar: values(moments.logvar)?,
            tokens: values(tokens)?,
            pushed: 0,
        })
    }

    fn push_next(&mut self, key: i64, rows: usize, writer: &mut StoreWriter) -> Result<()> {
        let row = |values: &'_ [f32]| {
            let width = values.len() / rows;
            self.pushed * width..(self.pushed + 1) * width
        };
        let columns = [&self.mean, &self.logvar, &self.tokens];
        writer.push(key, &columns.map(|column| Values::Floats(&column[row(column)])))?;
        self.pushed += 1;
        Ok(())
    }
}

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
            latents.scale = latents.measure();
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

    fn measure(&self) -> Scale {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for index in 0..self.len() {
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
        Scale { mean, std: variance.max(1e-12).sqrt() }
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

/// Opens the store at `path`, every byte checked against its hash.
pub fn open(path: &Path) -> Result<Arc<Store>> {
    Ok(Arc::new(Store::open(path, Check::Hashes)?))
}

fn spec(input_hash: &str, networks: &Networks<'_>, batch_size: usize) -> StoreSpec {
    StoreSpec {
        inputs_hash: input_hash.to_owned(),
        notes: BTreeMap::new(),
        columns: vec![
            ColumnSpec::new("mean", Dtype::F16, &networks.latent_shape),
            ColumnSpec::new("logvar", Dtype::F16, &networks.latent_shape),
            ColumnSpec::new("tokens", Dtype::F16, &networks.token_shape),
        ],
        // Whole batches per shard: a store that is resumed or completed then sees the same batches.
        shard_rows: (SHARD_ROWS / batch_size).max(1) * batch_size,
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))
}
