//! Interrupted, killed, repeated: an ingest goes on from where it was.

use super::*;

#[test]
fn an_interrupted_ingest_goes_on_and_a_second_one_has_nothing_to_do() {
    let place = Place::new();
    let whole = Place::new();
    let expected = whole.ingest(&phantoms(300)).unwrap();
    let stopped = ingest(&phantoms(300), &place.site(), &mut |progress| {
        if progress.done == 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(IngestError::Stopped)));
    let catalog = place.open();
    assert!(matches!(catalog.entries(Split::Train), Err(CatalogError::Unfinished { .. })));
    assert!(matches!(catalog.fingerprint(), Err(CatalogError::Unfinished { .. })));
    drop(catalog);

    let mut first_done = None;
    let resumed = ingest(&phantoms(300), &place.site(), &mut |progress| {
        if progress.total > 0 {
            first_done.get_or_insert(progress.done);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(matches!(first_done, Some(200 | 201)), "{first_done:?}");
    assert_eq!(resumed.opened, 100);
    assert_eq!(resumed.fingerprint, expected.fingerprint);
    assert_eq!(resumed.counts, expected.counts);
    assert_eq!(place.ingest(&phantoms(300)).unwrap().opened, 0);
}

/// The part of [`a_killed_ingest_goes_on`] that is killed; does nothing by itself.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os("UMBRA_TEST_KILLED_CHILD") else { return };
    let folder = Path::new(&folder);
    let slowly = &mut |_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        ControlFlow::Continue(())
    };
    ingest(&phantoms(320), &of_phantoms(folder), slowly).unwrap();
}

/// No secret: phantoms need none.
fn of_phantoms(folder: &Path) -> Site {
    Site {
        data_root: folder.to_owned(),
        catalog: folder.join("catalog.sqlite"),
        own_output: None,
        threads: 2,
        secret: None,
        probe: None,
    }
}

#[test]
fn a_killed_ingest_goes_on() {
    let undisturbed = Place::new();
    let expected = undisturbed.ingest(&phantoms(320)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("catalog.sqlite");
    for delay_ms in [20, 150, 200, 250, 300] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["ingest::resume::killed_child", "--exact"])
            .env("UMBRA_TEST_KILLED_CHILD", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if catalog.exists() {
            let connection = rusqlite::Connection::open(&catalog).unwrap();
            let verdict: String =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "after a kill at {delay_ms} ms");
        }
    }
    let summary = ingest(&phantoms(320), &of_phantoms(folder.path()), &mut keep_on).unwrap();
    assert_eq!(summary.fingerprint, expected.fingerprint);
    assert_eq!(summary.counts, expected.counts);
}

#[test]
fn changed_files_are_opened_again_and_changed_words_are_not() {
    let place = small_set();
    let data = manifest(Columns::default());
    let first = place.ingest(&data).unwrap();
    assert_eq!(first.opened, 5);

    let table = fs::read_to_string(place.root().join("set/manifest.csv")).unwrap();
    place.table(&table.replace("No Finding", "Nodule"));
    let relabelled = place.ingest(&data).unwrap();
    assert_eq!(relabelled.opened, 0);
    assert_eq!(place.entries()["set/images/1.png"].labels["Nodule"], Label::Present);

    place.image("images/2.png", 77);
    assert_eq!(place.ingest(&data).unwrap().opened, 1);

    place.table(&table.lines().take(3).map(|line| format!("{line}\n")).collect::<String>());
    let fewer = place.ingest(&data).unwrap();
    assert_eq!((fewer.listed, fewer.opened, fewer.counts.total()), (2, 0, 2));
}
