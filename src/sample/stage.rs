//! The sample stage: images, a table that says where each comes from, and contact sheets.

use super::generate::{Generator, Request};
use super::manifold::{Candidates, Origin, Strategy};
use crate::artifact;
use crate::data::catalog::{Entry, Label, PatientKey, Split};
use crate::data::file::{self, Window};
use crate::data::image::Gray;
use crate::data::latents::Latents;
use crate::data::picture::{self, Contents, Provenance};
use crate::data::radiographs::Radiographs;
use crate::diffusion::Guidance;
use crate::interrupt;
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::{Context, Result};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// Raised when the same recipe would draw other images or write another table.
pub const VERSION: u32 = 3;

/// The table's file name.
pub const TABLE: &str = "samples.csv";

/// Tiles shown per strategy in its contact sheet: pairs of source and sample.
const SHEET: usize = 32;

/// One row of `samples.csv`: a synthetic image and what it inherits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The image, relative to the table.
    pub file: String,
    /// Always true: nothing here is a real radiograph.
    pub synthetic: bool,
    /// How its condition was made.
    pub strategy: String,
    /// The first real image it comes from: the first 16 digits of its `hash` in the catalog.
    pub source: String,
    /// The second, if there are two.
    pub source_2: Option<String>,
    /// How far from the first to the second.
    pub weight: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// In which way its condition guided.
    pub guidance: String,
    /// How strongly: 1 is the condition as it is.
    pub guidance_scale: f64,
    /// Findings that are present, `|` between them.
    pub labels_present: String,
    /// Findings that are absent.
    pub labels_absent: String,
    /// Number of the first source's patient, in the order in which patients come in this table; it says nothing about
    /// the patient. An image never leaves its patient's split.
    pub patient_group: usize,
    /// The sources' split.
    pub split: String,
}

/// The real images of one split, from which samples start.
pub struct Sources<'a> {
    /// Pixels and what is known about them.
    pub radiographs: &'a Radiographs,
    /// Their rows in the store, in the same order.
    pub latents: &'a Latents,
}

/// Draws all images of `strategies` into `folder`; `sources` has those of every split that they name. Images that an interrupted call has left there stay.
///
/// Fails with [`Interrupted`](crate::interrupt::Interrupted) once a signal came.
pub fn run(
    generator: &mut Generator<'_>,
    strategies: &[Strategy],
    sources: &BTreeMap<Split, Sources<'_>>,
    seed: u64,
    recipe: &str,
    folder: &Path,
    batch_size: usize,
    watch: &Watch,
) -> Result<()> {
    let images = folder.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot create {}", images.display()))?;
    let mut table = Vec::new();
    let mut groups = BTreeMap::new();
    for (number, strategy) in strategies.iter().enumerate() {
        let sources = sources.get(&strategy.split()).context("sources of every split named")?;
        let (entries, size) = (sources.radiographs.entries(), sources.radiographs.size());
        let [_, token_width] = sources.latents.token_shape();
        let plan = plan(strategy, sources, strategy_seed(seed, number));
        // A plan that a signal has cut short is none.
        interrupt::unless_requested()?;
        let plan = plan?;
        generator.sampler = strategy.sampler().clone();
        let name = |at: usize| format!("{number}-{}-{at:06}.png", strategy.name().to_lowercase());
        for (batch_number, batch) in plan.chunks(batch_size).enumerate() {
            watch.advance(0)?;
            let first = batch_number * batch_size;
            let is_drawn = (0..batch.len()).all(|at| images.join(name(first + at)).exists());
            if !is_drawn {
                let request = |origin: &Origin| {
                    let tokens: BTreeMap<usize, Vec<f32>> =
                        origin.sources.iter().map(|&at| (at, sources.latents.tokens(at))).collect();
                    let tokens = Some(origin.condition(token_width, |at| &tokens[&at]));
                    Request { tokens, seed: origin.seed }
                };
                let requests: Vec<Request> = batch.iter().map(request).collect();
                for (at, pixels) in
                    generator.images(&requests, strategy.guidance())?.into_iter().enumerate()
                {
                    let image = Gray { width: size, height: size, pixels };
                    let seed = batch[at].seed;
                    let from = Provenance { contents: Contents::Synthetic, recipe, seed };
                    picture::write(&images.join(name(first + at)), &image, &from)?;
                }
            }
            watch.advance(batch.len() as u64)?;
        }
        table.extend(plan.iter().enumerate().map(|(at, origin)| {
            let next = groups.len() + 1;
            let group = *groups.entry(entries[origin.sources[0]].patient).or_insert(next);
            row(format!("images/{}", name(at)), origin, strategy.guidance(), entries, group)
        }));
        let sheet = sheet(&plan, &images, name, sources.radiographs)?;
        let path = folder.join(format!("sheet-{number}-{}.png", strategy.name().to_lowercase()));
        let contents = Contents::SyntheticAndReal;
        picture::write(&path, &sheet, &Provenance { contents, recipe, seed })?;
    }
    write_table(&table, &folder.join(TABLE))
}

/// Which of `sources` guide the images of `strategy`.
fn plan(strategy: &Strategy, sources: &Sources<'_>, seed: u64) -> Result<Vec<Origin>> {
    let entries = sources.radiographs.entries();
    let labels: Vec<&BTreeMap<String, Label>> = entries.iter().map(|entry| &entry.labels).collect();
    let patients: Vec<PatientKey> = entries.iter().map(|entry| entry.patient).collect();
    // Neighbours are found by the class token alone.
    let [_, width] = sources.latents.token_shape();
    let class_token = |at: usize| sources.latents.tokens(at).into_iter().take(width);
    let embeddings: Vec<f32> = (0..sources.latents.len()).flat_map(class_token).collect();
    Ok(strategy.plan(&Candidates::new(embeddings, &labels, &patients), seed)?)
}

/// Reads the table in `folder`.
pub fn read_table(folder: &Path) -> Result<Vec<SampleRow>> {
    let path = folder.join(TABLE);
    let mut reader =
        csv::Reader::from_path(&path).with_context(|| format!("cannot read {}", path.display()))?;
    reader
        .deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is damaged", path.display()))
}

/// Reads the image of a row of the table in `folder`.
pub fn read_image(folder: &Path, sample: &SampleRow) -> Result<Vec<f32>> {
    Ok(file::read(&folder.join(&sample.file), &Window::Raw)?.pixels)
}

/// The seed of strategy `number` of a recipe's list, from a stream of its own: replicates of a recipe, whose seeds are
/// neighbours, must share no plan and no noise.
fn strategy_seed(seed: u64, number: usize) -> u64 {
    Stream::new(seed, "sample/strategy").at(number as u64).next_u64()
}

fn row(
    file: String,
    origin: &Origin,
    guidance: &Guidance,
    entries: &[Entry],
    patient_group: usize,
) -> SampleRow {
    let first = &entries[origin.sources[0]];
    let with = |label: Label| {
        let names: Vec<&str> = first
            .labels
            .iter()
            .filter(|(_, value)| **value == label)
            .map(|(name, _)| name.as_str())
            .collect();
        names.join("|")
    };
    let key = |at: usize| {
        entries[at].hash[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    SampleRow {
        file,
        synthetic: true,
        strategy: origin.strategy.clone(),
        source: key(origin.sources[0]),
        source_2: origin.sources.get(1).map(|&at| key(at)),
        weight: origin.weight,
        seed: origin.seed,
        guidance: guidance.name().to_owned(),
        guidance_scale: guidance.strength(),
        labels_present: with(Label::Present),
        labels_absent: with(Label::Absent),
        patient_group,
        split: first.split.name().to_owned(),
    }
}

/// Rows of source, sample, or source, sample, source for two of them.
fn sheet(
    plan: &[Origin],
    images: &Path,
    name: impl Fn(usize) -> String,
    radiographs: &Radiographs,
) -> Result<Gray> {
    let mut tiles = Vec::new();
    for (at, origin) in plan.iter().take(SHEET).enumerate() {
        tiles.push(radiographs.tile(origin.sources[0])?);
        tiles.push(file::read(&images.join(name(at)), &Window::Raw)?.pixels);
        if let Some(&second) = origin.sources.get(1) {
            tiles.push(radiographs.tile(second)?);
        }
    }
    let is_pair = plan.first().is_some_and(|origin| origin.sources.len() > 1);
    let headings = if is_pair {
        ["source", "sample", "source"].repeat(3)
    } else {
        ["source", "sample"].repeat(4)
    };
    Ok(picture::contact_sheet(&tiles, radiographs.size(), headings.len(), 2, &headings))
}

fn write_table(table: &[SampleRow], path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in table {
        writer.serialize(row)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(artifact::write_file(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::manifold::reconstruction_plan;
    use std::collections::BTreeSet;

    #[test]
    fn no_strategy_of_any_replicate_shares_its_noise() {
        let seeds: Vec<u64> = (0..20)
            .flat_map(|seed| (0..8).map(move |number| strategy_seed(seed, number)))
            .collect();
        let noise: BTreeSet<u64> = seeds
            .iter()
            .flat_map(|&seed| reconstruction_plan(10, 30, seed).unwrap())
            .map(|origin| origin.seed)
            .collect();
        assert_eq!(noise.len(), 30 * seeds.len());
    }
}
