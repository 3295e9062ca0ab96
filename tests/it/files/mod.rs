//! Image files, whole: real ones where there are any, and generated ones.

pub(crate) mod builder;
mod damage;
mod golden;
mod grid;
mod real;
