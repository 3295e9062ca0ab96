//! What the networks see of every image, computed once: latents and condition tokens into the store.

use crate::data::latents::key;
use crate::data::radiographs::{Radiographs, Sample};
use crate::data::store::{ColumnSpec, Dtype, StoreSpec, StoreWriter, Values};
use crate::models::autoencoder::Autoencoder;
use crate::models::condition::Tokens;
use crate::models::encoder::Embedder;
use crate::models::images::{stack, values, with_channels};
use crate::telemetry::Watch;
use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Raised when a store of the same inputs would hold other numbers.
pub(super) const VERSION: u32 = 1;

/// Rows per shard, or a little fewer: what a store that is cut off or lacks a row has to make again.
const SHARD_ROWS: usize = 1024;

/// What fills a store.
pub(super) struct Networks<'a> {
    /// Makes the tokens.
    pub(super) encoder: &'a Embedder,
    /// Which of them.
    pub(super) tokens: Tokens,
    /// Makes the latents.
    pub(super) autoencoder: &'a Autoencoder,
    /// Where the autoencoder computes.
    pub(super) device: &'a Device,
    /// Channels, height and width of its latents.
    pub(super) latent_shape: [usize; 3],
    /// Number and width of the tokens.
    pub(super) token_shape: [usize; 2],
    /// Whether the encoder's patches are kept, too.
    pub(super) keeps_patches: bool,
}

/// Encodes all of `splits` into the store at `path`. Goes on where an interrupted call stopped; where a store is
/// there that lacks rows, encodes only the shards that lack them.
///
/// An image that cannot be opened is left out and named in the log by its row; more than `most_missing` of them in one
/// call are an error, and so is [`Interrupted`](crate::interrupt::Interrupted). One call at a time per store: hold a [`Lock`](crate::artifact::Lock).
pub(super) fn run(
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
    /// Empty where nobody wants them.
    patches: Vec<f32>,
    /// Rows that the writer has.
    pushed: usize,
}

impl Encoded {
    fn new(networks: &Networks<'_>, pixels: &[&[f32]], size: usize) -> Result<Self> {
        let images = stack(pixels.iter().copied(), size, networks.device);
        let channels = networks.autoencoder.config().in_channels();
        let moments = networks.autoencoder.encode(with_channels(images * 2.0 - 1.0, channels));
        let all = networks.encoder.tokens(pixels, size);
        let tokens = networks.encoder.guiding(networks.tokens, all.clone());
        let patches = match networks.keeps_patches {
            true => values(networks.encoder.patches(all))?,
            false => Vec::new(),
        };
        Ok(Self {
            mean: values(moments.mean)?,
            logvar: values(moments.logvar)?,
            tokens: values(tokens)?,
            patches,
            pushed: 0,
        })
    }

    fn push_next(&mut self, key: i64, rows: usize, writer: &mut StoreWriter) -> Result<()> {
        let row = |values: &'_ [f32]| {
            let width = values.len() / rows;
            self.pushed * width..(self.pushed + 1) * width
        };
        let mut columns = vec![&self.mean, &self.logvar, &self.tokens];
        columns.extend((!self.patches.is_empty()).then_some(&self.patches));
        let columns = columns.into_iter().map(|column| Values::Floats(&column[row(column)]));
        writer.push(key, &columns.collect::<Vec<_>>())?;
        self.pushed += 1;
        Ok(())
    }
}

fn spec(input_hash: &str, networks: &Networks<'_>, batch_size: usize) -> StoreSpec {
    let mut columns = vec![
        ColumnSpec::new("mean", Dtype::F16, &networks.latent_shape),
        ColumnSpec::new("logvar", Dtype::F16, &networks.latent_shape),
        ColumnSpec::new("tokens", Dtype::F16, &networks.token_shape),
    ];
    if networks.keeps_patches {
        let patches = [networks.encoder.grid().pow(2), networks.encoder.width()];
        columns.push(ColumnSpec::new("patches", Dtype::F16, &patches));
    }
    StoreSpec {
        inputs_hash: input_hash.to_owned(),
        notes: BTreeMap::new(),
        columns,
        // Whole batches per shard: a store that is resumed or completed then sees the same batches.
        shard_rows: (SHARD_ROWS / batch_size).max(1) * batch_size,
    }
}
