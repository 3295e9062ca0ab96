//! What can be said of a GPU on a machine that has none.

use crate::binary::{Ended, ended, project, umbra};
use crate::unrun::unrun;
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn the_doctor_says_what_is_there_and_what_to_install() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut doctor = umbra();
    doctor.args(["doctor", "--json"]).env("UMBRA_CUDA_LIBS", nowhere.path());
    doctor.env_remove("VIRTUAL_ENV").env_remove("CONDA_PREFIX").env_remove("CUDA_PATH");
    let Ended { code, stdout, .. } = ended(&mut doctor);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let libraries = report["libraries"].as_array().unwrap();
    assert_eq!(libraries.len(), 5);
    for library in libraries {
        // Each was found with its version, or is told how to come by.
        let fault = library["fault"].as_str().unwrap_or_default();
        assert!(library["version"].is_string() || fault.contains("install"), "{library}");
    }
    assert!(report["cores"].as_u64().unwrap() > 0);
    let is_well = report["build"] == "cpu" || report["can_use_gpu"] == true;
    assert_eq!(code, Some(if is_well { 0 } else { 1 }));
}

#[test]
fn parity_of_the_cpu_with_itself_is_refused() {
    let Ended { code, stderr, .. } = ended(umbra().args(["parity", "--device", "cpu"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--device is \"cpu\"; expected cuda:N"), "{stderr}");
}

#[test]
fn an_unknown_card_is_refused_with_those_that_are_known() {
    let Ended { code, stderr, .. } =
        ended(umbra().args(["warm-up", "recipes/tiny.ron", "--target", "sm_75"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("sm_80, sm_90, sm_100"), "{stderr}");
}

/// Every graph of every recipe that comes with umbra has a plan on an A100 and on an H100, in f32 and in bf16, and our
/// own kernels compile for them.
#[test]
fn every_recipe_has_its_plans_on_cards_that_are_not_here() {
    let out = tempfile::tempdir().unwrap();
    let mut recipes: Vec<_> = fs::read_dir(project().join("recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "ron"))
        .collect();
    recipes.sort();
    assert!(recipes.len() > 3, "{recipes:?}");
    for recipe in recipes {
        for (target, compute) in [("sm_80", "Bf16"), ("sm_90", "Bf16"), ("sm_90", "F32")] {
            let compute = format!("denoiser.train.compute={compute}");
            let Ended { code, stdout: report, stderr: err } =
                warm_up(&recipe, target, &compute, out.path());
            if err.contains("is not found") {
                return unrun("cuDNN and NVRTC (UMBRA_CUDA_LIBS)");
            }
            // A recipe whose data or weights are not here cannot be opened.
            if code == Some(2) {
                continue;
            }
            let report: Value = serde_json::from_str(&report).expect(&err);
            assert_eq!(
                (code, report["missing"].as_array().unwrap().len()),
                (Some(0), 0),
                "{report}"
            );
            assert!(report["plans"].as_u64().unwrap() > 10, "{report}");
            if report["left_to_the_card"] != 0 {
                unrun("a C compiler, or a CUDA driver: attention was not planned");
            }
        }
    }
}

fn warm_up(recipe: &Path, target: &str, set: &str, out: &Path) -> Ended {
    let mut command = umbra();
    command.arg("warm-up").arg(recipe).args(["--json", "--target", target, "--set", set]);
    ended(command.arg("--out").arg(out))
}
