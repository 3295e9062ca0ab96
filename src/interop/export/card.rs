//! The model card: what a stranger must know before using the weights.

use super::{Package, Part, Weights};
use crate::data::catalog::Counts;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// What the card says beside what the networks are.
#[derive(Debug, Clone)]
pub struct Card {
    /// The run's name.
    pub name: String,
    /// The recipe, every default written out.
    pub recipe: String,
    /// What the catalog holds.
    pub counts: Counts,
    /// Which of the denoiser's weights the folder has.
    pub weights: Weights,
    /// Images that the encoder, the autoencoder and the denoiser have seen, counted over all passes.
    pub images_seen: [u64; 3],
    /// Where the weights of these three come from, in the same order.
    pub origins: [WeightsFrom; 3],
    /// The report of the run.
    pub measured: Measured,
}

/// Where a network's weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsFrom {
    /// The run itself, from random numbers.
    Trained,
    /// Somebody else's weights.
    Loaded {
        /// Which.
        from: String,
        /// Their licence, as its file says.
        licence: String,
    },
}

/// What is known of how good the model is.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// `report.json`, made from these weights.
    Report(Value),
    /// Nothing; why, as one sentence.
    Not(String),
}

/// The section of the report that is told by itself.
const NEAREST_TRAIN: &str = "nearest_train";

/// `README.md` for `model`.
pub(super) fn markdown(model: &Package, autoencoder: &str) -> String {
    let card = &model.card;
    let backbone = &model.denoiser.config.backbone;
    let (part, class) = (backbone.part(), backbone.class_name());
    let [summary, parts] = [summary(model), parts(part, card)];
    let (data, metrics, memorisation) = (data(&card.counts), metrics(card), memorisation(card));
    let name = &card.name;
    let recipe = card.recipe.trim_end();
    format!(
        "---
library_name: diffusers
tags:
- umbra
- synthetic
- radiograph
---

# {name}

**Images made with this model are synthetic. Not for clinical use.**

{summary}

## Use

    pip install torch diffusers transformers safetensors pillow numpy
    python sample.py IMAGE.png

draws `sample.png`, a synthetic image that is to the encoder like IMAGE.png (grey, 8 bits). The PNG says in a text
chunk that it is synthetic. Or part by part:

```python
from diffusers import {autoencoder}, {class}
from transformers import AutoModel

{part} = {class}.from_pretrained(folder, subfolder=\"{part}\")
vae = {autoencoder}.from_pretrained(folder, subfolder=\"vae\")
encoder = AutoModel.from_pretrained(f\"{{folder}}/encoder\")
```

diffusers has no pipeline of this kind, so `DiffusionPipeline.from_pretrained` cannot open the folder as a whole;
`sample.py` is what such a pipeline would do.

## Weights

{parts}
## Data

{data}
## Measured

{metrics}
## Memorisation

{memorisation}
## Recipe

Every default is written out. With umbra and the same images it makes this model again, bit for bit on the same
machine.

```ron
{recipe}
```
"
    )
}

fn summary(model: &Package) -> String {
    let card = &model.card;
    let denoiser = &model.denoiser.config;
    let (part, title) = (denoiser.backbone.part(), denoiser.backbone.title());
    let weights = match card.weights {
        Weights::Ema => "exponential averages (EMA)",
        Weights::Raw => {
            "those of the last step (raw, not averaged; encoder and autoencoder are averages, as training used them)"
        }
    };
    let pooled = match denoiser.is_pooled() {
        true => {
            "; what it makes of the tokens also joins the time embedding, as a class label would"
        }
        false => "",
    };
    format!(
        "A latent diffusion model of radiographs, {size} × {size} pixels, one grey channel, made with umbra {version}. \
         A self-supervised encoder (DINO) sees an image; the denoiser draws another from what the encoder saw.

- **encoder**: a vision transformer, patches of {patch}, width {width}; of its tokens `{tokens}` guides the {title}
- **condition**: a norm, an affine map and two learned tokens between encoder and {title} ({condition} wide){pooled}
- **{part}**: trained with schedule {schedule} and objective {objective:?}
- **vae**: {factor} pixels per latent and side; {scale}
- **weights of the denoiser**: {weights}, after {images} images (counted over all passes)",
        size = model.image_size,
        version = env!("CARGO_PKG_VERSION"),
        patch = model.patch_size,
        width = denoiser.condition.token_width,
        tokens = ron::to_string(&model.tokens).expect("a name and a number"),
        condition = denoiser.condition.width,
        schedule = model.diffusion.schedule.name(),
        objective = model.diffusion.objective,
        factor = model.factor,
        scale = match &model.autoencoder {
            Part::Trained(_) => {
                "`latents_mean` and `latents_std` are those of the training split's latents, channel by channel"
            }
            Part::Given(_) => {
                "as it was given, byte for byte; `condition/config.json` says how the denoiser sees its latents"
            }
        },
        images = grouped(card.images_seen[2]),
    )
}

fn parts(denoiser: &str, card: &Card) -> String {
    let mut text = String::from("| part | images seen | from | licence |\n|---|---|---|---|\n");
    let names = ["encoder".into(), "vae".into(), format!("{denoiser} and condition")];
    for ((name, images), origin) in names.iter().zip(card.images_seen).zip(&card.origins) {
        let (from, licence) = match origin {
            WeightsFrom::Trained => {
                ("trained here, from random weights", "for its makers to choose")
            }
            WeightsFrom::Loaded { from, licence } => (&from[..], &licence[..]),
        };
        let images = grouped(images);
        push(&mut text, format_args!("| {name} | {images} | {} | {} |", cell(from), cell(licence)));
    }
    text
}

fn data(counts: &Counts) -> String {
    let mut text = String::from("| split | images | patients |\n|---|---|---|\n");
    for (split, &images) in &counts.images {
        let patients = counts.patients.get(split).copied().unwrap_or_default();
        let (images, patients) = (grouped(images), grouped(patients));
        push(&mut text, format_args!("| {} | {images} | {patients} |", split.name()));
    }
    text.push_str("\n| dataset | images |\n|---|---|\n");
    for (dataset, &images) in &counts.datasets {
        push(&mut text, format_args!("| {} | {} |", cell(dataset), grouped(images)));
    }
    text.push_str("\nNo patient is in two splits. Only the training split was learned from.\n");
    text
}

fn metrics(card: &Card) -> String {
    let report = match &card.measured {
        Measured::Report(Value::Object(report)) => report,
        Measured::Report(_) => return "The report is damaged.\n".into(),
        Measured::Not(why) => return format!("Nothing: {why}.\n"),
    };
    let mut text = String::new();
    if card.weights == Weights::Raw {
        text.push_str(
            "These figures are of the averaged weights, not of the raw ones in this folder.\n\n",
        );
    }
    text.push_str("From the run's own report, on its own data. A figure that could not be computed says why.\n\n");
    text.push_str("| figure | value |\n|---|---|\n");
    for (name, section) in report {
        if let Value::Object(section) = section
            && name != NEAREST_TRAIN
        {
            rows(name, section, &mut text);
        }
    }
    text
}

fn memorisation(card: &Card) -> String {
    let mut text = String::from(
        "**No audit was made.** Whether this model gives training images away is not known; treat it as if it could.\n",
    );
    let Measured::Report(report) = &card.measured else { return text };
    if let Some(Value::Object(section)) = report.get(NEAREST_TRAIN) {
        text.push_str(
            "\nA first look, which proves nothing: the correlation of generated images with the training image most like \
             each, and\nthe same for real held-out (validation) images; means, percentiles, greatest. One in a hundred \
             generated images\nabove the 99th percentile of the held-out ones is chance.\n\n| figure | value |\n|---|---|\n",
        );
        rows(NEAREST_TRAIN, section, &mut text);
    }
    text
}

/// A row per figure of `section`, sections in it included.
fn rows(prefix: &str, section: &Map<String, Value>, text: &mut String) {
    for (key, value) in section {
        if key == "reason" || key.ends_with("_reason") {
            continue;
        }
        let name = format!("{prefix}.{key}");
        let shown = match value {
            Value::Object(inner) => {
                rows(&name, inner, text);
                continue;
            }
            Value::Array(_) => continue,
            Value::Null => {
                let reason = match key.as_str() {
                    "value" => section.get("reason"),
                    _ => section.get(&format!("{key}_reason")),
                };
                let reason = reason.and_then(Value::as_str).unwrap_or("no reason is given");
                format!("not known: {reason}")
            }
            Value::Number(number) => match (number.as_u64(), number.as_f64()) {
                (None, Some(float)) => format!("{float:.4}"),
                _ => number.to_string(),
            },
            Value::Bool(is_so) => is_so.to_string(),
            Value::String(words) => words.clone(),
        };
        push(text, format_args!("| {name} | {} |", cell(&shown)));
    }
}

/// A line and its end.
fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// `words` where a table's cell ends at a bar or a line's end.
fn cell(words: &str) -> String {
    words.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn card(measured: Measured) -> Card {
        Card {
            name: "a".into(),
            recipe: "(name: \"a\")".into(),
            counts: Counts {
                datasets: [("with | bar\nand line".to_owned(), 1_234_567)].into(),
                ..Counts::default()
            },
            weights: Weights::Ema,
            images_seen: [640, 960, 1280],
            origins: [
                WeightsFrom::Loaded { from: "folder dino".into(), licence: "Apache-2.0".into() },
                WeightsFrom::Trained,
                WeightsFrom::Trained,
            ],
            measured,
        }
    }

    #[test]
    fn every_figure_is_a_row_and_what_is_missing_has_its_reason() {
        let report = json!({
            "schema": 1, "recipe": "a",
            "denoiser": {"validation_loss": {"first": 1.25, "last": null, "last_reason": "stopped"}, "images_seen": 1280},
            "frechet_distance": {"value": null, "reason": "too few", "self_referential": true},
            "nearest_train": {"max_pearson": 0.93},
            "stages": [{"name": "ingest"}],
        });
        let card = card(Measured::Report(report));
        let table = metrics(&card);
        for row in [
            "| denoiser.validation_loss.first | 1.2500 |",
            "| denoiser.validation_loss.last | not known: stopped |",
            "| denoiser.images_seen | 1280 |",
            "| frechet_distance.value | not known: too few |",
            "| frechet_distance.self_referential | true |",
        ] {
            assert!(table.lines().any(|line| line == row), "{row}\n{table}");
        }
        assert!(!table.contains("nearest_train") && !table.contains("stages"), "{table}");
        let memorisation = memorisation(&card);
        assert!(memorisation.contains("No audit"), "{memorisation}");
        assert!(memorisation.contains("| nearest_train.max_pearson | 0.9300 |"), "{memorisation}");
    }

    #[test]
    fn figures_of_other_weights_say_so() {
        let raw = Card { weights: Weights::Raw, ..card(Measured::Report(json!({}))) };
        assert!(metrics(&raw).contains("not of the raw ones"));
        let nothing = card(Measured::Not("the run was not evaluated".into()));
        assert_eq!(metrics(&nothing), "Nothing: the run was not evaluated.\n");
        assert!(memorisation(&nothing).contains("No audit"));
    }

    #[test]
    fn tables_hold_what_people_call_their_data() {
        let card = card(Measured::Not(String::new()));
        let table = data(&card.counts);
        assert!(table.contains("| with \\| bar and line | 1,234,567 |\n"), "{table}");
        let parts = parts("unet", &card);
        assert!(parts.contains("| encoder | 640 | folder dino | Apache-2.0 |\n"), "{parts}");
        assert!(parts.contains("| vae | 960 | trained here"), "{parts}");
        assert_eq!(["0", "999", "1,000"], [0, 999, 1000].map(grouped)[..]);
    }
}
