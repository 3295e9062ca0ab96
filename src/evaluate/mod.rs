//! evaluate

mod font;
pub mod picture;
pub mod report;
