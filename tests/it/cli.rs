//! Verbs beside `run`: help, inspect, clean.

use super::binary::{copy_of_finished, done, ended, finished, umbra};
use expect_test::expect;
use std::fs;

#[test]
fn the_help_is_for_people() {
    let help = done(umbra().arg("--help"));
    assert_eq!(help.stderr, "");
    expect![[r#"
        Trains latent diffusion models on unlabelled radiographs, conditioned on DINO embeddings.

        Everything that decides a result is in a recipe; flags only say where it runs. Not for clinical use.

        Usage: umbra [OPTIONS] <COMMAND>

        Commands:
          check     Look at a recipe: faults, stages, sizes, memory, disk, time. Writes nothing
          run       Run all of a recipe: every stage that is not up to date. Run it again to resume
          ingest    Files to catalog
          encode    Images to latents and condition tokens, and what that needs
          train     Train one network, or all three, and what that needs
          sample    Draw images, and what that needs
          evaluate  Measure and write the report, and what that needs
          export    Write a trained run as a folder that Python's diffusers and transformers open
          ema       Make an average of a network's weights of another length, after its training
          generate  Draw images like those of given files, from a trained run or an exported folder
          inspect   Describe image files as umbra sees them, or say why they are refused
          forward   Compute a network of a folder (diffusers' or transformers' layout) on recorded tensors
          bench     Time a training step of the U-Net of Stable Diffusion 1.5 here, or of a transformer
          doctor    List what there is to compute with here: GPUs, NVIDIA's libraries, MPI; and what to install
          warm-up   Make every kernel and plan that a recipe needs on a GPU, for a card that need not be here
          parity    Compare every operation of a device, forward and backward, with the CPU. The first thing to run on a new card
          clean     List stores and checkpoints that nobody refers to; remove them with --yes
          help      Print this message or the help of the given subcommand(s)

        Options:
          -q, --quiet
                  Only warnings on stderr, no progress bars

          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Exit codes: 0 done, 1 failed, 2 bad recipe or arguments, 3 damaged data or weights, 4 an audit failed,
        75 stopped by a signal with a checkpoint saved (run the same command again to go on).
    "#]].assert_eq(&help.stdout);
    let run = done(umbra().args(["run", "--help"]));
    for flag in
        ["--set", "--device", "--threads", "--data-root", "--checkpoints", "--json", "--quiet"]
    {
        assert!(run.stdout.contains(flag), "{flag}");
    }
    assert!(done(umbra().arg("--version")).stdout.starts_with("umbra "));
}

#[test]
fn inspect_describes_every_file_in_order() {
    let home = tempfile::tempdir().unwrap();
    let garbage = home.path().join("garbage.dcm");
    fs::write(&garbage, b"this is no image").unwrap();
    let image = finished().join("tiny/sample/images/0-reconstruct-000000.png");
    let missing = home.path().join("missing.png");
    let files = [&garbage, &image, &missing, &image];
    let ended = ended(umbra().arg("inspect").args(files).arg("--json"));
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.stderr, "");
    let seen: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let seen = seen.as_array().unwrap();
    assert_eq!(seen.len(), 4);
    for (object, file) in seen.iter().zip(files) {
        assert_eq!(object["file"], file.to_str().unwrap());
    }
    for refused in [&seen[0], &seen[2]] {
        assert!(!refused["refused"].as_str().unwrap().is_empty() && refused.get("rows").is_none());
    }
    let described = &seen[1];
    assert_eq!(described, &seen[3]);
    assert_eq!(described["format"], "PNG");
    assert_eq!(
        (&described["rows"], &described["columns"], &described["frames"]),
        (&32.into(), &32.into(), &1.into())
    );
    assert_eq!((&described["bits_stored"], &described["signed"]), (&8.into(), &false.into()));
    for field in
        ["transfer_syntax", "photometric", "window", "modality", "px_min", "px_max", "px_mean"]
    {
        assert!(described.get(field).is_some(), "{field}");
    }
    let pixels = image::open(&image).unwrap().into_luma8().into_raw();
    use sha2::Digest as _;
    let hash: String =
        sha2::Sha256::digest(&pixels).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(described["px_sha256"], hash);

    let plain = done(umbra().arg("inspect").arg(&image));
    assert!(plain.stdout.contains("px_sha256"), "{}", plain.stdout);
}

#[test]
fn clean_lists_what_nobody_refers_to_and_removes_it_only_when_told() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let orphan = checkpoints.join("stores/0123456789abcdef");
    let aside = checkpoints.join("tiny/denoiser-superseded-01234567");
    let cut_off = checkpoints.join("tiny/encoder/checkpoint-000000000001.tmp");
    for (folder, bytes) in [(&orphan, 1000), (&aside, 200), (&cut_off, 30)] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("part"), vec![0; bytes]).unwrap();
    }
    let clean = || {
        let mut command = umbra();
        command.arg("clean").arg("--checkpoints").arg(&checkpoints);
        command
    };
    let listed = done(&mut clean()).stdout;
    for folder in [&orphan, &aside, &cut_off] {
        assert!(listed.contains(folder.to_str().unwrap()), "{listed}");
        assert!(folder.exists());
    }
    assert!(listed.ends_with("1.20 KiB could be freed: run again with --yes.\n"), "{listed}");
    assert_eq!(listed.lines().count(), 4, "{listed}");

    let json: serde_json::Value =
        serde_json::from_str(&done(clean().arg("--json")).stdout).unwrap();
    assert_eq!(json["removed"], false);
    assert_eq!(json["leftovers"].as_array().unwrap().len(), 3);

    let kept = fs::read_dir(checkpoints.join("stores")).unwrap().count() - 1;
    done(clean().arg("--yes"));
    for folder in [&orphan, &aside, &cut_off] {
        assert!(!folder.exists(), "{}", folder.display());
    }
    assert_eq!(
        fs::read_dir(checkpoints.join("stores")).unwrap().count(),
        kept,
        "the run's own store stays"
    );
    let nothing = done(&mut clean()).stdout;
    assert_eq!(nothing, format!("Nothing to clean in {}.\n", checkpoints.display()));
    let again = done(&mut super::binary::tiny(&checkpoints));
    assert_eq!(again.stderr.matches("up to date").count(), 7, "{}", again.stderr);
}
