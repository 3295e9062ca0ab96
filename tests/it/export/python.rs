//! An exported folder in stock diffusers and transformers, against umbra's own numbers.
//!
//! `UMBRA_PYTHON` names a Python that has them (`tests/golden/export_check.py` says which); where it is unset
//! the test passes with a note. `UMBRA_RUN` may name a run of one's own to be compared as well.

use super::export;
use crate::binary::{copy_of_finished, done, project, umbra};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use umbra::data::file::{self, Window};
use umbra::data::phantom;
use umbra::data::picture::{Depth, gray_png};
use umbra::diffusion::guidance::guide;
use umbra::interop::export::{OnDisk, Package, Part, Weights};
use umbra::models::Init;
use umbra::models::denoiser::Denoiser;
use umbra::models::encoder::{Embedder, trained_input};
use umbra::models::images::stack;
use umbra::models::weights::file::{self as weights_file, NonFinite};
use umbra::models::weights::load_state_dict;
use umbra::random::Stream;
use umbra::sample::sampler::{Answer, Ddim, Sampler, starting_noise};
use umbra::stages::Run;

const STEPS: usize = 20;
const GUIDANCE: f64 = 1.75;

/// Schedules, objectives and conditions that differ in what is written.
const VARIANTS: [(&str, &[&str]); 9] = [
    ("as it is: flow, pooled", &[]),
    (
        "epsilon, pooled",
        &["denoiser.task.schedule=ScaledLinear()", "denoiser.task.objective=Epsilon"],
    ),
    (
        "velocity on a cosine, class and mean, positions resampled",
        &[
            "encoder.task.views.global_size=24",
            "encoder.train.images=128",
            "denoiser.task.schedule=Cosine()",
            "denoiser.task.objective=Velocity",
            "condition.pooled=false",
            "condition.tokens=ClassAndMean",
        ],
    ),
    (
        "image on a line without signal at its end",
        &[
            "denoiser.task.schedule=Linear(zero_terminal_snr: true)",
            "denoiser.task.objective=Clean",
            "denoiser.from.layers=2",
        ],
    ),
    (
        "betas spelt out, registers and their positions resampled",
        &[
            "encoder.from.registers=2",
            "encoder.task.views.global_size=24",
            "encoder.train.images=128",
            "condition.tokens=ClassAndRegisters",
            "denoiser.task.schedule=Cosine(offset: 0.02, zero_terminal_snr: true)",
            "denoiser.task.objective=Velocity",
        ],
    ),
    (
        "a transformer: flow, pooled",
        &["denoiser.from=Transformer(width: 32, depth: 2, heads: 2, context_width: 24)"],
    ),
    (
        "told how far a step leads",
        &["denoiser.task.self_consistency=(share: 0.25)", "condition.pooled=false"],
    ),
    (
        "a transformer that is told how far a step leads",
        &[
            "denoiser.task.self_consistency=(share: 0.25)",
            "denoiser.from=Transformer(width: 32, depth: 1, heads: 2)",
        ],
    ),
    (
        "a transformer: velocity, not pooled, patches of one, no norms of queries and keys",
        &[
            "denoiser.from=Transformer(patch: 1, width: 24, depth: 3, heads: 3, qk_norm: false)",
            "denoiser.task.schedule=Cosine()",
            "denoiser.task.objective=Velocity",
            "condition.pooled=false",
            "condition.tokens=ClassAndMean",
        ],
    ),
];

#[test]
fn stock_python_computes_the_same() {
    let Some(python) = std::env::var_os("UMBRA_PYTHON") else {
        return println!(
            "UMBRA_PYTHON is unset: what Python makes of an exported folder is not tested"
        );
    };
    for (name, settings) in VARIANTS {
        println!("{name}");
        let home = copy_of_finished();
        let tiny = home.path().join("checkpoints/tiny");
        if !settings.is_empty() {
            let mut command = umbra();
            command.args(["train", "recipes/tiny.ron", "--set", "denoiser.train.images=256"]);
            for setting in settings {
                command.args(["--set", setting]);
            }
            done(command.arg("--checkpoints").arg(tiny.parent().unwrap()));
        }
        check(Path::new(&python), &tiny, home.path());
    }
    if let Some(run) = std::env::var_os("UMBRA_RUN") {
        println!("{}", Path::new(&run).display());
        check(Path::new(&python), Path::new(&run), tempfile::tempdir().unwrap().path());
    }
}

/// Exports `run` into `home` and compares.
fn check(python: &Path, run: &Path, home: &Path) {
    let folder = home.join("model");
    done(&mut export(run, &folder));
    let model = Run::look(run, Path::new(".")).unwrap().model(Weights::Ema, None).unwrap();
    let image = home.join("image.png");
    let reference = home.join("reference.safetensors");
    weights_file::write(&reference, &numbers(&model, &image)).unwrap();
    let script = project().join("tests/golden/export_check.py");
    let mut command = Command::new(python);
    let output = command.arg(script).args([&folder, &reference, &image]).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{stdout}");
    assert!(output.status.success(), "{stderr}");
}

/// What umbra computes with `model`, of the picture that it writes to `image` and of another.
fn numbers(model: &Package, image: &Path) -> BTreeMap<String, TensorData> {
    let device = Device::flex();
    let mut init = Init::new(Stream::new(1, "unused"), &device).deferred();
    let (Part::Trained(encoder), Part::Trained(autoencoder)) = (&model.encoder, &model.autoencoder)
    else {
        panic!("recipes/tiny.ron trains both")
    };
    let encoder = load(encoder, encoder.config.init(&mut init));
    let autoencoder = load(autoencoder, autoencoder.config.init(&mut init));
    let denoiser: Denoiser = load(&model.denoiser, model.denoiser.config.init(&mut init));

    // Not square, and more than twice the size.
    let mut gray = phantom::render(11, 0, 100).image;
    gray.pixels.truncate(gray.width * 70);
    gray.height = 70;
    std::fs::write(image, gray_png(&gray, Depth::Eight, &[]).unwrap()).unwrap();
    let squares = [
        file::read(image, &Window::Auto).unwrap().to_square(model.image_size),
        phantom::render(11, 1, 64).image.to_square(model.image_size),
    ];
    let grey = stack(squares.iter().map(|it| &it.pixels[..]), model.image_size, &device);
    let batch = squares.len();

    let all_tokens = encoder.forward(trained_input(model.image_size).normalise(grey.clone()));
    let pixels: Vec<&[f32]> = squares.iter().map(|it| &it.pixels[..]).collect();
    let tokens = Embedder::trained_here(encoder.clone(), model.image_size, &device)
        .condition_tokens(model.tokens, &pixels, model.image_size);
    let keep = Tensor::<1>::ones([batch], &device);
    let condition = denoiser.condition.forward(tokens.clone(), keep);
    let null = denoiser.condition.null(1);

    let [channels, _] = model.denoiser.config.backbone.channels();
    let side = model.denoiser.config.backbone.sample_size();
    let noise = starting_noise(&[1, 2], [channels, side, side], &device);
    let schedule = &model.diffusion.schedule;
    let predict = |noisy: Tensor<4>, t: f64, keep: bool| {
        let timesteps = vec![schedule.timestep(t); batch];
        denoiser.forward(noisy, &timesteps, tokens.clone(), &vec![keep; batch])
    };
    let draw = |guidance: f64| -> Tensor<4> {
        let mut denoise = |noisy: Tensor<4>, t: f64| -> Result<Answer, std::convert::Infallible> {
            let mut prediction = predict(noisy.clone(), t, true);
            if guidance != 1.0 {
                prediction = guide(prediction, predict(noisy.clone(), t, false), guidance);
            }
            let (alpha, sigma) = schedule.alpha_sigma(t);
            let (alpha, sigma) = (vec![alpha; batch], vec![sigma; batch]);
            Ok(model.diffusion.objective.clean(prediction, noisy, &alpha, &sigma).into())
        };
        let sampler = Sampler::Ddim(Ddim { steps: STEPS, ..Ddim::default() });
        let mut none = |_: usize| unreachable!("DDIM adds no noise");
        sampler.sample(schedule, noise.clone(), &mut none, &mut denoise).unwrap()
    };
    let (latents, guided) = (draw(1.0), draw(GUIDANCE));
    let mean = autoencoder.encode(grey.clone() * 2.0 - 1.0).mean;
    let channel = |values: &[f64]| {
        let values = values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        Tensor::<4>::from_data(TensorData::new(values, [1, channels, 1, 1]), &device)
    };
    let (scale_mean, scale_std) = (channel(&model.scale.mean), channel(&model.scale.std));
    let number = |value: f64| TensorData::new(vec![value as f32], [1]);
    [
        ("prediction", predict(noise.clone(), 0.7, true).into_data()),
        (
            "decoded",
            autoencoder
                .decode(latents.clone() * scale_std.clone() + scale_mean.clone())
                .into_data(),
        ),
        ("clean", ((mean.clone() - scale_mean) / scale_std).into_data()),
        ("mean", mean.into_data()),
        ("latents", latents.into_data()),
        ("guided", guided.into_data()),
        ("noise", noise.into_data()),
        ("grey", grey.into_data()),
        ("all_tokens", all_tokens.into_data()),
        ("tokens", tokens.clone().into_data()),
        ("condition", condition.into_data()),
        ("null", null.into_data()),
        ("timestep", number(schedule.timestep(0.7))),
        ("steps", number(STEPS as f64)),
        ("guidance", number(GUIDANCE)),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into()
}

fn load<C, M: Module>(network: &OnDisk<C>, fresh: M) -> M {
    let state = weights_file::read(&network.weights, NonFinite::Refuse).unwrap();
    let named = |(name, data): (String, TensorData)| {
        Some((name.strip_prefix(network.prefix)?.to_owned(), data))
    };
    load_state_dict(fresh.no_grad(), &state.into_iter().filter_map(named).collect()).unwrap()
}
