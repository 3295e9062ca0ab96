//! What the encoder's embeddings are worth. Always in the report; in the recipe's list for its settings.

use super::{BETWEEN, Looks, MOST_IMAGES, Measure, at_least};
use crate::data::catalog::{Entry, Label, PatientKey};
use crate::data::latents::Latents;
use crate::evaluate::evidence::Evidence;
use crate::evaluate::eye::Eye;
use crate::evaluate::finding::{Figure, Finding, Meter, Taken, Tile};
use crate::evaluate::sets;
use crate::evaluate::subset;
use crate::evaluate::words::{number, of, percent};
use crate::metric::{self, Features, Refusal, bootstrap, knn};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Settings of the encoder's nearest-neighbour accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbours {
    /// Images of other patients that vote on each training and validation image.
    pub neighbours: usize,
    /// Labels to tell; none: all of them.
    pub labels: Vec<String>,
    /// Only images of this dataset. None: all.
    pub dataset: Option<String>,
    /// Most images that vote and are voted on, and most validation images for the rank and the cosine.
    pub images: usize,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { neighbours: 20, labels: Vec::new(), dataset: None, images: MOST_IMAGES }
    }
}

impl Measure for Neighbours {
    fn name(&self) -> &'static str {
        "Neighbours"
    }

    fn key(&self) -> String {
        "encoder".to_owned()
    }

    fn faults(&self) -> Vec<String> {
        at_least("neighbours", self.neighbours, 1).into_iter().collect()
    }

    fn images(&self) -> Option<usize> {
        Some(self.images)
    }

    fn looks(&self) -> Looks {
        Looks::Nowhere
    }

    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { train: images, valid: held_out, latents: [train, valid], .. } = *evidence;
        let width = evidence.encoder.0.width();
        // No label was used in training, so training images may be asked too: a validation split alone is small.
        let entries: Vec<&Entry> = images.entries().iter().chain(held_out.entries()).collect();
        let stream = |name| Stream::new(evidence.seed, name);
        let asked = asked(&entries, train.len(), self, stream("evaluate/neighbours"));
        let accuracy = |rows: &[f32]| -> Result<Figure> {
            let features = Features::new(rows, width);
            let (labels, patients, k) = (&asked.labels, &asked.patients, self.neighbours);
            let told = match knn::told_leave_group_out(features, labels, patients, k) {
                Ok(told) => told,
                Err(refusal) => return Ok(Err(refusal).into()),
            };
            let mean = |counts: Option<&[u32]>| told.accuracy(counts).map(|it| it.mean);
            let interval =
                bootstrap::interval(patients, evidence.seed, |counts| mean(Some(counts)))?;
            Ok(Figure::from(mean(None).ok_or(Refusal::NoLabel)).within(interval))
        };
        let [of_train, of_valid] = &asked.rows;
        let [accuracy, untrained] = match knn::check_labels(&asked.labels) {
            Err(refusal) => [refusal.clone(), refusal].map(|refusal| Err(refusal).into()),
            Ok(()) => {
                let rows = [class_tokens(train, of_train), class_tokens(valid, of_valid)];
                let untrained = match evidence.untrained {
                    Some(untrained) => {
                        let eye = Eye::untrained(untrained, evidence)?;
                        let count = of_train.len() + of_valid.len();
                        let watch = Watch::new("untrained", 0, count as u64);
                        let see = |images, indices: &[usize]| {
                            sets::of_real(&eye, images, indices, <[f32]>::to_vec, &watch)
                        };
                        let (of_train, of_valid) =
                            (see(images, of_train)?, see(held_out, of_valid)?);
                        accuracy(&[of_train, of_valid].concat())?
                    }
                    None => Figure::missing("the encoder was not trained here"),
                };
                [accuracy(&rows.concat())?, untrained]
            }
        };
        let chosen = subset::chosen(stream("evaluate/embeddings"), valid.len(), self.images);
        let tokens = class_tokens(valid, &chosen);
        let features = Features::new(&tokens, width);
        metric::unless_stopped()?;
        let images = Taken::new(chosen.len(), valid.len());
        let knn_images = Taken::new(asked.patients.len(), asked.available);
        let mut finding = Finding::new(self.key(), "Encoder");
        finding.figure(
            "effective_rank",
            &metric::effective_rank(features).into(),
            number,
            "Effective rank",
            format!(
                "Directions that the embeddings of {} use: the exponential of the entropy of \
                 their singular values. 1 is a line, 0 a collapse; more is better.",
                of(images, "validation images"),
            ),
        );
        finding.figure(
            "mean_cosine",
            &metric::mean_cosine(features).into(),
            number,
            "Mean cosine",
            "Over pairs of different ones of these. Close to 1, all images look alike to the \
             encoder.",
        );
        finding.figure(
            "knn_accuracy",
            &accuracy,
            percent,
            "Neighbour accuracy",
            format!(
                "Balanced accuracy of labels voted by the nearest images of other patients \
                 (cosine), mean over labels, among {}. Chance is 50 %. {BETWEEN}",
                of(knn_images, "training and validation images with a label"),
            ),
        );
        finding.figure(
            "knn_accuracy_untrained",
            &untrained,
            percent,
            "Neighbour accuracy, untrained",
            "The same with the weights before training: what the architecture alone gives.",
        );
        finding.taken("images", images);
        finding.taken("knn_images", knn_images);
        finding.tiles.push(Tile {
            rank: 6,
            label: "Encoder, nearest neighbours".into(),
            value: accuracy.shown(percent),
            reason: accuracy.reason(),
            beside: vec![
                ("Chance".into(), percent(0.5)),
                ("Untrained encoder".into(), untrained.shown(percent)),
            ],
            meaning:
                "How well an image's nearest neighbours tell its labels, though the encoder was \
                      trained without any."
                    .into(),
            meter: Meter::new(&accuracy, &[&Figure::Known(0.5), &untrained]),
        });
        Ok(finding)
    }
}

/// The class token of the images at `indices`, row after row.
fn class_tokens(latents: &Latents, indices: &[usize]) -> Vec<f32> {
    let [_, width] = latents.token_shape();
    indices.iter().flat_map(|&at| latents.tokens(at)[..width].to_vec()).collect()
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
        section.dataset.as_ref().is_none_or(|name| *name == entry.dataset)
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
