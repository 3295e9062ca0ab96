//! Whether generated images are nearer to the training images than real ones would be.

use super::features::distance;
use super::points::Points;
use super::{Features, Refusal, at_least, unless_stopped};
use crate::random::Stream;
use rayon::prelude::*;

/// Rounds of Lloyd's algorithm at most; it has settled long before.
const ROUNDS: usize = 100;

/// For each generated image whether it is authentic: further from its nearest training image than that one is from its
/// own nearest training image (Alaa et al. 2022, section 3.2). Copies, and images between a training image and its
/// nearest, are not.
///
/// Euclidean distances. Refuses fewer than two training images, and no generated one.
pub fn is_authentic(train: Features, generated: Features) -> Result<Vec<bool>, Refusal> {
    assert_eq!(train.width(), generated.width(), "features of different widths");
    at_least(2, train.len())?;
    at_least(1, generated.len())?;
    train.finite()?;
    generated.finite()?;
    let center = train.mean();
    let (train, generated) = (Points::new(train, &center), Points::new(generated, &center));
    let of_train = train.nearest(&train, true)?;
    let nearest = generated.nearest(&train, false)?;
    Ok(nearest.into_iter().map(|(at, away)| away > of_train[at].1).collect())
}

/// What [`data_copying`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataCopying {
    /// The mean over cells of how many standard deviations generated images are further from the training images than
    /// held-out ones: far below 0 they are copies, far above 0 they miss what the data is like.
    pub c_t: f64,
    /// Cells that it is a mean over.
    pub cells: usize,
}

/// The statistic C_T of Meehan et al. (2020): in each cell the z-scored Mann-Whitney U of the distances to the nearest
/// training image, generated against held-out; mean over cells, weighed by the held-out images in them.
///
/// `cells` gives the cell of each image of `train`, `held_out` and `generated`, in this order. Cells with no more than
/// `least` of the generated images (a share; in the paper 20 images) are left out, as are those without a held-out or a
/// training image. Refuses where none is left.
pub fn data_copying(
    [train, held_out, generated]: [Features; 3],
    cells: [&[usize]; 3],
    least: f64,
) -> Result<DataCopying, Refusal> {
    let [of_train, of_held_out, of_generated] = cells;
    for (features, cells) in [(train, of_train), (held_out, of_held_out), (generated, of_generated)]
    {
        assert_eq!(features.len(), cells.len(), "a cell for each image");
        at_least(1, features.len())?;
        features.finite()?;
    }
    let num_cells = of_train.iter().max().map_or(0, |cell| cell + 1);
    let (mut sum, mut weight, mut count) = (0.0, 0.0, 0);
    for cell in 0..num_cells {
        unless_stopped()?;
        let of_cell = |features: Features, cells: &[usize]| -> Vec<f32> {
            let rows = features.rows().zip(cells).filter(|(_, it)| **it == cell);
            rows.flat_map(|(row, _)| row.iter().copied()).collect()
        };
        let width = train.width();
        let [train, held_out, generated_here] =
            [(train, of_train), (held_out, of_held_out), (generated, of_generated)]
                .map(|(features, cells)| of_cell(features, cells));
        let [train, held_out_here, generated_here] =
            [&train, &held_out, &generated_here].map(|rows| Features::new(rows, width));
        let is_filled = generated_here.len() as f64 / generated.len() as f64 > least;
        if !is_filled || train.is_empty() || held_out_here.is_empty() {
            continue;
        }
        let center = train.mean();
        let train = Points::new(train, &center);
        let away = |features: Features| -> Result<Vec<f64>, Refusal> {
            let nearest = Points::new(features, &center).nearest(&train, false)?;
            Ok(nearest.into_iter().map(|(_, away)| away).collect())
        };
        let share = held_out_here.len() as f64 / of_held_out.len() as f64;
        sum += share * z_of_ranks(&away(generated_here)?, &away(held_out_here)?);
        weight += share;
        count += 1;
    }
    match count {
        0 => Err(Refusal::NoCell),
        _ => Ok(DataCopying { c_t: sum / weight, cells: count }),
    }
}

/// Mann & Whitney's U of `a` over `b` less its expectation, over its standard deviation, as the reference
/// implementation of C_T corrects it for continuity.
fn z_of_ranks(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|&x| (x, true)).chain(b.iter().map(|&x| (x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut start) = (0.0, 0);
    while start < all.len() {
        let same = all[start..].iter().take_while(|it| it.0 == all[start].0).count();
        // Equal values share the mean of their ranks, which count from 1.
        let rank = start as f64 + (same as f64 + 1.0) / 2.0;
        ranks += rank * all[start..start + same].iter().filter(|it| it.1).count() as f64;
        start += same;
    }
    let (m, n) = (a.len() as f64, b.len() as f64);
    let u = ranks - m * (m + 1.0) / 2.0;
    (u - (n * m / 2.0 - 0.5)) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

/// The centres of `count` cells (at most one for each image), one after the other: Lloyd's algorithm from centres drawn
/// as k-means++ does (Arthur & Vassilvitskii 2007), by `seed`. Refuses where a signal came first.
pub fn k_means(features: Features, count: usize, seed: u64) -> Result<Vec<f32>, Refusal> {
    at_least(1, features.len())?;
    features.finite()?;
    let mut draws = Stream::new(seed, "metric/k_means").at(0);
    let mut centres = features.row(draws.below(features.len() as u64) as usize).to_vec();
    let mut squares = vec![f64::INFINITY; features.len()];
    for cell in 1..count.min(features.len()) {
        unless_stopped()?;
        let last = &centres[(cell - 1) * features.width()..];
        squares.par_iter_mut().enumerate().for_each(|(at, square)| {
            *square = square.min(distance(features.row(at), last).powi(2));
        });
        let mut left = draws.uniform() * squares.iter().sum::<f64>();
        let drawn = squares.iter().position(|square| {
            left -= square;
            left < 0.0
        });
        // Rounding may leave a little; and where all images are equal there is nothing to choose.
        let furthest = (0..squares.len()).max_by(|&a, &b| squares[a].total_cmp(&squares[b]));
        centres.extend(features.row(drawn.or(furthest).unwrap_or(0)));
    }
    settle(features, centres)
}

/// Lloyd's algorithm from `centres`.
fn settle(features: Features, mut centres: Vec<f32>) -> Result<Vec<f32>, Refusal> {
    let width = features.width();
    let mut cells = Vec::new();
    for _ in 0..ROUNDS {
        unless_stopped()?;
        let next = cells_of(features, Features::new(&centres, width))?;
        if next == cells {
            break;
        }
        cells = next;
        let mut sums = vec![0.0; centres.len()];
        let mut counts = vec![0u32; centres.len() / width];
        for (row, &cell) in features.rows().zip(&cells) {
            counts[cell] += 1;
            let sums = &mut sums[cell * width..][..width];
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (at, (centre, sum)) in centres.iter_mut().zip(&sums).enumerate() {
            // An empty cell stays where it is.
            if counts[at / width] > 0 {
                *centre = (sum / f64::from(counts[at / width])) as f32;
            }
        }
    }
    Ok(centres)
}

/// For each image the cell whose centre is nearest; of equals the first.
pub fn cells_of(features: Features, centres: Features) -> Result<Vec<usize>, Refusal> {
    let center = centres.mean();
    let (features, centres) = (Points::new(features, &center), Points::new(centres, &center));
    Ok(features.nearest(&centres, false)?.into_iter().map(|(cell, _)| cell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    const WIDTH: usize = 12;

    /// Some rows are copies, some nearly, some are drawn anew.
    fn sets() -> [Vec<f32>; 3] {
        let train = golden::features(1, 400, WIDTH, 0.1);
        let held_out = golden::features(2, 300, WIDTH, 0.1);
        let mut generated = golden::features(3, 200, WIDTH, 0.3);
        for row in 0..60 {
            let source = &train[row * 5 * WIDTH..][..WIDTH];
            let target = &mut generated[row * WIDTH..][..WIDTH];
            target
                .iter_mut()
                .zip(source)
                .for_each(|(to, from)| *to = from + *to * row as f32 / 300.0);
        }
        [train, held_out, generated]
    }

    /// Reference: the definition in numpy.
    #[test]
    fn authenticity_matches_the_reference() {
        let sets = sets();
        let [train, held_out, generated] = sets.each_ref().map(|rows| Features::new(rows, WIDTH));
        for (features, pointer) in
            [(generated, "/authenticity/generated"), (held_out, "/authenticity/held_out")]
        {
            let found = is_authentic(train, features).unwrap();
            let share = found.iter().filter(|&&it| it).count() as f64 / found.len() as f64;
            golden::assert_close(share, pointer);
        }
        // A training image is its own copy.
        assert_eq!(is_authentic(train, train.first(9)), Ok(vec![false; 9]));
    }

    /// Reference: the formula of the authors' data_copying_tests.py with scipy's mannwhitneyu and scikit-learn's
    /// neighbours; the first rows of the training set are the cells' centres.
    #[test]
    fn data_copying_matches_the_reference() {
        let sets = sets();
        let sets = sets.each_ref().map(|rows| Features::new(rows, WIDTH));
        let [train, held_out, generated] = sets;
        for (count, pointer) in [(1, "/data_copying/1"), (4, "/data_copying/4")] {
            let cells = sets.map(|set| cells_of(set, train.first(count)).unwrap());
            let cells = cells.each_ref().map(Vec::as_slice);
            let found = data_copying([train, held_out, generated], cells, 0.1).unwrap();
            golden::assert_close(found.c_t, pointer);
        }
        // Copies are told, and so is what is far from everything.
        let whole = [&[0; 400][..], &[0; 300], &[0; 200]];
        let of = |generated: Features| {
            data_copying([train, held_out, generated], whole, 0.0).unwrap().c_t
        };
        assert!(of(train.first(200)) < -10.0);
        let far = golden::features(4, 200, WIDTH, 5.0);
        assert!(of(Features::new(&far, WIDTH)) > 10.0);
        let alike = golden::features(5, 200, WIDTH, 0.1);
        assert!(of(Features::new(&alike, WIDTH)).abs() < 4.0);
    }

    /// Reference: scikit-learn's KMeans from the same centres.
    #[test]
    fn cells_settle_where_the_references_do() {
        let [train, ..] = sets();
        let train = Features::new(&train, WIDTH);
        let centres = settle(train, train.first(4).rows().flatten().copied().collect()).unwrap();
        let centres = Features::new(&centres, WIDTH);
        let cells = cells_of(train, centres).unwrap();
        let inertia: f64 = train
            .rows()
            .zip(&cells)
            .map(|(row, &cell)| distance(row, centres.row(cell)).powi(2))
            .sum();
        let expected = golden::value("/k_means");
        // Centres are kept in single precision.
        assert!((inertia / expected - 1.0).abs() < 1e-6, "{inertia}, {expected}");
    }

    #[test]
    fn a_seed_decides_the_cells() {
        let [train, ..] = sets();
        let train = Features::new(&train, WIDTH);
        assert_eq!(k_means(train, 5, 1), k_means(train, 5, 1));
        assert_ne!(k_means(train, 5, 1), k_means(train, 5, 2));
        let equal = [1.0; 30];
        assert_eq!(k_means(Features::new(&equal, 3), 4, 1).unwrap(), [1.0; 12]);
        assert_eq!(k_means(Features::new(&equal[..6], 3), 4, 1).unwrap().len(), 6);
    }

    #[test]
    fn ranks_are_those_of_mann_and_whitney() {
        // U of [1, 2, 2] over [2, 3] is 0 + 0 + 0.5 + 0.5 = 1 of 6.
        let expected = (1.0 - 2.5) / (6.0f64 * 6.0 / 12.0).sqrt();
        assert!((z_of_ranks(&[2.0, 1.0, 2.0], &[3.0, 2.0]) - expected).abs() < 1e-12);
    }

    #[test]
    fn empty_cells_are_refused() {
        let sets = sets();
        let sets = sets.each_ref().map(|rows| Features::new(rows, WIDTH));
        // What is generated lies in a cell without held-out images.
        let cells = [[0, 1].repeat(200), vec![0; 300], vec![1; 200]];
        let refused = data_copying(sets, cells.each_ref().map(Vec::as_slice), 0.0);
        assert_eq!(refused, Err(Refusal::NoCell));
    }
}
