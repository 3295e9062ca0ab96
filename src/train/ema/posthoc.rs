//! Averages of lengths that nobody kept, from snapshots of some that were (Karras et al. 2023, appendix C.3).
//!
//! A snapshot weighs the weights of all time before it by a known function, so that a mix of snapshots does, too. The mix
//! whose function comes nearest to that of the wanted average, by least squares, has a closed form.

use super::power::{Profile, exponent};

/// Where an average stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its length, as a share of all training.
    pub sigma_rel: f64,
    /// Images seen by then, above 0.
    pub images: f64,
}

/// How snapshots make an average.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The share of each snapshot; they sum to 1, and some are below 0.
    pub shares: Vec<f64>,
    /// How far the mix's weighting of time is from the wanted one, as a share of that one (root of the integrals of the
    /// squares).
    pub error: f64,
}

impl Place {
    fn profile(&self) -> Profile {
        Profile { gamma: exponent(self.sigma_rel), end: self.images }
    }
}

/// The nearest mix of `snapshots`, of which there is at least one, to `wanted`. One that is wanted itself is taken as it is.
pub fn mix(snapshots: &[Place], wanted: Place) -> Mix {
    if let Some(same) = snapshots.iter().position(|snapshot| *snapshot == wanted) {
        let shares = (0..snapshots.len()).map(|at| f64::from(u8::from(at == same))).collect();
        return Mix { shares, error: 0.0 };
    }
    let profiles: Vec<Profile> = snapshots.iter().map(Place::profile).collect();
    let wanted = wanted.profile();
    let products: Vec<Vec<f64>> =
        profiles.iter().map(|a| profiles.iter().map(|b| a.dot(b)).collect()).collect();
    let towards: Vec<f64> = profiles.iter().map(|profile| profile.dot(&wanted)).collect();
    let mut shares = solve(products.clone(), towards.clone());
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let own: f64 = products.iter().zip(&shares).map(|(row, share)| share * dot(row, &shares)).sum();
    let whole = wanted.dot(&wanted);
    let rest = (own - 2.0 * dot(&towards, &shares) + whole) / whole;
    // What is left below the rounding of its terms is nothing.
    Mix { shares, error: rest.max(0.0).sqrt() }
}

/// Solves `matrix` x = `right` by elimination with row exchanges.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let len = right.len();
    for column in 0..len {
        let size = |row: usize| matrix[row][column].abs();
        let pivot = (column..len).max_by(|&a, &b| size(a).total_cmp(&size(b))).unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (above, below) = matrix.split_at_mut(column + 1);
        let top = &above[column];
        for (at, row) in below.iter_mut().enumerate() {
            let factor = row[column] / top[column];
            for (value, top) in row[column..].iter_mut().zip(&top[column..]) {
                *value -= factor * top;
            }
            right[column + 1 + at] -= factor * right[column];
        }
    }
    for row in (0..len).rev() {
        let known: f64 =
            matrix[row][row + 1..].iter().zip(&right[row + 1..]).map(|(a, x)| a * x).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}
