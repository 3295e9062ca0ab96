//! `umbra run` and the verbs that run a part of it.

use super::args::At;
use super::exit;
use crate::data::ingest::Probe;
use crate::interrupt;
use crate::recipe::{Checked, Recipe};
use crate::stages::{EVALUATE, Ended, Place, Run};
use crate::telemetry::plain::plain;
use anyhow::{Context, Result};
use std::io::Write as _;
use std::process::Command;

/// Runs the recipe up to `target`.
pub(super) fn run(at: &At, target: &str) -> Result<u8> {
    let (checked, place) = prepare(at)?;
    interrupt::install().context("cannot listen for signals")?;
    let run = Run::open(checked, place)?;
    let (ended, stages) = run.run(target)?;
    let report = run.folder.join("report.html");
    let mut out = std::io::stdout().lock();
    if at.json {
        let document = serde_json::json!({
            "recipe": run.recipe.name,
            "target": target,
            "ended": match ended {
                Ended::UpToDate => "up to date",
                Ended::Done => "done",
                Ended::Interrupted => "interrupted",
            },
            "stages": stages,
            "folder": run.folder,
            "ingest": run.ingest_summary(),
            "report": (target == EVALUATE && ended != Ended::Interrupted).then_some(&report),
        });
        writeln!(out, "{document:#}")?;
    } else if ended == Ended::Interrupted {
        writeln!(
            out,
            "Stopped by a signal; what was done is saved. Run the same command again to go on."
        )?;
    } else if target == EVALUATE {
        writeln!(out, "{}", run.summary()?)?;
        writeln!(out, "Report: {}", plain(&report.display().to_string()))?;
    } else {
        let made = plain(&run.result(target)?.display().to_string());
        writeln!(out, "{target}: {made}")?;
    }
    Ok(if ended == Ended::Interrupted { exit::STOPPED } else { exit::DONE })
}

/// More threads than any machine has cores; a typing error would otherwise ask the system for them all.
const MAX_THREADS: usize = 1024;

/// Reads and checks the recipe and the flags; writes nothing.
pub(super) fn prepare(at: &At) -> Result<(Checked, Place)> {
    let recipe = Recipe::read(&at.recipe, &at.overrides)?;
    let checked = recipe.check(&at.recipe, &at.data_root)?;
    let device = at.parse_device()?;
    if let Some(threads) = at.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
        let what = format!("--threads is {threads}; expected 1 to {MAX_THREADS}");
        return Err(exit::BadArgument(what).into());
    }
    let threads = at.num_threads();
    // Fails only where a pool was built before; then that one is used.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let place = Place {
        device_name: at.device.clone(),
        device,
        threads,
        data_root: at.data_root.clone(),
        checkpoints: at.checkpoints.clone(),
        patient_secret: at.patient_secret_file(),
        probe: std::env::current_exe().ok().map(|program| {
            Probe::new(move || {
                let mut command = Command::new(&program);
                command.arg("open");
                command
            })
        }),
    };
    Ok((checked, place))
}
