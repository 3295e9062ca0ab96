//! A CSV with one row per image.

mod labels;

use super::{Listed, SourceError, below_root, last_name};
use crate::data::catalog::{Location, PatientKey, Split};
use csv::StringRecord;
use labels::Said;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A CSV with one row per image: a byte order mark, quoted fields over several lines, either line
/// ending and empty trailing columns are all fine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// The CSV, relative to the data root. Files in it are relative to its folder.
    pub path: PathBuf,
    /// Which column means what.
    pub columns: Columns,
}

/// Which column means what. A column that is named must be there; `None` says that there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The image file.
    pub file: String,
    /// Who it shows; never empty, because the split needs it. Stored only as a keyed hash.
    pub patient: String,
    /// The official split (train, val, test …). It wins over the recipe's fractions.
    pub split: Option<String>,
    /// The dataset, where one table mixes several. Without it, the table's folder is the dataset.
    pub dataset: Option<String>,
    /// Projection.
    pub view: Option<String>,
    /// Names of what is present, separated by `|`. A name that occurs anywhere in a dataset is absent
    /// where that dataset's rows leave it out, and unknown in other datasets. `No Finding` alone says
    /// that all are absent; an empty field says nothing.
    pub labels: Option<String>,
    /// Columns that each hold one label: 1 present, 0 absent, -1 and blank unknown, as CheXpert has it.
    pub findings: Vec<String>,
    /// Free text about the image.
    pub report: Option<String>,
    /// A mask file, or nothing.
    pub mask: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            file: "file".into(),
            patient: "patient_id".into(),
            split: Some("split".into()),
            dataset: Some("dataset".into()),
            view: Some("view".into()),
            labels: Some("labels".into()),
            findings: Vec::new(),
            report: None,
            mask: Some("mask_file".into()),
        }
    }
}

impl Manifest {
    pub(super) fn check(&self, data_root: &Path, faults: &mut Vec<String>) {
        let opened = self.below(data_root).and_then(|below| {
            let mut reader = open(data_root, &below)?;
            Places::find(&self.columns, &below, &header(&mut reader, &below)?)
        });
        match opened {
            Ok(_) => {}
            Err(SourceError::Read { path, source }) => faults.push(format!(
                "data.source: cannot read {} below {}: {source}",
                path.display(),
                data_root.display()
            )),
            Err(error) => faults.push(format!("data.source: {error}")),
        }
    }

    pub(super) fn list(&self, data_root: &Path) -> Result<Vec<Listed>, SourceError> {
        let table = self.below(data_root)?;
        let mut reader = open(data_root, &table)?;
        let header = header(&mut reader, &table)?;
        let places = Places::find(&self.columns, &table, &header)?;
        let mut rows = Vec::new();
        let mut said = Vec::new();
        let mut first_row_of = BTreeMap::new();
        for (at, record) in reader.records().enumerate() {
            let row = at as u64 + 2;
            let fault = |what: String| SourceError::Row { path: table.clone(), row, what };
            let record = record.map_err(|error| fault(csv_reason(&error)))?;
            check_length(&record, &header).map_err(fault)?;
            let listed = places.read(&record, data_root, &table).map_err(fault)?;
            if let Some(first) = first_row_of.insert(listed.location.clone(), row) {
                return Err(fault(format!(
                    "lists the file of row {first} again; one row per image is needed"
                )));
            }
            said.push(places.said(&record).map_err(fault)?);
            rows.push(listed);
        }
        if rows.is_empty() {
            return Err(SourceError::Empty { path: table });
        }
        labels::fill(&mut rows, &said);
        Ok(rows)
    }

    fn below(&self, data_root: &Path) -> Result<PathBuf, SourceError> {
        below_root(data_root, Path::new(""), &self.path)
            .ok_or_else(|| SourceError::Outside { path: self.path.clone() })
    }
}

/// Where each column is in this table.
struct Places {
    file: usize,
    patient: usize,
    split: Option<usize>,
    dataset: Option<usize>,
    view: Option<usize>,
    labels: Option<usize>,
    findings: Vec<(String, usize)>,
    report: Option<usize>,
    mask: Option<usize>,
}

impl Places {
    fn find(columns: &Columns, table: &Path, header: &StringRecord) -> Result<Self, SourceError> {
        let missing = |column: &str, field, hint| SourceError::Column {
            path: table.to_owned(),
            column: column.to_owned(),
            field,
            known: header
                .iter()
                .filter(|name| !name.is_empty())
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
            hint,
        };
        let place = |name: &str| header.iter().position(|known| known.trim() == name);
        let needed = |name: &str, field| place(name).ok_or_else(|| missing(name, field, ""));
        let optional = |name: &Option<String>, field| match name {
            None => Ok(None),
            Some(name) => match place(name) {
                None => Err(missing(name, field, ", to None if there is none")),
                found => Ok(found),
            },
        };
        Ok(Self {
            file: needed(&columns.file, "file")?,
            patient: needed(&columns.patient, "patient")?,
            split: optional(&columns.split, "split")?,
            dataset: optional(&columns.dataset, "dataset")?,
            view: optional(&columns.view, "view")?,
            labels: optional(&columns.labels, "labels")?,
            findings: columns
                .findings
                .iter()
                .map(|name| Ok((name.clone(), needed(name, "findings")?)))
                .collect::<Result<_, _>>()?,
            report: optional(&columns.report, "report")?,
            mask: optional(&columns.mask, "mask")?,
        })
    }

    /// The row without its labels, or what is wrong with it.
    fn read(
        &self,
        record: &StringRecord,
        data_root: &Path,
        table: &Path,
    ) -> Result<Listed, String> {
        let folder = table.parent().unwrap_or(Path::new(""));
        let text = |at: Option<usize>| {
            at.and_then(|at| record.get(at)).map(str::trim).filter(|text| !text.is_empty())
        };
        let below = |file: &str| {
            below_root(data_root, folder, Path::new(file)).ok_or_else(|| {
                format!("file {file} is outside the data root; files must stay below it")
            })
        };
        let file = text(Some(self.file)).ok_or("file name is empty")?;
        let patient = text(Some(self.patient)).ok_or("patient id is empty; the split needs it")?;
        let split = match text(self.split) {
            None => None,
            Some(name) => Some(Split::from_name(name).ok_or_else(|| {
                format!("split is `{name}`; expected train, val (valid, validate) or test")
            })?),
        };
        let dataset = text(self.dataset).map_or_else(|| last_name(folder), str::to_owned);
        Ok(Listed {
            location: Location::File(below(file)?),
            patient: PatientKey::new(&dataset, patient),
            dataset,
            view: text(self.view).map(str::to_owned),
            labels: BTreeMap::new(),
            report: text(self.report).map(str::to_owned),
            mask: text(self.mask).map(below).transpose()?,
            split,
        })
    }

    fn said(&self, record: &StringRecord) -> Result<Said, String> {
        let names = self.labels.and_then(|at| record.get(at)).unwrap_or_default();
        let numbers =
            self.findings.iter().map(|(name, at)| (name, record.get(*at).unwrap_or_default()));
        Said::read(names, numbers)
    }
}

fn open(data_root: &Path, table: &Path) -> Result<csv::Reader<std::fs::File>, SourceError> {
    let path = data_root.join(table);
    let file = std::fs::File::open(&path)
        .map_err(|source| SourceError::Read { path: table.to_owned(), source })?;
    // Flexible, because real tables end some of their rows with stray commas; lengths are checked below.
    Ok(csv::ReaderBuilder::new().flexible(true).from_reader(file))
}

fn header(
    reader: &mut csv::Reader<std::fs::File>,
    table: &Path,
) -> Result<StringRecord, SourceError> {
    let header = reader.headers().cloned();
    header.map_err(|error| SourceError::Row {
        path: table.to_owned(),
        row: 1,
        what: csv_reason(&error),
    })
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
