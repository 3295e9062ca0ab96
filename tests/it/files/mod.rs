//! Image files, whole: real ones where there are any, and generated ones.

mod real;
