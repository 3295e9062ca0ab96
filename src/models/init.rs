//! How weights start: drawn on the host, each parameter from its own position of one stream.

use crate::random::{Draws, Stream};
use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rayon::prelude::*;

/// What a parameter holds before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this number.
    Constant(f64),
    /// Uniform between minus and plus this number.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Normal with this standard deviation, redrawn until within ±2, whatever the deviation: PyTorch's
    /// `trunc_normal_` with its default bounds, which cut nothing off at the usual 0.02.
    TruncatedNormal(f64),
}

impl Fill {
    /// PyTorch's default for the weight and bias of a layer whose outputs each see `fan_in` inputs:
    /// `kaiming_uniform_` with a = √5, which is uniform within 1 / √`fan_in`.
    pub fn torch_default(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in.max(1) as f64).sqrt())
    }
}

/// Hands out new parameters in order.
///
/// The identity of a parameter also comes from the stream, so that an optimizer's state saved under it
/// is found again by a network built the same way. Networks trained together need streams of
/// different names.
#[derive(Debug, Clone)]
pub struct Init {
    stream: Stream,
    device: Device,
    position: u64,
    is_deferred: bool,
    is_hollow: bool,
}

impl Init {
    /// Parameters on `device`, drawn from `stream` from position 0 on.
    pub fn new(stream: Stream, device: &Device) -> Self {
        Self { stream, device: device.clone(), position: 0, is_deferred: false, is_hollow: false }
    }

    /// The same, but a parameter draws its numbers when first used, so that a network about to be loaded,
    /// or only counted, costs nothing.
    ///
    /// Load such a network before cloning it: until drawn, clones share whether a parameter learns.
    pub fn deferred(mut self) -> Self {
        self.is_deferred = true;
        self
    }

    /// The same with zeros for all numbers, which cost nothing: for who looks at shapes alone.
    pub fn hollow(mut self) -> Self {
        self.is_hollow = true;
        self
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The next parameter.
    pub fn param<const D: usize>(&mut self, shape: [usize; D], fill: Fill) -> Param<Tensor<D>> {
        let mut draws = self.stream.at(self.position);
        self.position += 1;
        let id = ParamId::from(draws.next_u64());
        let fill = if self.is_hollow { Fill::Zeros } else { fill };
        let n = shape.iter().product();
        self.lazy(id, shape, move || match fill {
            Fill::Zeros => vec![0.0; n],
            Fill::Ones => vec![1.0; n],
            Fill::Constant(value) => vec![value as f32; n],
            Fill::Uniform(bound) => drawn(n, &draws, 2, |draws| draws.range(-bound, bound)),
            Fill::Normal(std) => drawn(n, &draws, 4, |draws| std * draws.normal()),
            Fill::TruncatedNormal(std) => (0..n)
                .map(|_| {
                    let mut value = std * draws.normal();
                    while value.abs() > 2.0 {
                        value = std * draws.normal();
                    }
                    value as f32
                })
                .collect(),
        })
    }

    /// The next parameter, which holds the numbers that `values` computes: as many as `shape` asks for.
    pub(crate) fn table<const D: usize>(
        &mut self,
        shape: [usize; D],
        values: impl FnOnce() -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        let id = ParamId::from(self.stream.at(self.position).next_u64());
        self.position += 1;
        let n = shape.iter().product();
        if self.is_hollow {
            return self.lazy(id, shape, move || vec![0.0; n]);
        }
        self.lazy(id, shape, values)
    }

    fn lazy<const D: usize>(
        &self,
        id: ParamId,
        shape: [usize; D],
        values: impl FnOnce() -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        let draw = move |device: &Device, require_grad: bool| {
            let tensor = Tensor::from_data(TensorData::new(values(), shape), device);
            if require_grad { tensor.require_grad() } else { tensor }
        };
        let param = Param::uninitialized(id, draw, self.device.clone(), true, shape.into());
        if !self.is_deferred {
            param.val();
        }
        param
    }
}

/// `n` numbers, each of as many `words` of `draws`, on all threads: a number follows from its place alone.
fn drawn(n: usize, draws: &Draws, words: u64, draw: impl Fn(&mut Draws) -> f64 + Sync) -> Vec<f32> {
    const CHUNK: usize = 1 << 14;
    let mut values = vec![0.0; n];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(at, chunk)| {
        let mut draws = draws.after((at * CHUNK) as u64 * words);
        chunk.iter_mut().for_each(|value| *value = draw(&mut draws) as f32);
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(fill: Fill) -> Vec<f64> {
        let mut init = Init::new(Stream::new(1, "fill"), &Device::flex());
        let values = init.param([200, 100], fill).val().into_data().try_to_vec::<f32>().unwrap();
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn a_truncated_normal_has_the_deviation_it_names() {
        let small = drawn(Fill::TruncatedNormal(0.02));
        let deviation =
            (small.iter().map(|value| value * value).sum::<f64>() / small.len() as f64).sqrt();
        // Of 20,000 draws the deviation is known to half a percent; cut at two of them it would be 0.0176.
        assert!((deviation / 0.02 - 1.0).abs() < 0.02, "{deviation}");
        assert!(small.iter().any(|value| value.abs() > 0.05));
        assert!(drawn(Fill::TruncatedNormal(1.5)).iter().all(|value| value.abs() <= 2.0));
    }
}
