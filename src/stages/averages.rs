//! Averages of a finished or running training that it did not keep, from the snapshots that it did.

use super::Run;
use crate::artifact;
use crate::interop::export::ExportError;
use crate::train::checkpoint::{self, Checkpoint, Header, Parts};
use crate::train::ema::MOST_SIGMA_REL;
use crate::train::ema::posthoc::{self, Place};
use crate::train::ema::snapshots;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Farthest that a mix may be from the wanted average, as a share of it: beyond, it is another average than the one asked
/// for. Ten snapshots of 0.05 and 0.1 make 0.075 to 0.8 % and 0.15 to 2.2 % (`tests/golden/averages.json`).
const MOST_ERROR: f64 = 0.1;

/// An average that was made.
#[derive(Debug)]
pub struct Averaged {
    /// Its folder.
    pub folder: PathBuf,
    /// Images seen by then.
    pub images_seen: u64,
    /// Snapshots of one length each that it was made of.
    pub snapshots: usize,
    /// How far it is from the wanted one, as a share of it.
    pub error: f64,
}

/// Why an average cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AverageError {
    /// No length.
    #[error("--sigma-rel is {sigma_rel}; expected above 0 and at most {MOST_SIGMA_REL}")]
    Length {
        /// What was asked for.
        sigma_rel: f64,
    },
    /// Nothing to make it of.
    #[error(
        "the {stage} in {} has no snapshots of its averages; they are kept where the recipe says {stage}.train: (ema: \
         (sigma_rel: [0.05, 0.10]))", path.display()
    )]
    NoSnapshots {
        /// The run's folder.
        path: PathBuf,
        /// Which network.
        stage: &'static str,
    },
    /// The future, or nothing.
    #[error("--images is {images}; expected 1 to {last}, where the last snapshot is")]
    Images {
        /// What was asked for.
        images: u64,
        /// Images at the last snapshot.
        last: u64,
    },
    /// The snapshots do not reach so far.
    #[error(
        "the {snapshots} snapshots cannot make an average of length {sigma_rel} at {images} images: the nearest mix is \
         {:.0} % away from it, expected at most {:.0} %; choose a length nearer to those that were kept ({kept}), \
         and the images of a snapshot, or train with a smaller ema.snapshot_every", error * 100.0, MOST_ERROR * 100.0
    )]
    OutOfReach {
        /// What was asked for.
        sigma_rel: f64,
        /// And when.
        images: u64,
        /// How many there are.
        snapshots: usize,
        /// Their lengths.
        kept: String,
        /// How far the nearest mix is.
        error: f64,
    },
}

impl Run {
    /// Makes the average of length `sigma_rel` of the network that `stage` trains, as it was after `images` (or at the
    /// last snapshot), as a folder of its own: `out`, which must not be there yet, or one beside the checkpoints.
    ///
    /// # Errors
    ///
    /// [`AverageError`] where that cannot be; when there is no training, or something of it is damaged.
    pub fn average(
        &self,
        stage: &'static str,
        sigma_rel: f64,
        images: Option<u64>,
        out: Option<&Path>,
    ) -> Result<Averaged> {
        if !(sigma_rel > 0.0 && sigma_rel <= MOST_SIGMA_REL) {
            return Err(AverageError::Length { sigma_rel }.into());
        }
        let at = self.stage_folder(stage);
        let path = self.folder.clone();
        let Some(newest) = checkpoint::newest(&at)? else {
            return Err(ExportError::Untrained { path, stage }.into());
        };
        let header = checkpoint::header(&newest)?;
        let found = snapshots::list(&at, &header.inputs_hash)?;
        let Some(last) = found.last().map(|snapshot| snapshot.images_seen) else {
            return Err(AverageError::NoSnapshots { path, stage }.into());
        };
        let images = images.unwrap_or(last);
        if !(1..=last).contains(&images) {
            return Err(AverageError::Images { images, last }.into());
        }
        let places = snapshots::places(&found);
        let mix = posthoc::mix(&places, Place { sigma_rel, images: images as f64 });
        if mix.error.is_nan() || mix.error > MOST_ERROR {
            let mut kept = found[0].sigma_rel.iter().map(f64::to_string);
            let kept = kept.by_ref().collect::<Vec<_>>().join(", ");
            let (snapshots, error) = (places.len(), mix.error);
            return Err(
                AverageError::OutOfReach { sigma_rel, images, snapshots, kept, error }.into()
            );
        }
        let mut parts = Parts::default();
        parts.insert("ema".to_owned(), snapshots::mixed(&at, &places, &mix)?);
        let header = Header { images_seen: images, sigma_rel: Some(sigma_rel), ..header };
        let made = Checkpoint { header, parts };
        let fill = |folder: &Path| checkpoint::fill(&made, folder);
        let folder = match out {
            Some(out) => {
                artifact::create_folder(out, fill)?;
                out.to_owned()
            }
            None => {
                let name = snapshots::name(sigma_rel);
                let beside = at.join(format!("average-{name}-{images:012}"));
                artifact::write_folder(&beside, fill)?;
                beside
            }
        };
        Ok(Averaged { folder, images_seen: images, snapshots: places.len(), error: mix.error })
    }
}
