//! Products of all rows of one set with all rows of another.

use super::{Refusal, unless_stopped};
use nalgebra::{DMatrix, DMatrixView};
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
    // Rows as columns: nothing moves. Views with gaps would spare the transposition of the products below, but in
    // nalgebra 0.35 a product with one of five rows or fewer leaves its memory.
    let references = DMatrixView::from_slice(references, width, num_references);
    let blocks: Vec<Vec<T>> = queries
        .par_chunks(BLOCK * width)
        .enumerate()
        .map(|(block, queries)| {
            unless_stopped()?;
            let queries = DMatrixView::from_slice(queries, width, queries.len() / width);
            let products: DMatrix<f32> = queries.transpose() * references; // [queries, references]
            let products = products.transpose(); // column by column: one query's after the other's
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
        // More than a block, and no multiple of it; then so few, or so narrow, that nalgebra goes another way.
        for (queries, references, width) in [(150, 41, 37), (3, 41, 37), (150, 4, 37), (150, 41, 2)]
        {
            are_near(queries, references, width);
        }
    }

    fn are_near(num_queries: usize, num_references: usize, width: usize) {
        let queries = golden::features(1, num_queries, width, 0.5);
        let references = golden::features(2, num_references, width, 0.1);
        let length = |row: &[f32]| dot(row, row).sqrt();
        let rows = map_rows(&queries, &references, width, |row, it| (row, it.to_vec())).unwrap();
        assert_eq!(rows.len(), num_queries);
        for (at, (row, products)) in rows.iter().enumerate() {
            assert_eq!((at, products.len()), (*row, num_references));
            let query = &queries[at * width..][..width];
            for (reference, &product) in references.chunks(width).zip(products) {
                let off = (f64::from(product) - dot(query, reference)).abs();
                assert!(off <= error(width) * length(query) * length(reference), "{off}");
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
