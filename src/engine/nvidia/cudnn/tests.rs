//! What cuDNN has for the networks that umbra trains, asked without a GPU.

#![allow(clippy::print_stderr)] // Says why a test did not run.

use super::*;
use crate::engine::nvidia::stand_in;
use expect_test::expect;
use std::sync::OnceLock;

const H100: &str = include_str!("../devices/sm_90.json");
const A100: &str = include_str!("../devices/sm_80.json");
const B200: &str = include_str!("../devices/sm_100.json");
const LIMIT: usize = 256 << 20;

/// The library, or a word on why the test does not run.
fn cudnn() -> Option<&'static Cudnn> {
    static CUDNN: OnceLock<Result<Cudnn, String>> = OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        stand_in::drive(folder.path())?;
        Cudnn::open().map_err(|error| error.to_string())
    };
    CUDNN.get_or_init(open).as_ref().inspect_err(|reason| eprintln!("did not run: {reason}")).ok()
}

/// A convolution of squares that keeps their size, or halves it.
fn square(channels_in: usize, channels_out: usize, size: usize, kernel: usize) -> Convolution {
    Convolution {
        batch: 1,
        channels_in,
        height: size,
        width: size,
        channels_out,
        kernel: [kernel; 2],
        stride: 1,
        before: kernel / 2,
        after: kernel / 2,
        format: Format::Bf16,
    }
}

/// The convolutions of Stable Diffusion 1.5's U-Net.
fn unet(latent: usize, batch: usize) -> Vec<Convolution> {
    const CHANNELS: [usize; 4] = [320, 640, 1280, 1280];
    let mut shapes = vec![square(4, 320, latent, 3), square(320, 4, latent, 3)];
    let block = |shapes: &mut Vec<Convolution>, from, to, size| {
        shapes.extend([square(from, to, size, 3), square(to, to, size, 3)]);
        shapes.extend([square(from, to, size, 1), square(to, to, size, 1)]);
    };
    for (level, channels) in CHANNELS.into_iter().enumerate() {
        let size = latent >> level;
        block(&mut shapes, CHANNELS[level.saturating_sub(1)], channels, size);
        if level < 3 {
            shapes.push(Convolution { stride: 2, ..square(channels, channels, size, 3) });
            let below = CHANNELS[level + 1];
            shapes.push(square(below, below, size, 3));
        }
    }
    let joins =
        [(2560, 3), (2560, 2), (1920, 2), (1920, 1), (1280, 1), (960, 1), (960, 0), (640, 0)];
    for (from, level) in joins {
        block(&mut shapes, from, CHANNELS[level], latent >> level);
    }
    of_batch(shapes, batch)
}

/// The convolutions of Stable Diffusion's image encoder.
fn encoder(size: usize, batch: usize) -> Vec<Convolution> {
    const CHANNELS: [usize; 4] = [128, 256, 512, 512];
    let mut shapes = vec![square(3, 128, size, 3)];
    for (level, channels) in CHANNELS.into_iter().enumerate() {
        let (from, size) = (CHANNELS[level.saturating_sub(1)], size >> level);
        shapes.extend([square(from, channels, size, 3), square(channels, channels, size, 3)]);
        shapes.push(square(from, channels, size, 1));
        if level < 3 {
            let halved = square(channels, channels, size, 3);
            shapes.push(Convolution { stride: 2, before: 0, after: 1, ..halved });
        }
    }
    shapes.extend([square(512, 8, size >> 3, 3), square(8, 8, size >> 3, 1)]);
    of_batch(shapes, batch)
}

/// The patches of a vision transformer.
fn patches() -> Convolution {
    Convolution { stride: 14, before: 0, after: 0, batch: 64, ..square(3, 384, 224, 14) }
}

fn of_batch(shapes: Vec<Convolution>, batch: usize) -> Vec<Convolution> {
    let mut distinct: Vec<Convolution> = Vec::new();
    for shape in shapes {
        let shape = Convolution { batch, ..shape };
        if !distinct.contains(&shape) {
            distinct.push(shape);
        }
    }
    distinct
}

/// Attention over what a linear layer leaves behind: [B, N, h, d].
fn attention(queries: usize, keys: usize, heads: usize, dim: usize) -> Attention {
    let strides = |positions: usize| [positions * heads * dim, dim, heads * dim];
    let (q, k) = (strides(queries), strides(keys));
    Attention { batch: 16, heads, queries, keys, dim, format: Format::Bf16, q, k, v: k, o: q }
}

fn uses(convolution: Convolution) -> [Graph; 5] {
    [
        Graph::Convolve(convolution, Epilogue::Plain),
        Graph::Convolve(convolution, Epilogue::Bias),
        Graph::Convolve(convolution, Epilogue::ResidualBias),
        Graph::ConvolveInput(convolution),
        Graph::ConvolveWeight(convolution),
    ]
}

#[test]
fn graphs_are_described_to_the_last_stride() {
    let halved = Convolution { stride: 2, before: 0, after: 1, ..square(128, 256, 64, 3) };
    expect![[r#"
        convolve + residual + bias, bf16, [1, 128, 64, 64] to 256 by 3×3, stride 2, padding 0 1
        1 x: bf16 [1, 128, 64, 64] by [524288, 1, 8192, 128]
        2 w: bf16 [256, 128, 3, 3] by [1152, 1, 384, 128]
        3 residual: bf16 [1, 256, 32, 32] by [262144, 1, 8192, 256]
        4 bias: bf16 [1, 256, 1, 1] by [256, 1, 256, 256]
        5 y: bf16 [1, 256, 32, 32] by [262144, 1, 8192, 256]
        6 product: f32 [1, 256, 32, 32] by [262144, 1, 8192, 256], virtual
        7 shifted: f32 [1, 256, 32, 32] by [262144, 1, 8192, 256], virtual
        product = convolve(x, w), strides [2, 2], padding [0, 0] [1, 1]
        shifted = add(product, residual)
        y = add(shifted, bias)
    "#]]
    .assert_eq(&Graph::Convolve(halved, Epilogue::ResidualBias).describe());
    expect![[r#"
        convolve, input gradient, bf16, [1, 128, 64, 64] to 256 by 3×3, stride 2, padding 0 1
        1 dy: bf16 [1, 256, 32, 32] by [262144, 1, 8192, 256]
        2 w: bf16 [256, 128, 3, 3] by [1152, 1, 384, 128]
        3 dx: bf16 [1, 128, 64, 64] by [524288, 1, 8192, 128]
        dx = convolve_input(dy, w), strides [2, 2], padding [0, 0] [1, 1]
    "#]]
    .assert_eq(&Graph::ConvolveInput(halved).describe());
    expect![[r#"
        convolve, weight gradient, bf16, [64, 3, 224, 224] to 384 by 14×14, stride 14, padding 0 0
        1 x: bf16 [64, 3, 224, 224] by [150528, 1, 672, 3]
        2 dy: bf16 [64, 384, 16, 16] by [98304, 1, 6144, 384]
        3 dw: bf16 [384, 3, 14, 14] by [588, 1, 42, 3]
        dw = convolve_weight(x, dy), strides [14, 14], padding [0, 0] [0, 0]
    "#]]
    .assert_eq(&Graph::ConvolveWeight(patches()).describe());
    expect![[r#"
        attend, bf16, [16, 8, 1024, 40] to 77 keys
        1 q: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        2 k: bf16 [16, 8, 77, 40] by [24640, 40, 320, 1]
        3 v: bf16 [16, 8, 77, 40] by [24640, 40, 320, 1]
        4 o: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        5 stats: f32 [16, 8, 1024, 1] by [8192, 1024, 1, 1]
        6 scale: f32 [1, 1, 1, 1] by [1, 1, 1, 1], = 0.15811388
        o, stats = attend(q, k, v, scale)
    "#]]
    .assert_eq(&Graph::Attend(attention(1024, 77, 8, 40)).describe());
    expect![[r#"
        attend, gradients, bf16, [16, 8, 1024, 40] to 77 keys
        1 q: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        2 k_t: bf16 [16, 8, 40, 77] by [24640, 40, 1, 320]
        3 v_t: bf16 [16, 8, 40, 77] by [24640, 40, 1, 320]
        4 o: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        5 do: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        6 stats: f32 [16, 8, 1024, 1] by [8192, 1024, 1, 1]
        7 dq: bf16 [16, 8, 1024, 40] by [327680, 40, 320, 1]
        8 dk: bf16 [16, 8, 77, 40] by [24640, 40, 320, 1]
        9 dv: bf16 [16, 8, 77, 40] by [24640, 40, 320, 1]
        10 softmax_sum: f32 [16, 8, 1024, 1] by [8192, 1024, 1, 1]
        11 dq_sum: f32 [16, 8, 1024, 40] by [327680, 40960, 40, 1]
        12 scale: f32 [1, 1, 1, 1] by [1, 1, 1, 1], = 0.15811388
        13 one: f32 [1, 1, 1, 1] by [1, 1, 1, 1], = 1
        14 weighted: f32 [16, 8, 1024, 40] by [327680, 40960, 40, 1], virtual
        15 sums: f32 [16, 8, 1024, 1] by [8192, 1024, 1, 1], virtual
        16 products: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        17 scaled: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        18 shifted: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        19 p: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        20 p_t: bf16 [16, 8, 77, 1024] by [630784, 78848, 1, 77], virtual
        21 dp: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        22 centred: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        23 unscaled: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        24 ds: f32 [16, 8, 1024, 77] by [630784, 78848, 77, 1], virtual
        25 ds_t: bf16 [16, 8, 77, 1024] by [630784, 78848, 1, 77], virtual
        26 k: bf16 [16, 8, 77, 40] by [24640, 40, 320, 1], virtual
        weighted = multiply(do, o)
        sums = sum(weighted)
        softmax_sum = multiply(sums, one)
        products = q · k_t
        scaled = multiply(products, scale)
        shifted = subtract(scaled, stats)
        p = exp(shifted)
        p_t = reshape(p)
        dv = p_t · do
        dp = do · v_t
        centred = subtract(dp, softmax_sum)
        unscaled = multiply(centred, p)
        ds = multiply(unscaled, scale)
        ds_t = reshape(ds)
        dk = ds_t · q
        k = reshape(k_t)
        dq_sum = ds · k
        dq = copy(dq_sum)
    "#]]
    .assert_eq(&Graph::AttendGradients(attention(1024, 77, 8, 40)).describe());
}

#[test]
fn formats_are_told_apart_in_descriptions() {
    let text =
        |format| Graph::ConvolveInput(Convolution { format, ..square(8, 8, 32, 3) }).describe();
    assert_ne!(text(Format::F32), text(Format::Tf32));
}

#[test]
fn old_versions_are_refused_with_a_way_out() {
    for good in [91_301, 91_400, 92_600] {
        assert_eq!(Version(good).check(), Ok(()), "{good}");
    }
    let words = |version| Version(version).check().unwrap_err().to_string();
    expect!["cuDNN 9.10.1 has known bugs in attention; 9.13.1 or newer is needed: pip install --upgrade nvidia-cudnn-cu13"].assert_eq(&words(91_001));
    expect!["cuDNN 9.8.0 has no attention as one operation; 9.13.1 or newer is needed: pip install --upgrade nvidia-cudnn-cu13"].assert_eq(&words(90_800));

    let gradients = |keys| Graph::AttendGradients(attention(64, keys, 8, 40));
    assert_eq!(Version(91_400).check_graph(&gradients(256)), Ok(()));
    assert_eq!(Version(91_501).check_graph(&gradients(77)), Ok(()));
    let refusal = Version(91_500).check_graph(&gradients(77)).unwrap_err().to_string();
    expect!["cuDNN 9.15.0 may leave its memory in attention gradients unless keys come in 128s; 9.15.1 or newer is needed: pip install --upgrade nvidia-cudnn-cu13"].assert_eq(&refusal);
}

/// The networks at the batches they are trained with: 256 and 512 px, 256 px, 224 px.
#[test]
fn every_convolution_has_a_plan() {
    let Some(cudnn) = cudnn() else { return };
    let mut shapes = [unet(32, 64), unet(64, 16), encoder(256, 16)].concat();
    shapes.push(patches());
    let formats = [Format::Bf16, Format::Tf32, Format::F32];
    let mut missing = Vec::new();
    for card in [H100, A100] {
        for shape in &shapes {
            for graph in
                formats.iter().flat_map(|format| uses(Convolution { format: *format, ..*shape }))
            {
                if let Err(error) = cudnn.plan(&graph, &Target::Described(card), LIMIT) {
                    missing.push(error.to_string());
                }
            }
        }
    }
    assert!(missing.is_empty(), "{} lack a plan:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn the_next_cards_are_known() {
    let Some(cudnn) = cudnn() else { return };
    for graph in uses(Convolution { batch: 16, ..square(320, 320, 32, 3) }) {
        cudnn.plan(&graph, &Target::Described(B200), LIMIT).unwrap();
    }
    let graph = Graph::AttendGradients(attention(256, 256, 8, 80));
    cudnn.plan(&graph, &Target::Described(B200), LIMIT).unwrap();
}

/// Self-attention, and cross-attention to 77 tokens, of the U-Net and of a vision transformer.
#[test]
fn every_attention_has_a_plan() {
    let Some(cudnn) = cudnn() else { return };
    let plan = |(queries, heads, dim): (usize, usize, usize)| {
        for attention in [queries, 77].map(|keys| attention(queries, keys, heads, dim)) {
            for graph in [Graph::Attend(attention), Graph::AttendGradients(attention)] {
                let plan = cudnn.plan(&graph, &Target::Described(H100), LIMIT);
                assert!(plan.is_ok(), "{:?}", plan.err());
            }
        }
    };
    std::thread::scope(|scope| {
        for shape in [(1024, 8, 40), (257, 6, 64), (256, 8, 80), (64, 8, 160)] {
            scope.spawn(move || plan(shape));
        }
    });
}

#[test]
fn attention_that_is_ours_to_compute_is_refused() {
    let Some(cudnn) = cudnn() else { return };
    let wide = attention(64, 64, 8, 160);
    let exact = Attention { format: Format::F32, ..attention(64, 64, 8, 40) };
    for graph in [Graph::AttendGradients(wide), Graph::Attend(exact), Graph::AttendGradients(exact)]
    {
        let refusal = cudnn.plan(&graph, &Target::Described(A100), LIMIT).err();
        assert!(matches!(refusal, Some(CudnnError::NoEngine { .. })), "{graph}: {refusal:?}");
    }
}

#[test]
fn plans_come_best_first_and_within_the_limit() {
    let Some(cudnn) = cudnn() else { return };
    let card = Target::Described(H100);
    let graph = Graph::ConvolveWeight(Convolution { batch: 16, ..square(320, 320, 32, 3) });
    let best = cudnn.plan(&graph, &card, LIMIT).unwrap();
    let plans = cudnn.plans(&graph, &card, LIMIT, 3).unwrap();
    assert_eq!(plans.len(), 3);
    assert_eq!(plans[0].engine(), best.engine());
    assert!(cudnn.plans(&graph, &card, 0, 99).unwrap().iter().all(|plan| plan.workspace() == 0));
}

#[test]
fn plans_survive_on_disk() {
    let Some(cudnn) = cudnn() else { return };
    let card = Target::Described(H100);
    let convolution = Convolution { batch: 16, ..square(3, 128, 256, 3) };
    let attention = attention(256, 256, 8, 80);
    for graph in [Graph::ConvolveWeight(convolution), Graph::AttendGradients(attention)] {
        let plan = cudnn.plan(&graph, &card, LIMIT).unwrap();
        let saved = plan.save().unwrap();
        let loaded = cudnn.load(&graph, &saved, &card).unwrap();
        assert_eq!(loaded.workspace(), plan.workspace());
        assert_eq!(loaded.engine(), plan.engine());
        assert_eq!(loaded.save().unwrap(), saved);

        let refusal = |graph: &Graph, saved: &str, card| cudnn.load(graph, saved, card).err();
        let other = Graph::ConvolveInput(convolution);
        assert!(matches!(refusal(&other, &saved, &card), Some(CudnnError::Saved { .. })));
        assert!(matches!(refusal(&graph, "{}", &card), Some(CudnnError::Saved { .. })));
    }
}

#[test]
fn attention_plans_are_for_one_generation_of_cards() {
    let Some(cudnn) = cudnn() else { return };
    let graph = Graph::Attend(attention(64, 64, 8, 40));
    let saved = cudnn.plan(&graph, &Target::Described(H100), LIMIT).unwrap().save().unwrap();
    let elsewhere = cudnn.load(&graph, &saved, &Target::Described(A100));
    assert!(matches!(elsewhere.err(), Some(CudnnError::Call { .. })));
}

#[test]
fn plans_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Plan>();
    is_send::<Handle>();
}
