//! Files that end the process that opens them.

use super::*;
use crate::binary::{ended, umbra};
use std::process::Command;
use umbra::data::ingest::Probe;

fn shell(script: &'static str) -> Option<Probe> {
    Some(Probe::new(move || {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }))
}

/// What a process leaves beside its catalog that ended with these images open.
fn leave_open(place: &Place, ids: &[i64]) {
    let journal = place.catalog().with_file_name("catalog.sqlite.opening");
    fs::create_dir_all(journal.parent().unwrap()).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    fs::write(journal, bytes).unwrap();
}

#[test]
fn what_ended_a_process_is_opened_in_another_one_first() {
    let place = small_set();
    let data = manifest(Columns::default());
    let whole = place.ingest(&data).unwrap();
    let remains = || fs::read_dir(place.catalog().parent().unwrap()).unwrap().count();
    assert_eq!(remains(), 1, "no journal where nothing is open");

    // The harmless is not left out.
    fs::remove_file(place.catalog()).unwrap();
    leave_open(&place, &[0, 3, 0, 5]);
    let umbra = Probe::new(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbra"));
        command.arg("open");
        command
    });
    for probe in [Some(umbra), shell("exit 1"), shell("kill -TERM $$"), None] {
        let harmless = Site { probe, ..place.site() };
        let summary = ingest(&data, &harmless, &mut keep_on).unwrap();
        assert_eq!((summary.counts.total(), &summary.fingerprint), (5, &whole.fingerprint));
        assert_eq!(remains(), 1);
        fs::remove_file(place.catalog()).unwrap();
        leave_open(&place, &[0, 3, 0, 5]);
    }

    let deadly = Site { probe: shell("kill -SEGV $$"), ..place.site() };
    let data = Data { max_damaged: 0.4, ..data };
    let summary = ingest(&data, &deadly, &mut keep_on).unwrap();
    assert_eq!(summary.counts.quarantined, [("damaged".to_owned(), 2)].into());
    assert_eq!(summary.reasons[0].0.reason, "reading it ended the process");
    let left_out: Vec<String> =
        place.open().quarantined().unwrap().iter().map(|entry| name(&entry.location)).collect();
    assert_eq!(left_out, ["set/images/2.png", "set/images/4.png"]);
    assert_eq!(ingest(&data, &deadly, &mut keep_on).unwrap().opened, 0, "and it stays out");
}

/// A decoder that takes more memory than there is: Rust aborts, and no net catches that.
#[test]
fn an_image_that_ends_the_process_ends_only_one_ingest() {
    let place = Place::new();
    (0..3).for_each(|shade| place.image(&format!("{shade}.png"), shade));
    let side = 6000;
    let large = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(side, side, |x, y| {
        image::Luma([(x * 7 + y * 13) as u16])
    });
    large.save(place.root().join("set/large.png")).unwrap();
    let run = |megabytes: u32| {
        let mut command = Command::new("sh");
        let umbra = umbra();
        command.current_dir(crate::binary::project());
        command.args(["-c", &format!("ulimit -v {} && exec \"$0\" \"$@\"", megabytes * 1024)]);
        command.arg(umbra.get_program());
        command.args(["ingest", "recipes/tiny.ron", "--threads", "1", "--set"]);
        command.args(["data.source=Folder(path: \"set\")", "--data-root"]).arg(place.root());
        command.arg("--checkpoints").arg(place.folder.path().join("runs"));
        command.arg("--patient-secret").arg(place.folder.path().join("secret"));
        ended(&mut command)
    };
    // As much as the others need, but not the large one; how much that is differs between machines.
    let mut deaths = 0;
    for megabytes in (2..=30).rev().map(|step| step * 40) {
        let _ = fs::remove_dir_all(place.folder.path().join("runs"));
        if run(megabytes).code.is_some() {
            continue;
        }
        deaths += 1;
        let again = run(megabytes);
        assert_eq!(again.code, Some(0), "{megabytes} MB: {}", again.stderr);
        let expected = "quarantined image (image 4, reason damaged: reading it ended the process)";
        if again.stderr.contains(expected) {
            let after = run(megabytes);
            assert!(after.stderr.contains("up to date"), "{}", after.stderr);
            return;
        }
        assert!(
            !again.stderr.contains("left out"),
            "it is seen by the other process: {}",
            again.stderr
        );
    }
    panic!("of {deaths} limits that ended an ingest none ended the process of the image's own");
}
