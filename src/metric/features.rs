//! Rows of embeddings.

use super::Refusal;
use nalgebra::DMatrix;

/// Rows of equal width, one feature vector per image.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Features<'a> {
    /// Reads `values` as rows of `width` (above 0) numbers.
    pub fn new(values: &'a [f32], width: usize) -> Self {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} values are no rows of {width}",
            values.len()
        );
        Self { values, width }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The row at `index`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        self.values.chunks_exact(self.width)
    }

    /// The rows in order, at most `most` at a time.
    pub(super) fn blocks(&self, most: usize) -> impl Iterator<Item = Features<'a>> + use<'a> {
        let width = self.width;
        self.values.chunks(most * width).map(move |values| Features { values, width })
    }

    /// The first `most` rows, or all.
    pub fn first(&self, most: usize) -> Self {
        Self { values: &self.values[..self.values.len().min(most * self.width)], ..*self }
    }

    /// The mean row.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.width];
        for row in self.rows() {
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let num_rows = self.len().max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum /= num_rows);
        mean
    }

    pub(super) fn finite(&self) -> Result<(), Refusal> {
        let is_finite = self.values.iter().all(|value| value.is_finite());
        if is_finite { Ok(()) } else { Err(Refusal::NotFinite) }
    }

    /// The rows less `center`, as a matrix.
    pub(super) fn centered(&self, center: &[f64]) -> DMatrix<f64> {
        DMatrix::from_fn(self.len(), self.width, |row, column| {
            f64::from(self.values[row * self.width + column]) - center[column]
        })
    }

    /// The rows less `center` (if given), each at length 1; a row of length 0 stays as it is.
    pub(super) fn directions(&self, center: Option<&[f64]>) -> Vec<Vec<f64>> {
        self.rows()
            .map(|row| {
                let mut row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
                if let Some(center) = center {
                    row.iter_mut().zip(center).for_each(|(value, center)| *value -= center);
                }
                let length = dot(&row, &row).sqrt();
                if length > 0.0 {
                    row.iter_mut().for_each(|value| *value /= length);
                }
                row
            })
            .collect()
    }
}

/// Eight running sums, so that the compiler may use vector instructions without reordering any sum.
fn sum_of<T: Copy>(a: &[T], b: &[T], term: impl Fn(T, T) -> f64) -> f64 {
    assert_eq!(a.len(), b.len(), "two rows of different widths");
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(&x, &y)| term(x, y)).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

pub(super) fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    sum_of(a, b, |x, y| x.into() * y.into())
}

pub(super) fn distance(a: &[f32], b: &[f32]) -> f64 {
    sum_of(a, b, |x, y| (f64::from(x) - f64::from(y)).powi(2)).sqrt()
}
