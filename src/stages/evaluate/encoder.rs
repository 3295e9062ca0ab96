//! What the encoder's embeddings are worth.

use super::images::{READ_AHEAD, map_images};
use super::{Run, figure};
use crate::data::catalog::{Entry, Label, PatientKey};
use crate::data::radiographs::Radiographs;
use crate::encode::{Embedder, Latents};
use crate::evaluate::report::{EncoderFigures, Figure, Taken};
use crate::evaluate::section::{Evaluation, Neighbours};
use crate::evaluate::subset;
use crate::metric::{self, Features, knn};
use crate::random::Stream;
use crate::stages::features;
use anyhow::Result;

impl Run {
    /// Fails where a signal came first.
    pub(super) fn encoder_figures(
        &self,
        encoder: &Embedder,
        train: &Latents,
        valid: &Latents,
    ) -> Result<EncoderFigures> {
        let images = self.encoded()?;
        let section = self.recipe.evaluate.iter().find_map(|evaluation| match evaluation {
            Evaluation::Neighbours(section) => Some(section.clone()),
            _ => None,
        });
        let section = section.unwrap_or_default();
        // No label was used in training, so training images may be asked too: a validation split alone is small.
        let entries: Vec<&Entry> =
            images.train.entries().iter().chain(images.valid.entries()).collect();
        let stream = |name| Stream::new(self.recipe.seed, name);
        let asked = asked(&entries, train.len(), &section, stream("evaluate/neighbours"));
        let accuracy = |rows: &[f32]| {
            let features = Features::new(rows, encoder.width());
            let (labels, patients, k) = (&asked.labels, &asked.patients, section.neighbours);
            let found = knn::accuracy_leave_group_out(features, labels, patients, k);
            figure(found.map(|found| found.mean))
        };
        let [of_train, of_valid] = &asked.rows;
        let [knn_accuracy, knn_accuracy_untrained] = match knn::check_labels(&asked.labels) {
            Err(refusal) => [refusal.clone(), refusal].map(|refusal| figure(Err(refusal))),
            Ok(()) => {
                let rows = [class_tokens(train, of_train), class_tokens(valid, of_valid)];
                let untrained = match self.untrained_encoder() {
                    Some(untrained) => {
                        let of_train = embedded(&untrained, &images.train, of_train)?;
                        accuracy(
                            &[of_train, embedded(&untrained, &images.valid, of_valid)?].concat(),
                        )
                    }
                    None => Figure::missing("the encoder was not trained here"),
                };
                [accuracy(&rows.concat()), untrained]
            }
        };
        let chosen = subset::chosen(stream("evaluate/embeddings"), valid.len(), section.images);
        let tokens = class_tokens(valid, &chosen);
        let features = Features::new(&tokens, encoder.width());
        metric::unless_stopped()?;
        Ok(EncoderFigures {
            effective_rank: figure(metric::effective_rank(features)),
            mean_cosine: figure(metric::mean_cosine(features)),
            knn_accuracy,
            knn_accuracy_untrained,
            images: Taken::new(chosen.len(), valid.len()),
            knn_images: Taken::new(asked.patients.len(), asked.available),
        })
    }
}

/// The class token of the images at `indices`, row after row.
fn class_tokens(latents: &Latents, indices: &[usize]) -> Vec<f32> {
    let [_, width] = latents.token_shape();
    indices.iter().flat_map(|&at| latents.tokens(at)[..width].to_vec()).collect()
}

/// The same, as `encoder` makes them. Fails where a signal came first.
fn embedded(encoder: &Embedder, images: &Radiographs, indices: &[usize]) -> Result<Vec<f32>> {
    let mut embeddings = Vec::new();
    for indices in indices.chunks(READ_AHEAD) {
        let pixels = map_images(images, indices, |square| square.pixels.clone())?;
        embeddings.extend(features::embedded(encoder, &pixels, images.size())?);
    }
    Ok(embeddings)
}

/// What the nearest neighbours are asked.
struct Asked {
    /// Images of the training and of the validation split.
    rows: [Vec<usize>; 2],
    /// For each label, what is known of it in each of them.
    labels: Vec<Vec<Option<bool>>>,
    patients: Vec<PatientKey>,
    /// Images of the chosen dataset of which any label is known, before some of them were drawn.
    available: usize,
}

/// Draws from `entries`: `num_train` of the training split, then those of the validation split.
fn asked(entries: &[&Entry], num_train: usize, section: &Neighbours, stream: Stream) -> Asked {
    let names = entries.first().map(|entry| entry.labels.keys()).into_iter().flatten();
    let names: Vec<&String> =
        names.filter(|name| section.labels.is_empty() || section.labels.contains(name)).collect();
    let is_told = |entry: &Entry| {
        section.dataset.as_ref().is_none_or(|name| *name == entry.source)
            && names.iter().any(|&name| known(entry.labels.get(name)).is_some())
    };
    let told: Vec<usize> = (0..entries.len()).filter(|&row| is_told(entries[row])).collect();
    let chosen = subset::chosen(stream, told.len(), section.images);
    let rows: Vec<usize> = chosen.iter().map(|&at| told[at]).collect();
    let label = |name: &&String| {
        rows.iter().map(|&row| known(entries[row].labels.get(*name))).collect::<Vec<_>>()
    };
    Asked {
        labels: names.iter().map(label).collect(),
        patients: rows.iter().map(|&row| entries[row].patient).collect(),
        available: told.len(),
        rows: {
            let middle = rows.partition_point(|&row| row < num_train);
            let of_valid = rows[middle..].iter().map(|row| row - num_train).collect();
            [rows[..middle].to_vec(), of_valid]
        },
    }
}

fn known(label: Option<&Label>) -> Option<bool> {
    match label {
        Some(Label::Present) => Some(true),
        Some(Label::Absent) => Some(false),
        Some(Label::Unknown) | None => None,
    }
}
