//! `umbra inspect`: image files as umbra sees them.

use super::args::Inspect;
use super::exit;
use crate::data::file;
use crate::telemetry::plain::plain;
use anyhow::Result;
use serde_json::{Map, Value};
use std::io::Write as _;

/// Describes every file, or says why it is refused.
pub(super) fn inspect(inspect: &Inspect) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    let mut objects = Vec::new();
    let mut is_any_refused = false;
    for path in &inspect.files {
        let mut object = Map::new();
        object.insert("file".into(), path.display().to_string().into());
        match file::inspect(path) {
            Ok(seen) => {
                if let Value::Object(fields) = serde_json::to_value(&seen)? {
                    object.extend(fields);
                }
            }
            Err(error) => {
                is_any_refused = true;
                object.insert("refused".into(), error.reason().into());
            }
        }
        if inspect.json {
            objects.push(Value::Object(object));
        } else {
            for (name, value) in &object {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                writeln!(out, "{name:>16}  {}", plain(&text))?;
            }
            writeln!(out)?;
        }
    }
    if inspect.json {
        writeln!(out, "{:#}", Value::Array(objects))?;
    }
    Ok(if is_any_refused { exit::DAMAGED } else { exit::DONE })
}
