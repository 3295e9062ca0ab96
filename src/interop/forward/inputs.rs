//! The tensors that somebody recorded for a network, taken one by one under the reference's names.

use super::ForwardError;
use crate::models::weights::StateDict;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// What is left to take.
pub(super) struct Inputs<'a> {
    left: StateDict,
    device: &'a Device,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(tensors: StateDict, device: &'a Device) -> Self {
        Self { left: tensors, device }
    }

    /// The float tensor `name`, whose shape is as `shape` writes it: a number, or a letter for any size of at
    /// least 1 that is equal wherever the letter is equal.
    pub(super) fn floats<const D: usize>(
        &mut self,
        name: &'static str,
        shape: [Side; D],
    ) -> Result<Tensor<D>, ForwardError> {
        let data = self.left.remove(name).ok_or_else(|| self.missing(name))?;
        self.float_tensor(name, data, shape)
    }

    /// The same where it may be absent.
    pub(super) fn optional_floats<const D: usize>(
        &mut self,
        name: &'static str,
        shape: [Side; D],
    ) -> Result<Option<Tensor<D>>, ForwardError> {
        let data = self.left.remove(name);
        data.map(|data| self.float_tensor(name, data, shape)).transpose()
    }

    /// The whole numbers `name` [B, N].
    pub(super) fn integers(&mut self, name: &'static str) -> Result<Tensor<2, Int>, ForwardError> {
        let found = self.optional_integers(name)?;
        found.ok_or_else(|| self.missing(name))
    }

    /// The same where they may be absent.
    pub(super) fn optional_integers(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Tensor<2, Int>>, ForwardError> {
        let Some(data) = self.left.remove(name) else { return Ok(None) };
        if data.dtype() != DType::I64 || data.shape().len() != 2 || data.num_elements() == 0 {
            let found = format!("{:?} {:?}", data.dtype(), data.shape().to_vec());
            return Err(ForwardError::Shape { name, found, expected: "I64 [B, N]".into() });
        }
        Ok(Some(Tensor::from_data(data, self.device)))
    }

    /// One number per batch entry: given once for all, or for each.
    pub(super) fn per_sample(
        &mut self,
        name: &'static str,
        batch: usize,
    ) -> Result<Tensor<1>, ForwardError> {
        let data = self.left.remove(name).ok_or_else(|| self.missing(name))?;
        let values: Vec<f32> = data.iter::<f32>().collect();
        let values = match values.len() {
            1 => vec![values[0]; batch],
            count if count == batch => values,
            _ => {
                let found = format!("{:?}", data.shape().to_vec());
                let expected = format!("one number, or {batch}");
                return Err(ForwardError::Shape { name, found, expected });
            }
        };
        Ok(Tensor::from_data(TensorData::new(values, [batch]), self.device))
    }

    /// Labels [B] (whole numbers) or vectors [B, P], as [B, P], which may be absent.
    pub(super) fn labels(
        &mut self,
        name: &'static str,
        batch: usize,
    ) -> Result<Option<Tensor<2>>, ForwardError> {
        let Some(data) = self.left.remove(name) else { return Ok(None) };
        let width = match *data.shape().as_slice() {
            [count] if count == batch => 1,
            [count, width] if count == batch && width > 0 => width,
            _ => {
                let found = format!("{:?}", data.shape().to_vec());
                let expected = format!("[{batch}] or [{batch}, P]");
                return Err(ForwardError::Shape { name, found, expected });
            }
        };
        let values = TensorData::new(data.iter::<f32>().collect(), [batch, width]);
        Ok(Some(Tensor::from_data(values, self.device)))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Fails if there are tensors that nobody asked for: a misspelt optional one would otherwise be ignored.
    pub(super) fn finish(self) -> Result<(), ForwardError> {
        match self.left.into_keys().next() {
            Some(name) => Err(ForwardError::Unknown { name }),
            None => Ok(()),
        }
    }

    fn missing(&self, name: &'static str) -> ForwardError {
        let found = self.left.keys().cloned().collect::<Vec<_>>().join(", ");
        ForwardError::Missing { name, found }
    }

    fn float_tensor<const D: usize>(
        &self,
        name: &'static str,
        data: TensorData,
        shape: [Side; D],
    ) -> Result<Tensor<D>, ForwardError> {
        let found = data.shape().to_vec();
        let fits = found.len() == D
            && data.dtype() == DType::F32
            && found.iter().zip(&shape).all(|(found, side)| side.fits(*found));
        if !fits {
            let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let found = format!("{:?} {found:?}", data.dtype());
            let expected = format!("floats [{}]", sides.join(", "));
            return Err(ForwardError::Shape { name, found, expected });
        }
        Ok(Tensor::from_data(data, self.device))
    }
}

/// What one axis of an input may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    /// Exactly this.
    Exactly(usize),
    /// Anything from this up; the letter is for messages.
    AtLeast(usize, &'static str),
    /// A positive multiple of this.
    MultipleOf(usize),
}

impl Side {
    fn fits(self, size: usize) -> bool {
        match self {
            Self::Exactly(expected) => size == expected,
            Self::AtLeast(least, _) => size >= least,
            Self::MultipleOf(unit) => size > 0 && size.is_multiple_of(unit),
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(size) => write!(f, "{size}"),
            Self::AtLeast(1, letter) => f.write_str(letter),
            Self::AtLeast(least, letter) => write!(f, "{letter} ≥ {least}"),
            Self::MultipleOf(unit) => write!(f, "a multiple of {unit}"),
        }
    }
}
