//! Exit codes, and how an error is told.

use crate::artifact::ArtifactError;
use crate::data::catalog::CatalogError;
use crate::data::file::FileError;
use crate::data::ingest::IngestError;
use crate::data::radiographs::RadiographError;
use crate::data::source::SourceError;
use crate::data::store::StoreError;
use crate::device::DeviceError;
use crate::export::ExportError;
use crate::forward::ForwardError;
use crate::models::ConfigError;
use crate::models::weights::folder::FolderError;
use crate::models::weights::{WeightsError, file::FileError as WeightsFileError};
use crate::recipe::RecipeError;
use std::io::Write as _;

/// All well.
pub(super) const DONE: u8 = 0;
/// Disk full, device lost, anything not below.
pub(super) const FAILED: u8 = 1;
/// The recipe or an argument is wrong; nothing was written.
pub(super) const BAD_RECIPE: u8 = 2;
/// Data or weights are damaged.
pub(super) const DAMAGED: u8 = 3;
/// A signal came; a checkpoint is saved.
pub(super) const STOPPED: u8 = 75;

/// A command line that cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadArgument(pub(super) String);

/// The exit code for `error`, by what is at the bottom of it.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    let has = |test: &dyn Fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if has(&|cause| {
        cause.is::<RecipeError>()
            || cause.is::<DeviceError>()
            || cause.is::<BadArgument>()
            || cause.is::<SourceError>()
            || cause.is::<ExportError>()
            || cause.downcast_ref::<ForwardError>().is_some_and(ForwardError::is_about_input)
            || matches!(cause.downcast_ref(), Some(ArtifactError::Taken { .. }))
            // Transparent: what is inside does not show in the chain.
            || matches!(
                cause.downcast_ref(),
                Some(IngestError::Source(_) | IngestError::Twice { .. })
            )
    }) {
        BAD_RECIPE
    } else if has(&|cause| {
        cause.is::<FileError>()
            || cause.is::<RadiographError>()
            || cause.is::<StoreError>()
            || cause.is::<CatalogError>()
            || cause.is::<WeightsError>()
            || cause.is::<WeightsFileError>()
            || cause.is::<FolderError>()
            || cause.is::<ConfigError>()
            || cause.is::<ForwardError>()
            || matches!(
                cause.downcast_ref(),
                Some(IngestError::Damaged { .. } | IngestError::Split(_) | IngestError::Catalog(_))
            )
            || matches!(
                cause.downcast_ref(),
                Some(ArtifactError::Damaged { .. } | ArtifactError::Missing { .. })
            )
    }) {
        DAMAGED
    } else {
        FAILED
    }
}

/// Prints the chain of `error` on stderr as one sentence.
pub(super) fn complain(error: &anyhow::Error) {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Transparent errors repeat their source.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    // Nobody to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "error: {text}");
}
