//! Products of all rows of one set with all rows of another.

use super::{Refusal, unless_stopped};
use nalgebra::{DMatrix, DMatrixView, Dyn};
use rayon::prelude::*;

/// Rows that are multiplied at once: enough for the product to run at the machine's speed, few enough for a
/// signal to be answered within a second.
const BLOCK: usize = 64;

/// Calls `each` with the index of a row of `queries` and its inner product with every row of `references`, in
/// single precision; gives what it returns, in order. Rows have `width` numbers.
///
/// Only a block of products exists at a time, whatever the number of rows. Each product is off by at most
/// [`error`] of the rows' lengths: whoever needs to know more asks again, in f64, about the pairs that are close.
/// Refuses where a signal came first.
pub(super) fn map_rows<T: Send>(
    queries: &[f32],
    references: &[f32],
    width: usize,
    each: impl Fn(usize, &[f32]) -> T + Sync,
) -> Result<Vec<T>, Refusal> {
    let num_references = references.len() / width;
    if num_references == 0 {
        return Ok((0..queries.len() / width).map(|query| each(query, &[])).collect());
    }
    // Rows of the references as rows of a matrix, of the queries as columns: neither is moved.
    let references: DMatrixView<f32, Dyn, Dyn> =
        DMatrixView::from_slice_with_strides(references, num_references, width, width, 1);
    let blocks: Vec<Vec<T>> = queries
        .par_chunks(BLOCK * width)
        .enumerate()
        .map(|(block, queries)| {
            unless_stopped()?;
            let queries = DMatrixView::from_slice(queries, width, queries.len() / width);
            let products: DMatrix<f32> = references * queries; // [references, queries], column by column
            let rows = products.as_slice().chunks_exact(num_references).enumerate();
            Ok(rows.map(|(row, products)| each(block * BLOCK + row, products)).collect())
        })
        .collect::<Result<_, _>>()?;
    Ok(blocks.into_iter().flatten().collect())
}

/// The most that a product of two rows of length 1 and `width` numbers is off by, each number of the rows having
/// been rounded to single precision once: Higham (2002), section 3.1, in whatever order the sum is taken.
pub(super) fn error(width: usize) -> f64 {
    (width as f64 + 3.0) * f64::from(f32::EPSILON) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::features::dot;
    use super::*;
    use crate::metric::golden;

    #[test]
    fn products_are_as_near_as_they_promise() {
        // More than a block, and no multiple of it.
        let (queries, references) =
            (golden::features(1, 150, 37, 0.5), golden::features(2, 41, 37, 0.1));
        let length = |row: &[f32]| dot(row, row).sqrt();
        let rows =
            map_rows(&queries, &references, 37, |row, products| (row, products.to_vec())).unwrap();
        assert_eq!(rows.len(), 150);
        for (at, (row, products)) in rows.iter().enumerate() {
            assert_eq!((at, products.len()), (*row, 41));
            let query = &queries[at * 37..][..37];
            for (reference, &product) in references.chunks(37).zip(products) {
                let off = (f64::from(product) - dot(query, reference)).abs();
                assert!(off <= error(37) * length(query) * length(reference), "{off}");
            }
        }
    }

    #[test]
    fn nothing_has_no_products() {
        let count = |queries: &[f32], references: &[f32]| {
            map_rows(queries, references, 2, |_, products| products.len()).unwrap()
        };
        assert_eq!(count(&[], &[1.0, 2.0]), [0; 0]);
        assert_eq!(count(&[1.0, 2.0, 3.0, 4.0], &[]), [0, 0]);
        assert_eq!(count(&[1.0, 2.0], &[1.0, 2.0]), [1]);
    }
}
