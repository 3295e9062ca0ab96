//! Where a patch is, as sines and cosines.

/// Positions of `side` × `side` patches, row by row, [side², `width`]: sines and cosines of the column, then of the
/// row, at `width` / 4 frequencies from 1 down to about 1 / 10000. diffusers' `get_2d_sincos_pos_embed`, which counts
/// as if the whole table were `base` patches wide.
pub(super) fn table(side: usize, base: usize, width: usize) -> Vec<f32> {
    let count = width / 4;
    let frequencies: Vec<f64> =
        (0..count).map(|at| 10_000f64.powf(-(at as f64) / count as f64)).collect();
    // In f32 there, too.
    let step = (side as f64 / base as f64) as f32;
    let waves: Vec<Vec<f32>> = (0..side)
        .map(|at| {
            let position = f64::from(at as f32 / step);
            let angles = frequencies.iter().map(|frequency| position * frequency);
            angles
                .clone()
                .map(f64::sin)
                .chain(angles.map(f64::cos))
                .map(|wave| wave as f32)
                .collect()
        })
        .collect();
    let mut table = Vec::with_capacity(side * side * width);
    for row in &waves {
        for column in &waves {
            table.extend(column);
            table.extend(row);
        }
    }
    table
}
