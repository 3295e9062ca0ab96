//! DICOM files: the one place that touches them.
//!
//! The way of a stored value to brightness is PS3.3 C.7.6.3, C.11.1 and C.11.2, and PS3.4 N.2; each step has its
//! file: `container` (file to data set), `walk` (what of it the parser may see), `sop_class` (is it a radiograph?),
//! `patient` (whose it is), `header` (attributes),
//! `frames` (pixel data to samples, with a `codec` for each family of transfer syntaxes), `transform` (modality and
//! VOI), `grey` (samples to brightness).

mod codec;
mod container;
mod frames;
mod grey;
mod header;
mod lut;
mod patient;
mod sop_class;
mod transform;
mod walk;

pub(super) use container::is_dicom;
pub(super) use grey::read;
pub use patient::PatientId;
pub(super) use walk::MAX_ELEMENTS;

use super::{Format, Inspection, Refusal, samples::Samples};
use container::{Container, Purpose};
use header::Header;

/// Says what is stored in a DICOM file, all frames.
pub(super) fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    let container = Container::open(bytes, Purpose::Description)?;
    let header = Header::read(&container)?;
    let samples: Samples = frames::samples(&container, &header, frames::Sign::Header)?;
    let inspection = Inspection {
        format: Format::Dicom,
        transfer_syntax: Some(container.syntax.uid.to_owned()),
        rows: header.rows,
        columns: header.columns,
        frames: header.frames,
        samples: header.samples,
        bits_stored: header.bits_stored,
        signed: header.signed,
        photometric: header.photometric.to_owned(),
        window: transform::window_level(&container.object),
        modality: header.modality.map(str::to_owned),
        px_min: 0,
        px_max: 0,
        px_mean: 0.0,
        px_sha256: String::new(),
    };
    Ok(inspection.with_statistics(samples.statistics()))
}
