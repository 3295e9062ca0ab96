//! Weights in the format and layout of the libraries, made once for each value they have.
//!
//! What is kept holds the weight, too, so that nobody changes it in place but [`super::descent`], which says so first.

use super::tensor;
use burn::tensor::DType;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a weight is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// A convolution's kernel: [out, k, k, in] in memory.
    Kernel,
    /// A matrix or vector: only its format changes.
    Flat,
}

/// Memory, where in it, what it is prepared for, whether in bf16, and how a view that is not in order lies in it.
type Key = (usize, u64, Use, bool, Vec<usize>);

struct Entry {
    weight: CubeTensor,
    prepared: CubeTensor,
}

#[derive(Default)]
struct Kept {
    entries: BTreeMap<Key, Entry>,
    /// Entries after which is looked for those that nobody can ask for any more.
    next_sweep: usize,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(weight: &CubeTensor, purpose: Use, dtype: DType) -> Key {
    let handle = &weight.handle;
    let start = handle.offset_start.unwrap_or(0);
    let view = match tensor::is_dense(weight, 0..weight.meta.num_dims()) {
        true => Vec::new(),
        false => weight.meta.shape().iter().chain(weight.meta.strides().iter()).copied().collect(),
    };
    (handle.memory.descriptor().id.value, start, purpose, dtype == DType::BF16, view)
}

/// `weight` as `purpose` wants it in `dtype`.
pub(super) fn prepare(weight: &CubeTensor, purpose: Use, dtype: DType) -> CubeTensor {
    let key = key(weight, purpose, dtype);
    let is_in_order = key.4.is_empty();
    if purpose == Use::Flat && is_in_order && tensor::same_in_memory(weight.dtype, dtype) {
        return weight.clone();
    }
    let mut kept = lock();
    let kept = kept.get_or_insert_default();
    if let Some(entry) = kept.entries.get(&key)
        && entry.weight.meta.num_elements() == weight.meta.num_elements()
    {
        let prepared = entry.prepared.clone();
        return match purpose {
            Use::Kernel => prepared,
            Use::Flat => reshape(prepared, weight.meta.shape().clone()),
        };
    }
    let prepared = match purpose {
        Use::Kernel => tensor::filter(weight, dtype),
        Use::Flat => tensor::cast(&tensor::dense(weight), dtype),
    };
    // What is the weight itself needs no keeping, and would look as if somebody else held it.
    if prepared.handle.memory.descriptor().id.value == key.0 {
        return prepared;
    }
    kept.entries.insert(key, Entry { weight: weight.clone(), prepared: prepared.clone() });
    if kept.entries.len() > kept.next_sweep {
        kept.sweep();
    }
    prepared
}

impl Kept {
    /// Gives up what is kept of weights that nobody else holds.
    fn sweep(&mut self) {
        self.entries.retain(|_, entry| !entry.weight.handle.can_mut());
        self.next_sweep = 2 * self.entries.len() + 64;
    }
}

/// Gives up what is kept of weights that nobody else holds.
pub(super) fn sweep() {
    if let Some(kept) = lock().as_mut() {
        kept.sweep();
    }
}

/// Gives up what is kept of `weight`, which is about to change. A bf16 copy that only lacks its new values is returned:
/// who fills it may give it back by [`keep`].
pub(super) fn release(weight: &CubeTensor) -> Option<CubeTensor> {
    let mut kept = lock();
    let entries = &mut kept.as_mut()?.entries;
    let copy = key(weight, Use::Flat, DType::BF16);
    let of_memory = |id| (id, 0, Use::Kernel, false, Vec::new());
    let all: Vec<Key> = entries
        .range(of_memory(copy.0)..of_memory(copy.0 + 1))
        .map(|(key, _)| key.clone())
        .collect();
    let mut released = None;
    for key in all {
        let entry = entries.remove(&key);
        if key == copy {
            released = entry.map(|entry| entry.prepared);
        }
    }
    released.filter(|prepared| prepared.handle.can_mut())
}

/// Keeps `prepared`, the bf16 values of `weight`.
pub(super) fn keep(weight: &CubeTensor, prepared: CubeTensor) {
    let key = key(weight, Use::Flat, DType::BF16);
    let entry = Entry { weight: weight.clone(), prepared };
    lock().get_or_insert_default().entries.insert(key, entry);
}
