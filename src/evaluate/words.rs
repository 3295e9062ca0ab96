//! Numbers as a reader likes them.

use super::Taken;
use crate::data::catalog::Split;

/// Three significant digits, more only before the point: `0.240`, `27.1`, `5000`, `4.12e-5`.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.1.. => format!("{value:.3}"),
        0.01.. => format!("{value:.4}"),
        0.001.. => format!("{value:.5}"),
        _ => format!("{value:.2e}"),
    }
}

/// A share in [0, 1] as `21 %`; one decimal below 10 % and just below 100 %.
pub(super) fn percent(share: f64) -> String {
    let hundredths = share * 100.0;
    let is_fine = hundredths != 0.0 && hundredths < 9.95 || hundredths > 99.0 && hundredths < 100.0;
    let digits = if is_fine { format!("{hundredths:.1}") } else { format!("{hundredths:.0}") };
    format!("{digits}\u{a0}%")
}

/// A count with thin spaces between its thousands.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A count that is a figure: it may be missing.
pub(super) fn whole(value: f64) -> String {
    count(value as u64)
}

/// `all 128 validation images` or `1 000 of 1 024 training images`.
pub(super) fn of(taken: Taken, what: &str) -> String {
    let Taken { used, available } = taken;
    match used == available {
        true => format!("all {} {what}", count(used)),
        false => format!("{} of {} {what}", count(used), count(available)),
    }
}

/// What the real images of `split` are called.
pub(super) fn real_images(split: Split) -> &'static str {
    match split {
        Split::Train => "training images",
        Split::Valid => "validation images",
        Split::Test => "test images",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let numbers = [0.0, 0.24, 27.1, 1.10, 5000.4, 0.01, 4.123e-5, -0.2504, 100.0, 0.9991];
        let expected =
            ["0", "0.240", "27.1", "1.10", "5000", "0.0100", "4.12e-5", "-0.250", "100", "0.999"];
        assert_eq!(numbers.map(number), expected);
        let shares = [0.0, 0.0078125, 0.21, 1.0, 0.996].map(percent);
        assert_eq!(
            shares,
            ["0", "0.8", "21", "100", "99.6"].map(|digits| format!("{digits}\u{a0}%"))
        );
        assert_eq!(
            [7, 1000, 64_000_000].map(count),
            ["7", "1\u{202f}000", "64\u{202f}000\u{202f}000"]
        );
    }
}
