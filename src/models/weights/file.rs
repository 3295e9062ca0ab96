//! Weights in safetensors files: read with limits, so that a damaged file is an error and never more.

use burn::tensor::TensorData;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Longest header accepted, in bytes.
const MAX_HEADER: u64 = 8 << 20;
/// Most tensors accepted in one file.
const MAX_TENSORS: usize = 20_000;

/// What to do with numbers that are NaN or infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// The file is refused.
    #[default]
    Refuse,
    /// They are read as they are.
    Keep,
}

/// Reads every tensor of a safetensors file as f32 (from f64, f32, f16 or bf16), whole numbers as i64.
///
/// Fails on other formats, on a header or a number of tensors beyond all reason, on lengths that do
/// not add up, and on non-finite numbers if those are refused.
pub fn read(path: &Path, non_finite: NonFinite) -> Result<BTreeMap<String, TensorData>, FileError> {
    refuse_pickle(path)?;
    let fault = |what: String| FileError::Damaged { path: path.into(), what };
    let bytes = fs::read(path).map_err(|source| FileError::Read { path: path.into(), source })?;
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let header = header.ok_or_else(|| fault("shorter than its own length field".into()))?;
    if header > MAX_HEADER {
        return Err(fault(format!("header of {header} bytes, at most {MAX_HEADER} are read")));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| fault(error.to_string()))?;
    if tensors.len() > MAX_TENSORS {
        return Err(fault(format!("{} tensors, at most {MAX_TENSORS} are read", tensors.len())));
    }
    let mut found = BTreeMap::new();
    for (name, view) in tensors.iter() {
        if view.dtype() == Dtype::I64 {
            let values: Vec<i64> = chunks(view.data()).map(i64::from_le_bytes).collect();
            found.insert(name.to_owned(), TensorData::new(values, view.shape().to_vec()));
            continue;
        }
        let values = floats(&view).ok_or_else(|| {
            fault(format!(
                "tensor {name} holds {:?}, expected F64, F32, F16, BF16 or I64",
                view.dtype()
            ))
        })?;
        if non_finite == NonFinite::Refuse && values.iter().any(|value| !value.is_finite()) {
            return Err(fault(format!("tensor {name} holds NaN or infinity")));
        }
        found.insert(name.to_owned(), TensorData::new(values, view.shape().to_vec()));
    }
    Ok(found)
}

/// Writes `tensors` as f32 (i64 as they are) to a safetensors file that PyTorch's libraries open.
///
/// Not atomic: whoever needs that writes into a folder that is renamed when whole.
pub fn write(path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<(), FileError> {
    let fault = |what: String| FileError::Unwritable { path: path.into(), what };
    let mut arrays = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        if let Ok(values) = data.as_slice::<i64>() {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            arrays.push((name, Dtype::I64, data.shape().to_vec(), bytes));
            continue;
        }
        let values = data.clone().convert::<f32>();
        let values = values.as_slice::<f32>().map_err(|error| fault(error.to_string()))?;
        arrays.push((name, Dtype::F32, data.shape().to_vec(), little_endian(values)));
    }
    let mut views = Vec::with_capacity(arrays.len());
    for (name, dtype, shape, bytes) in &arrays {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        views.push((*name, view.map_err(|error| fault(error.to_string()))?));
    }
    // transformers reads this to know the file's origin and refuses files without it.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| fault(error.to_string()))?;
    fs::write(path, bytes).map_err(|source| FileError::Write { path: path.into(), source })
}

/// Why a weights file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The tensors cannot be put into a file.
    #[error("cannot write {}: {what}", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The file is not a whole safetensors file of float tensors.
    #[error("{} is not a usable safetensors file: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A pickle runs code when opened, so it is never opened.
    #[error(
        "{shown} is a pickle, which can run code when opened; convert it once with: \
         python -c \"import torch, safetensors.torch as s; \
         d = torch.load('{shown}', map_location='cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in d.get('state_dict', d).items()}}, \
         'model.safetensors')\"",
        shown = path.display()
    )]
    Pickle {
        /// Which file.
        path: PathBuf,
    },
}

fn refuse_pickle(path: &Path) -> Result<(), FileError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "pt" | "pth" | "bin" | "ckpt" | "pkl" => Err(FileError::Pickle { path: path.into() }),
        _ => Ok(()),
    }
}

/// The values of `view` as f32; none if they are not floats.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => chunks(bytes).map(f32::from_le_bytes).collect(),
        Dtype::F64 => chunks(bytes).map(|value| f64::from_le_bytes(value) as f32).collect(),
        Dtype::F16 => chunks(bytes).map(|value| f16::from_le_bytes(value).to_f32()).collect(),
        Dtype::BF16 => chunks(bytes).map(|value| bf16::from_le_bytes(value).to_f32()).collect(),
        _ => return None,
    };
    Some(values)
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
