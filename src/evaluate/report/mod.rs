//! What a run is worth, as one JSON document and one page.

mod figure;
mod figures;
mod glossary;
mod html;
mod json;
mod page;
mod plot;
mod tiles;

pub use figure::Figure;
pub use figures::{
    AutoencoderFigures, ConditionFidelity, CoverageFigures, DenoiserFigures, DiversityFigures,
    EncoderFigures, FrechetFigures, KernelFigures, Likeness, NearestTrain, Overlap, Sets,
    StageTime, Taken,
};
pub use html::html;
pub use page::{Curve, Page, Picture, Series};

/// The version of `report.json`'s layout.
pub const SCHEMA: u32 = 2;

/// Every figure of a run. As JSON, a figure that is missing is `null`, with `<key>_reason` beside it
/// (`reason`, where the key is `value`). Beside a number of images that were looked at, `<key>_available` says how many
/// there are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// What the encoder's embeddings hold.
    pub encoder: EncoderFigures,
    /// How well the autoencoder reproduces.
    pub autoencoder: AutoencoderFigures,
    /// How far the denoiser was trained.
    pub denoiser: DenoiserFigures,
    /// Whether a generated image finds its source.
    pub condition_fidelity: ConditionFidelity,
    /// Distance of two fitted normal distributions.
    pub frechet_distance: FrechetFigures,
    /// Distance by a polynomial kernel.
    pub kernel_distance: KernelFigures,
    /// How the real and the generated set overlap.
    pub coverage: CoverageFigures,
    /// How unlike the generated images are.
    pub diversity: DiversityFigures,
    /// A first look at memorisation.
    pub nearest_train: NearestTrain,
    /// How long each stage took, in order.
    pub stages: Vec<StageTime>,
}
