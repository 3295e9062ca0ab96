//! Attention as graphs.

use super::drawing::{Drawing, Layout, Node, Pointwise};
use crate::engine::nvidia::format::Format;

/// Attention of logical [B, h, N, d]: softmax(Q · Kᵀ / √d) · V, every head by itself.
///
/// Strides are in elements, of batch, head and position; the numbers of a position lie side by side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attention {
    /// Images, B.
    pub batch: usize,
    /// Heads, h.
    pub heads: usize,
    /// Positions that ask, N.
    pub queries: usize,
    /// Positions that are looked at, M.
    pub keys: usize,
    /// Numbers per position and head, d.
    pub dim: usize,
    /// Of all tensors but the statistics and temporaries.
    pub format: Format,
    /// Strides of Q and dQ.
    pub q: [usize; 3],
    /// Strides of K and dK.
    pub k: [usize; 3],
    /// Strides of V and dV.
    pub v: [usize; 3],
    /// Strides of O and dO.
    pub o: [usize; 3],
}

impl Attention {
    /// The factor of Q · Kᵀ.
    pub fn scale(&self) -> f32 {
        (1.0 / (self.dim as f64).sqrt()) as f32
    }

    /// Floating-point operations of the forward pass.
    pub fn flops(&self) -> u64 {
        4 * (self.batch * self.heads * self.queries * self.keys * self.dim) as u64
    }

    /// Numbers of the statistics, and of the temporary `softmax_sum`: one per query and head.
    pub fn num_statistics(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Numbers of the temporary `dq_sum`.
    pub fn num_sums(&self) -> usize {
        self.num_statistics() * self.dim
    }

    fn layout(&self, positions: usize, [batch, head, position]: [usize; 3]) -> Layout {
        Layout::new([self.batch, self.heads, positions, self.dim], [batch, head, position, 1])
    }
}

/// q, k, v -> o, stats.
pub(super) fn forward(attention: &Attention) -> Drawing {
    let Attention { batch, heads, queries, keys, format, .. } = *attention;
    let mut drawing = Drawing::default();
    let q = drawing.memory("q", format, attention.layout(queries, attention.q));
    let k = drawing.memory("k", format, attention.layout(keys, attention.k));
    let v = drawing.memory("v", format, attention.layout(keys, attention.v));
    let o = drawing.memory("o", format, attention.layout(queries, attention.o));
    let stats = drawing.memory("stats", Format::F32, Layout::rows([batch, heads, queries, 1]));
    let scale = drawing.scalar("scale", attention.scale());
    drawing.nodes.push(Node::Attend { q, k, v, scale, o, stats });
    drawing
}

/// q, k, v, o, do, stats -> dq, dk, dv; temporaries softmax_sum, dq_sum.
///
/// The 18 operations that cuDNN recognises as flash attention's backward pass, in its order: with
/// S = scale · Q · Kᵀ, P = exp(S − stats) and D the sums of dO ∘ O over d,
/// dV = Pᵀ · dO, dS = scale · P ∘ (dO · Vᵀ − D), dK = dSᵀ · Q, dQ = dS · K.
pub(super) fn backward(attention: &Attention) -> Drawing {
    use Pointwise::{Copy, Exp, Multiply, Subtract};
    let Attention { batch, heads, queries, keys, dim, format, .. } = *attention;
    let asked = attention.layout(queries, attention.q);
    let answered = attention.layout(queries, attention.o);
    let key = attention.layout(keys, attention.k);
    let value = attention.layout(keys, attention.v);
    let row = Layout::rows([batch, heads, queries, 1]);
    let whole = Layout::rows([batch, heads, queries, dim]);
    let scores = Layout::rows([batch, heads, queries, keys]);

    let mut drawing = Drawing::default();
    let q = drawing.memory("q", format, asked);
    let k_t = drawing.memory("k_t", format, key.transposed());
    let v_t = drawing.memory("v_t", format, value.transposed());
    let o = drawing.memory("o", format, answered);
    let d_o = drawing.memory("do", format, answered);
    let stats = drawing.memory("stats", Format::F32, row);
    let dq = drawing.memory("dq", format, asked);
    let dk = drawing.memory("dk", format, key);
    let dv = drawing.memory("dv", format, value);
    let softmax_sum = drawing.memory("softmax_sum", Format::F32, row);
    let dq_sum = drawing.memory("dq_sum", Format::F32, whole);
    let scale = drawing.scalar("scale", attention.scale());
    let one = drawing.scalar("one", 1.0);

    let weighted = drawing.passing("weighted", Format::F32, whole);
    drawing.nodes.push(Node::Pointwise { what: Multiply, x: d_o, b: Some(o), y: weighted });
    let sums = drawing.passing("sums", Format::F32, row);
    drawing.nodes.push(Node::Sum { x: weighted, y: sums });
    drawing.nodes.push(Node::Pointwise { what: Multiply, x: sums, b: Some(one), y: softmax_sum });

    let products = drawing.passing("products", Format::F32, scores);
    drawing.nodes.push(Node::Product { a: q, b: k_t, c: products });
    let scaled = drawing.map("scaled", Multiply, products, Some(scale));
    let shifted = drawing.map("shifted", Subtract, scaled, Some(stats));
    let p = drawing.map("p", Exp, shifted, None);
    let p_t = drawing.passing("p_t", format, scores.transposed());
    drawing.nodes.push(Node::Reshape { x: p, y: p_t });
    drawing.nodes.push(Node::Product { a: p_t, b: d_o, c: dv });

    let dp = drawing.passing("dp", Format::F32, scores);
    drawing.nodes.push(Node::Product { a: d_o, b: v_t, c: dp });
    let centred = drawing.map("centred", Subtract, dp, Some(softmax_sum));
    let unscaled = drawing.map("unscaled", Multiply, centred, Some(p));
    let ds = drawing.map("ds", Multiply, unscaled, Some(scale));
    let ds_t = drawing.passing("ds_t", format, scores.transposed());
    drawing.nodes.push(Node::Reshape { x: ds, y: ds_t });
    drawing.nodes.push(Node::Product { a: ds_t, b: q, c: dk });

    let k = drawing.passing("k", format, key);
    drawing.nodes.push(Node::Reshape { x: k_t, y: k });
    drawing.nodes.push(Node::Product { a: ds, b: k, c: dq_sum });
    drawing.nodes.push(Node::Pointwise { what: Copy, x: dq_sum, b: None, y: dq });
    drawing
}
