//! A denoiser that learns long steps and what the encoder sees, drawn from in every way that a recipe can name.

use super::binary::{copy_of_finished, done, ended, newest, results, umbra};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::sample::stage::read_table;
use umbra::telemetry::metrics;

const TASK: &str = "denoiser.task=Denoise(schedule: RectifiedFlow(shift: 3.0), objective: Flow, weighting: Uniform, \
                    self_consistency: (share: 0.3), alignment: (blocks: 1, hidden: 32))";

/// What makes of recipes/tiny.ron such a one: only what follows the encoder and the autoencoder is made anew.
const SETTINGS: [&str; 8] = [
    "denoiser.from=Transformer(width: 32, depth: 2, heads: 2)",
    TASK,
    "condition=(tokens: ClassAndGrid(2), pooled: true)",
    "denoiser.train.images=768",
    "denoiser.train.milestones=[250]",
    "denoiser.train.validate_every=256",
    "sample=[Reconstruct(images: 4, sampler: Shortcut(steps: 2)), Reconstruct(images: 4, sampler: Ddim(steps: 4)), \
     Reconstruct(images: 4, guidance: Scale(scale: 3.0, interval: (0.2, 0.9), rescale: 0.5), sampler: Ddim(steps: 4)), \
     Reconstruct(images: 4, guidance: Auto(scale: 2.0, images: 250), sampler: Ddim(steps: 4)), \
     Reconstruct(images: 4, guidance: PlusPlus(scale: 0.8), sampler: Ddim(steps: 4, spacing: Karras(rho: 7.0))), \
     Reconstruct(images: 4, sampler: DpmSolver2M(steps: 4, stochastic: true)), \
     Reconstruct(images: 4, sampler: Ddim(steps: 4, eta: 1.0))]",
    "evaluate=[ConditionFidelity(candidates: 8, sampler: Ddim(steps: 2)), \
     ConditionFidelity(candidates: 8, sampler: Shortcut(steps: 2)), \
     ConditionFidelity(candidates: 8, sampler: Ddim(steps: 2), guidance: Auto(scale: 2.0, images: 250))]",
];

fn tiny(verb: &str, checkpoints: &Path) -> Command {
    let mut command = umbra();
    command.args([verb, "recipes/tiny.ron", "--threads", "2"]);
    command.args(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    command.arg("--checkpoints").arg(checkpoints);
    command
}

#[test]
fn it_is_drawn_from_in_every_way() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    done(&mut tiny("run", &checkpoints));

    // What the training tells of both: long steps are there, and the encoder's patches are found better and better.
    let records = metrics::read(&run.join("denoiser")).unwrap();
    let of = |name: &str| -> Vec<f64> {
        records.iter().filter_map(|record| record.values.get(name).copied()).collect()
    };
    let (apart, long) = (of("train/alignment"), of("train/long_steps"));
    assert!(apart.len() > 5 && apart[apart.len() - 1] < 0.9 * apart[0], "{apart:?}");
    assert!(long.len() > 5 && long.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{long:?}");
    // The milestone outlives those that came after it.
    let kept: BTreeSet<String> = fs::read_dir(run.join("denoiser"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("checkpoint-"))
        .collect();
    let expected = [256, 704, 768].map(|images| format!("checkpoint-{images:012}"));
    assert_eq!(kept, expected.into());

    // Each way draws its own images, and the table says which it was.
    let table = read_table(&run.join("sample")).unwrap();
    let ways: Vec<(&str, f64)> =
        table.iter().step_by(4).map(|row| (&row.guidance[..], row.guidance_scale)).collect();
    let none = ("None", 1.0);
    let guided = [("Scale", 3.0), ("Auto", 2.0), ("PlusPlus", 0.8)];
    assert_eq!(ways, [none, none, guided[0], guided[1], guided[2], none, none]);
    let images: BTreeSet<Vec<u8>> =
        table.iter().map(|row| fs::read(run.join("sample").join(&row.file)).unwrap()).collect();
    assert_eq!(images.len(), 28);
    let report: Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    for key in ["", "_shortcut_2", "_auto_2"] {
        let key = format!("condition_fidelity{key}");
        assert!(report[&key]["top1"].is_number(), "{key} in {report:#}");
    }

    // From the last checkpoint but one it comes to the same end.
    let whole = results(&run);
    fs::remove_dir_all(newest(&run, "denoiser")).unwrap();
    fs::remove_dir_all(run.join("sample")).unwrap();
    done(&mut tiny("run", &checkpoints));
    assert_eq!(results(&run), whole);

    // A folder of it draws the same, and a milestone that nobody kept is missed in a sentence.
    let folder = home.path().join("model");
    done(umbra().arg("export").arg(&run).args(["--to", "diffusers"]).arg(&folder));
    let config = fs::read(folder.join("transformer/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["pooled_projection_dim"], 5 * 32 + 256);
    fs::remove_dir_all(run.join("denoiser").join("checkpoint-000000000256")).unwrap();
    fs::remove_dir_all(run.join("sample")).unwrap();
    let missed = ended(&mut tiny("run", &checkpoints));
    assert_eq!(missed.code, Some(1));
    assert!(missed.stderr.contains("no checkpoint at 250 images"), "{}", missed.stderr);
}
