//! Noise that is the same field at any size: smooth grain on lattices tied to the field, not to the
//! pixels.

use crate::random::Draws;

/// Lattice cells along the longer side, coarse to fine. A lattice finer than the pixels is left out:
/// the detector's average would remove it.
const CELLS: [usize; 3] = [40, 160, 640];
/// Share of the variance that each lattice carries.
const SHARES: [f32; 3] = [0.5, 0.25, 0.25];
/// Mean square of the cubic B-spline over one period of its lattice: 151/315 (exact).
const MEAN_SQUARE: f32 = 151.0 / 315.0;

/// Grain over the unit square.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    cells: usize,
    stride: usize,
    normals: Vec<f32>,
}

impl Noise {
    /// Noise of standard deviation `sigma` or less, for an image of `size` pixels.
    pub(super) fn new(mut draws: Draws, sigma: f32, size: usize) -> Self {
        let layers = CELLS.iter().zip(SHARES).filter(|&(&cells, _)| cells <= size.max(CELLS[0]));
        let layers = layers.map(|(&cells, share)| {
            let stride = cells + 3;
            let amplitude = sigma * share.sqrt() / MEAN_SQUARE;
            let mut normals = draws.normals(stride * stride);
            normals.iter_mut().for_each(|normal| *normal = normal.clamp(-3.0, 3.0) * amplitude);
            Layer { cells, stride, normals }
        });
        Self { layers: layers.collect() }
    }

    /// The noise at (x, y), both in [0, 1].
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        self.layers.iter().map(|layer| layer.at(x, y)).sum()
    }
}

impl Layer {
    fn at(&self, x: f32, y: f32) -> f32 {
        let cells = self.cells as f32;
        let locate = |at: f32| {
            let at = (at * cells).clamp(0.0, cells - 1e-3);
            (at as usize, at.fract())
        };
        let ((column, x), (row, y)) = (locate(x), locate(y));
        let (across, down) = (spline(x), spline(y));
        let mut sum = 0.0;
        for (line, weight) in down.into_iter().enumerate() {
            let start = (row + line) * self.stride + column;
            let nodes = &self.normals[start..start + 4];
            sum +=
                weight * nodes.iter().zip(across).map(|(node, weight)| node * weight).sum::<f32>();
        }
        sum
    }
}

/// Weights of the cubic B-spline at `t` in [0, 1) between the second and the third of four nodes.
fn spline(t: f32) -> [f32; 4] {
    let s = 1.0 - t;
    let inner = |t: f32| 2.0 / 3.0 - t * t + 0.5 * t * t * t;
    [s * s * s / 6.0, inner(t), inner(s), t * t * t / 6.0]
}
