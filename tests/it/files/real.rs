//! The 106 real DICOM files, where `UMBRA_REAL_DATA` says they are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use super::builder::Desk;
use umbra::data::file::{FileError, Refusal, Window, inspect, read};

/// How a file came out, beside what pydicom and its plugins found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The same samples, bit for bit.
    Exact,
    /// Lossy: as many samples, and close by minimum, maximum and mean.
    Close,
    /// Decoded where the reference could not.
    Alone,
    Refused(String),
    Wrong(String),
}

#[test]
fn real_dicom_decodes_exactly_or_is_refused() {
    let Some(root) = real_data() else { return };
    let folder = root.join("dicom");
    let mut table: BTreeMap<Outcome, Vec<String>> = BTreeMap::new();
    let mut manifest = csv::Reader::from_path(folder.join("manifest.csv")).unwrap();
    for row in manifest.deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let path = folder.join(&row["file"]);
        let start = Instant::now();
        let outcome = outcome(&row, &path);
        let line = format!("{} ({:.0} ms)", row["file"], start.elapsed().as_secs_f64() * 1e3);
        table.entry(outcome).or_default().push(line);
        // Whatever it is, it must not panic.
        for window in [Window::Auto, Window::Voi, Window::MinMax, Window::Raw] {
            match read(&path, &window) {
                Ok(gray) => assert!(gray.pixels.iter().all(|value| (0.0..=1.0).contains(value))),
                Err(FileError::Refused { reason, .. }) => assert_ne!(reason, Refusal::Panicked),
                Err(error) => panic!("{error}"),
            }
        }
    }
    for (outcome, files) in &table {
        eprintln!("{:4} {outcome:?}\n       {}", files.len(), files.join("\n       "));
    }
    assert_eq!(table.values().map(Vec::len).sum::<usize>(), 106);
    // The two that the reference could not decode are the same picture as a third.
    let hash = |name: &str| inspect(&folder.join(name)).unwrap().px_sha256;
    assert_eq!(hash("liver_rle.dcm"), hash("liver.dcm"));
    assert_eq!(hash("liver_deflate.dcm"), hash("liver.dcm"));
    assert!(!table.keys().any(|outcome| matches!(outcome, Outcome::Wrong(_))));
    assert!(!table.contains_key(&Outcome::Refused(Refusal::Panicked.to_string())));
}

/// Whole radiographs are read; a reader that is too strict would lose them in silence.
#[test]
fn real_radiographs_are_read() {
    let Some(root) = real_data() else { return };
    let mut folders = vec![root.join("cxr/images")];
    let mut images = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            match extension {
                _ if path.is_dir() => folders.push(path),
                Some("png" | "jpg" | "jpeg") => images.push(path),
                _ => {}
            }
        }
    }
    images.sort();
    for path in images.iter().step_by(images.len().div_ceil(200).max(1)) {
        let gray = read(path, &Window::Auto).unwrap();
        let mean = gray.pixels.iter().sum::<f32>() / gray.pixels.len() as f32;
        assert!((0.05..0.95).contains(&mean), "{}: mean {mean}", path.display());
    }
}

/// Every codec meets bytes it did not expect, and neither panics past us nor takes memory or time for ever.
#[test]
fn real_dicom_survives_damage() {
    let Some(root) = real_data() else { return };
    let desk = Desk::new();
    let mut slowest = (0.0, String::new());
    let mut num_panics = 0;
    for entry in std::fs::read_dir(root.join("dicom")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if path.extension().is_none_or(|extension| extension != "dcm") || bytes.len() > 200_000 {
            continue;
        }
        for round in 0..24_usize {
            let mut damaged = bytes.clone();
            // Half of the damage near the start of what is probably the pixel data, half anywhere.
            let spread = (round * 2_654_435_761) % bytes.len();
            let at =
                if round % 2 == 0 { spread } else { 1000.min(bytes.len() / 2) + spread % 1500 };
            match round % 3 {
                0 => damaged.truncate(at),
                1 => damaged[at % bytes.len()] ^= 0x5a,
                _ => {
                    damaged.iter_mut().skip(at).step_by(97).take(5).for_each(|byte| *byte = !*byte)
                }
            }
            let damaged = desk.put(&damaged);
            let start = Instant::now();
            if let Err(FileError::Refused { reason: Refusal::Panicked, .. }) = inspect(&damaged) {
                num_panics += 1;
            }
            let seconds = start.elapsed().as_secs_f64();
            if seconds > slowest.0 {
                slowest = (seconds, path.display().to_string());
            }
        }
    }
    eprintln!("{num_panics} decoders gave up; the slowest took {:.2} s: {}", slowest.0, slowest.1);
}

fn outcome(row: &BTreeMap<String, String>, path: &Path) -> Outcome {
    let found = match inspect(path) {
        Ok(found) => found,
        Err(FileError::Refused { reason, .. }) => return Outcome::Refused(reason.to_string()),
        Err(error) => return Outcome::Wrong(error.to_string()),
    };
    if row["decoded"] != "1" {
        return Outcome::Alone;
    }
    let mut shape = vec![found.rows, found.columns];
    if found.frames > 1 {
        shape.insert(0, found.frames);
    }
    if found.samples > 1 {
        shape.push(found.samples);
    }
    let shape = shape.iter().map(u32::to_string).collect::<Vec<_>>().join("x");
    if shape != row["shape"] {
        return Outcome::Wrong(format!("shape {shape}"));
    }
    if found.px_sha256 == row["px_sha256"] {
        return Outcome::Exact;
    }
    let numbers = [found.px_min as f64, found.px_max as f64, found.px_mean];
    let expected = ["px_min", "px_max", "px_mean"].map(|name| row[name].parse::<f64>().unwrap());
    let uid = row["transfer_syntax_uid"].as_str();
    let is_lossy =
        ["4.50", "4.51", "4.53", "4.55", "4.81", "4.91", "4.203"].iter().any(|u| uid.ends_with(u));
    // Correct decoders of a lossy process may differ by a few units of 8 bits; the mean by far less.
    let unit = f64::max(1.0, (expected[1] - expected[0]) / 255.0);
    let is_close = (numbers[0] - expected[0]).abs() <= 4.0 * unit
        && (numbers[1] - expected[1]).abs() <= 4.0 * unit
        && (numbers[2] - expected[2]).abs() <= 0.25 * unit;
    if is_lossy && is_close {
        Outcome::Close
    } else {
        Outcome::Wrong(format!("{} {numbers:?}, expected {expected:?}", row["file"]))
    }
}

/// The folder of real data, or a note that there is none.
fn real_data() -> Option<PathBuf> {
    let root = std::env::var_os("UMBRA_REAL_DATA").map(PathBuf::from);
    if root.is_none() {
        crate::unrun::unrun("UMBRA_REAL_DATA is not set");
    }
    root
}
