//! Whether a training learns or collapses: figures on the validation split.

use super::{Centering, DinoTask, Distilled, loss};
use crate::data::catalog::{Entry, Label, PatientKey};
use crate::data::radiographs::Radiographs;
use crate::metric::{self, Features, knn};
use crate::models::encoder::{Embedder, ImageEncoder};
use crate::train::task::validated;
use anyhow::Result;
use burn::tensor::{Tensor, TensorData, activation::softmax};

/// Below as many directions, embeddings tell hardly any images apart.
const FEW_DIRECTIONS: f64 = 3.0;
/// Images that vote on each other's findings.
const NEIGHBOURS: usize = 20;
/// Images scored at once.
const SCORED: usize = 256;

/// Figures of `teacher`, and a warning where it is collapsing.
///
/// Embeddings and their scores are those of at most 2,000 validation images; neighbours are looked for among as many of
/// both splits, for no label was used in training.
pub(super) fn figures(task: &DinoTask, teacher: &Distilled) -> Result<Vec<(&'static str, f64)>> {
    let embedder = Embedder {
        network: ImageEncoder::Vit(teacher.backbone.clone()),
        input: task.input.clone(),
        device: task.device.clone(),
    };
    let embed = |images: &Radiographs, chosen: &[usize]| {
        embedder.embed_chosen(images, chosen, task.batch_size)
    };
    let chosen = validated(task.valid.len(), task.seed);
    let (embeddings, _) = embed(&task.valid, &chosen)?;
    let features = Features::new(&embeddings, task.network.hidden_size);
    let rank = metric::effective_rank(features)?;
    if rank < FEW_DIRECTIONS {
        tracing::warn!(
            effective_rank = rank,
            "the encoder is collapsing: its embeddings of {} images use fewer than {FEW_DIRECTIONS} directions",
            features.len()
        );
    }
    let [of_mean, mean] = entropies(task, teacher, features);
    let mut figures = vec![
        ("validation/effective_rank", rank),
        ("validation/mean_cosine", metric::mean_cosine(features)?),
        ("validation/assignment_entropy", of_mean),
        ("validation/image_entropy", mean),
    ];
    figures.extend(findings(task, embed)?.map(|accuracy| ("validation/knn_accuracy", accuracy)));
    Ok(figures)
}

/// Entropy of the mean of the teacher's probabilities, and the mean of their entropies, in nats. All images on one
/// prototype: the first is 0. All images alike on all of them: both are the logarithm of their number.
///
/// Probabilities as of single images at the last temperature: no balancing, which would hide what is looked for.
fn entropies(task: &DinoTask, teacher: &Distilled, features: Features<'_>) -> [f64; 2] {
    let (_, temperature) = task.dino.teacher_temperature;
    let rows: Vec<&[f32]> = features.rows().collect();
    let (mut mean, mut entropy) = (Tensor::<2>::zeros([1, 1], &task.device), 0.0);
    for part in rows.chunks(SCORED) {
        let share = part.len() as f64 / rows.len() as f64;
        let data = TensorData::new(part.concat(), [part.len(), features.width()]);
        let scores = teacher.head.forward(Tensor::from_data(data, &task.device), false);
        let probabilities = match task.dino.centering {
            Centering::Mean { .. } => {
                loss::centered(scores, task.centers.classes.mean.clone(), temperature)
            }
            Centering::SinkhornKnopp { .. } => softmax(scores / temperature, 1),
        };
        entropy += share * f64::from(loss::entropy(probabilities.clone()).into_scalar::<f32>());
        mean = mean + probabilities.mean_dim(0) * share; // [1, K]
    }
    [f64::from(loss::entropy(mean).into_scalar::<f32>()), entropy]
}

/// Balanced accuracy of findings by the nearest images of other patients; none where nothing can be told.
fn findings(
    task: &DinoTask,
    embed: impl Fn(&Radiographs, &[usize]) -> Result<(Vec<f32>, Vec<usize>)>,
) -> Result<Option<f64>> {
    let splits = [&task.train, &task.valid];
    let is_told = |entry: &Entry| entry.labels.values().any(|&label| known(label).is_some());
    // Of both splits, by number: first those of the training split.
    let entries: Vec<(usize, usize)> = splits
        .iter()
        .enumerate()
        .flat_map(|(split, images)| (0..images.len()).map(move |at| (split, at)))
        .filter(|&(split, at)| is_told(&splits[split].entries()[at]))
        .collect();
    let chosen: Vec<(usize, usize)> =
        validated(entries.len(), task.seed).into_iter().map(|at| entries[at]).collect();
    let (mut rows, mut images) = (Vec::new(), Vec::new());
    for (split, radiographs) in splits.into_iter().enumerate() {
        let of_split = chosen.iter().filter(|(of, _)| *of == split).map(|&(_, at)| at);
        let (embeddings, opened) = embed(radiographs, &of_split.collect::<Vec<_>>())?;
        rows.extend(embeddings);
        images.extend(opened.into_iter().map(|at| &radiographs.entries()[at]));
    }
    let names: Vec<&String> = images.first().map_or_else(Vec::new, |it| it.labels.keys().collect());
    let of_images = |name: &String| {
        images.iter().map(|it| it.labels.get(name).and_then(|&label| known(label))).collect()
    };
    let labels: Vec<Vec<Option<bool>>> = names.into_iter().map(of_images).collect();
    let patients: Vec<PatientKey> = images.iter().map(|it| it.patient).collect();
    let features = Features::new(&rows, task.network.hidden_size);
    let accuracy = knn::accuracy_leave_group_out(features, &labels, &patients, NEIGHBOURS);
    Ok(accuracy.ok().map(|accuracy| accuracy.mean))
}

fn known(label: Label) -> Option<bool> {
    match label {
        Label::Present => Some(true),
        Label::Absent => Some(false),
        Label::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIZE, task};
    use super::*;
    use crate::data::catalog::{Location, Split};
    use crate::data::file::Window;
    use crate::models::weights::{load_state_dict, state_dict};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    fn phantoms(indices: std::ops::Range<u64>, label: impl Fn(u64) -> Label) -> Arc<Radiographs> {
        let entry = |index: u64| Entry {
            id: 1,
            dataset: "phantom".into(),
            location: Location::Phantom { seed: 1, index },
            patient: PatientKey::of_phantom(&index.to_string()),
            view: None,
            labels: BTreeMap::from([("finding".to_owned(), label(index))]),
            report: None,
            mask: None,
            window: Window::Auto,
            hash: [0; 32],
            split: Split::Train,
            width: 0,
            height: 0,
            quarantine: None,
        };
        Arc::new(Radiographs::open(indices.map(entry).collect(), Path::new(""), SIZE, 0))
    }

    fn measured(
        label: impl Fn(u64) -> Label + Copy,
        collapse: bool,
    ) -> BTreeMap<&'static str, f64> {
        let mut task = task();
        (task.train, task.valid) = (phantoms(0..40, label), phantoms(40..60, label));
        let mut teacher = Distilled::new(&task.network, &task.dino, 1, &task.device);
        if collapse {
            // Whatever the image, the last norm gives the same.
            let mut state = state_dict(&teacher);
            for (name, value) in [("weight", 0.0f32), ("bias", 1.0)] {
                let data = state.get_mut(&format!("backbone.layernorm.{name}")).unwrap();
                *data = TensorData::new(vec![value; data.num_elements()], data.shape().to_vec());
            }
            teacher = load_state_dict(teacher, &state).unwrap();
        }
        figures(&task, &teacher).unwrap().into_iter().collect()
    }

    #[test]
    fn a_collapse_shows_in_rank_and_entropies() {
        let label = |index| if index % 2 == 0 { Label::Present } else { Label::Absent };
        let (fresh, collapsed) = (measured(label, false), measured(label, true));
        assert!(fresh["validation/effective_rank"] > 1.5, "{fresh:?}");
        assert!(collapsed["validation/effective_rank"] < FEW_DIRECTIONS, "{collapsed:?}");
        assert!(collapsed["validation/mean_cosine"] > 0.999, "{collapsed:?}");
        let entropies = |figures: &BTreeMap<&str, f64>| {
            ["assignment", "image"].map(|of| figures[format!("validation/{of}_entropy").as_str()])
        };
        // Entropy is concave; alike images are where it is flat. Twelve prototypes.
        let [of_mean, mean] = entropies(&fresh);
        assert!(mean + 1e-4 < of_mean && of_mean < 12f64.ln(), "{mean} {of_mean}");
        let [of_mean, mean] = entropies(&collapsed);
        assert!((mean - of_mean).abs() < 1e-5, "{mean} {of_mean}");
    }

    #[test]
    fn findings_are_told_where_labels_are_known() {
        let name = "validation/knn_accuracy";
        let all = measured(|index| [Label::Present, Label::Absent][index as usize % 2], false);
        // Labels that have nothing to do with the images: chance, over 60 of them.
        assert!((all[name] - 0.5).abs() < 0.3, "{all:?}");
        assert!(!measured(|_| Label::Unknown, false).contains_key(name));
        assert!(!measured(|_| Label::Absent, false).contains_key(name), "nothing to tell apart");
    }
}
