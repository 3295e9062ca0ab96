//! `umbra forward`: a network of a folder on recorded inputs, to compare with the reference.

use super::args::Forward;
use super::exit;
use crate::device;
use crate::interop::forward;
use crate::models::weights::file::{self, NonFinite};
use crate::telemetry::plain::plain;
use anyhow::{Context, Result};
use std::io::Write as _;

/// Computes and writes the outputs.
pub(super) fn forward(args: &Forward) -> Result<u8> {
    let device = device::parse(&args.device)?;
    let inputs = file::read(&args.input, NonFinite::Keep)
        .map_err(|error| exit::BadArgument(format!("--input: {:#}", anyhow::Error::from(error))))?;
    if let Some(folder) = args.output.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        let what = format!("--output: {} is not a folder", folder.display());
        return Err(exit::BadArgument(what).into());
    }
    let outputs = forward::forward(&args.folder, inputs, &device)?;
    // Beside its place first: a reader of the output never meets half of it.
    let partial = args.output.with_extension("tmp");
    file::write(&partial, &outputs)?;
    std::fs::rename(&partial, &args.output)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let shapes = outputs.iter().map(|(name, data)| (name, data.shape().to_vec()));
    let mut out = std::io::stdout().lock();
    if args.json {
        let shapes: serde_json::Map<String, serde_json::Value> =
            shapes.map(|(name, shape)| (name.clone(), shape.into())).collect();
        writeln!(out, "{:#}", serde_json::json!({"output": args.output, "tensors": shapes}))?;
    } else {
        for (name, shape) in shapes {
            writeln!(out, "{} {shape:?}", plain(name))?;
        }
    }
    Ok(exit::DONE)
}
