//! PNG and JPEG files that unpack to more than they should, or to nothing.

use std::io::{Cursor, Write as _};

use image::{DynamicImage, GrayImage, ImageFormat, Luma};

use super::Hostile;
use super::codestreams::{
    Replaced as _, flat_jpeg, frame_header, plain_tables, progressive_jpeg, scan_header,
};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A chunk with its checksum.
fn chunk(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(payload);
    let length = (payload.len() as u32).to_be_bytes();
    [&length[..], kind, payload, &crc.sum().to_be_bytes()].concat()
}

/// An IHDR: bit depth, colour type and whether it is interlaced.
fn header([width, height]: [u32; 2], depth: u8, colour: u8, is_interlaced: bool) -> Vec<u8> {
    let mut payload = [width.to_be_bytes(), height.to_be_bytes()].concat();
    payload.extend([depth, colour, 0, 0, u8::from(is_interlaced)]);
    chunk(b"IHDR", &payload)
}

/// `count` zeros, as zlib writes them.
fn zeros(count: u64) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let piece = vec![0; 1 << 20];
    let mut left = count;
    while left > 0 {
        let length = left.min(1 << 20) as usize;
        encoder.write_all(&piece[..length]).unwrap();
        left -= length as u64;
    }
    encoder.finish().unwrap()
}

/// A PNG of zeros.
pub(super) fn flat_png(size: [u32; 2], depth: u8, colour: u8, is_interlaced: bool) -> Vec<u8> {
    let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(colour)];
    let [width, height] = size.map(u64::from);
    let row = (width * channels * u64::from(depth)).div_ceil(8) + 1;
    // Of an interlaced one seven smaller images, with up to one byte for each of their rows.
    let data = if is_interlaced { row * height + 8 * (width + height) } else { row * height };
    [
        SIGNATURE.to_vec(),
        header(size, depth, colour, is_interlaced),
        chunk(b"IDAT", &zeros(data)),
        chunk(b"IEND", b""),
    ]
    .concat()
}

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut put = |name: &str, bytes: Vec<u8>| all.push(Hostile::new(name.to_owned(), bytes));
    pngs(&mut put);
    jpegs(&mut put);
    strangers(&mut put);
    all
}

fn pngs(put: &mut impl FnMut(&str, Vec<u8>)) {
    let image = GrayImage::from_fn(24, 16, |x, y| Luma([(x * y) as u8]));
    let mut whole = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut whole, ImageFormat::Png).unwrap();
    let whole = whole.into_inner();
    let end = chunk(b"IEND", b"");
    let file = |parts: &[Vec<u8>]| [SIGNATURE.to_vec(), parts.concat()].concat();
    let grey = || header([24, 16], 8, 0, false);
    let data = chunk(b"IDAT", &zeros(25 * 16));
    put("png-signature.png", SIGNATURE.to_vec());
    put("png-half.png", whole[..whole.len() / 2].to_vec());
    put("png-no-header.png", file(&[data.clone(), end.clone()]));
    put("png-no-data.png", file(&[grey(), end.clone()]));
    put(
        "png-two-headers.png",
        file(&[grey(), header([60_000, 60_000], 8, 0, false), data.clone(), end.clone()]),
    );
    put("png-trailing.png", [whole.clone(), vec![0xa5; 4096]].concat());
    for (name, size) in [
        ("none", [0, 0]),
        ("line", [16_384, 1]),
        ("all", [u32::MAX; 2]),
        ("negative", [0x8000_0001; 2]),
        ("wide", [16_385, 2]),
        ("large", [16_000, 16_000]),
    ] {
        put(
            &format!("png-size-{name}.png"),
            file(&[header(size, 8, 0, false), data.clone(), end.clone()]),
        );
    }
    for (name, depth, colour) in [
        ("depth-3", 3, 0),
        ("depth-0", 0, 0),
        ("colour-5", 8, 5),
        ("palette-16", 16, 3),
        ("palette-none", 8, 3),
    ] {
        put(
            &format!("png-{name}.png"),
            file(&[header([24, 16], depth, colour, false), data.clone(), end.clone()]),
        );
    }
    put("png-rgba16-64mp.png", flat_png([8_000, 8_000], 16, 6, false));
    put("png-interlaced-64mp.png", flat_png([8_000, 8_000], 16, 0, true));
    put("png-grey-64mp.png", flat_png([16_000, 4_000], 8, 0, false));
    put("png-too-much.png", file(&[grey(), chunk(b"IDAT", &zeros(800 << 20)), end.clone()]));
    put("png-too-little.png", file(&[grey(), chunk(b"IDAT", &zeros(30)), end.clone()]));
    put("png-not-zlib.png", file(&[grey(), chunk(b"IDAT", &[0xa5; 200]), end.clone()]));
    let bomb = zeros(300 << 20);
    let text = [&b"Comment\0\0"[..], &bomb].concat();
    put("png-text-bomb.png", file(&[grey(), chunk(b"zTXt", &text), data.clone(), end.clone()]));
    let profile = [&b"p\0\0"[..], &bomb].concat();
    put(
        "png-profile-bomb.png",
        file(&[grey(), chunk(b"iCCP", &profile), data.clone(), end.clone()]),
    );
    let international = [&b"Comment\0\x01\0\0\0"[..], &bomb].concat();
    put(
        "png-itxt-bomb.png",
        file(&[grey(), chunk(b"iTXt", &international), data.clone(), end.clone()]),
    );
    put(
        "png-chunks.png",
        file(&[grey(), chunk(b"tEXt", b"a\0b").repeat(200_000), data.clone(), end.clone()]),
    );
    let pieces: Vec<u8> = zeros(25 * 16).iter().flat_map(|byte| chunk(b"IDAT", &[*byte])).collect();
    put("png-pieces.png", file(&[grey(), pieces, end.clone()]));
    put(
        "png-empty-pieces.png",
        file(&[grey(), chunk(b"IDAT", b"").repeat(300_000), data.clone(), end.clone()]),
    );
    let long = [&0xffff_fff0u32.to_be_bytes()[..], b"tEXt", &[0; 64]].concat();
    put("png-chunk-beyond-file.png", file(&[grey(), long, data.clone(), end.clone()]));
    put("png-checksum.png", whole.replaced(b"IEND\xae", b"IEND\xaf"));
    let animation = [1u32 << 31, 0].map(u32::to_be_bytes).concat();
    put("png-animation.png", file(&[grey(), chunk(b"acTL", &animation), data, end]));
}

fn jpegs(put: &mut impl FnMut(&str, Vec<u8>)) {
    let start = || vec![0xff, 0xd8];
    let end = || vec![0xff, 0xd9];
    let scan = || [scan_header(&[1], [0, 63, 0]), vec![0; 64]].concat();
    let file = |parts: &[Vec<u8>]| [start(), parts.concat(), end()].concat();
    let whole = flat_jpeg([16, 24]);
    put("jpeg-start.jpg", vec![0xff, 0xd8, 0xff]);
    put("jpeg-start-end.jpg", b"\xff\xd8\xff\xd9".to_vec());
    put("jpeg-fill.jpg", [start(), vec![0xff; 1 << 20]].concat());
    put("jpeg-half.jpg", whole[..whole.len() / 2].to_vec());
    put("jpeg-no-end.jpg", whole[..whole.len() - 2].to_vec());
    put("jpeg-trailing.jpg", [whole.clone(), vec![0xa5; 4096]].concat());
    for (name, size) in [
        ("none", [0, 0]),
        ("all", [u16::MAX; 2]),
        ("rows-none", [0, 24]),
        ("large", [16_000, 16_000]),
    ] {
        let parts = [frame_header(0xc0, 8, size, &[0x11]), plain_tables(), scan()];
        put(&format!("jpeg-size-{name}.jpg"), file(&parts));
    }
    for (name, marker, precision, samplings) in [
        ("none", 0xc0, 8, &[][..]),
        ("four", 0xc0, 8, &[0x11; 4]),
        ("all", 0xc0, 8, &[0x11; 255]),
        ("sampling-none", 0xc0, 8, &[0x00]),
        ("sampling-high", 0xc0, 8, &[0xff, 0x11, 0x11]),
        ("sampling-mixed", 0xc0, 8, &[0x41, 0x14, 0x23]),
        ("arithmetic", 0xc9, 8, &[0x11]),
        ("lossless", 0xc3, 8, &[0x11]),
        ("hierarchical", 0xc5, 8, &[0x11]),
        ("twelve-bits", 0xc1, 12, &[0x11]),
        ("no-bits", 0xc0, 0, &[0x11]),
    ] {
        let parts = [frame_header(marker, precision, [16, 24], samplings), plain_tables(), scan()];
        put(&format!("jpeg-components-{name}.jpg"), file(&parts));
    }
    let frame = || frame_header(0xc0, 8, [16, 24], &[0x11]);
    put("jpeg-no-tables.jpg", file(&[frame(), scan()]));
    put("jpeg-no-frame.jpg", file(&[plain_tables(), scan()]));
    put(
        "jpeg-two-frames.jpg",
        file(&[frame(), frame_header(0xc0, 8, [9_000, 7_000], &[0x11]), plain_tables(), scan()]),
    );
    put("jpeg-no-scan.jpg", file(&[frame(), plain_tables()]));
    put(
        "jpeg-scan-of-strangers.jpg",
        file(&[frame(), plain_tables(), scan_header(&[9], [0, 63, 0]), vec![0; 64]]),
    );
    put(
        "jpeg-tables-full.jpg",
        file(&[b"\xff\xc4\x00\x13\x00".to_vec(), vec![0xff; 16], frame(), scan()]),
    );
    put("jpeg-table-cut.jpg", file(&[b"\xff\xdb\xff\xff\x00".to_vec(), frame(), scan()]));
    put(
        "jpeg-length-none.jpg",
        file(&[b"\xff\xe0\x00\x00".to_vec(), frame(), plain_tables(), scan()]),
    );
    put(
        "jpeg-notes.jpg",
        file(&[b"\xff\xfe\x00\x02".repeat(500_000), frame(), plain_tables(), scan()]),
    );
    put(
        "jpeg-restart.jpg",
        file(&[frame(), plain_tables(), b"\xff\xdd\x00\x04\x00\x01".to_vec(), scan()]),
    );
    put(
        "jpeg-restarts.jpg",
        file(&[
            frame(),
            plain_tables(),
            scan_header(&[1], [0, 63, 0]),
            b"\xff\xd0".repeat(100_000),
        ]),
    );
    let exif = [&b"Exif\0\0II*\0\x08\0\0\0\xff\xff"[..], &[0xff; 400]].concat();
    let length = ((exif.len() + 2) as u16).to_be_bytes();
    let exif = [&b"\xff\xe1"[..], &length, &exif].concat();
    put("jpeg-exif.jpg", file(&[exif, frame(), plain_tables(), scan()]));
    let profile = [&b"\xff\xe2\x00\x12ICC_PROFILE\0\xff\xff"[..], b"aa"].concat();
    put("jpeg-profile.jpg", file(&[profile.repeat(255), frame(), plain_tables(), scan()]));
    put("jpeg-scans.jpg", progressive_jpeg([16, 24], 20_000));
    put("jpeg-scans-64mp.jpg", progressive_jpeg([8_000, 8_000], 90));
    put("jpeg-grey-64mp.jpg", flat_jpeg([8_000, 8_000]));
}

/// Files of other kinds under an image's name.
fn strangers(put: &mut impl FnMut(&str, Vec<u8>)) {
    for (name, bytes) in [
        ("empty.png", &b""[..]),
        ("zeros.dcm", &[0; 4096]),
        ("zero.jpg", &[0]),
        ("gif.png", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
        ("tiff.png", b"II*\x00\x08\x00\x00\x00"),
        ("zip.dcm", b"PK\x03\x04\x14\x00"),
        ("pickle.png", b"\x80\x04\x95csystem\nos\n"),
        ("elf.dcm", b"\x7fELF\x02\x01\x01\x00"),
        ("html.png", b"<html><script>alert(1)</script>"),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("gzip.dcm", b"\x1f\x8b\x08\x00"),
        ("nifti.dcm", b"\x5c\x01\x00\x00"),
        ("escape.png", b"\x1b[2J\x1b]0;owned\x07"),
        ("numpy.dcm", b"\x93NUMPY\x01\x00"),
    ] {
        put(&format!("stranger-{name}"), bytes.to_vec());
    }
}
