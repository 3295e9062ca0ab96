//! A recipe: everything that decides a result, in one RON file.
//!
//! The sections belong to the modules they configure; here is their sum, how it is read, and the checks that
//! need more than one section.

pub mod architectures;
mod check;
pub mod networks;
mod overrides;
pub mod resolve;
mod ron_json;

pub use check::Checked;

use crate::data::section::Data;
use crate::evaluate::Evaluation;
use crate::models::condition::Tokens;
use crate::sample::manifold::Strategy;
use networks::{Autoencoder, Denoiser, Encoder};
use ron::extensions::Extensions;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The format's version: raised when an old recipe would mean something else.
pub const SCHEMA: u32 = 2;

/// What is told to who has a recipe of the first schema.
const SHAPE: &str = "schema 2, in which every network has one shape: `encoder: Train(vit: …, dino: …, train: …)` is \
                     `encoder: (from: Vit(…), task: Dino(…), train: (…))`, likewise the autoencoder with \
                     `from: Kl(…), task: Reconstruct(…)` and the denoiser with `from: Unet(…), task: Denoise(…)`; \
                     the top level's `diffusion` is the denoiser's task, its `train` the denoiser's; \
                     `Weights(folder: …)` is `(from: Folder(path: …))`";

/// What is told to who writes something else, a number as it was until now, say.
const GUIDANCE: &str = "guidance is no way of guiding; expected None, Scale(scale: 2.0), Auto(scale: 2.0, images: …) or \
                        PlusPlus(scale: 0.6)";

/// The one field that is read before all others.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    schema: Option<u32>,
}

/// One run, from images to report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the format.
    #[serde(default = "schema")]
    pub schema: u32,
    /// The run's name, and its folder's.
    pub name: String,
    /// What all randomness comes from.
    #[serde(default = "one")]
    pub seed: u64,
    /// Which images.
    pub data: Data,
    /// The image encoder.
    pub encoder: Encoder,
    /// The autoencoder, between images and latents.
    pub autoencoder: Autoencoder,
    /// The denoiser of latents.
    pub denoiser: Denoiser,
    /// What of the encoder guides the denoiser.
    #[serde(default)]
    pub condition: Condition,
    /// Which images are drawn.
    #[serde(default)]
    pub sample: Vec<Strategy>,
    /// What is measured.
    #[serde(default)]
    pub evaluate: Vec<Evaluation>,
}

/// What guides the denoiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// Which of the encoder's tokens.
    pub tokens: Tokens,
    /// Probability that a training sample sees the learned null condition.
    pub dropout: f64,
    /// Also add the projected tokens to the denoiser's time embedding (diffusers: a U-Net's `class_embed_type:
    /// "simple_projection"`, a transformer's `pooled_projections`). Steers a small network much sooner.
    pub pooled: bool,
}

impl Default for Condition {
    fn default() -> Self {
        Self { tokens: Tokens::Class, dropout: 0.1, pooled: false }
    }
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a recipe.
    #[error("{}:{line}:{column}: {what}\n{excerpt}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        what: String,
        /// The line and a caret.
        excerpt: String,
    },
    /// A `--set` does not fit.
    #[error("--set {assignment}: {what}")]
    Override {
        /// As it was typed.
        assignment: String,
        /// What is wrong.
        what: String,
    },
    /// The sections do not fit together.
    #[error("{} cannot be run:{}", path.display(), faults.iter().map(|fault| format!("\n  - {fault}")).collect::<String>())]
    Faults {
        /// The file.
        path: PathBuf,
        /// One sentence each.
        faults: Vec<String>,
    },
}

impl Recipe {
    /// Reads the recipe in `path` and applies `overrides` (`denoiser.train.images=200000`).
    ///
    /// Only the shape is checked here; see [`Recipe::check`].
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let bytes = std::fs::read(path)
            .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let (before, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let (before, rest) = (String::from_utf8_lossy(before), String::from_utf8_lossy(rest));
            // What is wrong follows what is text on the same line.
            let (line, start) = before.split('\n').enumerate().last().unwrap_or_default();
            let place = (line + 1, start.chars().count() + 1);
            let end = rest.lines().next().unwrap_or_default();
            parse_error(path, place, "the file is not UTF-8 text".into(), &format!("{start}{end}"))
        })?;
        let recipe = Self::parse(&text, path)?;
        overrides::apply(recipe, overrides)
    }

    /// Reads a recipe's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RecipeError> {
        if let Ok(Header { schema: Some(1) }) = syntax().from_str(text) {
            let faults = vec![format!("schema is 1; expected {SHAPE}")];
            return Err(RecipeError::Faults { path: path.into(), faults });
        }
        syntax().from_str(text).map_err(|error| {
            let ron::error::Position { line, col: column } = error.span.start;
            let source_line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            let what = match &error.code {
                ron::Error::ExpectedDifferentStructName { found, .. }
                    if ["Train", "Weights", "Unet"].contains(&found.as_str()) =>
                {
                    format!("`{found}` is of schema 1; expected {SHAPE}")
                }
                _ if before(source_line, column).ends_with("guidance:") => GUIDANCE.to_owned(),
                code => code.to_string(),
            };
            parse_error(path, (line, column), what, source_line)
        })
    }

    /// The recipe with every default written out.
    pub fn resolved(&self) -> String {
        let pretty = ron::ser::PrettyConfig::new().struct_names(false).depth_limit(4);
        syntax().to_string_pretty(self, pretty).expect("a recipe is plain data")
    }
}

/// What stands in `source_line` before its letter `column`, counted from 1.
fn before(source_line: &str, column: usize) -> &str {
    let end = source_line.char_indices().nth(column.saturating_sub(1)).map(|(at, _)| at);
    source_line[..end.unwrap_or(source_line.len())].trim_end()
}

/// An error that points at a letter of `source_line`.
fn parse_error(
    path: &Path,
    (line, column): (usize, usize),
    what: String,
    source_line: &str,
) -> RecipeError {
    let excerpt = format!("  | {source_line}\n  | {:>column$}", "^");
    RecipeError::Parse { path: path.into(), line, column, what, excerpt }
}

/// RON as recipes write it: `Cosine(offset: 0.01)`, not `Cosine((offset: 0.01))`; `mask: "lungs"`, not
/// `Some("lungs")`.
pub fn syntax() -> ron::Options {
    ron::Options::default()
        .with_default_extension(Extensions::UNWRAP_VARIANT_NEWTYPES | Extensions::IMPLICIT_SOME)
}

fn schema() -> u32 {
    SCHEMA
}

fn one() -> u64 {
    1
}
