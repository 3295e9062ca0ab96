//! Images for figures: real ones read on all threads, drawn ones with what they came from.

use super::figures::fidelity::THUMBNAIL;
use super::shelf::Key;
use crate::data::catalog::{Entry, Split};
use crate::data::image::{Rect, Square};
use crate::data::latents;
use crate::data::radiographs::Radiographs;
use crate::metric::{self, Area};
use crate::sample::manifold::Strategy;
use crate::sample::stage::{self, SampleRow};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Images that networks see at once. Part of the meaning: which images share a batch decides rounding in the last bit.
pub(super) const BATCH: usize = 16;

/// Images that are read before networks see them: enough for many threads, and 128 MiB at 512 pixels. Where they are
/// read ahead, three times as many are in memory: those that are seen, those that wait, those that are read.
pub(super) const READ_AHEAD: usize = 128;

/// What `each` makes of the images at `indices`, in their order. Reads on all threads; none of the images stays in
/// memory. Fails where a signal came first.
pub(super) fn map_images<T: Send>(
    images: &Radiographs,
    indices: &[usize],
    each: impl Fn(&Square) -> T + Sync,
) -> Result<Vec<T>> {
    let read = |&at: &usize| {
        metric::unless_stopped()?;
        Ok(each(&images.get(at)?.square))
    };
    indices.par_iter().map(read).collect()
}

/// The images that the sample stage has drawn; read when they are asked for.
pub struct Drawn {
    folder: PathBuf,
    rows: Vec<SampleRow>,
    /// Where the images of each strategy end.
    ends: Vec<usize>,
    /// Where the images of each strategy come from.
    splits: Vec<Split>,
}

impl Drawn {
    /// None of them.
    pub fn nothing() -> Self {
        Self { folder: PathBuf::new(), rows: Vec::new(), ends: Vec::new(), splits: Vec::new() }
    }

    /// Those of the table in `folder`, which `strategies` have filled one after the other.
    pub fn open(folder: &Path, strategies: &[Strategy]) -> Result<Self> {
        let rows = stage::read_table(folder)?;
        let ends: Vec<usize> = strategies
            .iter()
            .scan(0, |end, strategy| {
                *end += strategy.images();
                Some(*end)
            })
            .collect();
        let expected = ends.last().copied().unwrap_or(0);
        ensure!(
            rows.len() == expected,
            "{} names {} images; expected {expected}",
            folder.join(stage::TABLE).display(),
            rows.len()
        );
        let splits = strategies.iter().map(Strategy::split).collect();
        Ok(Self { folder: folder.to_owned(), rows, ends, splits })
    }

    /// Images.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The images of `strategy`, or all that start from training images.
    pub(super) fn chosen(&self, strategy: Option<usize>) -> Vec<usize> {
        let is_chosen = |at: usize| match strategy {
            Some(strategy) => at == strategy,
            None => self.splits[at] == Split::Train,
        };
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).enumerate().filter(|(at, _)| is_chosen(*at));
        ranges.flat_map(|(_, (start, &end))| start..end).collect()
    }

    /// Where the images come from that [`chosen`](Self::chosen) chooses.
    pub(super) fn split(&self, strategy: Option<usize>) -> Split {
        let split = strategy.and_then(|strategy| self.splits.get(strategy));
        split.copied().unwrap_or(Split::Train)
    }

    /// From whom the image at `index` is: a number that its first source's patient has here only.
    pub(super) fn group(&self, index: usize) -> usize {
        self.rows[index].patient_group
    }

    /// The hash of the file of the image at `index`. Fails where a signal came first.
    pub(super) fn hash(&self, index: usize) -> Result<Key> {
        metric::unless_stopped()?;
        let path = self.folder.join(&self.rows[index].file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(*blake3::hash(&bytes).as_bytes())
    }

    /// The image at `index`, in [0, 1]. Fails where a signal came first.
    pub(super) fn pixels(&self, index: usize) -> Result<Vec<f32>> {
        metric::unless_stopped()?;
        stage::read_image(&self.folder, &self.rows[index])
    }

    /// For each image at `indices`, what none of its sources among `entries` pads in a thumbnail of a square of `size`:
    /// the condition tells a square with its bars, and so what is drawn has them. The whole thumbnail where no source
    /// is among them.
    pub(super) fn contents<'e>(
        &self,
        indices: &[usize],
        entries: impl IntoIterator<Item = &'e Entry>,
        size: usize,
    ) -> Vec<Area> {
        let keys = |&at: &usize| {
            let SampleRow { source, source_2, .. } = &self.rows[at];
            let keys = [Some(source), source_2.as_ref()].into_iter().flatten();
            keys.filter_map(|key| u64::from_str_radix(key, 16).ok()).collect::<Vec<u64>>()
        };
        let wanted: BTreeSet<u64> = indices.iter().flat_map(keys).collect();
        let areas: BTreeMap<u64, Area> = entries
            .into_iter()
            .map(|entry| (latents::key(entry) as u64, entry))
            .filter(|(key, _)| wanted.contains(key))
            .map(|(key, entry)| {
                let [width, height] = [entry.width, entry.height].map(|side| side as usize);
                (key, thumbnail_area(Rect::in_square(width, height, size), size))
            })
            .collect();
        let whole = Area { columns: [0, THUMBNAIL], rows: [0, THUMBNAIL] };
        let shared = |at: &usize| {
            let areas = keys(at).into_iter().filter_map(|key| areas.get(&key).copied());
            areas.fold(whole, Area::intersection)
        };
        indices.iter().map(shared).collect()
    }
}

/// The pixels of a thumbnail that show nothing but `content`, a part of a square of `size`.
pub(super) fn thumbnail_area(content: Rect, size: usize) -> Area {
    let within = |from: usize, length: usize| {
        [(from * THUMBNAIL).div_ceil(size), (from + length) * THUMBNAIL / size]
    };
    Area { columns: within(content.x, content.width), rows: within(content.y, content.height) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_that_is_partly_padding_does_not_count() {
        let area = |x, width, size| {
            let content = Rect { x, y: 0, width, height: size };
            let Area { columns, rows } = thumbnail_area(content, size);
            assert_eq!(rows, [0, 64]);
            columns
        };
        assert_eq!(area(0, 512, 512), [0, 64]);
        assert_eq!(area(64, 384, 512), [8, 56]);
        assert_eq!(area(65, 382, 512), [9, 55]);
        assert_eq!(area(3, 26, 32), [6, 58]);
        assert_eq!(area(255, 1, 512), [32, 32]);
    }
}
