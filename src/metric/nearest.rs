//! The most similar image.

use super::{Refusal, pearson, products};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// The reference image most like a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Its index among the references.
    pub index: usize,
    /// Pearson's correlation with it, in [-1, 1]; 1 is a copy up to brightness and contrast.
    pub pearson: f64,
}

/// A square image and the part of it that is not padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Padded {
    /// `side · side` values.
    pub pixels: Vec<f32>,
    /// What is image.
    pub content: Area,
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Area {
    /// First column, and one past the last.
    pub columns: [usize; 2],
    /// First row, and one past the last.
    pub rows: [usize; 2],
}

/// For each query the reference image with the greatest Pearson correlation over the pixels that neither of the two
/// pads: the shape of the padding must not tell. None where there is no such reference.
///
/// Squares of `side` pixels, usually 64. Two images that share less than half of the larger content are not compared:
/// over a strip of either much correlates. Nor are two of which one is constant where both have content. A first look
/// at memorisation: generated images should be no nearer to the training images than held-out real ones are.
pub fn nearest_by_pearson(
    queries: &[Padded],
    references: &[Padded],
    side: usize,
) -> Result<Vec<Option<Nearest>>, Refusal> {
    let [query_areas, reference_areas] = [queries, references].map(areas);
    let query_side = Standard::new(queries, &reference_areas, side);
    let reference_side = Standard::new(references, &query_areas, side);
    let place = |areas: &[Area], image: &Padded| {
        areas.binary_search(&image.content).expect("the areas are those of the images")
    };
    let places: Vec<usize> = references.iter().map(|it| place(&reference_areas, it)).collect();
    // The product's error, and as much again for the rounding of sums and squares.
    let off = 2.0 * products::error(side * side);
    products::map_rows(
        &query_side.pixels,
        &reference_side.pixels,
        side * side,
        |index, products| {
            let query = &queries[index];
            let query_place = place(&query_areas, query);
            // What the correlation is at least and at most; None where the two are not compared.
            let bounds = |other: usize| {
                let num_pixels = query.content.shared(references[other].content)? as f64;
                let a = query_side.over[index][places[other]];
                let b = reference_side.over[other][query_place];
                let (a_spread, b_spread) = (a.spread(num_pixels), b.spread(num_pixels));
                if a_spread.min(b_spread) < LEAST_SPREAD {
                    return Some([-1.0, 1.0]);
                }
                let covariance = f64::from(products[other]) - a.sum * b.sum / num_pixels;
                let scale = (a_spread * b_spread).sqrt();
                Some([(covariance - off) / scale, (covariance + off) / scale])
            };
            let bounds: Vec<Option<[f64; 2]>> = (0..references.len()).map(bounds).collect();
            let least = bounds.iter().flatten().map(|it| it[0]).fold(-1.0, f64::max);
            let mut best: Option<Nearest> = None;
            for (other, bounds) in bounds.iter().enumerate() {
                if bounds.is_none_or(|[_, most]| most < least) {
                    continue;
                }
                // Asked again in f64: who it is does not depend on how a machine rounds its sums.
                let found = query.pearson(&references[other], side);
                if let Some(pearson) = found
                    && best.is_none_or(|best| pearson > best.pearson)
                {
                    best = Some(Nearest { index: other, pearson });
                }
            }
            best
        },
    )
}

/// Below this standard deviation an image of range 1 is constant: an eighth of a step of 12 bits.
const LEAST_CONTRAST: f64 = 3e-5;

/// The part of an image's sum of squares below which single precision does not tell whether there is any.
const LEAST_SPREAD: f64 = 1e-6;

impl Area {
    /// Pixels in it.
    pub fn num_pixels(self) -> usize {
        let [columns, rows] = [self.columns, self.rows].map(|[from, to]| to.saturating_sub(from));
        columns * rows
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        let both = |a: [usize; 2], b: [usize; 2]| [a[0].max(b[0]), a[1].min(b[1])];
        Self { columns: both(self.columns, other.columns), rows: both(self.rows, other.rows) }
    }

    /// Pixels in both, if they are enough to compare by.
    fn shared(self, other: Self) -> Option<usize> {
        let shared = self.intersection(other).num_pixels();
        let largest = self.num_pixels().max(other.num_pixels());
        (shared > 0 && 2 * shared >= largest).then_some(shared)
    }
}

impl Padded {
    /// Pearson's correlation over what both show; None where one of them is constant there.
    fn pearson(&self, other: &Self, side: usize) -> Option<f64> {
        let Area { columns: [left, right], rows: [top, bottom] } =
            self.content.intersection(other.content);
        let cut = |image: &Self| -> Vec<f32> {
            let row = |row: usize| &image.pixels[row * side + left..row * side + right];
            (top..bottom).flat_map(row).copied().collect()
        };
        pearson(&cut(self), &cut(other), &[])
    }
}

/// The contents that there are, each once, in order.
fn areas(images: &[Padded]) -> Vec<Area> {
    let areas: BTreeSet<Area> = images.iter().map(|image| image.content).collect();
    areas.into_iter().collect()
}

/// Images with mean 0 and length 1 over their content, and 0 where they are padded or constant.
struct Standard {
    /// One after the other. f32, to hold many.
    pixels: Vec<f32>,
    /// For each image, its sums over what it shares with each of the other side's areas.
    over: Vec<Vec<Sums>>,
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    sum: f64,
    squares: f64,
}

impl Sums {
    /// The sum of squares around the mean.
    fn spread(self, num_pixels: f64) -> f64 {
        self.squares - self.sum * self.sum / num_pixels
    }
}

impl Standard {
    fn new(images: &[Padded], others: &[Area], side: usize) -> Self {
        let mut pixels = vec![0.0; images.len() * side * side];
        let over = pixels
            .par_chunks_exact_mut(side * side)
            .zip(images)
            .map(|(to, image)| {
                standardise(image, side, to);
                let sums = Integral::new(to, side);
                others.iter().map(|area| sums.over(image.content.intersection(*area))).collect()
            })
            .collect();
        Self { pixels, over }
    }
}

fn standardise(image: &Padded, side: usize, to: &mut [f32]) {
    assert_eq!(image.pixels.len(), side * side, "an image of other than side · side pixels");
    let Area { columns: [left, right], rows: [top, bottom] } = image.content;
    let num_pixels = image.content.num_pixels() as f64;
    let rows = || (top..bottom).map(|row| row * side + left..row * side + right);
    let values = || rows().flat_map(|row| &image.pixels[row]).map(|&pixel| f64::from(pixel));
    let mean = values().sum::<f64>() / num_pixels;
    let square: f64 = values().map(|pixel| (pixel - mean).powi(2)).sum();
    if square > num_pixels * LEAST_CONTRAST.powi(2) {
        for place in rows().flatten() {
            to[place] = ((f64::from(image.pixels[place]) - mean) / square.sqrt()) as f32;
        }
    }
}

/// Sums over all rectangles that begin at the first pixel, of values and of their squares: Crow (1984).
struct Integral {
    sums: Vec<Sums>,
    stride: usize,
}

impl Integral {
    fn new(pixels: &[f32], side: usize) -> Self {
        let stride = side + 1;
        let mut sums = vec![Sums { sum: 0.0, squares: 0.0 }; stride * stride];
        for (row, pixels) in pixels.chunks_exact(side).enumerate() {
            let (mut sum, mut squares) = (0.0, 0.0);
            for (column, &pixel) in pixels.iter().enumerate() {
                sum += f64::from(pixel);
                squares += f64::from(pixel).powi(2);
                let above = sums[row * stride + column + 1];
                sums[(row + 1) * stride + column + 1] =
                    Sums { sum: above.sum + sum, squares: above.squares + squares };
            }
        }
        Self { sums, stride }
    }

    fn over(&self, Area { columns: [left, right], rows: [top, bottom] }: Area) -> Sums {
        if left >= right || top >= bottom {
            return Sums { sum: 0.0, squares: 0.0 };
        }
        let at = |row: usize, column: usize| self.sums[row * self.stride + column];
        let (all, above, before, both) =
            (at(bottom, right), at(top, right), at(bottom, left), at(top, left));
        let part = |of: fn(Sums) -> f64| of(all) - of(above) - of(before) + of(both);
        Sums { sum: part(|it| it.sum), squares: part(|it| it.squares) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Columns and rows, one past the last.
    fn padded(pixels: Vec<f32>, columns: [usize; 2], rows: [usize; 2]) -> Padded {
        Padded { pixels, content: Area { columns, rows } }
    }

    fn whole(pixels: Vec<f32>, side: usize) -> Padded {
        padded(pixels, [0, side], [0, side])
    }

    #[test]
    fn finds_a_copy_whatever_its_brightness() {
        let references: Vec<_> =
            (0..8).map(|seed| whole(golden::image(32, seed, 0.4), 32)).collect();
        let copy: Vec<f32> = references[5].pixels.iter().map(|pixel| 0.2 + 0.5 * pixel).collect();
        let other = golden::image(32, 99, 0.4);
        let queries = [copy, other.clone(), vec![0.5; 1024]].map(|pixels| whole(pixels, 32));
        let found = nearest_by_pearson(&queries, &references, 32).unwrap();
        let [Some(copy), Some(stranger), None] = found[..] else { panic!("{found:?}") };
        assert!(copy.index == 5 && copy.pearson > 1.0 - 1e-12, "{copy:?}");
        let direct = |index: usize| pearson(&other, &references[index].pixels, &[]).unwrap();
        assert_eq!(stranger.pearson, direct(stranger.index));
        assert!((0..8).all(|index| direct(index) <= stranger.pearson));
    }

    /// Reference: numpy's `corrcoef` over what both show, of all pairs.
    #[test]
    fn padding_does_not_count() {
        let bands = |seed: u64| {
            let narrow = 2 * (seed as usize % 5);
            let pixels = golden::image(32, seed, 0.3);
            match seed % 2 {
                0 => padded(pixels, [narrow, 32 - narrow], [0, 32]),
                _ => padded(pixels, [0, 32], [narrow, 32 - narrow]),
            }
        };
        let queries: Vec<Padded> = (0..9).map(bands).collect();
        let references: Vec<Padded> = (100..160).map(bands).collect();
        let found = nearest_by_pearson(&queries, &references, 32).unwrap();
        for (at, found) in found.iter().enumerate() {
            let found = found.unwrap();
            assert_eq!(found.index as f64, golden::value(&format!("/nearest/{at}/index")));
            golden::assert_close(found.pearson, &format!("/nearest/{at}/pearson"));
        }
    }

    /// Two images that have nothing in common but their bars are not alike.
    #[test]
    fn equal_bars_make_no_likeness() {
        let barred = |seed| {
            let mut pixels = golden::features(seed, 32, 32, 0.0);
            pixels.iter_mut().for_each(|pixel| *pixel = 0.6 + 0.05 * *pixel);
            pixels.chunks_mut(32).for_each(|row| {
                row[..6].fill(0.0);
                row[26..].fill(0.0);
            });
            padded(pixels, [6, 26], [0, 32])
        };
        let (a, b) = (barred(1), barred(2));
        assert!(pearson(&a.pixels, &b.pixels, &[]).unwrap() > 0.9);
        let found = nearest_by_pearson(&[a], &[b], 32).unwrap()[0].unwrap();
        assert!(found.pearson < 0.4, "{found:?}");
    }

    #[test]
    fn a_strip_is_compared_with_its_like_only() {
        let strip = |seed, columns| padded(golden::image(32, seed, 0.3), columns, [0, 32]);
        let lying = padded(golden::image(32, 1, 0.3), [0, 32], [12, 20]);
        let found = nearest_by_pearson(&[strip(1, [12, 20])], &[lying], 32).unwrap();
        assert_eq!(found, [None], "an eighth of each is shared");
        let half = nearest_by_pearson(&[strip(1, [8, 24])], &[strip(2, [0, 32])], 32).unwrap();
        assert!(half[0].is_some(), "half is shared");
        let less = nearest_by_pearson(&[strip(1, [9, 24])], &[strip(2, [0, 32])], 32).unwrap();
        assert_eq!(less, [None]);
        // Nothing at all to be seen.
        let empty = nearest_by_pearson(&[strip(1, [9, 9])], &[strip(2, [0, 32])], 32).unwrap();
        assert_eq!(empty, [None]);
    }

    #[test]
    fn nothing_is_near_when_there_is_nothing() {
        let query = whole(golden::image(16, 1, 0.1), 16);
        assert_eq!(nearest_by_pearson(&[query], &[], 16), Ok(vec![None]));
    }
}
