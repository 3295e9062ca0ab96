//! What lies between encoder and denoiser, which no library has: its config, for `sample.py`.

use super::Package;
use crate::data::file::Window;
use crate::data::latents::Scale;
use crate::diffusion::Diffusion;
use crate::models::condition::{ConditionConfig, Tokens};
use serde::Deserialize;
use serde_json::{Value, json};

/// The `config.json`. The weights beside it are what standardises tokens, `projection`, a vector
/// for each place, and the learned tokens `always` and `null`.
pub(super) fn config(model: &Package) -> Value {
    let ConditionConfig { num_tokens, token_width, width } = model.denoiser.config.condition;
    json!({
        "recipe": model.card.name,
        "umbra_version": env!("CARGO_PKG_VERSION"),
        "image_size": model.image_size,
        "tokens": model.tokens,
        "num_tokens": num_tokens,
        "token_width": token_width,
        "width": width,
        "latents": model.scale,
        // What umbra wants to draw from the folder itself.
        "diffusion": model.diffusion,
        "window": model.window,
    })
}

/// What [`config`] says, without what is the same for all.
#[derive(Deserialize)]
pub(super) struct Described {
    pub(super) recipe: String,
    pub(super) image_size: usize,
    pub(super) tokens: Tokens,
    pub(super) num_tokens: usize,
    pub(super) token_width: usize,
    pub(super) width: usize,
    pub(super) latents: Scale,
    pub(super) diffusion: Diffusion,
    pub(super) window: Window,
}
