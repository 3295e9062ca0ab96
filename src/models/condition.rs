//! From what the encoder saw to what guides the denoiser.

use super::layers::Linear;
use super::{ConfigError, Fill, Init, check_positive};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which of the encoder's tokens guide the denoiser. One learned token that is always there comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tokens {
    /// The class token.
    Class,
    /// The class token and the registers.
    ClassAndRegisters,
    /// The class token and the mean of the patch tokens.
    ClassAndMean,
    /// The class token and means of the patch tokens over a grid of that many fields to a side, row by row: it says
    /// where things are, and so leaves less to chance than the others.
    ClassAndGrid(usize),
}

/// Sizes of the condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionConfig {
    /// Tokens taken from the encoder per image.
    pub num_tokens: usize,
    /// Width of the encoder's tokens.
    pub token_width: usize,
    /// Width of the denoiser's cross-attention.
    pub width: usize,
}

impl ConditionConfig {
    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { num_tokens, token_width, width } = *self;
        let sizes = [("num_tokens", num_tokens), ("token_width", token_width), ("width", width)];
        check_positive("condition", &sizes)
    }

    /// The module, untrained.
    pub fn init(&self, init: &mut Init) -> Condition {
        let Self { num_tokens, token_width, width } = *self;
        Condition {
            mean: init.param([1, num_tokens, token_width], Fill::Zeros).set_require_grad(false),
            std: init.param([1, num_tokens, token_width], Fill::Ones).set_require_grad(false),
            projection: Linear::new(init, token_width, width, true),
            slots: init.param([1, num_tokens, width], Fill::Normal(1.0)),
            always: init.param([1, 1, width], Fill::Normal(1.0)),
            null: init.param([1, num_tokens, width], Fill::Normal(1.0)),
        }
    }
}

/// Standardises the encoder's tokens, projects them, tells them apart by a learned vector each, and adds one learned
/// token that is always there.
///
/// Embeddings of radiographs are much alike: what tells two of them apart is a small part of each number, and only a
/// part that is made large is learned from. So each number is shifted and scaled to mean 0 and variance 1 by what the
/// training split's are ([`standardised`](Self::standardised)).
///
/// The token that is always there keeps cross-attention's softmax from running over a single key, where it would be
/// constant and starve the query and key weights of gradient.
#[derive(Module, Debug)]
pub struct Condition {
    mean: Param<Tensor<3>>,
    std: Param<Tensor<3>>,
    projection: Linear,
    slots: Param<Tensor<3>>,
    always: Param<Tensor<3>>,
    null: Param<Tensor<3>>,
}

impl Condition {
    /// The same for tokens whose numbers have these means and standard deviations, [N · d] each; they are kept with
    /// the weights, and do not learn.
    pub fn standardised(mut self, mean: Vec<f32>, std: Vec<f32>) -> Self {
        let fixed = |param: Param<Tensor<3>>, values: Vec<f32>| {
            let (id, device) = (param.id, param.lazy_device());
            let data = TensorData::new(values, param.lazy_shape());
            param.transform_for_load(Tensor::from_data(data, &device), id)
        };
        self.mean = fixed(self.mean, mean);
        self.std = fixed(self.std, std);
        self
    }

    /// `tokens` [B, N, d] to [B, N + 1, D], the learned token last. Where `keep` `[B]` is 0 rather than 1
    /// the projected tokens are replaced by learned null tokens.
    pub fn forward(&self, tokens: Tensor<3>, keep: Tensor<1>) -> Tensor<3> {
        let [b, _n, _d] = tokens.dims();
        let tokens = (tokens - self.mean.val()) / self.std.val();
        let tokens = self.projection.forward(tokens) + self.slots.val(); // [B, N, D]
        let keep = keep.reshape([b, 1, 1]);
        let null = self.null.val() * keep.clone().neg().add_scalar(1.0);
        self.with_always(tokens * keep + null)
    }

    /// The condition of `batch` images about which nothing is known, [B, N + 1, D].
    pub fn null(&self, batch: usize) -> Tensor<3> {
        let [_, n, width] = self.null.dims();
        self.with_always(self.null.val().expand([batch, n, width]))
    }

    /// A condition's tokens from [`forward`](Self::forward) side by side, [B, N · D], without the one that
    /// is always there.
    pub fn pooled(condition: Tensor<3>) -> Tensor<2> {
        let [b, n, width] = condition.dims();
        condition.narrow(1, 0, n - 1).reshape([b, (n - 1) * width])
    }

    /// Tokens taken from the encoder per image.
    pub fn num_tokens(&self) -> usize {
        self.null.lazy_shape()[1]
    }

    /// Forward cost per image, in floating-point operations.
    pub fn flops(&self) -> u64 {
        self.projection.flops(self.null.lazy_shape()[1])
    }

    fn with_always(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [b, _, width] = tokens.dims();
        Tensor::cat(vec![tokens, self.always.val().expand([b, 1, width])], 1)
    }
}
