//! From tensors to devices, and the gradients of every operation, wired once.

use super::backend::{ConvGeometry, Engine, GroupNormGradients, Groups};
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, TensorMetadata, backend_extension};
#[cfg(feature = "cuda")]
use burn_cubecl::CubeBackend as Cube;

/// [`Engine`]'s operations without what only gradients need: what burn can dispatch.
#[backend_extension(Flex, Cube: cfg(feature = "cuda"), Autodiff)]
pub(super) trait Kernels: Backend {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;

    fn convolve_plain(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self>;

    fn norm_groups(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self>;

    fn norm_shifted_groups(
        x: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self>;

    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn affine_plain(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    fn norm_layers(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    fn geglu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    fn repeat_pixels(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self>;
}

/// Without gradients, an engine's operations as they are.
macro_rules! without_gradients {
    ($backend:ty) => {
        impl Kernels for $backend {
            fn convolve(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                geometry: ConvGeometry,
            ) -> FloatTensor<Self> {
                let kernel = Self::prepare_kernel(&weight, &x);
                let shape = weight.shape().dims();
                <Self as Engine>::convolve(&x, &kernel, shape, Some(&bias), geometry)
            }

            fn convolve_plain(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                geometry: ConvGeometry,
            ) -> FloatTensor<Self> {
                let kernel = Self::prepare_kernel(&weight, &x);
                <Self as Engine>::convolve(&x, &kernel, weight.shape().dims(), None, geometry)
            }

            fn norm_groups(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                groups: Groups,
            ) -> FloatTensor<Self> {
                <Self as Engine>::norm_groups(&x, None, &weight, &bias, groups).0
            }

            fn norm_shifted_groups(
                x: FloatTensor<Self>,
                shift: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                groups: Groups,
            ) -> FloatTensor<Self> {
                <Self as Engine>::norm_groups(&x, Some(&shift), &weight, &bias, groups).0
            }

            fn affine(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Engine>::affine(&x, &Self::prepare_matrix(&weight, &x), Some(&bias))
            }

            fn affine_plain(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Engine>::affine(&x, &Self::prepare_matrix(&weight, &x), None)
            }

            fn norm_layers(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                epsilon: f64,
            ) -> FloatTensor<Self> {
                <Self as Engine>::norm_layers(&x, &weight, &bias, epsilon).0
            }

            fn geglu(x: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Engine>::geglu(&x)
            }

            fn attend(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Engine>::attend(&q, &k, &v).0
            }

            fn join(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Engine>::join(&a, &b)
            }

            fn repeat_pixels(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
                <Self as Engine>::repeat_pixels(&x, size)
            }
        }
    };
}

without_gradients!(Flex);
#[cfg(feature = "cuda")]
without_gradients!(Cube);

/// One node of the graph: `$step` over `$parents`, with `$state` kept for the way back.
macro_rules! node {
    ($step:expr, $parents:expr, $state:expr, $output:expr) => {
        match $step.prepare::<C>($parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

impl<B: Engine, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (kernel, shape) = (B::prepare_kernel(&weight, &x), weight.shape().dims());
        let output = B::convolve(&x, &kernel, shape, Some(&bias.into_primitive()), geometry);
        node!(Convolve, nodes, (x, kernel, shape, geometry), output)
    }

    fn convolve_plain(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: ConvGeometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (kernel, shape) = (B::prepare_kernel(&weight, &x), weight.shape().dims());
        let output = B::convolve(&x, &kernel, shape, None, geometry);
        node!(Convolve, nodes, (x, kernel, shape, geometry), output)
    }

    fn norm_groups(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight, bias) =
            (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
        let (output, statistics) = B::norm_groups(&x, None, &weight, &bias, groups);
        let state = Normed { x, shift: None, weight, bias, groups, statistics };
        node!(NormGroups, nodes, state, output)
    }

    fn norm_shifted_groups(
        x: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node(), shift.node()];
        let (x, weight, bias) =
            (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
        let shift = shift.into_primitive();
        let (output, statistics) = B::norm_groups(&x, Some(&shift), &weight, &bias, groups);
        let state = Normed { x, shift: Some(shift), weight, bias, groups, statistics };
        node!(NormGroups, nodes, state, output)
    }

    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let matrix = B::prepare_matrix(&weight, &x);
        let output = B::affine(&x, &matrix, Some(&bias.into_primitive()));
        node!(Affine, nodes, (x, matrix), output)
    }

    fn affine_plain(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let matrix = B::prepare_matrix(&weight, &x);
        let output = B::affine(&x, &matrix, None);
        node!(Affine, nodes, (x, matrix), output)
    }

    fn norm_layers(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (output, statistics) = B::norm_layers(&x, &weight, &bias.into_primitive(), epsilon);
        node!(NormLayers, nodes, (x, weight, statistics), output)
    }

    fn geglu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive();
        let output = B::geglu(&x);
        node!(Geglu, nodes, x, output)
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        let (output, log_sums) = B::attend(&q, &k, &v);
        node!(Attend, nodes, ([q, k, v], output.clone(), log_sums), output)
    }

    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [a.node(), b.node()];
        let (a, b) = (a.into_primitive(), b.into_primitive());
        let output = B::join(&a, &b);
        node!(Join, nodes, a.shape()[1], output)
    }

    fn repeat_pixels(x: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive();
        let output = B::repeat_pixels(&x, size);
        let shape = x.shape();
        node!(RepeatPixels, nodes, [shape[2], shape[3]], output)
    }
}

#[derive(Debug)]
struct Convolve;

/// Parents are input, kernel and, if there is one, bias.
impl<B: Engine, const N: usize> Backward<B, N> for Convolve {
    type State = (FloatTensor<B>, FloatTensor<B>, [usize; 4], ConvGeometry);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, kernel, shape, geometry) = ops.state;
        for (at, node) in ops.parents.into_iter().enumerate() {
            let Some(node) = node else { continue };
            let gradient = match at {
                0 => B::convolve_x_gradient(&x, &kernel, shape, &grad, geometry),
                1 => B::convolve_weight_gradient(&x, shape, &grad, geometry),
                _ => B::sum_channels(&grad),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct NormGroups;

#[derive(Debug, Clone)]
struct Normed<B: Backend> {
    x: FloatTensor<B>,
    shift: Option<FloatTensor<B>>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    groups: Groups,
    statistics: FloatTensor<B>,
}

/// Parents are input, weight, bias and, if there is one, what was added to the input.
impl<B: Engine, const N: usize> Backward<B, N> for NormGroups {
    type State = Normed<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let Normed { x, shift, weight, bias, groups, statistics } = ops.state;
        let GroupNormGradients { x, shift, weight, bias } = B::norm_groups_gradients(
            &x,
            shift.as_ref(),
            &weight,
            &bias,
            &grad,
            groups,
            &statistics,
        );
        let gradients = [x, weight, bias].into_iter().chain(shift);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Affine;

/// Parents are input, matrix and, if there is one, bias.
impl<B: Engine, const N: usize> Backward<B, N> for Affine {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, matrix) = ops.state;
        for (at, node) in ops.parents.into_iter().enumerate() {
            let Some(node) = node else { continue };
            let gradient = match at {
                0 => B::affine_x_gradient(&matrix, &grad),
                1 => B::affine_weight_gradient(&x, &grad),
                _ => B::sum_rows(&grad),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// A step back that finds the gradients of all its parents at once, whichever of them are asked for.
macro_rules! step {
    ($name:ident of $parents:literal, $state:ty, |$kept:pat_param, $grad:ident| $gradients:expr) => {
        #[derive(Debug)]
        struct $name;

        impl<B: Engine> Backward<B, $parents> for $name {
            type State = $state;

            fn backward(
                self,
                ops: Ops<Self::State, $parents>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let $grad = grads.consume::<B>(&ops.node);
                let $kept = ops.state;
                for (node, gradient) in ops.parents.into_iter().zip($gradients) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
    };
}

step!(
    NormLayers of 3,
    (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    |(x, weight, statistics), grad| B::norm_layers_gradients(&x, &weight, &grad, &statistics)
);
step!(Geglu of 1, FloatTensor<B>, |x, grad| [B::geglu_gradient(&x, &grad)]);
step!(
    Attend of 3,
    ([FloatTensor<B>; 3], FloatTensor<B>, FloatTensor<B>),
    |(inputs, output, log_sums), grad| {
        B::attend_gradients(inputs.each_ref(), &output, &log_sums, &grad)
    }
);
step!(Join of 2, usize, |channels, grad| B::part(&grad, channels));
step!(RepeatPixels of 1, [usize; 2], |size, grad| [B::sum_pixels(&grad, size)]);
