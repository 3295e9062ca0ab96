//! What a run is worth: a file per figure, and the report that shows whatever they found.

pub mod extractor;
pub mod figures;
pub mod report;

mod evidence;
mod eye;
mod finding;
mod images;
mod sets;
mod shelf;
mod subset;
mod words;

pub use evidence::{Cache, Evidence};
pub use figures::{Evaluation, measure_all};
pub use finding::{Figure, Finding, Taken};
pub use images::Drawn;
pub use shelf::Shelves;
