//! A patient id goes into nothing that umbra writes or says.

use crate::binary::{briefly, ended, files, tiny};
use std::fmt::Write as _;
use std::fs;
use umbra::data::phantom;

/// Patient ids begin with it.
const CANARY: &str = "canary-7351-smith";

#[test]
fn patient_ids_stay_where_they_were() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("data");
    fs::create_dir_all(root.join("images")).unwrap();
    let mut table = String::from("file,patient_id,split,labels\n");
    for index in 0..40 {
        let name = format!("images/{index:02}.png");
        let image = phantom::render(5, index, 32).image;
        let levels = image.pixels.iter().map(|value| (value * 255.0) as u8).collect();
        let picture =
            image::GrayImage::from_raw(image.width as u32, image.height as u32, levels).unwrap();
        picture.save(root.join(&name)).unwrap();
        let split = ["train", "train", "train", "val"][index as usize % 4];
        let label = ["Effusion", "No Finding"][index as usize % 2];
        writeln!(table, "{name},{CANARY}-{index},{split},{label}").unwrap();
    }
    fs::write(root.join("manifest.csv"), &table).unwrap();
    // One damaged file, so that what is said of it is looked at too.
    fs::write(root.join("images/07.png"), b"\x89PNG\r\n\x1a\n and nothing more").unwrap();

    let checkpoints = home.path().join("checkpoints");
    let columns = "columns: (dataset: None, view: None, mask: None)";
    let mut command = tiny(&checkpoints);
    command.arg("--data-root").arg(&root);
    briefly(&mut command, &format!("Manifest(path: \"manifest.csv\", {columns})"));
    let run = ended(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("warning: 1 of 40 images are left out"), "{}", run.stderr);

    let model = checkpoints.join("tiny/model");
    let mut export = crate::binary::umbra();
    export.arg("export").arg(checkpoints.join("tiny")).args(["--to", "diffusers"]).arg(&model);
    crate::binary::done(&mut export);

    // Mistakes are told without the id as well.
    let twice = format!("{table}images/00.png,{CANARY}-0,val,\n");
    fs::write(root.join("manifest.csv"), twice).unwrap();
    let mistake = ended(&mut command);
    assert_eq!(mistake.code, Some(2), "{}", mistake.stderr);
    let divided = table.replace(&format!("{CANARY}-3,val"), &format!("{CANARY}-0,val"));
    assert_ne!(divided, table);
    fs::write(root.join("manifest.csv"), divided).unwrap();
    let divided = ended(&mut command);
    assert_eq!(divided.code, Some(3), "{}", divided.stderr);

    for said in [&run, &mistake, &divided] {
        assert!(!said.stdout.contains(CANARY) && !said.stderr.contains(CANARY), "{}", said.stderr);
    }
    let written = files(&checkpoints);
    for name in ["tiny/report.html", "tiny/model/README.md"] {
        assert!(written.contains_key(name), "{name}");
    }
    for (name, bytes) in written {
        let is_in = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!is_in && !name.contains(CANARY), "{name} holds a patient id");
    }
}
