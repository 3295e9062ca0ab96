//! Matrix products over slices.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};

/// A matrix inside a slice: element (r, c) lies at r · `row_step` + c · `column_step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` of `columns` values each, one after the other.
    pub(super) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_step: columns, column_step: 1 }
    }

    /// Rows become columns; nothing moves.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    fn reach(&self) -> usize {
        reach(self.rows, self.row_step, self.columns, self.column_step)
    }
}

/// Adds the product of `left` and `right` to `out`, whose rows start `row_step` apart; on all threads if
/// `is_alone`. The order of the sums does not depend on that.
#[expect(unsafe_code, reason = "the product itself takes pointers; every access is checked before")]
pub(super) fn add_product(
    out: &mut [f32],
    row_step: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    is_alone: bool,
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "the product's inner sizes differ");
    assert!(left.reach() <= left.values.len(), "the left matrix leaves its slice");
    assert!(right.reach() <= right.values.len(), "the right matrix leaves its slice");
    assert!(reach(m, row_step, n, 1) <= out.len(), "the product leaves its slice");
    assert!(m <= 1 || row_step >= n, "the product's rows overlap");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let parallelism = if is_alone { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: `gemm` reads m·k and k·n elements at the given steps and writes m·n. The three assertions
    // on reach put the farthest of each inside its slice; `out` is borrowed mutably, so it
    // overlaps neither of the others, and its rows do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row_step as isize,
            true,
            left.values.as_ptr(),
            left.column_step as isize,
            left.row_step as isize,
            right.values.as_ptr(),
            right.column_step as isize,
            right.row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// One past the last element of a matrix; 0 for an empty one.
fn reach(rows: usize, row_step: usize, columns: usize, column_step: usize) -> usize {
    match (rows, columns) {
        (0, _) | (_, 0) => 0,
        _ => (rows - 1) * row_step + (columns - 1) * column_step + 1,
    }
}

/// The sum, in sixteen interleaved parts.
pub(super) fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [0.0f32; 16];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Flex> {
    debug_assert_eq!(DType::F32.size(), 4);
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_added_into_a_wider_matrix() {
        let left = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let right = [1.0, 0.0, -1.0, 2.0, 1.0, 1.0];
        let mut out = [10.0; 8];
        let left = Matrix::dense(&left, 2, 3);
        let right = Matrix::dense(&right, 3, 2);
        add_product(&mut out, 4, left, right, false);
        assert_eq!(out, [12.0, 17.0, 10.0, 10.0, 15.0, 26.0, 10.0, 10.0]);
        let mut out = [0.0; 9];
        add_product(&mut out, 3, right, left, true);
        let mut transposed = [0.0; 9];
        add_product(&mut transposed, 3, left.transposed(), right.transposed(), false);
        for row in 0..3 {
            for column in 0..3 {
                assert_eq!(out[3 * row + column], transposed[3 * column + row]);
            }
        }
    }
}
