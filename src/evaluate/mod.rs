//! What the images are worth: figures over features computed once, and the report.

pub mod extractor;
pub mod fidelity;
pub mod report;
pub mod section;
pub mod subset;
