//! Killed anywhere and run again, an ingest of files ends with the same rows.
//!
//! `UMBRA_KILLS` and `UMBRA_KILL_SEED` as in the test of whole runs.

use super::*;
use crate::binary::{done, umbra};
use crate::kill::killed_at_random_moments;
use std::process::Command;
use std::time::Instant;

fn ingest_files(place: &Place, runs: &Path) -> Command {
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--threads", "2", "--data-root"]).arg(place.root());
    command.arg("--checkpoints").arg(runs);
    command.args(["--set", "data.source=Folder(path: \"set\")", "--set", "data.max_damaged=0.1"]);
    command
}

/// Every column of every row, ids among them.
pub(super) fn rows(runs: &Path) -> Vec<Vec<rusqlite::types::Value>> {
    let connection = rusqlite::Connection::open(runs.join("tiny/catalog.sqlite")).unwrap();
    let mut rows = Vec::new();
    for query in [
        "SELECT * FROM images ORDER BY id",
        "SELECT * FROM labels ORDER BY image, name",
        "SELECT * FROM meta ORDER BY key",
    ] {
        let mut statement = connection.prepare(query).unwrap();
        let columns = statement.column_count();
        let read = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect());
        rows.extend(read.unwrap().map(Result::unwrap));
    }
    rows
}

#[test]
fn killed_at_random_moments_an_ingest_of_files_ends_with_the_same_rows() {
    let place = Place::new();
    let side = 700;
    for at in 0..100u32 {
        let image = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(side, side, |x, y| {
            image::Luma([(x * 31 + y * 17 + at * 101) as u16])
        });
        image.save(place.root().join(format!("set/images/{at:03}.png"))).unwrap();
    }
    let set = place.root().join("set/images");
    fs::write(set.join("notes"), "no image").unwrap();
    fs::copy(set.join("003.png"), set.join("copy.png")).unwrap();
    fs::write(set.join("cut.png"), &fs::read(set.join("004.png")).unwrap()[..5000]).unwrap();

    let runs = tempfile::tempdir().unwrap();
    let start = Instant::now();
    done(&mut ingest_files(&place, runs.path()));
    let duration = start.elapsed();
    let expected = rows(runs.path());
    assert_eq!(expected.len(), 103 + 2);
    let runs = killed_at_random_moments(
        "kill/ingest",
        duration,
        || tempfile::tempdir().unwrap(),
        |runs| ingest_files(&place, runs.path()),
        |runs, when| assert!(rows(runs.path()) == expected, "other rows after {when}"),
    );
    let remains = fs::read_dir(runs.path().join("tiny")).unwrap();
    let names: BTreeSet<_> = remains.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().contains("opening")), "{names:?}");
}
