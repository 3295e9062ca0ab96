//! What passes between umbra and other programs: schedulers of diffusers, one network on recorded tensors, a trained
//! model as a folder that diffusers and transformers open.

pub mod export;
pub mod forward;
pub mod scheduler;
