//! One level of a stationary wavelet transform: the first of Coifman's wavelets (Daubechies 1992), the image repeated.

/// Low or high along columns, then along rows.
pub(super) const NAMES: [&str; 4] = ["wavelet-LL", "wavelet-LH", "wavelet-HL", "wavelet-HH"];

const LOW: [f64; 6] = [
    -0.015655728135791993,
    -0.07273261951252645,
    0.3848648468648578,
    0.8525720202116004,
    0.3378976624574818,
    -0.07273261951252645,
];
const HIGH: [f64; 6] = [
    0.07273261951252645,
    0.3378976624574818,
    -0.8525720202116004,
    0.3848648468648578,
    0.07273261951252645,
    -0.015655728135791993,
];

/// The four subbands of an image of `width` columns, each of its size.
pub(super) fn subbands(values: &[f64], width: usize) -> [Vec<f64>; 4] {
    let height = values.len() / width;
    let [low, high] = [LOW, HIGH].map(|filter| along_rows(values, [width, height], &filter));
    let both = [(&low, LOW), (&low, HIGH), (&high, LOW), (&high, HIGH)];
    both.map(|(rows, filter)| {
        let columns = along_rows(&transposed(rows, [width, height]), [height, width], &filter);
        let values = transposed(&columns, [height, width]);
        // Where nothing varies the sum is 0 but for rounding, which must not decide its level.
        values.into_iter().map(|value| (value * 1e9).round() / 1e9).collect()
    })
}

/// Every row, repeated for ever, through `filter`. A row of odd length is repeated with its first value at its end.
fn along_rows(values: &[f64], [width, height]: [usize; 2], filter: &[f64; 6]) -> Vec<f64> {
    let period = width + width % 2;
    let mut out = Vec::with_capacity(width * height);
    for row in values.chunks_exact(width) {
        out.extend((0..width).map(|at| -> f64 {
            let value = |tap: usize| {
                // From 0 to below the period, then the first again.
                let place = (at + 3 + 5 * period - tap) % period;
                row[if place == width { 0 } else { place }]
            };
            filter.iter().enumerate().map(|(tap, weight)| weight * value(tap)).sum()
        }));
    }
    out
}

fn transposed(values: &[f64], [width, height]: [usize; 2]) -> Vec<f64> {
    (0..width).flat_map(|column| (0..height).map(move |row| values[row * width + column])).collect()
}
