//! `umbra check`: the plan, before anything is written.

use super::args::At;
use super::{exit, run};
use crate::stages::Plan;
use crate::telemetry::plain::plain_lines;
use anyhow::Result;
use std::io::Write as _;

/// Prints the recipe's plan.
pub(super) fn check(at: &At) -> Result<u8> {
    let (checked, place) = run::prepare(at)?;
    let plan = Plan::new(checked, place)?;
    let mut out = std::io::stdout().lock();
    if at.json {
        writeln!(out, "{:#}", serde_json::to_value(&plan)?)?;
    } else {
        write!(out, "{}", plain_lines(&plan.to_string()))?;
    }
    Ok(exit::DONE)
}
