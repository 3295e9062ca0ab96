//! What a figure found, for machines and in words.

use super::report::{Curve, Picture};
use super::words;
use crate::metric::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Words of the program, or of a file that repeats them.
pub(super) type Text = Cow<'static, str>;

/// A number, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Figure {
    /// A finite number.
    Known(f64),
    /// A finite number, and between which it lies with 95 % confidence for the patients that were looked at.
    Between {
        /// The number.
        value: f64,
        /// Least and most.
        interval: [f64; 2],
    },
    /// Why the number could not be computed honestly, as one sentence.
    Missing(String),
}

impl Figure {
    /// The number, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Known(value) | Self::Between { value, .. } => Some(*value),
            Self::Missing(_) => None,
        }
    }

    /// Between which values it lies, if that is known.
    pub fn interval(&self) -> Option<[f64; 2]> {
        match self {
            Self::Between { interval, .. } => Some(*interval),
            Self::Known(_) | Self::Missing(_) => None,
        }
    }

    /// The same number between the ends of `interval`, if there are any; ends that are equal say nothing, as where every
    /// image or none is one of those that are counted.
    pub fn within(self, interval: Option<[f64; 2]>) -> Self {
        match (self, interval) {
            (Self::Known(value), Some(interval)) if interval[0] < interval[1] => {
                Self::Between { value, interval }
            }
            (figure, _) => figure,
        }
    }

    /// Missing because of `reason`.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing(reason.into())
    }
}

impl Default for Figure {
    fn default() -> Self {
        Self::missing("not evaluated")
    }
}

/// JSON knows finite numbers only: whatever is not is missing, and says what it was.
impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Known(value)
        } else {
            Self::Missing(format!("the result was not a finite number ({value})"))
        }
    }
}

impl From<Result<f64, Refusal>> for Figure {
    fn from(result: Result<f64, Refusal>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(refusal) => Self::Missing(refusal.to_string()),
        }
    }
}

/// How many images a figure stands on, of those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Looked at.
    pub used: u64,
    /// There to be looked at.
    pub available: u64,
}

impl Taken {
    /// `used` of `available`.
    pub fn new(used: usize, available: usize) -> Self {
        Self { used: used as u64, available: available as u64 }
    }
}

/// What a figure found: a section of `report.json`, a table of the page, and headlines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// Its section in `report.json`.
    pub key: String,
    /// Its table on the page; those of equal titles are one.
    pub title: Text,
    pub(super) entries: Vec<Entry>,
    pub(super) tiles: Vec<Tile>,
    pub(super) pictures: Vec<Picture>,
    #[serde(default)]
    pub(super) curves: Vec<Curve>,
    /// What it says of the whole run, where it can.
    pub verdict: Option<Verdict>,
}

/// A figure's word on whether a run's images may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// They may.
    pub passed: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// One value of a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its place in the section, `.` between levels.
    pub(super) key: String,
    pub(super) value: Found,
    /// What the page says of it; what has no words is for machines only.
    pub(super) words: Option<Words>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Found {
    Figure(Figure),
    Other(Value),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Words {
    pub(super) name: Text,
    /// The value, or a dash.
    pub(super) value: String,
    pub(super) definition: String,
}

/// A headline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tile {
    /// Headlines with a lower one come first.
    pub(super) rank: u8,
    pub(super) label: Text,
    /// The number, or a dash.
    pub(super) value: String,
    /// Why there is no number.
    pub(super) reason: Option<String>,
    /// What to hold it against: name and value.
    pub(super) beside: Vec<(Text, String)>,
    pub(super) meaning: String,
    /// For shares in [0, 1].
    pub(super) meter: Option<Meter>,
}

/// A bar from 0 to 1 with marks on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Meter {
    pub(super) value: f64,
    pub(super) marks: Vec<f64>,
}

impl Meter {
    pub(super) fn new(figure: &Figure, marks: &[&Figure]) -> Option<Self> {
        let marks = marks.iter().filter_map(|mark| mark.value()).collect();
        figure.value().map(|value| Self { value, marks })
    }
}

impl Figure {
    /// The number in words, or a dash.
    pub(super) fn shown(&self, format: impl Fn(f64) -> String) -> String {
        self.value().map_or("–".to_owned(), format)
    }

    /// The number in words and between which it lies, or a dash.
    pub(super) fn shown_between(&self, format: impl Fn(f64) -> String) -> String {
        let value = self.shown(&format);
        match self.interval() {
            Some([low, high]) => format!("{value} [{}, {}]", format(low), format(high)),
            None => value,
        }
    }

    /// Why there is no number.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Known(_) | Self::Between { .. } => None,
            Self::Missing(reason) => Some(reason.clone()),
        }
    }
}

impl Finding {
    pub(super) fn new(key: impl Into<String>, title: &'static str) -> Self {
        Self { key: key.into(), title: title.into(), ..Self::default() }
    }

    /// A figure under `key`, as the page shows it.
    pub(super) fn figure(
        &mut self,
        key: impl Into<String>,
        figure: &Figure,
        format: impl Fn(f64) -> String,
        name: &'static str,
        definition: impl Into<String>,
    ) {
        let (value, definition) = (figure.shown_between(format), definition.into());
        self.entries.push(Entry {
            key: key.into(),
            value: Found::Figure(figure.clone()),
            words: Some(Words { name: name.into(), value, definition }),
        });
    }

    /// Anything else under `key`, for machines only.
    pub(super) fn other(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let value = Found::Other(value.into());
        self.entries.push(Entry { key: key.into(), value, words: None });
    }

    /// A count under `key`, as the page shows it.
    pub(super) fn count(
        &mut self,
        key: &str,
        count: u64,
        name: &'static str,
        definition: impl Into<String>,
    ) {
        let (value, definition) = (words::count(count), definition.into());
        self.entries.push(Entry {
            key: key.to_owned(),
            value: Found::Other(count.into()),
            words: Some(Words { name: name.into(), value, definition }),
        });
    }

    /// Images used under `key`, and beside it how many there are.
    pub(super) fn taken(&mut self, key: &str, taken: Taken) {
        self.other(key, taken.used);
        self.other(format!("{key}_available"), taken.available);
    }

    /// The section. A figure that is missing is `null`, with `<key>_reason` beside it (`reason`, where the key is
    /// `value`); one that lies between two numbers has those beside it as `<key>_interval` (`interval`).
    pub(super) fn json(&self) -> Value {
        let mut section = Map::new();
        for Entry { key, value, .. } in &self.entries {
            let (groups, name) = key.rsplit_once('.').unwrap_or(("", key));
            let mut place = &mut section;
            for group in groups.split('.').filter(|group| !group.is_empty()) {
                let inner = place.entry(group).or_insert_with(|| json!({}));
                place = inner.as_object_mut().expect("a group holds values, and is none");
            }
            match value {
                Found::Other(value) => drop(place.insert(name.to_owned(), value.clone())),
                Found::Figure(figure) => {
                    place.insert(name.to_owned(), json!(figure.value()));
                    let beside = |what: &str| match name {
                        "value" => what.to_owned(),
                        _ => format!("{name}_{what}"),
                    };
                    if let Some(reason) = figure.reason() {
                        place.insert(beside("reason"), json!(reason));
                    }
                    if let Some(interval) = figure.interval() {
                        place.insert(beside("interval"), json!(interval));
                    }
                }
            }
        }
        if let Some(verdict) = &self.verdict {
            section.insert("verdict".to_owned(), json!(verdict));
        }
        section.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_finite_or_missing() {
        assert_eq!(Figure::from(0.5), Figure::Known(0.5));
        assert!(
            matches!(Figure::from(f64::INFINITY), Figure::Missing(reason) if reason.contains("inf"))
        );
        let refused = Err(Refusal::TooFew { found: 3, needed: 4 });
        assert_eq!(
            Figure::from(refused),
            Figure::missing("3 images are too few: this figure needs at least 4")
        );
    }

    #[test]
    fn a_section_has_groups_and_reasons() {
        let mut finding = Finding::new("loss", "Loss");
        finding.figure("first", &Figure::Known(2.0), |it| it.to_string(), "First", "At the start.");
        finding.figure(
            "of.last",
            &Figure::missing("none"),
            |it| it.to_string(),
            "Last",
            "At the end.",
        );
        finding.figure("value", &Figure::missing("why"), |it| it.to_string(), "Value", "");
        finding.taken("images", Taken::new(3, 4));
        let between = Figure::Known(0.5).within(Some([0.25, 0.75]));
        finding.figure("share", &between, |it| it.to_string(), "Share", "");
        assert_eq!(Figure::Known(1.0).within(Some([1.0, 1.0])), Figure::Known(1.0));
        let unknown = Figure::missing("why").within(Some([0.0, 1.0]));
        assert_eq!(unknown, Figure::missing("why"));
        let expected = json!({
            "first": 2.0, "of": {"last": null, "last_reason": "none"}, "value": null, "reason": "why",
            "images_available": 4, "images": 3, "share": 0.5, "share_interval": [0.25, 0.75],
        });
        assert_eq!(finding.json(), expected);
        assert_eq!(finding.entries[1].words.as_ref().unwrap().value, "–");
        assert_eq!(finding.entries[5].words.as_ref().unwrap().value, "0.5 [0.25, 0.75]");
    }
}
