//! Every combination of what a file may say about its grey values, against a formula of its own.

use dicom_dictionary_std::tags;
use umbra::data::file::{Refusal, Window};

use super::builder::{
    BIG_ENDIAN, Builder, DEFLATED, Desk, EXPLICIT, IMPLICIT, RLE, Table, refusal,
};

const ROWS: u16 = 6;
const COLUMNS: u16 = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    None,
    Value,
    Range,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Modality {
    None,
    Linear,
    Table,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Voi {
    None,
    Linear,
    Exact,
    Sigmoid,
    Table,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    is_inverted: bool,
    signed: bool,
    is_shifted: bool,
    padding: Padding,
    modality: Modality,
    voi: Voi,
    bits: u16,
}

#[test]
fn every_combination_follows_the_formula() {
    let desk = Desk::new();
    let cases = cases();
    assert!(cases.len() > 1000);
    for (index, case) in cases.iter().enumerate() {
        let syntax = [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, RLE][index % 5];
        let path = desk.put(&file(case, syntax).bytes());
        for window in [
            Window::Auto,
            Window::MinMax,
            Window::Percentile { low: 10.0, high: 80.0 },
            Window::Raw,
        ] {
            let gray = refusal(&path, &window).unwrap();
            let found: Vec<f64> = gray.pixels.iter().map(|&value| f64::from(value)).collect();
            let expected = expected(case, &window);
            for (found, expected) in found.iter().zip(&expected) {
                // Both in f64, rounded to f32 once.
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{case:?} {syntax} {window:?}: {found} for {expected}"
                );
            }
        }
        let voi = refusal(&path, &Window::Voi);
        match case.voi {
            Voi::None => assert_eq!(voi, Err(Refusal::NoWindow)),
            _ => assert_eq!(voi, refusal(&path, &Window::Auto)),
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in [8, 10, 12, 16] {
        for is_shifted in [false, true].into_iter().filter(|&shifted| !shifted || bits < 16) {
            for signed in [false, true] {
                for is_inverted in [false, true] {
                    for padding in [Padding::None, Padding::Value, Padding::Range] {
                        for modality in [Modality::None, Modality::Linear, Modality::Table] {
                            for voi in
                                [Voi::None, Voi::Linear, Voi::Exact, Voi::Sigmoid, Voi::Table]
                            {
                                cases.push(Case {
                                    is_inverted,
                                    signed,
                                    is_shifted,
                                    padding,
                                    modality,
                                    voi,
                                    bits,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    cases
}

impl Case {
    fn lowest(&self) -> i64 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn highest(&self) -> i64 {
        self.lowest() + (1 << self.bits) - 1
    }

    /// Both ends, the padding, and a spread between.
    fn stored(&self) -> Vec<i64> {
        let range = self.highest() - self.lowest();
        let spread =
            (0..i64::from(ROWS * COLUMNS) - 8).map(|i| self.lowest() + i * 7919 % (range + 1));
        let ends = [
            self.lowest(),
            self.highest(),
            self.lowest() + 3,
            self.lowest() + 4,
            self.lowest() + 5,
        ];
        ends.into_iter().chain([self.lowest(); 3]).chain(spread).collect()
    }

    fn is_padding(&self, stored: i64) -> bool {
        match self.padding {
            Padding::None => false,
            Padding::Value => stored == self.lowest(),
            Padding::Range => (self.lowest()..=self.lowest() + 4).contains(&stored),
        }
    }

    fn modality_table(&self) -> Table {
        let entries = (0..60).map(|i: u16| i * i + 3).collect();
        Table { first: (self.lowest() + 20) as i32, bits: 16, entries }
    }

    fn voi_table(&self) -> Table {
        let entries = (0..100).map(|i: u16| if i == 50 { 1023 } else { i * 37 % 1024 }).collect();
        let first = if self.modality == Modality::Linear { -250 } else { 30 };
        Table { first, bits: 10, entries }
    }
}

fn file(case: &Case, syntax: &'static str) -> Builder {
    let allocated = if case.bits == 8 && !case.is_shifted { 8 } else { 16 };
    let shift = if case.is_shifted { allocated - case.bits } else { 0 };
    // What is not stored is overlay or junk, and must not be seen.
    let mask = (u16::MAX >> (16 - case.bits)) << shift;
    let word = |(index, stored): (usize, i64)| {
        ((stored as u16) << shift) & mask | (index as u16 * 0x9e37) & !mask
    };
    let words: Vec<u16> = case.stored().into_iter().enumerate().map(word).collect();
    let layout = [allocated, case.bits, shift + case.bits - 1];
    let mut file = Builder::grey(syntax, [ROWS, COLUMNS], layout, &words);
    if case.is_inverted {
        file.text(tags::PHOTOMETRIC_INTERPRETATION, dicom_core::VR::CS, "MONOCHROME1");
        file.text(tags::PRESENTATION_LUT_SHAPE, dicom_core::VR::CS, "INVERSE");
    }
    if case.signed {
        file.signed();
    }
    if case.padding != Padding::None {
        file.sample(tags::PIXEL_PADDING_VALUE, case.lowest() as i32, case.signed);
    }
    if case.padding == Padding::Range {
        file.sample(tags::PIXEL_PADDING_RANGE_LIMIT, case.lowest() as i32 + 4, case.signed);
    }
    match case.modality {
        Modality::None => {}
        Modality::Linear => file.rescale(2.0, -300.0),
        Modality::Table => file.table(tags::MODALITY_LUT_SEQUENCE, &case.modality_table()),
    }
    match case.voi {
        Voi::None => {}
        Voi::Linear => file.window(70.0, 120.0, ""),
        Voi::Exact => file.window(70.0, 120.0, "LINEAR_EXACT"),
        Voi::Sigmoid => file.window(70.0, 120.0, "SIGMOID"),
        Voi::Table => file.table(tags::VOILUT_SEQUENCE, &case.voi_table()),
    }
    file
}

/// The ten steps, written down once more, and as slowly as they are in the standard.
fn expected(case: &Case, window: &Window) -> Vec<f64> {
    let stored = case.stored();
    let look_up = |table: &Table, value: f64| {
        let last = table.entries.len() as f64 - 1.0;
        f64::from(table.entries[(value - f64::from(table.first)).max(0.0).min(last) as usize])
    };
    let modality = |stored: i64| match case.modality {
        _ if *window == Window::Raw => stored as f64,
        Modality::None => stored as f64,
        Modality::Linear => 2.0 * stored as f64 - 300.0,
        Modality::Table => look_up(&case.modality_table(), stored as f64),
    };
    let mut kept: Vec<f64> = stored
        .iter()
        .filter(|&&value| !case.is_padding(value))
        .map(|&value| modality(value))
        .collect();
    kept.sort_by(f64::total_cmp);
    let percentile = |percent: f64| {
        let rank = percent / 100.0 * (kept.len() - 1) as f64;
        let (below, above) = (kept[rank.floor() as usize], kept[rank.ceil() as usize]);
        below + (above - below) * (rank - rank.floor())
    };
    let is_display_ready = case.bits == 8 && case.modality == Modality::None;
    let (low, high) = match window {
        Window::Raw => (case.lowest() as f64, case.highest() as f64),
        Window::Auto if is_display_ready => (case.lowest() as f64, case.highest() as f64),
        Window::MinMax => (kept[0], kept[kept.len() - 1]),
        Window::Percentile { low, high } => (percentile(*low), percentile(*high)),
        _ => (percentile(0.5), percentile(99.5)),
    };
    let ramp = |value: f64| {
        if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 }
    };
    let (center, width) = (70.0, 120.0);
    let brightness = |value: f64| match case.voi {
        _ if *window != Window::Auto => ramp(value),
        Voi::None => ramp(value),
        // PS3.3 C.11.2.1.2.1, as its pseudo-code has it.
        Voi::Linear if value <= center - 0.5 - (width - 1.0) / 2.0 => 0.0,
        Voi::Linear if value > center - 0.5 + (width - 1.0) / 2.0 => 1.0,
        Voi::Linear => (value - (center - 0.5)) / (width - 1.0) + 0.5,
        Voi::Exact if value <= center - width / 2.0 => 0.0,
        Voi::Exact if value > center + width / 2.0 => 1.0,
        Voi::Exact => (value - center) / width + 0.5,
        Voi::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        Voi::Table => look_up(&case.voi_table(), value) / 1023.0,
    };
    let shown = |&stored: &i64| match brightness(modality(stored)) {
        _ if case.is_padding(stored) => 0.0,
        value if case.is_inverted => 1.0 - value,
        value => value,
    };
    stored.iter().map(shown).collect()
}
