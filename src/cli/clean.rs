//! `umbra clean`: what nobody refers to.

use super::args::Clean;
use super::exit;
use crate::artifact;
use crate::stages::leftovers;
use crate::telemetry::plain::plain;
use anyhow::Result;
use indicatif::HumanBytes;
use std::io::Write as _;

/// Lists leftovers, and removes them if asked to.
pub(super) fn clean(clean: &Clean) -> Result<u8> {
    let found = leftovers(&clean.checkpoints)?;
    if clean.yes {
        for leftover in &found {
            artifact::remove_any(&leftover.path)?;
        }
    }
    let mut out = std::io::stdout().lock();
    if clean.json {
        let list: Vec<_> = found
            .iter()
            .map(|it| serde_json::json!({"path": it.path, "bytes": it.bytes, "reason": it.reason}))
            .collect();
        writeln!(out, "{:#}", serde_json::json!({"removed": clean.yes, "leftovers": list}))?;
        return Ok(exit::DONE);
    }
    for leftover in &found {
        let size = HumanBytes(leftover.bytes);
        let path = plain(&leftover.path.display().to_string());
        writeln!(out, "{size:>12}  {path}  ({})", leftover.reason)?;
    }
    let total = HumanBytes(found.iter().map(|leftover| leftover.bytes).sum());
    match (found.is_empty(), clean.yes) {
        (true, _) => {
            let folder = plain(&clean.checkpoints.display().to_string());
            writeln!(out, "Nothing to clean in {folder}.")?;
        }
        (false, true) => writeln!(out, "Removed {total}.")?,
        (false, false) => writeln!(out, "{total} could be freed: run again with --yes.")?,
    }
    Ok(exit::DONE)
}
