//! A block of the transformer: image and condition attend to each other, each with its own weights.

use super::mmdit_config::MmditConfig;
use crate::models::attention::{self, attention};
use crate::models::layers::{Linear, RmsNorm, normalised};
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

/// Added to the variance by every norm.
const EPSILON: f64 = 1e-6;

/// Xavier's uniform start (Glorot & Bengio 2010).
pub(super) fn xavier(fan_in: usize, fan_out: usize) -> Fill {
    Fill::Uniform((6.0 / (fan_in + fan_out) as f64).sqrt())
}

/// `x` [B, N, D], normed, scaled by 1 + `scale` [B, 1, D] and shifted by `shift` [B, 1, D].
pub(super) fn modulated(x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>) -> Tensor<3> {
    normalised(x, EPSILON) * (scale + 1.0) + shift
}

/// What the timestep asks of a norm and of what follows it: adaLN-zero, which starts by asking nothing.
#[derive(Module, Debug)]
pub(super) struct Modulation {
    linear: Linear,
}

impl Modulation {
    pub(super) fn new(init: &mut Init, width: usize, parts: usize) -> Self {
        Self { linear: Linear::filled(init, width, parts * width, Fill::Zeros, Some(Fill::Zeros)) }
    }

    /// `time` [B, D], after its SiLU, to `PARTS` of [B, 1, D].
    pub(super) fn forward<const PARTS: usize>(&self, time: &Tensor<2>) -> [Tensor<3>; PARTS] {
        let all = self.linear.forward(time.clone()).unsqueeze_dim::<3>(1);
        let width = all.dims()[2] / PARTS;
        std::array::from_fn(|at| all.clone().narrow(2, at * width, width))
    }

    pub(super) fn flops(&self) -> u64 {
        self.linear.flops(1)
    }
}

/// diffusers' `JointTransformerBlock`.
#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: Modulation,
    norm1_context: Modulation,
    attn: JointAttention,
    ff: FeedForward,
    /// None in the last block, after which nobody asks for the condition.
    ff_context: Option<FeedForward>,
}

impl Block {
    pub(super) fn new(config: &MmditConfig, init: &mut Init, is_last: bool) -> Self {
        let width = config.width();
        Self {
            norm1: Modulation::new(init, width, 6),
            norm1_context: Modulation::new(init, width, if is_last { 2 } else { 6 }),
            attn: JointAttention::new(config, init, is_last),
            ff: FeedForward::new(init, width),
            ff_context: (!is_last).then(|| FeedForward::new(init, width)),
        }
    }

    /// `image` [B, N, D] and `context` [B, K, D] to the same; `time` [B, D] has been through its SiLU.
    pub(super) fn forward(
        &self,
        image: Tensor<3>,
        context: Tensor<3>,
        time: &Tensor<2>,
    ) -> (Tensor<3>, Tensor<3>) {
        let [shift, scale, gate, shift_ff, scale_ff, gate_ff] = self.norm1.forward(time);
        let seen = modulated(image.clone(), scale, shift);
        let Some(ff_context) = &self.ff_context else {
            let [scale, shift] = self.norm1_context.forward(time);
            let seen_context = modulated(context.clone(), scale, shift);
            let (branch, _) = self.attn.forward(seen, seen_context);
            let image = image + branch * gate;
            return (self.ff.added(image, [shift_ff, scale_ff, gate_ff]), context);
        };
        let [shift, scale, gate_context, shift_fc, scale_fc, gate_fc] =
            self.norm1_context.forward(time);
        let seen_context = modulated(context.clone(), scale, shift);
        let (branch, branch_context) = self.attn.forward(seen, seen_context);
        let image = self.ff.added(image + branch * gate, [shift_ff, scale_ff, gate_ff]);
        let context = context + branch_context * gate_context;
        (image, ff_context.added(context, [shift_fc, scale_fc, gate_fc]))
    }

    pub(super) fn flops(&self, n: usize, num_context: usize) -> u64 {
        self.norm1.flops()
            + self.norm1_context.flops()
            + self.attn.flops(n, num_context)
            + self.ff.flops(n)
            + self.ff_context.as_ref().map_or(0, |ff| ff.flops(num_context))
    }
}

/// Attention over image and condition together; only the projections differ.
#[derive(Module, Debug)]
struct JointAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    add_q_proj: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_add_out: Option<Linear>,
    norm_added_q: Option<RmsNorm>,
    norm_added_k: Option<RmsNorm>,
    num_heads: usize,
}

impl JointAttention {
    fn new(config: &MmditConfig, init: &mut Init, is_last: bool) -> Self {
        let width = config.width();
        let zeros = Some(Fill::Zeros);
        // DiT has queries, keys and values in one matrix, and Xavier sees its height.
        let mut seen = || Linear::filled(init, width, width, xavier(width, 3 * width), zeros);
        let [to_q, to_k, to_v] = [seen(), seen(), seen()];
        let [add_q_proj, add_k_proj, add_v_proj] = [seen(), seen(), seen()];
        let mut out = || Linear::filled(init, width, width, xavier(width, width), zeros);
        let (to_out, to_add_out) = (vec![out()], (!is_last).then(&mut out));
        let mut norm =
            || config.qk_norm.then(|| RmsNorm::new(init, config.attention_head_dim, EPSILON));
        Self {
            norm_q: norm(),
            norm_k: norm(),
            norm_added_q: norm(),
            norm_added_k: norm(),
            to_q,
            to_k,
            to_v,
            to_out,
            add_q_proj,
            add_k_proj,
            add_v_proj,
            to_add_out,
            num_heads: config.num_attention_heads,
        }
    }

    /// `image` [B, N, D] and `context` [B, K, D] to the same; in the last block the second comes back unprojected.
    fn forward(&self, image: Tensor<3>, context: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let ([b, n, width], [_, num_context, _]) = (image.dims(), context.dims());
        let join = |ours: &Linear, norm: &Option<RmsNorm>, added: &Linear, added_norm: &_| {
            let ours = self.heads(ours.forward(image.clone()), norm);
            let added = self.heads(added.forward(context.clone()), added_norm);
            Tensor::cat(vec![ours, added], 1).swap_dims(1, 2) // [B, heads, N + K, d]
        };
        let q = join(&self.to_q, &self.norm_q, &self.add_q_proj, &self.norm_added_q);
        let k = join(&self.to_k, &self.norm_k, &self.add_k_proj, &self.norm_added_k);
        let v = join(&self.to_v, &None, &self.add_v_proj, &None);
        let seen = attention(q, k, v).swap_dims(1, 2).reshape([b, n + num_context, width]);
        let image = self.to_out[0].forward(seen.clone().narrow(1, 0, n));
        let context = seen.narrow(1, n, num_context);
        let context = match &self.to_add_out {
            Some(out) => out.forward(context),
            None => context,
        };
        (image, context)
    }

    /// [B, N, D] to [B, N, heads, d], normed head by head.
    fn heads(&self, x: Tensor<3>, norm: &Option<RmsNorm>) -> Tensor<4> {
        let [b, n, width] = x.dims();
        let x = x.reshape([b, n, self.num_heads, width / self.num_heads]);
        match norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn flops(&self, n: usize, num_context: usize) -> u64 {
        let width = self.to_q.weight.lazy_shape()[0];
        let out = self.to_add_out.as_ref().map_or(0, |out| out.flops(num_context));
        let all = n + num_context;
        4 * self.to_q.flops(n)
            + 3 * self.add_q_proj.flops(num_context)
            + out
            + attention::flops(all, all, width)
    }
}

#[derive(Module, Debug)]
struct FeedForward {
    net: Net,
}

/// PyTorch's list of projection with GELU, dropout (1, not ours) and output.
#[derive(Module, Debug)]
struct Net {
    at_0: Hidden,
    at_2: Linear,
}

#[derive(Module, Debug)]
struct Hidden {
    proj: Linear,
}

impl FeedForward {
    fn new(init: &mut Init, width: usize) -> Self {
        let (inner, zeros) = (4 * width, Some(Fill::Zeros));
        let fill = xavier(width, inner);
        Self {
            net: Net {
                at_0: Hidden { proj: Linear::filled(init, width, inner, fill, zeros) },
                at_2: Linear::filled(init, inner, width, fill, zeros),
            },
        }
    }

    /// `x` [B, N, D] with what the layer makes of it added, as `shift`, `scale` and `gate` [B, 1, D] ask.
    fn added(&self, x: Tensor<3>, [shift, scale, gate]: [Tensor<3>; 3]) -> Tensor<3> {
        let Net { at_0: hidden, at_2: out } = &self.net;
        let branch = modulated(x.clone(), scale, shift);
        x + out.forward(gelu_tanh(hidden.proj.forward(branch))) * gate
    }

    fn flops(&self, n: usize) -> u64 {
        self.net.at_0.proj.flops(n) + self.net.at_2.flops(n)
    }
}

/// GELU by its tanh approximation, which is x times a sigmoid.
fn gelu_tanh(x: Tensor<3>) -> Tensor<3> {
    const RATE: f64 = 1.595_769_121_605_731; // 2 √(2 / π)
    let curve = x.clone().square().mul_scalar(0.044715 * RATE).add_scalar(RATE);
    x.clone() * sigmoid(x * curve)
}
