//! Exit codes, and how an error is told.

use crate::artifact::ArtifactError;
use crate::data::catalog::CatalogError;
use crate::data::file::{FileError, Refusal};
use crate::data::ingest::{IngestError, SplitError};
use crate::data::loader::{LoaderError, SampleError};
use crate::data::mask::Misfit;
use crate::data::picture::PictureError;
use crate::data::radiographs::{Cause, RadiographError};
use crate::data::secret::SecretError;
use crate::data::source::SourceError;
use crate::data::store::StoreError;
use crate::device::DeviceError;
use crate::engine::nvidia::{
    self, cublas::CublasError, cudnn::CudnnError, driver::DriverError, libraries::LibraryError,
    nvrtc::NvrtcError,
};
use crate::interop::export::ExportError;
use crate::interop::forward::ForwardError;
use crate::interop::scheduler::SchedulerError;
use crate::interrupt::Interrupted;
use crate::metric;
use crate::models::ConfigError;
use crate::models::denoiser::AddedError;
use crate::models::text::{InputError, TokenizerError};
use crate::models::weights::folder::FolderError;
use crate::models::weights::{WeightsError, file::FileError as WeightsFileError};
use crate::recipe::RecipeError;
use crate::sample::manifold::ManifoldError;
use crate::stages::AverageError;
use crate::telemetry::metrics::MetricsError;
use crate::telemetry::plain::{plain, plain_lines};
use crate::train::adamw::StateError;
use std::error::Error;
use std::io::{self, Write as _};

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

/// The exit code for `error`.
///
/// A disk that is full or a database that is busy says nothing about the data, whatever failed for it. Otherwise the
/// user is told what to correct, if there is something; then what is damaged.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_no_room) {
        return FAILED;
    }
    let judged: Vec<u8> = error
        .chain()
        .flat_map(|cause| CODES.iter().filter_map(move |(_, judge)| judge(cause)))
        .collect();
    [STOPPED, BAD_RECIPE, DAMAGED].into_iter().find(|code| judged.contains(code)).unwrap_or(FAILED)
}

/// The code of an error, if it is of the kind that this one knows.
type Judge = fn(&(dyn Error + 'static)) -> Option<u8>;

/// Every error that the program defines. What a transparent one wraps does not show in a chain, so it is asked here.
const CODES: &[(&str, Judge)] = &[
    ("artifact::ArtifactError", |error| error.downcast_ref().map(artifact)),
    ("cli::exit::BadArgument", always::<BadArgument, BAD_RECIPE>),
    ("data::catalog::CatalogError", |error| error.downcast_ref().map(catalog)),
    ("data::file::FileError", |error| error.downcast_ref().map(file)),
    ("data::file::refusal::Refusal", always::<Refusal, DAMAGED>),
    ("data::ingest::error::IngestError", |error| error.downcast_ref().map(ingest)),
    ("data::ingest::split::SplitError", always::<SplitError, DAMAGED>),
    ("data::loader::error::LoaderError", |error| error.downcast_ref().map(loader)),
    ("data::loader::error::SampleError", always::<SampleError, DAMAGED>),
    ("data::mask::Misfit", always::<Misfit, DAMAGED>),
    ("data::picture::PictureError", |error| error.downcast_ref().map(picture)),
    ("data::radiographs::Cause", |error| error.downcast_ref().map(cause)),
    ("data::radiographs::RadiographError", |error| {
        error.downcast_ref().map(|error: &RadiographError| cause(&error.source))
    }),
    ("data::secret::SecretError", |error| error.downcast_ref().map(secret)),
    ("data::source::SourceError", always::<SourceError, BAD_RECIPE>),
    ("data::store::error::StoreError", |error| error.downcast_ref().map(store)),
    ("device::DeviceError", always::<DeviceError, BAD_RECIPE>),
    ("engine::nvidia::EngineError", always::<nvidia::EngineError, FAILED>),
    ("engine::nvidia::cublas::CublasError", always::<CublasError, FAILED>),
    ("engine::nvidia::cudnn::CudnnError", always::<CudnnError, FAILED>),
    ("engine::nvidia::driver::DriverError", always::<DriverError, FAILED>),
    ("engine::nvidia::libraries::LibraryError", always::<LibraryError, FAILED>),
    ("engine::nvidia::nvrtc::NvrtcError", always::<NvrtcError, FAILED>),
    ("interop::export::ExportError", always::<ExportError, BAD_RECIPE>),
    ("interop::forward::ForwardError", |error| error.downcast_ref().map(forward)),
    ("interrupt::Interrupted", always::<Interrupted, STOPPED>),
    ("metric::Refusal", always::<metric::Refusal, FAILED>),
    ("models::ConfigError", always::<ConfigError, DAMAGED>),
    ("models::denoiser::added::AddedError", always::<AddedError, BAD_RECIPE>),
    ("models::text::input::InputError", always::<InputError, BAD_RECIPE>),
    ("models::text::tokenizer::TokenizerError", always::<TokenizerError, DAMAGED>),
    ("models::weights::WeightsError", always::<WeightsError, DAMAGED>),
    ("models::weights::file::FileError", |error| error.downcast_ref().map(weights)),
    ("models::weights::folder::FolderError", always::<FolderError, DAMAGED>),
    ("recipe::RecipeError", always::<RecipeError, BAD_RECIPE>),
    ("sample::manifold::interpolate::ManifoldError", always::<ManifoldError, FAILED>),
    ("interop::scheduler::error::SchedulerError", always::<SchedulerError, DAMAGED>),
    ("stages::averages::AverageError", always::<AverageError, BAD_RECIPE>),
    ("telemetry::metrics::MetricsError", |error| error.downcast_ref().map(metrics)),
    ("train::adamw::StateError", always::<StateError, DAMAGED>),
];

fn always<E: Error + 'static, const CODE: u8>(error: &(dyn Error + 'static)) -> Option<u8> {
    error.is::<E>().then_some(CODE)
}

/// True for a full disk, a full quota, and a database that another process holds.
fn is_no_room(cause: &(dyn Error + 'static)) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    let is_full = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    let is_busy = |error: &rusqlite::Error| {
        matches!(error.sqlite_error_code(), Some(DiskFull | DatabaseBusy | DatabaseLocked))
    };
    cause.downcast_ref().is_some_and(is_full) || cause.downcast_ref().is_some_and(is_busy)
}

fn artifact(error: &ArtifactError) -> u8 {
    match error {
        ArtifactError::Taken { .. } => BAD_RECIPE,
        ArtifactError::Damaged { .. } | ArtifactError::Missing { .. } => DAMAGED,
        _ => FAILED,
    }
}

fn catalog(error: &CatalogError) -> u8 {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        CatalogError::OtherSecret { .. } => BAD_RECIPE,
        CatalogError::Missing { .. }
        | CatalogError::Unfinished { .. }
        | CatalogError::Folder { .. } => FAILED,
        CatalogError::Stranger { .. }
        | CatalogError::Newer { .. }
        | CatalogError::Older { .. }
        | CatalogError::Row { .. } => DAMAGED,
        CatalogError::Sqlite { source, .. } => match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => DAMAGED,
            _ => FAILED,
        },
    }
}

fn file(error: &FileError) -> u8 {
    match error {
        FileError::Refused { .. } => DAMAGED,
        _ => FAILED,
    }
}

fn cause(cause: &Cause) -> u8 {
    match cause {
        Cause::Read(_) => FAILED,
        Cause::Refused(_) | Cause::Misfit(_) => DAMAGED,
    }
}

fn ingest(error: &IngestError) -> u8 {
    match error {
        IngestError::Source(_) | IngestError::Twice { .. } => BAD_RECIPE,
        IngestError::Split(_) | IngestError::Damaged { .. } => DAMAGED,
        IngestError::Catalog(error) => catalog(error),
        IngestError::Unreadable { .. }
        | IngestError::Vanished { .. }
        | IngestError::Thread(_)
        | IngestError::Stopped => FAILED,
    }
}

fn loader(error: &LoaderError) -> u8 {
    match error {
        LoaderError::TooManyBad { .. } | LoaderError::Exhausted { .. } => DAMAGED,
        _ => FAILED,
    }
}

fn picture(error: &PictureError) -> u8 {
    match error {
        PictureError::Artifact(error) => artifact(error),
        PictureError::Encode(_) => FAILED,
    }
}

fn secret(error: &SecretError) -> u8 {
    match error {
        SecretError::Io { .. } => FAILED,
        _ => BAD_RECIPE,
    }
}

fn store(error: &StoreError) -> u8 {
    match error {
        StoreError::Artifact(error) => artifact(error),
        StoreError::Read { source, .. } if source.kind() != io::ErrorKind::NotFound => FAILED,
        _ => DAMAGED,
    }
}

fn forward(error: &ForwardError) -> u8 {
    if error.is_about_input() { BAD_RECIPE } else { DAMAGED }
}

fn weights(error: &WeightsFileError) -> u8 {
    match error {
        WeightsFileError::Write { .. } | WeightsFileError::Unwritable { .. } => FAILED,
        _ => DAMAGED,
    }
}

fn metrics(error: &MetricsError) -> u8 {
    match error {
        MetricsError::Damaged { .. } => DAMAGED,
        MetricsError::Write { .. } | MetricsError::Read { .. } => FAILED,
    }
}

/// Prints the chain of `error` on stderr as one sentence; only a recipe's excerpt has lines.
pub(super) fn complain(error: &anyhow::Error) {
    let mut text = String::new();
    for cause in error.chain() {
        let has_excerpt = cause.is::<RecipeError>();
        let cause = cause.to_string();
        let cause = if has_excerpt { plain_lines(&cause) } else { plain(&cause) };
        // Transparent errors repeat their source.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    // Nobody to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "error: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// A new error must be given its code here: without one it would be 1, whatever it is about.
    #[test]
    fn every_error_of_the_program_has_its_code() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut defined = BTreeSet::new();
        gather(&source, &source, &mut defined);
        let known: BTreeSet<String> = CODES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(defined, known);
        assert!(defined.len() > 20 && CODES.len() == known.len());
    }

    /// The errors that are not private to a file: `module::Name`.
    fn gather(source: &Path, folder: &Path, defined: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(source, &path, defined);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let module = path.strip_prefix(source).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace('/', "::");
            let module = module.trim_end_matches("::mod");
            // The tests of this file have the word as well.
            for part in text.split(concat!("thiserror", "::Error")).skip(1) {
                let words = part.split_whitespace().skip_while(|word| !word.starts_with("pub"));
                let words: Vec<&str> = words.take(3).collect();
                let next =
                    part.lines().find(|line| line.contains("enum ") || line.contains("struct "));
                if let [_, "enum" | "struct", name] = words[..]
                    && next.is_some_and(|line| line.contains("pub"))
                {
                    let name: String = name.chars().take_while(|it| it.is_alphanumeric()).collect();
                    defined.insert(format!("{module}::{name}"));
                }
            }
        }
    }

    fn sqlite(code: i32) -> CatalogError {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        CatalogError::Sqlite { path: "catalog.sqlite".into(), source }
    }

    #[test]
    fn a_full_disk_and_a_busy_database_are_no_damage() {
        use rusqlite::ffi::{
            SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_LOCKED,
        };
        for (number, expected) in [
            (SQLITE_FULL, FAILED),
            (SQLITE_BUSY, FAILED),
            (SQLITE_LOCKED, FAILED),
            (SQLITE_IOERR, FAILED),
            (SQLITE_CORRUPT, DAMAGED),
        ] {
            assert_eq!(code(&sqlite(number).into()), expected, "{number}");
            assert_eq!(code(&IngestError::from(sqlite(number)).into()), expected, "{number}");
        }
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let path = || "shard".into();
        let error = anyhow::Error::from(StoreError::Read { path: path(), source: full() });
        assert_eq!(code(&error.context("the store is damaged")), FAILED);
        let lost_race = ArtifactError::Io {
            doing: "create",
            path: path(),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        assert_eq!(code(&StoreError::Artifact(lost_race).into()), FAILED);
        let damaged = StoreError::Damaged { path: path(), what: "a bit".to_owned() };
        assert_eq!(code(&anyhow::Error::from(damaged).context("stage encode failed")), DAMAGED);
    }

    #[test]
    fn what_the_user_can_correct_comes_first() {
        let other = || CatalogError::OtherSecret {
            path: "catalog.sqlite".into(),
            found: "a".to_owned(),
            given: "b".to_owned(),
        };
        assert_eq!(code(&other().into()), BAD_RECIPE);
        assert_eq!(code(&IngestError::from(other()).into()), BAD_RECIPE);
        assert_eq!(code(&IngestError::from(SourceError::NoSecret).into()), BAD_RECIPE);
        let unreadable = IngestError::Unreadable {
            unreadable: 2,
            total: 3,
            limit: 1,
            first: "image 1 (the file is missing)".to_owned(),
        };
        assert_eq!(code(&unreadable.into()), FAILED);
        assert_eq!(code(&anyhow::anyhow!("anything")), FAILED);
    }
}
