//! A CSV with one row per image.

mod columns;
mod labels;
mod quotes;

pub use columns::Columns;

use super::{Ground, ListedAt, Listing, SourceError, below_root};
use columns::Places;
use csv::StringRecord;
use quotes::Quotes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

/// A CSV with one row per image: a byte order mark, quoted fields over several lines, either line
/// ending and empty trailing columns are all fine. Names of files, patients and splits stay on one line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// The CSV, relative to the data root. Files in it are relative to its folder.
    pub path: PathBuf,
    /// Which column means what.
    pub columns: Columns,
}

impl Manifest {
    pub(super) fn check(&self, data_root: &Path) -> Option<String> {
        let opened = self.below(data_root).and_then(|below| {
            let mut reader = open(data_root, &below)?;
            Places::find(&self.columns, &below, &header(&mut reader, &below)?)
        });
        Some(match opened.err()? {
            SourceError::Read { path, source } => {
                format!("cannot read {} below {}: {source}", path.display(), data_root.display())
            }
            error => error.to_string(),
        })
    }

    pub(super) fn list(&self, ground: &Ground<'_>) -> Result<Listing, SourceError> {
        let table = self.below(ground.data_root)?;
        let secret = ground.secret.ok_or(SourceError::NoSecret)?;
        let mut reader = open(ground.data_root, &table)?;
        let header = header(&mut reader, &table)?;
        let places = Places::find(&self.columns, &table, &header)?;
        let origin = ListedAt::whole(&table.display().to_string());
        let mut images = Vec::new();
        let mut said = Vec::new();
        let mut first_row_of = BTreeMap::new();
        let mut record = StringRecord::new();
        for row in 2.. {
            let fault = |row, what| SourceError::Row { path: table.clone(), row, what };
            let is_there = reader.read_record(&mut record);
            check_quotes(&reader, &table)?;
            if !is_there.map_err(|error| fault(row, csv_reason(&error)))? {
                break;
            }
            check_length(&record, &header).map_err(|what| fault(row, what))?;
            let listed = places
                .read(&record, ground.data_root, &table, origin.row(row), secret)
                .map_err(|what| fault(row, what))?;
            if let Some(first) = first_row_of.insert(listed.location.clone(), row) {
                let what =
                    format!("lists the file of row {first} again; one row per image is needed");
                return Err(fault(row, what));
            }
            said.push(places.said(&record).map_err(|what| fault(row, what))?);
            images.push(listed);
        }
        if images.is_empty() {
            return Err(SourceError::Empty { path: table });
        }
        let (rows, listed) = (reader.get_ref().num_records() - 1, images.len() as u64);
        if rows != listed {
            let what = format!("is the last, but {listed} were read; the table is no plain CSV");
            return Err(SourceError::Row { path: table, row: rows + 1, what });
        }
        tracing::info!("{}: {rows} rows read, {listed} images listed", table.display());
        labels::fill(&mut images, &said);
        Ok(Listing { images, passed_over: BTreeMap::new() })
    }

    fn below(&self, data_root: &Path) -> Result<PathBuf, SourceError> {
        below_root(data_root, Path::new(""), &self.path)
            .ok_or_else(|| SourceError::Outside { path: self.path.clone() })
    }
}

/// The reader, and not yet a byte of it taken.
fn open(data_root: &Path, table: &Path) -> Result<csv::Reader<Quotes<File>>, SourceError> {
    let path = data_root.join(table);
    let read = |source| SourceError::Read { path: table.to_owned(), source };
    let refuse = |what| SourceError::Table { path: table.to_owned(), what };
    // Before it is opened: a pipe would wait for somebody to write.
    if !path.metadata().map_err(read)?.is_file() {
        return Err(refuse("is not a regular file; expected a CSV"));
    }
    let mut file = File::open(&path).map_err(read)?;
    let mut start = [0; 4];
    let num_bytes = read_some(&mut file, &mut start).map_err(read)?;
    match &start[..num_bytes] {
        [0x1f, 0x8b, ..] => {
            return Err(refuse("is compressed with gzip; unpack it with gunzip first"));
        }
        [b'P', b'K', 3, 4] => {
            return Err(refuse("is a ZIP archive or a spreadsheet; save it as CSV first"));
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(refuse("is text in UTF-16; save it as UTF-8"));
        }
        _ => file.rewind().map_err(read)?,
    }
    // Flexible, because real tables end some of their rows with stray commas; lengths are checked below.
    Ok(csv::ReaderBuilder::new().flexible(true).from_reader(Quotes::new(file)))
}

/// As many bytes as there are, up to all of `buffer`.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut bytes = Vec::new();
    file.take(buffer.len() as u64).read_to_end(&mut bytes)?;
    buffer[..bytes.len()].copy_from_slice(&bytes);
    Ok(bytes.len())
}

fn header(
    reader: &mut csv::Reader<Quotes<File>>,
    table: &Path,
) -> Result<StringRecord, SourceError> {
    let header = reader.headers().cloned();
    check_quotes(reader, table)?;
    header.map_err(|error| SourceError::Row {
        path: table.to_owned(),
        row: 1,
        what: csv_reason(&error),
    })
}

/// Fails once the table's end was seen, and it lies within quotation marks.
fn check_quotes(reader: &csv::Reader<Quotes<File>>, table: &Path) -> Result<(), SourceError> {
    let Some(row) = reader.get_ref().never_closed() else { return Ok(()) };
    let what = "a quotation mark that opens a field is never closed, and the field takes in all rows after it; \
                close it, or double it if it is part of the text";
    Err(SourceError::Row { path: table.to_owned(), row, what: what.to_owned() })
}

/// A row of another length than the header has shifted columns, unless only empty ones differ.
fn check_length(record: &StringRecord, header: &StringRecord) -> Result<(), String> {
    let used = |record: &StringRecord| {
        (0..record.len()).rev().find(|&at| !record[at].trim().is_empty()).map_or(0, |last| last + 1)
    };
    let (columns, named) = (record.len(), used(header));
    if columns < named || used(record) > header.len() {
        return Err(format!("has {columns} columns where the header has {named}"));
    }
    Ok(())
}

/// Why the csv reader gave up, without the text of the row.
fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("column {} is not UTF-8", err.field() + 1)
        }
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => "is not CSV".to_owned(),
    }
}
