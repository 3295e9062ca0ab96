//! Numbers over the course of a run: `metrics.jsonl` for people and plots, event files for TensorBoard.

use super::tensorboard::EventFile;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// One JSON object a line, appended.
const METRICS: &str = "metrics.jsonl";

/// The key of every record.
const IMAGES_SEEN: &str = "images_seen";

/// The numbers of a run, being written.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: EventFile,
}

/// The numbers of one moment of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Images trained on by then.
    pub images_seen: u64,
    /// By name, e.g. `train/loss`. NaN where the number was not finite.
    pub values: BTreeMap<String, f64>,
}

/// Why numbers cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The system said no.
    #[error("cannot write metrics to {}", path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system said no.
    #[error("cannot read metrics from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{}, line {line}: not a record of metrics; move the file away to begin a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

impl Metrics {
    /// Goes on with the numbers in `folder` after `images_seen` images, which is 0 for a new run.
    ///
    /// Records past that are removed, and a last line that was cut off: the run makes them again. TensorBoard's
    /// file is always a new one.
    pub fn open(folder: &Path, images_seen: u64) -> Result<Self, MetricsError> {
        let path = folder.join(METRICS);
        let kept = parse(&path)?
            .into_iter()
            .take_while(|(_, record)| record.images_seen <= images_seen)
            .last()
            .map_or(0, |(end, _)| end as u64);
        let write = |source| MetricsError::Write { path: path.clone(), source };
        let file = File::options().append(true).create(true).open(&path).map_err(write)?;
        file.set_len(kept).map_err(write)?;
        let events = EventFile::create(folder, images_seen + 1)
            .map_err(|source| MetricsError::Write { path: folder.to_owned(), source })?;
        Ok(Self { path, file, events })
    }

    /// Adds a record: numbers by name (`group/name`) after `images_seen` images.
    ///
    /// It is with the system, and so survives the process, when this returns. JSON has no NaN and no infinity:
    /// they become null.
    pub fn record<N: Into<String>>(
        &mut self,
        images_seen: u64,
        values: impl IntoIterator<Item = (N, f64)>,
    ) -> Result<(), MetricsError> {
        let values: Vec<(String, f64)> =
            values.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let mut object = Map::from_iter([(IMAGES_SEEN.to_owned(), Value::from(images_seen))]);
        object.extend(values.iter().map(|(name, value)| (name.clone(), Value::from(*value))));
        let line = format!("{}\n", Value::Object(object));
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| MetricsError::Write { path: self.path.clone(), source })?;
        self.events
            .scalars(images_seen, &values)
            .map_err(|source| MetricsError::Write { path: self.events.path().to_owned(), source })
    }

    /// Brings all records to the disk. Before a checkpoint, so that the numbers up to it are not lost.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file
            .sync_data()
            .and_then(|()| self.events.sync())
            .map_err(|source| MetricsError::Write { path: self.path.clone(), source })
    }
}

/// All records in `folder`; none where there is no file. A last line that was cut off is left out.
pub fn read(folder: &Path) -> Result<Vec<Record>, MetricsError> {
    let records = parse(&folder.join(METRICS))?;
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// Every record, with the byte after it.
fn parse(path: &Path) -> Result<Vec<(usize, Record)>, MetricsError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(MetricsError::Read { path: path.to_owned(), source }),
    };
    let mut records = Vec::new();
    let mut end = 0;
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        end += line.len();
        match record(line) {
            Some(record) if line.ends_with(b"\n") => records.push((end, record)),
            _ if end == bytes.len() => {}
            _ => return Err(MetricsError::Damaged { path: path.to_owned(), line: number + 1 }),
        }
    }
    Ok(records)
}

fn record(line: &[u8]) -> Option<Record> {
    let mut object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let images_seen = object.remove(IMAGES_SEEN)?.as_u64()?;
    let value = |(name, value): (String, Value)| match value {
        Value::Null => Some((name, f64::NAN)),
        value => Some((name, value.as_f64()?)),
    };
    Some(Record { images_seen, values: object.into_iter().map(value).collect::<Option<_>>()? })
}
