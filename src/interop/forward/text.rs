//! Networks over texts.

use super::inputs::Inputs;
use super::{ForwardError, named};
use crate::models::text::{BertConfig, ClipTextConfig};
use crate::models::weights::StateDict;
use crate::models::weights::folder::ModelFolder;
use burn::tensor::Device;

pub(super) fn clip(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = ClipTextConfig::from_transformers(&folder.config)?;
    let ids = inputs.integers("input_ids")?;
    let mask = inputs.optional_integers("attention_mask")?;
    inputs.finish()?;
    let state = folder.weights()?;
    // Whether there is a projection shows in the file.
    let config = config.for_file(&state);
    let state = config.from_file(state);
    let found = folder.fit(|init| config.init(init), state, device)?.forward(ids, mask)?;
    let projected = found.text_embeds.map(|embeds| named("text_embeds", embeds));
    let outputs = [
        named("last_hidden_state", found.last_hidden_state),
        named("pooler_output", found.pooler_output),
    ];
    Ok(outputs.into_iter().chain(projected).collect())
}

pub(super) fn bert(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = BertConfig::from_transformers(&folder.config)?;
    let ids = inputs.integers("input_ids")?;
    let mask = inputs.optional_integers("attention_mask")?;
    let types = inputs.optional_integers("token_type_ids")?;
    inputs.finish()?;
    let state = folder.weights()?;
    // Whether there is a pooler shows in the file.
    let config = config.for_file(&state);
    let state = config.from_file(state);
    let found = folder.fit(|init| config.init(init), state, device)?.forward(ids, mask, types)?;
    let pooled = found.pooler_output.map(|pooled| named("pooler_output", pooled));
    Ok([named("last_hidden_state", found.last_hidden_state)].into_iter().chain(pooled).collect())
}
