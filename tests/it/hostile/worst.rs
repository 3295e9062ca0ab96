//! The largest image of every format and codec: what opening it takes. Not run by default:
//! `cargo test --release --test it hostile::worst -- --ignored --nocapture`

use super::codestreams::{
    Jpeg2000, flat_jpeg, flat_jpeg_ls, frame_header, plain_tables, progressive_jpeg, scan_header,
};
use super::dicom::{
    DEFLATED, DEFLATED_FRAME, Dicom, EXPLICIT, JPEG, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE,
    deflated,
};
use super::rasters::flat_png;
use super::{LONGEST, MOST_MEMORY, opened};
use std::time::Duration;

/// 64 million pixels, the most there may be.
const SIDE: u16 = 8_000;
const SIZE: [u16; 2] = [SIDE, SIDE];

/// A baseline JPEG in three colours.
fn colour_jpeg() -> Vec<u8> {
    let blocks = usize::from(SIDE / 8) * usize::from(SIDE / 8);
    [
        vec![0xff, 0xd8],
        frame_header(0xc0, 8, SIZE, &[0x11; 3]),
        plain_tables(),
        scan_header(&[1, 2, 3], [0, 63, 0]),
        vec![0; (6 * blocks).div_ceil(8) + 1],
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// Lossless, first-order prediction: of every pixel one bit.
fn lossless_jpeg() -> Vec<u8> {
    let pixels = usize::from(SIDE) * usize::from(SIDE);
    [
        vec![0xff, 0xd8],
        frame_header(0xc3, 16, SIZE, &[0x11]),
        plain_tables(),
        scan_header(&[1], [1, 0, 0]),
        vec![0; pixels.div_ceil(8) + 1],
        vec![0xff, 0xd9],
    ]
    .concat()
}

fn native(syntax: &str) -> Dicom {
    let words = vec![0; 2 * usize::from(SIDE) * usize::from(SIDE)];
    Dicom::new(syntax).word((0x28, 0x10), SIDE).word((0x28, 0x11), SIDE).value(
        (0x7fe0, 0x10),
        "OW",
        &words,
    )
}

fn run_lengths() -> Vec<u8> {
    let plane = usize::from(SIDE) * usize::from(SIDE);
    let segment = [129u8, 0].repeat(plane.div_ceil(128));
    let mut header = vec![2u32, 64, 64 + segment.len() as u32];
    header.resize(16, 0);
    let header = header.iter().flat_map(|word| word.to_le_bytes());
    header.chain(segment.iter().copied()).chain(segment.iter().copied()).collect()
}

/// Makes a file.
type Make = Box<dyn Fn() -> Vec<u8>>;

#[test]
#[ignore = "a minute of work and a gigabyte, for its printed table"]
fn largest_images() {
    let side = u32::from(SIDE);
    let square = [side, side];
    let compressed =
        |syntax, bits, frame: Vec<u8>| Dicom::encapsulated(syntax, SIZE, bits, &[&frame]).bytes();
    let home = tempfile::tempdir().unwrap();
    let large = Jpeg2000::flat(square.map(|side| side), 16);
    let tiles = Jpeg2000 { tile: [256, 256], ..large.clone() };
    let files: Vec<(&str, Make)> = vec![
        ("PNG, grey, 8 bits", Box::new(move || flat_png(square, 8, 0, false))),
        ("PNG, grey, 1 bit", Box::new(move || flat_png(square, 1, 0, false))),
        ("PNG, grey, 16 bits", Box::new(move || flat_png(square, 16, 0, false))),
        ("PNG, grey, 16 bits, interlaced", Box::new(move || flat_png(square, 16, 0, true))),
        ("PNG, RGB, 8 bits", Box::new(move || flat_png(square, 8, 2, false))),
        ("PNG, RGBA, 8 bits", Box::new(move || flat_png(square, 8, 6, false))),
        ("PNG, RGBA, 8 bits, interlaced", Box::new(move || flat_png(square, 8, 6, true))),
        (
            "PNG, RGBA, 16 bits, 33 MP, interlaced",
            Box::new(|| flat_png([5_700, 5_800], 16, 6, true)),
        ),
        ("JPEG, grey", Box::new(|| flat_jpeg(SIZE))),
        ("JPEG, colour", Box::new(colour_jpeg)),
        ("JPEG, progressive, 1 scan", Box::new(|| progressive_jpeg(SIZE, 0))),
        ("JPEG, progressive, 90 scans", Box::new(|| progressive_jpeg(SIZE, 90))),
        ("DICOM, 16 bits", Box::new(|| native(EXPLICIT).bytes())),
        ("DICOM, deflated", Box::new(|| native(DEFLATED).bytes())),
        (
            "DICOM, deflated frame",
            Box::new(move || {
                let frame = deflated(&vec![0; 2 * usize::from(SIDE) * usize::from(SIDE)]);
                compressed(DEFLATED_FRAME, 16, frame)
            }),
        ),
        ("DICOM, RLE, 16 bits", Box::new(move || compressed(RLE, 16, run_lengths()))),
        ("DICOM, JPEG", Box::new(move || compressed(JPEG, 8, flat_jpeg(SIZE)))),
        (
            "DICOM, JPEG lossless, 16 bits",
            Box::new(move || compressed(JPEG_LOSSLESS, 16, lossless_jpeg())),
        ),
        (
            "DICOM, JPEG-LS, 16 bits",
            Box::new(move || compressed(JPEG_LS, 16, flat_jpeg_ls(SIZE, 16))),
        ),
        ("DICOM, JPEG 2000, 16 bits", Box::new(move || compressed(JPEG_2000, 16, large.bytes()))),
        (
            "DICOM, JPEG 2000, 16 bits, tiles",
            Box::new(move || compressed(JPEG_2000, 16, tiles.bytes())),
        ),
    ];
    for (name, make) in files {
        let path = home.path().join(name);
        std::fs::write(&path, make()).unwrap();
        let opened = opened(home.path());
        std::fs::remove_file(&path).unwrap();
        let found = &opened[name];
        println!(
            "| {name} | {} ms | {} MiB | {} |",
            found.milliseconds,
            found.memory >> 10,
            found.outcome
        );
        assert!(Duration::from_millis(found.milliseconds) < LONGEST, "{name}");
        assert!(found.memory < MOST_MEMORY, "{name}");
    }
}
