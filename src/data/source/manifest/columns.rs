//! Which column of a table means what, and what a row says.

use super::super::{Listed, ListedAt, SourceError, below_root, last_name};
use super::labels::Said;
use crate::data::catalog::{Location, Split};
use crate::data::secret::PatientSecret;
use csv::StringRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

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

/// Where each column is in this table.
pub(super) struct Places {
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
    pub(super) fn find(
        columns: &Columns,
        table: &Path,
        header: &StringRecord,
    ) -> Result<Self, SourceError> {
        if header.len() == 1 && header[0].contains([';', '\t']) {
            let what = "has columns that no comma separates; write it with commas (semicolons and tabs are not read)";
            return Err(SourceError::Table { path: table.to_owned(), what });
        }
        let places = |name: &str| -> Vec<usize> {
            (0..header.len()).filter(|&at| header[at].trim() == name).collect()
        };
        let fault = |found: usize, column: &str, field, hint| SourceError::Column {
            path: table.to_owned(),
            found,
            column: column.to_owned(),
            field,
            known: names(header),
            hint,
        };
        let find = |name: &str, field, hint| match places(name)[..] {
            [] => Err(fault(0, name, field, hint)),
            [place] => Ok(place),
            ref several => Err(fault(several.len(), name, field, ", or remove all but one")),
        };
        let needed = |name: &str, field| find(name, field, "");
        let optional = |name: &Option<String>, field| {
            let find = |name: &String| find(name, field, ", to None if there is none");
            name.as_ref().map(find).transpose()
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

    /// The row without its labels, or what is wrong with it. That never repeats what the row holds.
    pub(super) fn read(
        &self,
        record: &StringRecord,
        data_root: &Path,
        table: &Path,
        origin: ListedAt,
        secret: &PatientSecret,
    ) -> Result<Listed, String> {
        let folder = table.parent().unwrap_or(Path::new(""));
        let text = |at: Option<usize>| {
            at.and_then(|at| record.get(at)).map(str::trim).filter(|text| !text.is_empty())
        };
        let line = |at: Option<usize>, what: &str| match text(at) {
            Some(text) if text.contains(['\n', '\r']) => {
                Err(format!("{what} holds a line break; is a quotation mark missing or too many?"))
            }
            text => Ok(text),
        };
        let below = |file: &str, what: &str| {
            below_root(data_root, folder, Path::new(file))
                .ok_or_else(|| format!("{what} is outside the data root; files must stay below it"))
        };
        let file = line(Some(self.file), "file name")?.ok_or("file name is empty")?;
        let patient = line(Some(self.patient), "patient id")?
            .ok_or("patient id is empty; the split needs it")?;
        let split = match line(self.split, "split")? {
            None => None,
            Some(name) => Some(Split::from_name(name).ok_or(
                "split is a word that means none; expected train, val (valid, validate) or test",
            )?),
        };
        let mask = line(self.mask, "mask's file name")?;
        let dataset = line(self.dataset, "dataset")?;
        let dataset = dataset.map_or_else(|| last_name(folder), str::to_owned);
        Ok(Listed {
            location: Location::File(below(file, "its file")?),
            origin,
            patient: secret.key(&dataset, patient),
            is_patient_in_file: false,
            dataset,
            view: text(self.view).map(str::to_owned),
            labels: BTreeMap::new(),
            report: text(self.report).map(str::to_owned),
            mask: mask.map(|mask| below(mask, "its mask")).transpose()?,
            split,
        })
    }

    pub(super) fn said(&self, record: &StringRecord) -> Result<Said, String> {
        let names = self.labels.and_then(|at| record.get(at)).unwrap_or_default();
        let numbers =
            self.findings.iter().map(|(name, at)| (name, record.get(*at).unwrap_or_default()));
        Said::read(names, numbers)
    }
}

/// Columns that an error names, and letters of each: at most this many. MIMIC-CXR's and CheXpert's tables have 18.
const MOST_SHOWN: usize = 40;
const MOST_LETTERS: usize = 60;

/// The names of the columns, unless the first row looks like data: that must not be repeated.
fn names(header: &StringRecord) -> String {
    if header.iter().any(looks_like_data) {
        return "data in its first row, where the names of columns should be".to_owned();
    }
    if header.iter().any(|cell| cell.contains(char::is_control)) {
        return "a first row that is no text in UTF-8".to_owned();
    }
    let names: Vec<&str> = header.iter().filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return "none at all".to_owned();
    }
    let shown = names.iter().take(MOST_SHOWN).map(|name| {
        let start: String = name.chars().take(MOST_LETTERS).collect();
        let rest = if start.len() < name.len() { "…" } else { "" };
        format!("`{start}{rest}`")
    });
    let rest = match names.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.collect::<Vec<_>>().join(", ") + &rest
}

fn looks_like_data(cell: &str) -> bool {
    let cell = cell.trim();
    let is_file = Path::new(cell).extension().is_some_and(|extension| {
        ["png", "jpg", "jpeg", "dcm", "dicom"].iter().any(|it| extension.eq_ignore_ascii_case(it))
    });
    is_file || cell.contains(['\n', '\r']) || cell.parse::<f64>().is_ok_and(f64::is_finite)
}
