//! Codestreams of JPEG, JPEG-LS and JPEG 2000, put together by hand, and ways to spoil them.

use super::dicom::{JPEG, JPEG_2000, JPEG_LOSSLESS, JPEG_LS};

/// A segment behind its marker.
fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 2) as u16;
    [&[0xff, marker][..], &length.to_be_bytes(), payload].concat()
}

/// A frame header: `precision`, rows, columns, and for each component its sampling.
pub(super) fn frame_header(
    marker: u8,
    precision: u8,
    [rows, columns]: [u16; 2],
    samplings: &[u8],
) -> Vec<u8> {
    let mut payload = vec![precision];
    payload.extend(rows.to_be_bytes());
    payload.extend(columns.to_be_bytes());
    payload.push(samplings.len() as u8);
    for (at, sampling) in samplings.iter().enumerate() {
        payload.extend([at as u8 + 1, *sampling, 0]);
    }
    segment(marker, &payload)
}

/// Tables that give every coefficient one bit: a zero ends the block.
pub(super) fn plain_tables() -> Vec<u8> {
    let mut quantisation = vec![0];
    quantisation.extend([1; 64]);
    let one_code = |class: u8, symbol: u8| {
        let mut payload = vec![class, 1];
        payload.extend([0; 15]);
        payload.push(symbol);
        segment(0xc4, &payload)
    };
    [segment(0xdb, &quantisation), one_code(0x00, 0), one_code(0x10, 0)].concat()
}

/// A scan of these components and spectral range.
pub(super) fn scan_header(components: &[u8], [start, end, approximation]: [u8; 3]) -> Vec<u8> {
    let mut payload = vec![components.len() as u8];
    components.iter().for_each(|component| payload.extend([*component, 0x00]));
    payload.extend([start, end, approximation]);
    segment(0xda, &payload)
}

/// A JPEG of one grey level: of every block two bits, both zero.
pub(super) fn flat_jpeg(size: [u16; 2]) -> Vec<u8> {
    let blocks = size.map(|side| usize::from(side).div_ceil(8)).iter().product::<usize>();
    [
        vec![0xff, 0xd8],
        frame_header(0xc0, 8, size, &[0x11]),
        plain_tables(),
        scan_header(&[1], [0, 63, 0]),
        vec![0; blocks.div_ceil(4) + 1],
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// The same with three components, a first scan of all, and `scans` more that refine nothing.
pub(super) fn progressive_jpeg(size: [u16; 2], scans: usize) -> Vec<u8> {
    let blocks = size.map(|side| usize::from(side).div_ceil(8)).iter().product::<usize>();
    let mut bytes = [
        vec![0xff, 0xd8],
        frame_header(0xc2, 8, size, &[0x11, 0x11, 0x11]),
        plain_tables(),
        scan_header(&[1, 2, 3], [0, 0, 0]),
        vec![0; (3 * blocks).div_ceil(8) + 1],
    ]
    .concat();
    // Every block ends at once: one bit each.
    let one = [scan_header(&[1], [1, 63, 0]), vec![0; blocks.div_ceil(8) + 1]].concat();
    (0..scans).for_each(|_| bytes.extend(&one));
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// A JPEG-LS image of zeros: every line is one run.
pub(super) fn flat_jpeg_ls(size: [u16; 2], precision: u8) -> Vec<u8> {
    [
        vec![0xff, 0xd8],
        frame_header(0xf7, precision, size, &[0x11]),
        segment(0xda, &[1, 1, 0, 0, 0, 0]),
        // Ones, with the zero that follows each byte of them.
        [0xff, 0x7f].repeat(usize::from(size[0]) + 64),
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// What a JPEG 2000 codestream says of itself.
#[derive(Clone)]
pub(super) struct Jpeg2000 {
    pub(super) size: [u32; 2],
    pub(super) tile: [u32; 2],
    pub(super) components: u16,
    pub(super) bits: u8,
    pub(super) levels: u8,
    pub(super) layers: u16,
    pub(super) code_block: [u8; 2],
    /// Bytes of each tile-part behind its header: packets that are empty.
    pub(super) packets: usize,
    /// Length that the tile-part claims; the true one where none is given.
    pub(super) claimed: Option<u32>,
}

impl Jpeg2000 {
    /// One tile, whose packets hold nothing: an image of one grey level.
    pub(super) fn flat([rows, columns]: [u32; 2], bits: u8) -> Self {
        Self {
            size: [rows, columns],
            tile: [rows, columns],
            components: 1,
            bits,
            levels: 5,
            layers: 1,
            code_block: [4, 4],
            packets: 6,
            claimed: None,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let [rows, columns] = self.size;
        let [tile_rows, tile_columns] = self.tile;
        let mut size = vec![0, 0];
        for number in [columns, rows, 0, 0, tile_columns, tile_rows, 0, 0] {
            size.extend(number.to_be_bytes());
        }
        size.extend(self.components.to_be_bytes());
        (0..self.components).for_each(|_| size.extend([self.bits - 1, 1, 1]));
        let [low, high] = self.layers.to_be_bytes();
        let [width, height] = self.code_block;
        let coding = [0, 0, low, high, 0, self.levels, width, height, 0, 1];
        let mut quantisation = vec![0x40];
        quantisation.resize(2 + 3 * usize::from(self.levels), (self.bits + 1) << 3);
        let mut bytes = [
            vec![0xff, 0x4f],
            segment(0x51, &size),
            segment(0x52, &coding),
            segment(0x5c, &quantisation),
        ]
        .concat();
        let across = columns.div_ceil(tile_columns.max(1));
        let tiles = u64::from(across) * u64::from(rows.div_ceil(tile_rows.max(1)));
        for tile in 0..tiles.min(2_000) {
            let length = self.claimed.unwrap_or(14 + self.packets as u32).to_be_bytes();
            let number = (tile as u16).to_be_bytes();
            bytes.extend([0xff, 0x90, 0, 10, number[0], number[1]]);
            bytes.extend(length);
            bytes.extend([0, 1, 0xff, 0x93]);
            bytes.extend(vec![0; self.packets]);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }
}

/// Codestreams for a file of six rows of eight pixels: name, transfer syntax, bits stored, frame.
pub(super) fn all() -> Vec<(String, &'static str, u16, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, frame) in spoiled(&flat_jpeg([6, 8])) {
        all.push((format!("frame-jpeg-{name}"), JPEG, 8, frame));
    }
    all.push(("frame-jpeg-other-size".into(), JPEG, 8, flat_jpeg([64, 64])));
    all.push((
        "frame-jpeg-huge".into(),
        JPEG,
        8,
        flat_jpeg([6, 8]).replaced(&[0, 6, 0, 8], &[0xff; 4]),
    ));
    all.push(("frame-jpeg-scans".into(), JPEG, 8, progressive_jpeg([6, 8], 5_000)));
    let lossless = [
        vec![0xff, 0xd8],
        frame_header(0xc3, 16, [6, 8], &[0x11]),
        plain_tables(),
        scan_header(&[1], [1, 0, 0]),
        vec![0; 8],
        vec![0xff, 0xd9],
    ]
    .concat();
    for (name, frame) in spoiled(&lossless) {
        all.push((format!("frame-lossless-{name}"), JPEG_LOSSLESS, 16, frame));
    }
    for (name, frame) in spoiled(&flat_jpeg_ls([6, 8], 12)) {
        all.push((format!("frame-ls-{name}"), JPEG_LS, 12, frame));
    }
    all.push((
        "frame-ls-huge".into(),
        JPEG_LS,
        12,
        flat_jpeg_ls([6, 8], 12).replaced(&[0, 6, 0, 8], &[0xff; 4]),
    ));
    let plain = Jpeg2000::flat([6, 8], 12);
    for (name, frame) in spoiled(&plain.bytes()) {
        all.push((format!("frame-2000-{name}"), JPEG_2000, 12, frame));
    }
    for (name, stream) in [
        ("size-huge", Jpeg2000 { size: [u32::MAX; 2], ..plain.clone() }),
        ("tile-none", Jpeg2000 { tile: [0, 0], ..plain.clone() }),
        ("tile-pixels", Jpeg2000 { tile: [1, 1], ..plain.clone() }),
        ("components-many", Jpeg2000 { components: 16_384, ..plain.clone() }),
        ("levels-many", Jpeg2000 { levels: 200, ..plain.clone() }),
        ("levels-32", Jpeg2000 { levels: 32, packets: 33, ..plain.clone() }),
        ("layers-many", Jpeg2000 { layers: 65_535, packets: 200_000, ..plain.clone() }),
        ("code-block-huge", Jpeg2000 { code_block: [8, 8], ..plain.clone() }),
        ("bits-38", Jpeg2000 { bits: 38, ..plain.clone() }),
        ("part-short", Jpeg2000 { claimed: Some(3), ..plain.clone() }),
        ("part-long", Jpeg2000 { claimed: Some(u32::MAX), ..plain.clone() }),
        ("part-open", Jpeg2000 { claimed: Some(0), ..plain }),
    ] {
        all.push((format!("frame-2000-{name}"), JPEG_2000, 12, stream.bytes()));
    }
    let open = Jpeg2000 { claimed: Some(0), ..Jpeg2000::flat([6, 8], 12) }.bytes();
    all.push((
        "frame-2000-part-open-no-end".into(),
        JPEG_2000,
        12,
        open[..open.len() - 2].to_vec(),
    ));
    all
}

/// A codestream cut, without its tables, with other numbers in its headers, and said twice.
fn spoiled(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let start = whole[..2].to_vec();
    vec![
        ("start", start),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("no-end", whole[..whole.len() - 2].to_vec()),
        ("no-start", whole[2..].to_vec()),
        ("twice", whole.repeat(2)),
        ("ones", [&whole[..2], &vec![0xff; 2000]].concat()),
        ("zeros", [&whole[..2], &vec![0; 2000]].concat()),
        (
            "header-repeated",
            [&whole[..2], &whole[2..whole.len() / 2].repeat(50), &whole[2..]].concat(),
        ),
    ]
}

/// Bytes in the place of others.
pub(super) trait Replaced {
    fn replaced(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl Replaced for Vec<u8> {
    fn replaced(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self.windows(from.len()).position(|bytes| bytes == from).unwrap();
        [&self[..at], to, &self[at + from.len()..]].concat()
    }
}
