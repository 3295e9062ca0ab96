//! The patient secret: who has none, knows nobody.

use super::*;
use crate::binary::{done, ended, files, umbra};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// `umbra ingest recipes/tiny.ron` of the small set at `place`.
fn ingest_table(place: &Place) -> Command {
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--data-root"]).arg(place.root());
    command.arg("--checkpoints").arg(place.folder.path().join("runs"));
    command.args(["--set", "data.source=Manifest(path: \"set/manifest.csv\")", "--json"]);
    command
}

fn fingerprint(catalog: &Path) -> String {
    let connection = rusqlite::Connection::open(catalog).unwrap();
    let query = "SELECT value FROM meta WHERE key = 'patient_secret'";
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

#[test]
fn keys_and_splits_follow_the_secret() {
    let place = small_set();
    place.table(
        "file,patient_id\nimages/0.png,a\nimages/1.png,a\nimages/2.png,b\nimages/3.png,c\nimages/4.png,d\n",
    );
    let data = manifest(bare_columns());
    let with = |byte: u8| {
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            secret: Some(PatientSecret::new([byte; 32])),
            catalog: folder.path().join("catalog.sqlite"),
            ..place.site()
        };
        let summary = ingest(&data, &site, &mut keep_on).unwrap();
        let entries = Catalog::open(&site.catalog).unwrap().entries(Split::Train).unwrap();
        (summary.fingerprint, entries.into_iter().map(|it| it.patient).collect::<BTreeSet<_>>())
    };
    assert_eq!(with(1), with(1), "the same secret, the same splits");
    assert!(with(1).1.is_disjoint(&with(2).1), "another secret, nobody is to be found again");
    assert_ne!(with(1).0, with(2).0);
    let none = Site { secret: None, ..place.site() };
    let error = ingest(&data, &none, &mut keep_on).unwrap_err().to_string();
    assert!(error.contains("need a patient secret"), "{error}");
}

#[test]
fn a_catalog_of_another_secret_is_refused_and_told_what_to_do() {
    let place = small_set();
    let data = manifest(Columns::default());
    let before = place.ingest(&data).unwrap();
    let other = Site { secret: Some(PatientSecret::new([8; 32])), ..place.site() };
    let error = ingest(&data, &other, &mut keep_on).unwrap_err();
    assert!(matches!(error, IngestError::Catalog(CatalogError::OtherSecret { .. })), "{error}");
    let error = error.to_string();
    for part in [
        &PatientSecret::new([7; 32]).fingerprint()[..],
        &PatientSecret::new([8; 32]).fingerprint(),
        "--patient-secret, or remove the catalog",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(place.ingest(&data).unwrap().fingerprint, before.fingerprint);
}

#[test]
fn two_processes_at_once_make_one_secret() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("umbra/patient-secret");
    let places: Vec<Place> = (0..4).map(|_| small_set()).collect();
    let start = |place: &Place| {
        let mut command = ingest_table(place);
        command.env_remove("UMBRA_PATIENT_SECRET").env("XDG_CONFIG_HOME", home.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = places.iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let catalog = |place: &Place| place.folder.path().join("runs/tiny/catalog.sqlite");
    let made: BTreeSet<String> = places.iter().map(|it| fingerprint(&catalog(it))).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files(home.path()).len(), 1, "nothing else is left there");
}

#[test]
fn flag_variable_and_home_name_the_secret_in_this_order() {
    let place = small_set();
    let home = tempfile::tempdir().unwrap();
    let runs = |command: &mut Command| {
        let _ = fs::remove_dir_all(place.folder.path().join("runs"));
        command.env_remove("XDG_CONFIG_HOME").env("HOME", home.path());
        done(command);
        files(home.path()).into_keys().collect::<Vec<_>>()
    };
    let (flag, variable) = (home.path().join("flag"), home.path().join("variable"));
    let mut by_flag = ingest_table(&place);
    by_flag.arg("--patient-secret").arg(&flag).env("UMBRA_PATIENT_SECRET", &variable);
    assert_eq!(runs(&mut by_flag), ["flag"]);
    assert_eq!(
        runs(ingest_table(&place).env("UMBRA_PATIENT_SECRET", &variable)),
        ["flag", "variable"]
    );
    let expected = [".config/umbra/patient-secret", "flag", "variable"];
    assert_eq!(runs(ingest_table(&place).env_remove("UMBRA_PATIENT_SECRET")), expected);

    let mut nowhere = ingest_table(&place);
    nowhere.env_remove("UMBRA_PATIENT_SECRET").env_remove("XDG_CONFIG_HOME").env_remove("HOME");
    let nowhere = ended(&mut nowhere);
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("name a file with --patient-secret"), "{}", nowhere.stderr);
}

#[test]
fn a_secret_that_would_be_shared_is_refused() {
    let place = small_set();
    let runs = place.folder.path().join("runs");
    fs::create_dir_all(&runs).unwrap();
    for inside in [place.root().join("secret"), runs.join("tiny/secret")] {
        let refused = ended(ingest_table(&place).arg("--patient-secret").arg(&inside));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("lies inside of"), "{}", refused.stderr);
        assert!(!inside.exists());
    }
    let readable = place.folder.path().join("readable");
    fs::write(&readable, [1; 32]).unwrap();
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = ended(ingest_table(&place).arg("--patient-secret").arg(&readable));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("run chmod 600 on it"), "{}", refused.stderr);
}

#[test]
fn phantoms_neither_need_nor_make_a_secret() {
    let home = tempfile::tempdir().unwrap();
    let runs = tempfile::tempdir().unwrap();
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--checkpoints"]).arg(runs.path());
    command.env_remove("UMBRA_PATIENT_SECRET").env_remove("XDG_CONFIG_HOME");
    done(command.env("HOME", home.path()));
    assert_eq!(files(home.path()), BTreeMap::new());
    command.env_remove("HOME");
    done(&mut command);
}
