//! What the images are worth: figures over features computed once, and the report.

pub mod fidelity;
mod font;
pub mod picture;

pub mod section;
