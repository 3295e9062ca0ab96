//! Distances among many rows: nearly all of them are only compared, for which single precision will do.

use super::features::distance;
use super::{Features, Refusal, products};

/// Features for distances among many: nearly all of them are only compared, for which single precision will do.
pub(super) struct Points<'a> {
    features: Features<'a>,
    /// Seen from the centre, where rounding costs least.
    centered: Vec<f32>,
    pub(super) lengths: Vec<f64>,
}

impl<'a> Points<'a> {
    pub(super) fn new(features: Features<'a>, center: &[f64]) -> Self {
        let centered: Vec<f32> = features
            .rows()
            .flat_map(|row| {
                row.iter().zip(center).map(|(&x, center)| (f64::from(x) - center) as f32)
            })
            .collect();
        let length = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let lengths = centered.chunks_exact(features.width()).map(length).collect();
        Self { features, centered, lengths }
    }

    pub(super) fn map_distances<T: Send>(
        &self,
        others: &Points,
        each: impl Fn(usize, &Distances) -> T + Sync,
    ) -> Result<Vec<T>, Refusal> {
        let width = self.features.width();
        products::map_rows(&self.centered, &others.centered, width, |index, products| {
            each(index, &Distances { from: (self, index), to: others, products })
        })
    }

    /// Each row's nearest row of `others` and the distance to it, of equals the first; without the row of its own number
    /// where `is_same`, both being one set. `others` has one at least, or two.
    pub(super) fn nearest(
        &self,
        others: &Points,
        is_same: bool,
    ) -> Result<Vec<(usize, f64)>, Refusal> {
        self.map_distances(others, |index, distances| {
            let candidates =
                || (0..others.lengths.len()).filter(move |&other| !is_same || other != index);
            let most = candidates().map(|it| distances.square(it)[1]).fold(f64::INFINITY, f64::min);
            let mut best = (usize::MAX, f64::INFINITY);
            for other in candidates().filter(|&it| distances.square(it)[0] <= most) {
                let distance = distances.exact(other);
                if distance < best.1 || best.0 == usize::MAX {
                    best = (other, distance);
                }
            }
            best
        })
    }

    /// Each row's distance to its k-th nearest other row.
    pub(super) fn radii(&self, k: usize) -> Result<Vec<f64>, Refusal> {
        self.map_distances(self, |_, distances| {
            let mut most: Vec<f64> =
                (0..self.lengths.len()).map(|other| distances.square(other)[1]).collect();
            // The row itself is at distance 0, in front of its neighbours.
            let kth = *most.select_nth_unstable_by(k, f64::total_cmp).1;
            let mut nearest: Vec<f64> = (0..self.lengths.len())
                .filter(|&other| distances.square(other)[0] <= kth)
                .map(|other| distances.exact(other))
                .collect();
            *nearest.select_nth_unstable_by(k, f64::total_cmp).1
        })
    }
}

/// The distances of one point to all of a set.
pub(super) struct Distances<'a> {
    from: (&'a Points<'a>, usize),
    to: &'a Points<'a>,
    products: &'a [f32],
}

impl Distances<'_> {
    /// The square of the distance: at least, at most.
    fn square(&self, other: usize) -> [f64; 2] {
        let (from, to) = (self.from.0.lengths[self.from.1], self.to.lengths[other]);
        let square = from * from + to * to - 2.0 * f64::from(self.products[other]);
        if !square.is_finite() {
            return [f64::NEG_INFINITY, f64::INFINITY];
        }
        // Twice the product's error, and twice what rounding the points themselves can add.
        let off = 2.0 * products::error(self.to.features.width()) * from * to
            + 2.0 * f64::from(f32::EPSILON) * (from + to).powi(2);
        [square - off, square + off]
    }

    fn exact(&self, other: usize) -> f64 {
        distance(self.from.0.features.row(self.from.1), self.to.features.row(other))
    }

    /// Whether the distance is below `radius`; asked again in f64 where single precision does not tell.
    pub(super) fn is_below(&self, other: usize, radius: f64) -> bool {
        let [least, most] = self.square(other);
        let square = radius * radius;
        most < square || least <= square && self.exact(other) < radius
    }
}
