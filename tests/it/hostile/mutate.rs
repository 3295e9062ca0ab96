//! Small files with random changes.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

use umbra::data::file::{self, FileError, Refusal, Window};
use umbra::random::{Draws, Stream};

use super::codestreams::{Jpeg2000, flat_jpeg, flat_jpeg_ls, progressive_jpeg};
use super::dicom::{
    BIG_ENDIAN, DEFLATED, Dicom, EXPLICIT, IMPLICIT, JPEG, JPEG_2000, JPEG_LS, RLE,
};
use super::rasters::flat_png;
use super::{LONGEST, MOST_MEMORY, child, forget_peak, peak};

/// How the child is told the seed and the number of changes.
const TASK: &str = "UMBRA_HOSTILE_MUTATIONS";
/// Values that fields are set to.
const EXTREMES: [u32; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// What is changed: each kind of file that can be read.
fn originals() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("png grey", flat_png([24, 16], 8, 0, false)),
        ("png 16 bits", flat_png([24, 16], 16, 0, false)),
        ("png colour", flat_png([24, 16], 8, 2, false)),
        ("png interlaced", flat_png([24, 16], 8, 0, true)),
        ("jpeg", flat_jpeg([32, 24])),
        ("jpeg progressive", progressive_jpeg([32, 24], 3)),
    ];
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED] {
        let file = Dicom::new(syntax)
            .text((0x28, 0x1050), "DS", "2000")
            .text((0x28, 0x1051), "DS", "4000")
            .text((0x28, 0x1052), "DS", "-1")
            .text((0x28, 0x1053), "DS", "2")
            .text((0x18, 0x1164), "DS", "0.2\\0.3");
        all.push(("dicom", file.bytes()));
    }
    let rle: Vec<u8> = [2u32, 64, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .chain([209, 7, 128, 128, 209, 9, 128, 128])
        .collect();
    for (syntax, bits, frame) in [
        (JPEG, 8, flat_jpeg([6, 8])),
        (JPEG_LS, 12, flat_jpeg_ls([6, 8], 12)),
        (JPEG_2000, 12, Jpeg2000::flat([6, 8], 12).bytes()),
        (RLE, 12, rle),
    ] {
        all.push((
            "dicom, compressed",
            Dicom::encapsulated(syntax, [6, 8], bits, &[&frame]).bytes(),
        ));
    }
    all
}

/// One to four changes: bits, fields, pieces cut out, said twice or put elsewhere, an early end.
fn changed(original: &[u8], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=draws.below(4) {
        if bytes.len() < 8 {
            break;
        }
        let at = draws.below(bytes.len() as u64 - 4) as usize;
        let end = (at + 1 + draws.below(64) as usize).min(bytes.len());
        match draws.below(8) {
            0 | 1 => bytes[at] ^= 1 << draws.below(8),
            2 => bytes[at] = draws.below(256) as u8,
            3 => {
                let value = EXTREMES[draws.below(8) as usize];
                let value =
                    if draws.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                let width = [1, 2, 4][draws.below(3) as usize];
                bytes[at..at + width].copy_from_slice(&value[..width]);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = draws.below(bytes.len() as u64) as usize;
                bytes.splice(to..to, piece);
            }
            6 => bytes[at..end].fill(0),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn twenty_thousand_random_changes_are_survived() {
    let setting = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let total = setting("UMBRA_MUTATIONS").unwrap_or(20_000);
    let seed = setting("UMBRA_MUTATION_SEED").unwrap_or(1);
    let task = format!("{seed} {total}");
    let (lines, status) = child("hostile::mutate::change_in_a_child", TASK, OsStr::new(&task));
    let last =
        lines.iter().rev().find(|line| line.contains("change ")).cloned().unwrap_or_default();
    assert!(status.success(), "seed {seed}: {status} behind {last}");
    println!("{}", lines.iter().rev().find(|line| line.contains("changes")).unwrap());
}

/// What the child does; nothing where no other test asked.
#[test]
fn change_in_a_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (seed, total) = task.split_once(' ').unwrap();
    let (seed, total): (u64, u64) = (seed.parse().unwrap(), total.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("changed");
    let originals = originals();
    for (kind, original) in &originals {
        std::fs::write(&path, original).unwrap();
        file::open(&path, &Window::Auto).map_err(|error| format!("{kind}: {error}")).unwrap();
    }
    let (mut images, mut panics, mut slowest) = (0, 0, 0);
    forget_peak();
    for number in 0..total {
        let (kind, original) = &originals[(number % originals.len() as u64) as usize];
        let mut draws = Stream::new(seed, "mutations").at(number << 20);
        let bytes = changed(original, &mut draws);
        if number % 1000 == 0 {
            println!("change {number} of {kind}");
        }
        (images, panics, slowest) = look(&path, &bytes, kind, number, (images, panics, slowest));
    }
    assert!(peak() < MOST_MEMORY, "{} KiB", peak());
    println!(
        "{total} changes: {images} still images, {panics} caught in a decoder, slowest {slowest} ms, {} MiB",
        peak() >> 10
    );
}

/// Opens one changed file; counts of images and of decoders that gave up, and the longest time.
fn look(
    path: &Path,
    bytes: &[u8],
    kind: &str,
    number: u64,
    (mut images, mut panics, mut slowest): (u64, u64, u128),
) -> (u64, u64, u128) {
    std::fs::write(path, bytes).unwrap();
    let start = Instant::now();
    let trained = file::open(path, &Window::Auto);
    let inspected = file::inspect(path);
    let took = start.elapsed();
    assert!(took < LONGEST, "change {number} of {kind}: {took:?}");
    slowest = slowest.max(took.as_millis());
    if let Ok(opened) = &trained {
        images += 1;
        assert!(
            opened.image.pixels.iter().all(|value| (0.0..=1.0).contains(value)),
            "change {number} of {kind}"
        );
    }
    for error in [trained.err(), inspected.err()].into_iter().flatten() {
        match error {
            FileError::Refused { reason: Refusal::Panicked, .. } => panics += 1,
            FileError::Refused { reason, .. } => {
                let text = reason.to_string();
                assert!(
                    !text.contains("CANARY") && !text.contains('\n'),
                    "change {number} of {kind}: {text}"
                );
            }
            other => panic!("change {number} of {kind}: {other}"),
        }
    }
    (images, panics, slowest)
}
