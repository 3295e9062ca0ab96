//! `umbra open`, which ingest starts for a file that an earlier ingest died of: opens it and says what it saw.

use super::{exit, limits};
use crate::data::ingest::probe;
use anyhow::{Context, Result};
use std::io;

/// Opens the file that is named on stdin, within limits. Its end may be the answer.
pub(super) fn probe() -> Result<u8> {
    limits::set().context("cannot limit memory and processor time")?;
    probe::answer(io::stdin(), io::stdout())
        .context("cannot answer on stdout what is asked on stdin")?;
    Ok(exit::DONE)
}
