//! Weights in safetensors files: read with limits, so that a damaged file is an error and never more.

use super::StateDict;
use burn::tensor::TensorData;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

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

/// Reads every tensor of a safetensors file as f32 (from f64, f32, f16 or bf16), whole numbers (i64, i32) as i64.
///
/// Tensor after tensor, so that no more is held than what is returned and one tensor as it is stored. Fails on
/// other formats, on a header or a number of tensors beyond all reason, on lengths that do not add up (before
/// anything of those lengths is allocated), and on non-finite numbers if those are refused.
pub fn read(path: &Path, non_finite: NonFinite) -> Result<StateDict, FileError> {
    let fault = |what: String| FileError::Damaged { path: path.into(), what };
    let (mut file, metadata) = open(path)?;
    let mut found = BTreeMap::new();
    for name in metadata.offset_keys() {
        let (info, bytes) = next(&mut file, &metadata, &name, path)?;
        let data = values(info.dtype, &info.shape, &bytes).ok_or_else(|| {
            fault(format!(
                "tensor {name} holds {:?}, expected F64, F32, F16, BF16, I64 or I32",
                info.dtype
            ))
        })?;
        if non_finite == NonFinite::Refuse
            && let Ok(values) = data.as_slice::<f32>()
            && values.iter().any(|value| !value.is_finite())
        {
            return Err(fault(format!("tensor {name} holds NaN or infinity")));
        }
        found.insert(name, data);
    }
    Ok(found)
}

/// The number format and shape of every tensor of a safetensors file, without reading them.
pub fn shapes(path: &Path) -> Result<BTreeMap<String, (Dtype, Vec<usize>)>, FileError> {
    let (_, metadata) = open(path)?;
    let shape = |name: String| {
        let info = metadata.info(&name).expect("the header lists it");
        let found = (info.dtype, info.shape.clone());
        (name, found)
    };
    Ok(metadata.offset_keys().into_iter().map(shape).collect())
}

/// The file at `path`, after its header, and what the header says: tensors that fill the rest of it, one after
/// another.
fn open(path: &Path) -> Result<(BufReader<File>, Metadata), FileError> {
    refuse_pickle(path)?;
    let fault = |what: String| FileError::Damaged { path: path.into(), what };
    let io = |source| FileError::Read { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut file = BufReader::new(file);
    if length < 8 {
        return Err(fault("shorter than its own length field".into()));
    }
    let mut header = [0; 8];
    file.read_exact(&mut header).map_err(io)?;
    let header = u64::from_le_bytes(header);
    if header > MAX_HEADER {
        return Err(fault(format!("header of {header} bytes, at most {MAX_HEADER} are read")));
    }
    if header > length - 8 {
        return Err(fault(format!("header of {header} bytes in a file of {length}")));
    }
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&text)
        .map_err(|error| fault(format!("its header cannot be read: {error}")))?;
    let num_tensors = metadata.offset_keys().len();
    if num_tensors > MAX_TENSORS {
        return Err(fault(format!("{num_tensors} tensors, at most {MAX_TENSORS} are read")));
    }
    let (told, left) = (metadata.data_len() as u64, length - 8 - header);
    if told != left {
        let what = format!("its header tells of {told} bytes of tensors, there are {left}");
        return Err(fault(what));
    }
    Ok((file, metadata))
}

/// Writes `tensors` as f32 (i64 as they are) to a safetensors file that PyTorch's libraries open.
///
/// Not atomic: whoever needs that writes into a folder that is renamed when whole.
pub fn write(path: &Path, tensors: &StateDict) -> Result<(), FileError> {
    write_like(path, tensors, &[])
}

/// The same, but a tensor that has just the values of one of the same name in `originals` is written as it is
/// there: in its number format, byte for byte.
pub fn write_like(
    path: &Path,
    tensors: &StateDict,
    originals: &[PathBuf],
) -> Result<(), FileError> {
    let mut arrays: BTreeMap<&str, Array> = BTreeMap::new();
    for original in originals {
        let (mut file, metadata) = open(original)?;
        for name in metadata.offset_keys() {
            let (info, bytes) = next(&mut file, &metadata, &name, original)?;
            if let Some((name, data)) = tensors.get_key_value(&name)
                && values(info.dtype, &info.shape, &bytes).as_ref() == Some(data)
            {
                arrays.insert(name, (info.dtype, info.shape.clone(), bytes));
            }
        }
    }
    let fault = |what: String| FileError::Unwritable { path: path.into(), what };
    for (name, data) in tensors {
        if arrays.contains_key(name.as_str()) {
            continue;
        }
        let shape = data.shape().to_vec();
        let array = if let Ok(values) = data.as_slice::<i64>() {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (Dtype::I64, shape, bytes)
        } else {
            let values = data.clone().convert::<f32>();
            let values = values.as_slice::<f32>().map_err(|error| fault(error.to_string()))?;
            (Dtype::F32, shape, little_endian(values))
        };
        arrays.insert(name, array);
    }
    let mut views = Vec::with_capacity(arrays.len());
    for (name, (dtype, shape, bytes)) in &arrays {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        views.push((*name, view.map_err(|error| fault(error.to_string()))?));
    }
    // transformers reads this to know the file's origin and refuses files without it.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| fault(error.to_string()))?;
    fs::write(path, bytes).map_err(|source| FileError::Write { path: path.into(), source })
}

/// A tensor as a file holds it.
type Array = (Dtype, Vec<usize>, Vec<u8>);

/// The next tensor of `file`, which must be `name`.
fn next<'a>(
    file: &mut BufReader<File>,
    metadata: &'a Metadata,
    name: &str,
    path: &Path,
) -> Result<(&'a TensorInfo, Vec<u8>), FileError> {
    let info = metadata.info(name).expect("the header lists it");
    let (start, end) = info.data_offsets;
    let mut bytes = vec![0; end - start];
    file.read_exact(&mut bytes).map_err(|source| FileError::Read { path: path.into(), source })?;
    Ok((info, bytes))
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

/// Whether `path` is named like a file that runs code when opened.
pub(super) fn is_pickle(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["pt", "pth", "bin", "ckpt", "pkl"].contains(&extension.to_ascii_lowercase().as_str())
}

fn refuse_pickle(path: &Path) -> Result<(), FileError> {
    if is_pickle(path) { Err(FileError::Pickle { path: path.into() }) } else { Ok(()) }
}

/// `bytes` as f32, or as i64 if they are whole numbers; none if they are neither.
fn values(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Option<TensorData> {
    let floats: Vec<f32> = match dtype {
        Dtype::F32 => chunks(bytes).map(f32::from_le_bytes).collect(),
        Dtype::F64 => chunks(bytes).map(|value| f64::from_le_bytes(value) as f32).collect(),
        Dtype::F16 => chunks(bytes).map(|value| f16::from_le_bytes(value).to_f32()).collect(),
        Dtype::BF16 => chunks(bytes).map(|value| bf16::from_le_bytes(value).to_f32()).collect(),
        Dtype::I64 => {
            let whole: Vec<i64> = chunks(bytes).map(i64::from_le_bytes).collect();
            return Some(TensorData::new(whole, shape.to_vec()));
        }
        Dtype::I32 => {
            let whole = chunks(bytes).map(|value| i64::from(i32::from_le_bytes(value)));
            return Some(TensorData::new(whole.collect::<Vec<_>>(), shape.to_vec()));
        }
        _ => return None,
    };
    Some(TensorData::new(floats, shape.to_vec()))
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
