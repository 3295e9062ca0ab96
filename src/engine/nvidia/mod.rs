//! NVIDIA's libraries: found, opened, asked for plans, and our own kernels compiled. Needs no GPU but to run them.

pub mod cublas;
pub mod cudnn;
pub mod driver;
pub mod format;
pub mod kernels;
pub mod libraries;
pub mod nvrtc;
pub mod survey;
