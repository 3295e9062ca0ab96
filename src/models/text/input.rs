//! What a text encoder is given, checked on the host before any table is read with it.
//!
//! A back end that is handed a number beyond a table panics, or reads what lies behind it.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// A text encoder cannot read what it was given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InputError {
    /// No text, or texts without tokens.
    #[error("{network}: input_ids is {found:?}, expected at least one text of at least one token")]
    Empty {
        /// Which network.
        network: &'static str,
        /// The shape of `input_ids`.
        found: [usize; 2],
    },
    /// More tokens than there are learned positions.
    #[error("{network}: the texts have {found} tokens, at most {most} (max_position_embeddings)")]
    TooLong {
        /// Which network.
        network: &'static str,
        /// Tokens per text.
        found: usize,
        /// Learned positions.
        most: usize,
    },
    /// A number outside a table.
    #[error("{network}: {what} has {found} at [{row}, {column}], expected 0 to {last} ({of})")]
    OutOfRange {
        /// Which network.
        network: &'static str,
        /// Which input.
        what: &'static str,
        /// The number.
        found: i64,
        /// Which text.
        row: usize,
        /// Which of its tokens.
        column: usize,
        /// Largest number of the table.
        last: usize,
        /// The config's field that gives the table's size.
        of: &'static str,
    },
    /// Two inputs do not belong together.
    #[error("{network}: {what} is {found:?}, expected {expected:?} as input_ids")]
    Shape {
        /// Which network.
        network: &'static str,
        /// Which input.
        what: &'static str,
        /// Its shape.
        found: [usize; 2],
        /// The shape of `input_ids`.
        expected: [usize; 2],
    },
}

/// A table that an input's numbers are looked up in.
pub(super) struct Table {
    pub(super) what: &'static str,
    pub(super) of: &'static str,
    pub(super) size: usize,
}

/// Fails unless there is something to read and a position for all of it.
pub(super) fn check_length(
    network: &'static str,
    shape: [usize; 2],
    most: usize,
) -> Result<(), InputError> {
    match shape {
        [0, _] | [_, 0] => Err(InputError::Empty { network, found: shape }),
        [_, found] if found > most => Err(InputError::TooLong { network, found, most }),
        _ => Ok(()),
    }
}

/// Fails unless `input` has the shape of `input_ids`.
pub(super) fn check_shape(
    network: &'static str,
    what: &'static str,
    input: &Tensor<2, Int>,
    expected: [usize; 2],
) -> Result<(), InputError> {
    match input.dims() {
        found if found == expected => Ok(()),
        found => Err(InputError::Shape { network, what, found, expected }),
    }
}

/// The numbers of `input`, row by row, all within `table`.
pub(super) fn read(
    network: &'static str,
    input: &Tensor<2, Int>,
    table: &Table,
) -> Result<Vec<i64>, InputError> {
    let [_, n] = input.dims();
    let numbers: Vec<i64> = input.to_data().iter::<i64>().collect();
    let within = |number: i64| usize::try_from(number).is_ok_and(|number| number < table.size);
    match numbers.iter().position(|&number| !within(number)) {
        None => Ok(numbers),
        Some(at) => Err(InputError::OutOfRange {
            network,
            what: table.what,
            found: numbers[at],
            row: at / n,
            column: at % n,
            last: table.size - 1,
            of: table.of,
        }),
    }
}

/// Which tokens `attention_mask` takes for padding (0), row by row; none if there is no padding.
pub(super) fn padding(attention_mask: Option<&Tensor<2, Int>>) -> Option<Vec<bool>> {
    let is_padding: Vec<bool> =
        attention_mask?.to_data().iter::<i64>().map(|visible| visible == 0).collect();
    is_padding.contains(&true).then_some(is_padding)
}

/// The keys that padding hides from every query, [B, 1, 1, N].
pub(super) fn hidden(padding: Vec<bool>, [b, n]: [usize; 2], device: &Device) -> Tensor<4, Bool> {
    Tensor::from_data(TensorData::new(padding, [b, 1, 1, n]), device)
}

/// The keys that padding or order hides, [1 or B, 1, N, N]: a query sees itself and what comes before.
pub(super) fn hidden_causally(
    padding: Option<Vec<bool>>,
    [b, n]: [usize; 2],
    device: &Device,
) -> Tensor<4, Bool> {
    let rows = if padding.is_some() { b } else { 1 };
    let mut hidden = Vec::with_capacity(rows * n * n);
    for row in 0..rows {
        for query in 0..n {
            hidden.extend((0..n).map(|key| {
                key > query || padding.as_ref().is_some_and(|padding| padding[row * n + key])
            }));
        }
    }
    Tensor::from_data(TensorData::new(hidden, [rows, 1, n, n]), device)
}
