//! What a run is worth, as one JSON document and one page. Knows no figure by name.

mod html;
mod page;
mod plot;

pub use html::html;
pub use page::{Curve, Page, Picture, Series};

use super::finding::{Figure, Finding};
use serde_json::{Map, Value, json};

/// The version of `report.json`'s layout.
pub const SCHEMA: u32 = 3;

/// Every figure of a run. As JSON, a section for each finding; a figure that is missing is `null`, with `<key>_reason`
/// beside it (`reason`, where the key is `value`). Beside a number of images that were looked at, `<key>_available`
/// says how many there are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// What the figures found, in order.
    pub findings: Vec<Finding>,
    /// How long each stage took, in order.
    pub stages: Vec<StageTime>,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageTime {
    /// The stage.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: Figure,
    /// Images a second, for stages that go through images.
    pub images_per_second: Figure,
}

impl Report {
    /// As `report.json` has it.
    pub fn json(&self) -> Value {
        let mut map = Map::new();
        map.insert("schema".into(), json!(SCHEMA));
        map.insert("recipe".into(), json!(self.recipe));
        map.insert("synthetic".into(), json!(true));
        map.extend(self.findings.iter().map(|finding| (finding.key.clone(), finding.json())));
        let stages: Vec<Value> = self.stages.iter().map(StageTime::json).collect();
        map.insert("stages".into(), stages.into());
        map.into()
    }
}

impl StageTime {
    fn json(&self) -> Value {
        let plain = |value: f64| value.to_string();
        let mut stage = Finding::new("", "");
        stage.other("name", self.name.clone());
        stage.figure("seconds", &self.seconds, plain, "", "");
        stage.figure("images_per_second", &self.images_per_second, plain, "", "");
        stage.json()
    }
}
