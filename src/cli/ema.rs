//! `umbra ema`: an average of another length, after the training.

use super::args::Ema;
use super::exit;
use crate::stages::Run;
use crate::telemetry::plain::plain;
use anyhow::Result;
use std::io::Write as _;

/// Writes the average as a new folder.
pub(super) fn ema(args: &Ema) -> Result<u8> {
    let run = Run::look(&args.run, &args.data_root)?;
    let made = run.average(args.stage(), args.sigma_rel, args.images, args.out.as_deref())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = serde_json::json!({
            "run": args.run,
            "network": args.stage(),
            "sigma_rel": args.sigma_rel,
            "images_seen": made.images_seen,
            "snapshots": made.snapshots,
            "error": made.error,
            "folder": made.folder,
        });
        writeln!(out, "{document:#}")?;
    } else {
        let folder = plain(&made.folder.display().to_string());
        writeln!(
            out,
            "{}: the average of length {} after {} images, from {} snapshots, {:.2} % away from the exact one, in {folder}",
            args.stage(),
            args.sigma_rel,
            made.images_seen,
            made.snapshots,
            made.error * 100.0
        )?;
    }
    Ok(exit::DONE)
}
