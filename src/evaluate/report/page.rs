use super::{Report, html};
use crate::artifact::{self, ArtifactError};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that `report.html` shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The figures.
    pub report: Report,
    /// Contact sheets and the like, in order, beside those that figures made.
    pub pictures: Vec<Picture>,
    /// Losses, learning rates and the like, in order.
    pub curves: Vec<Curve>,
    /// The resolved recipe.
    pub recipe: String,
    /// Device, threads, version and the like: name and value.
    pub environment: Vec<(String, String)>,
}

/// A picture with its words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Picture {
    /// A few words.
    pub title: String,
    /// What is to be seen, in a sentence or two; with the title also the text for who cannot see it.
    pub caption: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
}

/// A plot of series over one axis.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Curve {
    /// A few words.
    pub title: String,
    /// What the horizontal axis counts, e.g. `images seen`.
    pub x_label: String,
    /// What the vertical axis measures.
    pub y_label: String,
    /// Logarithmic vertical axis; points at or below 0 are then left out.
    pub log: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line of a plot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend, e.g. `validation`.
    pub name: String,
    /// Points in order of x; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

impl Page {
    /// Writes `report.json` and `report.html` into `folder`, each complete or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), ArtifactError> {
        let json = format!("{:#}\n", self.report.json());
        artifact::write_file(&folder.join("report.json"), json.as_bytes())?;
        artifact::write_file(&folder.join("report.html"), html(self).as_bytes())
    }
}

#[cfg(test)]
pub(super) use tests::sample;

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::{Page, Picture, Series};
    use crate::data::picture::{Contents, Depth, Provenance, contact_sheet, gray_png};
    use crate::evaluate::finding::{Finding, Meter, Taken, Tile};
    use crate::evaluate::words::{number, percent};
    use crate::random::Stream;

    /// A page with invented figures, as a run would fill it.
    pub(in crate::evaluate::report) fn sample() -> Page {
        let stage = |name: &str, seconds: f64, rate: f64| StageTime {
            name: name.into(),
            seconds: seconds.into(),
            images_per_second: rate.into(),
        };
        let mut fidelity = Finding::new("condition_fidelity", "Condition fidelity");
        let top1 = Figure::Known(0.21);
        fidelity.figure("top1", &top1, percent, "Top-1", "How often an image finds its source.");
        fidelity.figure("chance", &Figure::Known(1.0 / 128.0), percent, "Chance", "By chance.");
        fidelity.tiles.push(Tile {
            rank: 0,
            label: "Condition fidelity".into(),
            value: top1.shown(percent),
            reason: None,
            beside: vec![("Chance".into(), percent(1.0 / 128.0))],
            meaning: "How often an image finds its source.".into(),
            meter: Meter::new(&top1, &[&Figure::Known(1.0 / 128.0)]),
        });
        let mut frechet = Finding::new("frechet_distance", "Generated and real images as sets");
        let few = Err(crate::metric::Refusal::TooFew { found: 128, needed: 192 }).into();
        frechet.figure("value", &few, number, "Fréchet distance", "Less is better.");
        frechet.taken("images", Taken::new(128, 1024));
        let report = Report {
            recipe: "quickstart".into(),
            findings: vec![fidelity, frechet],
            stages: vec![
                stage("ingest", 2.1, 609.5),
                stage("encoder", 101.2, 79.1),
                stage("autoencoder", 143.9, 27.8),
                stage("encode", 14.4, 88.9),
                stage("denoiser", 262.8, 19.0),
                StageTime {
                    name: "evaluate".into(),
                    seconds: 61.0.into(),
                    images_per_second: Figure::missing(
                        "this stage looks at each image several times",
                    ),
                },
            ],
        };
        Page {
            report,
            pictures: vec![
                sheet(
                    "Reconstructions",
                    6,
                    12,
                    &["source", "decoded", "sample 1", "sample 2", "sample 3", "sample 4"],
                    "Each row begins with a validation image and the same image after the \
                     autoencoder alone; the rest are new images generated from its embedding.",
                ),
                sheet(
                    "Interpolations",
                    7,
                    4,
                    &["from", "0.2", "0.4", "0.5", "0.6", "0.8", "to"],
                    "New images on the way between the embeddings of two neighbours with equal \
                     labels.",
                ),
            ],
            curves: curves(),
            recipe:
                "(\n    name: \"quickstart\",\n    seed: 1,\n    data: (source: Phantom(images: \
                     1280), size: 64),\n    train: (images: 5_000, batch_size: 16, \
                     peak_learning_rate: 5e-4),\n)\n"
                    .into(),
            environment: [
                ("Version", "umbra 0.1.0 (sample page)"),
                ("Device", "cpu (flex)"),
                ("Threads", "2"),
                ("Finished", "2026-01-31 12:00 UTC"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        }
    }

    /// Lens-shaped blobs: something to look at that is no radiograph.
    fn sheet(
        title: &str,
        columns: usize,
        rows: usize,
        headings: &[&str],
        caption: &str,
    ) -> Picture {
        let tiles: Vec<Vec<f32>> = (0..columns * rows)
            .map(|tile| {
                let mut draws = Stream::new(1, title).at((tile / columns) as u64);
                let mut own = Stream::new(2, title).at(tile as u64);
                let (x0, y0) = (draws.range(24.0, 40.0), draws.range(24.0, 40.0));
                let width = draws.range(8.0, 20.0) + own.range(-2.0, 2.0);
                let disc = |at: usize| {
                    let (x, y) = ((at % 64) as f64 - x0, (at / 64) as f64 - y0);
                    (0.1 + 0.8 * (-(x * x * 1.6 + y * y) / (width * width)).exp()) as f32
                };
                (0..4096).map(disc).collect()
            })
            .collect();
        let provenance =
            Provenance { contents: Contents::SyntheticAndReal, recipe: "quickstart", seed: 1 };
        let sheet = contact_sheet(&tiles, 64, columns, 4, headings);
        let png = gray_png(&sheet, Depth::Eight, &provenance.text()).unwrap();
        Picture { title: title.into(), caption: caption.into(), png }
    }

    fn curves() -> Vec<Curve> {
        let falling = |name: &str, first: f64, last: f64, images: u64, step: u64, noise: f64| {
            let points = (0..=images / step).map(|at| {
                let seen = at * step;
                let progress = seen as f64 / images as f64;
                let level = last + (first - last) * (-6.0 * progress).exp();
                let wobble = 1.0 + noise * Stream::new(3, name).at(seen).normal();
                (seen as f64, level * wobble.max(0.3))
            });
            Series { name: name.into(), points: points.collect() }
        };
        let warm_up = (0..=310).map(|step| {
            let (seen, progress) = (f64::from(step) * 16.0, f64::from(step) / 310.0);
            let decay = 0.5 + 0.5 * (std::f64::consts::PI * progress).cos();
            (seen, 5e-4 * decay * (progress / 0.05).min(1.0))
        });
        let curve = |title: &str, y_label: &str, log: bool, series: Vec<Series>| Curve {
            title: title.into(),
            x_label: "images seen".into(),
            y_label: y_label.into(),
            log,
            series,
        };
        vec![
            curve(
                "Encoder",
                "cross-entropy",
                false,
                vec![falling("train", 6.2, 4.1, 8000, 16, 0.03)],
            ),
            curve(
                "Autoencoder",
                "loss",
                true,
                vec![
                    falling("train", 0.31, 0.021, 4000, 8, 0.12),
                    falling("validation", 0.29, 0.024, 4000, 500, 0.0),
                ],
            ),
            curve(
                "Denoiser",
                "mean squared error",
                true,
                vec![
                    falling("train", 1.0, 0.26, 5000, 16, 0.2),
                    falling("validation", 1.1, 0.24, 5000, 625, 0.0),
                ],
            ),
            curve(
                "Learning rate of the denoiser",
                "learning rate",
                false,
                vec![Series { name: "learning rate".into(), points: warm_up.collect() }],
            ),
        ]
    }

    #[test]
    fn both_files_are_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        sample().write(folder.path()).unwrap();
        let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["recipe"], "quickstart");
        assert_eq!(json["condition_fidelity"]["top1"], 0.21);
        assert_eq!(json["frechet_distance"]["value"], serde_json::Value::Null);
        assert_eq!(json["frechet_distance"]["images_available"], 1024);
        assert_eq!(json["stages"][5]["images_per_second"], serde_json::Value::Null);
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let error = sample().write(&folder.path().join("missing")).unwrap_err();
        assert!(error.to_string().contains("report.json"), "{error}");
    }

    /// Writes a page to look at into the folder that `UMBRA_PICTURES` names, if it is set.
    #[test]
    fn sample_page_to_look_at() {
        if let Some(folder) = std::env::var_os("UMBRA_PICTURES") {
            sample().write(folder.as_ref()).unwrap();
        }
    }
}
