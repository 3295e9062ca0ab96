//! What the encoder's embeddings are worth.

use super::{Run, figure, sampling};
use crate::data::catalog::{Entry, Label, PatientKey};
use crate::encode::{Embedder, Latents};
use crate::evaluate::report::{EncoderFigures, Figure};
use crate::evaluate::section::{Evaluation, Neighbours};
use crate::metric::{self, Features};
use anyhow::Result;

impl Run {
    pub(super) fn encoder_figures(
        &self,
        encoder: &Embedder,
        train: &Latents,
        valid: &Latents,
    ) -> Result<EncoderFigures> {
        let images = self.encoded()?;
        let width = encoder.width();
        let section = self.recipe.evaluate.iter().find_map(|evaluation| match evaluation {
            Evaluation::Neighbours(section) => Some(section.clone()),
            _ => None,
        });
        let section = section.unwrap_or_default();
        // No label was used in training, so training images may be asked too: a validation split alone is small.
        let entries: Vec<&Entry> =
            images.train.entries().iter().chain(images.valid.entries()).collect();
        let (rows, labels) = labelled(&entries, &section);
        let patients: Vec<PatientKey> = rows.iter().map(|&row| entries[row].patient).collect();
        let accuracy = |train: &[f32], valid: &[f32]| {
            let chosen = pick(&[train, valid].concat(), width, &rows);
            let (features, k) = (Features::new(&chosen, width), section.neighbours);
            let accuracy = metric::knn::accuracy_leave_group_out(features, &labels, &patients, k);
            figure(accuracy.map(|accuracy| accuracy.mean))
        };
        let untrained = match self.untrained_encoder() {
            Some(untrained) => {
                let embed = |images| untrained.embed_all(images, sampling::BATCH);
                let (train, valid) = (embed(&images.train)?, embed(&images.valid)?);
                match train.len() + valid.len() == entries.len() * width {
                    true => accuracy(&train, &valid),
                    false => Figure::missing("not all images can be opened any more"),
                }
            }
            None => Figure::missing("the encoder was not trained here"),
        };
        let (train, valid) = (class_tokens(train), class_tokens(valid));
        let features = Features::new(&valid, width);
        Ok(EncoderFigures {
            effective_rank: figure(metric::effective_rank(features)),
            mean_cosine: figure(metric::mean_cosine(features)),
            knn_accuracy: accuracy(&train, &valid),
            knn_accuracy_untrained: untrained,
        })
    }
}

/// The class token of every row, row after row.
pub(super) fn class_tokens(latents: &Latents) -> Vec<f32> {
    let [_, width] = latents.token_shape();
    (0..latents.len()).flat_map(|at| latents.tokens(at)[..width].to_vec()).collect()
}

/// Rows of the chosen dataset, and for each chosen label what is known of it in each of them.
fn labelled(entries: &[&Entry], section: &Neighbours) -> (Vec<usize>, Vec<Vec<Option<bool>>>) {
    let is_chosen =
        |entry: &Entry| section.dataset.as_ref().is_none_or(|name| *name == entry.source);
    let rows: Vec<usize> = (0..entries.len()).filter(|&row| is_chosen(entries[row])).collect();
    let names = entries.first().map(|entry| entry.labels.keys()).into_iter().flatten();
    let labels = names
        .filter(|name| section.labels.is_empty() || section.labels.contains(name))
        .map(|name| rows.iter().map(|&row| known(entries[row].labels.get(name))).collect())
        .collect();
    (rows, labels)
}

fn known(label: Option<&Label>) -> Option<bool> {
    match label {
        Some(Label::Present) => Some(true),
        Some(Label::Absent) => Some(false),
        Some(Label::Unknown) | None => None,
    }
}

fn pick(values: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect()
}
