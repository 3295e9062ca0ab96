//! Plans of cuDNN that were expensive to make, kept on disk.

use super::cudnn::{Cudnn, CudnnError, Graph, Plan, Target};
use super::{WORKSPACE, nvrtc};
use std::path::Path;

/// The cards that plans can be made for without having one.
pub const CARDS: [(&str, &str); 3] = [
    ("sm_80", include_str!("devices/sm_80.json")),
    ("sm_90", include_str!("devices/sm_90.json")),
    ("sm_100", include_str!("devices/sm_100.json")),
];

/// What a plan depends on beside its graph: cuDNN's version, and generation and multiprocessors of the card.
pub fn card_key(cudnn: &Cudnn, card: &str) -> String {
    let card: serde_json::Value = serde_json::from_str(card).unwrap_or_default();
    let version = cudnn.version();
    format!("{version} {} {}", card["deviceVer"], card["multiProcessorCount"])
}

/// The plan of `graph` kept in `folder` for `card_key`; else a new one, kept if it took long to make.
pub fn obtain(
    cudnn: &Cudnn,
    graph: &Graph,
    target: &Target<'_>,
    card_key: &str,
    folder: Option<&Path>,
) -> Result<Plan, CudnnError> {
    let path = match (graph, folder) {
        // A plan of convolution is made in a millisecond; one of attention is compiled.
        (Graph::Attend(_) | Graph::AttendGradients(_), Some(folder)) => {
            let key = format!("{card_key}\n{}", graph.describe());
            folder.join(format!("{}.plan", blake3::hash(key.as_bytes()).to_hex()))
        }
        _ => return cudnn.plan(graph, target, WORKSPACE),
    };
    let kept = nvrtc::read(&path).and_then(|kept| String::from_utf8(kept).ok());
    if let Some(plan) = kept.and_then(|kept| cudnn.load(graph, &kept, target).ok()) {
        return Ok(plan);
    }
    let plan = cudnn.plan(graph, target, WORKSPACE)?;
    let written = plan
        .save()
        .map_err(|fault| fault.to_string())
        .and_then(|saved| nvrtc::write(&path, saved.as_bytes()).map_err(|fault| fault.to_string()));
    if let Err(fault) = written {
        tracing::warn!(path = %path.display(), fault, "cannot keep a plan");
    }
    Ok(plan)
}
