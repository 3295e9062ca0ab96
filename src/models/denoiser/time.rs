//! What the network is told about the timestep.

use crate::models::layers::Linear;
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Tensor, TensorData};

/// Sines and cosines of `timesteps` [B] at `width` / 2 frequencies from 1 down to about 1 / 10000:
/// [B, width], in f32. diffusers' `get_timestep_embedding`; `width` is even.
pub(super) fn sinusoids(
    timesteps: Tensor<1>,
    width: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
) -> Tensor<2> {
    let half = width / 2;
    let rate = -(10_000f64.ln()) / (half as f64 - freq_shift);
    let frequencies: Vec<f32> = (0..half).map(|at| (rate * at as f64).exp() as f32).collect();
    let frequencies =
        Tensor::<2>::from_data(TensorData::new(frequencies, [1, half]), &timesteps.device());
    let angles = timesteps.unsqueeze_dim::<2>(1) * frequencies; // [B, width / 2]
    let (sin, cos) = (angles.clone().sin(), angles.cos());
    Tensor::cat(if flip_sin_to_cos { vec![cos, sin] } else { vec![sin, cos] }, 1)
}

/// Two affine maps with a SiLU between them.
#[derive(Module, Debug)]
pub(super) struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    cond_proj: Option<Linear>,
}

impl TimeEmbedding {
    pub(super) fn new(init: &mut Init, num_in: usize, width: usize) -> Self {
        Self {
            linear_1: Linear::new(init, num_in, width, true),
            linear_2: Linear::new(init, width, width, true),
            cond_proj: None,
        }
    }

    /// The same with a further vector of `num_cond` numbers that joins the sinusoids; it changes nothing before it learns.
    pub(super) fn told(mut self, init: &mut Init, num_in: usize, num_cond: Option<usize>) -> Self {
        self.cond_proj =
            num_cond.map(|width| Linear::filled(init, width, num_in, Fill::Zeros, None));
        self
    }

    /// The sinusoids [B, width] with what `cond` [B, C] adds to them.
    pub(super) fn joined(&self, sinusoids: Tensor<2>, cond: Option<Tensor<2>>) -> Tensor<2> {
        match (&self.cond_proj, cond) {
            (Some(projection), Some(cond)) => sinusoids + projection.forward(cond),
            _ => sinusoids,
        }
    }

    /// The same, each weight starting as `fill` says of its fans (in, out), biases at zero.
    pub(super) fn filled(
        init: &mut Init,
        num_in: usize,
        width: usize,
        fill: impl Fn(usize, usize) -> Fill,
    ) -> Self {
        let zeros = Some(Fill::Zeros);
        Self {
            linear_1: Linear::filled(init, num_in, width, fill(num_in, width), zeros),
            linear_2: Linear::filled(init, width, width, fill(width, width), zeros),
            cond_proj: None,
        }
    }

    pub(super) fn forward(&self, sinusoids: Tensor<2>) -> Tensor<2> {
        self.linear_2.forward(silu(self.linear_1.forward(sinusoids)))
    }

    pub(super) fn flops(&self) -> u64 {
        let told = self.cond_proj.as_ref().map_or(0, |linear| linear.flops(1));
        self.linear_1.flops(1) + self.linear_2.flops(1) + told
    }
}
