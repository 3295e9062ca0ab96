//! Folders as they are: links, pipes, names of all kinds, umbra's own pictures.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use umbra::data::image::Gray;
use umbra::data::picture::{self, Contents, Provenance};

/// Makes a pipe that nobody writes to: who opens it to read, waits.
pub(super) fn fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn only_regular_files_are_listed_and_the_rest_is_counted() {
    let place = Place::new();
    let set = place.root().join("set");
    (0..2).for_each(|shade| place.image(&format!("{shade}.png"), shade));
    place.image("elsewhere/2.png", 2);
    fifo(&set.join("fifo"));
    fifo(&set.join("fifo.png"));
    fifo(&set.join("fifo.txt"));
    let _socket = std::os::unix::net::UnixListener::bind(set.join("socket")).unwrap();
    symlink("nowhere.png", set.join("dangling.png")).unwrap();
    symlink("/dev/zero", set.join("device.png")).unwrap();
    symlink("elsewhere/2.png", set.join("link.png")).unwrap();
    fs::write(set.join(OsStr::from_bytes(b"\xff\xfe.png")), b"anything").unwrap();
    fs::write(set.join(OsStr::from_bytes(b"notes\xff.txt")), b"anything").unwrap();
    let summary = place.ingest(&folder(PatientFrom::Dicom)).unwrap();
    let expected = [
        ("a link that leads nowhere", 1),
        ("a name that is not UTF-8", 2),
        ("a pipe, socket or device", 4),
    ];
    assert_eq!(summary.passed_over, expected.into());
    assert_eq!(summary.listed, 4);
    assert_eq!(
        summary.counts.quarantined,
        [("duplicate".to_owned(), 1)].into(),
        "a link and its file"
    );
}

#[test]
fn links_to_folders_are_followed_once_and_cycles_end() {
    let place = Place::new();
    let set = place.root().join("set");
    place.image("real/0.png", 0);
    let outside = place.root().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::copy(set.join("real/0.png"), outside.join("deep/1.png")).unwrap();
    place.image("../outside/deep/1.png", 1);
    symlink("..", set.join("real/up")).unwrap();
    symlink("real", set.join("a-link-before-the-real-one")).unwrap();
    symlink("/", set.join("real/.hidden")).unwrap();
    symlink("../../outside", set.join("images/outside")).unwrap();
    symlink("../../outside", set.join("images/outside-again")).unwrap();
    symlink("../set", outside.join("back")).unwrap();
    let summary = place.ingest(&folder(PatientFrom::Dicom)).unwrap();
    assert_eq!(summary.passed_over, BTreeMap::new());
    let names: Vec<String> = place.entries().into_keys().collect();
    assert_eq!(names, ["set/images/outside/deep/1.png", "set/real/0.png"]);
    assert_eq!(summary.counts.quarantined, BTreeMap::new(), "nothing is there twice");
}

#[test]
fn what_umbra_drew_is_not_trained_on() {
    let place = Place::new();
    place.image("0.png", 0);
    let drawn = |path: &Path, contents| {
        let image = Gray { width: 8, height: 8, pixels: vec![0.5; 64] };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture::write(path, &image, &Provenance { contents, recipe: "any", seed: 1 }).unwrap();
    };
    let set = place.root().join("set");
    drawn(&set.join("drawn.png"), Contents::Synthetic);
    drawn(&set.join("sheet.png"), Contents::SyntheticAndReal);
    drawn(&place.root().join("runs/tiny/sample/0.png"), Contents::Synthetic);
    fs::write(place.root().join("runs/tiny/lock"), b"123").unwrap();
    let all = Folder { path: ".".into(), ..Folder::default() };
    let data = Data { source: Source::Folder(all), ..Data::default() };
    let site = Site { own_output: Some(place.root().join("runs")), ..place.site() };
    let summary = ingest(&data, &site, &mut keep_on).unwrap();
    assert_eq!((summary.listed, summary.counts.total()), (3, 1));
    assert_eq!(summary.counts.quarantined, [("other".to_owned(), 2)].into());
    assert_eq!(summary.reasons[0].0.reason, "an image that umbra drew");

    place.table("file,patient_id\n0.png,a\ndrawn.png,b\n");
    let named = place.ingest(&manifest(bare_columns())).unwrap();
    assert_eq!(named.counts.quarantined, [("other".to_owned(), 1)].into(), "not by name either");
}

#[test]
fn an_unreadable_folder_is_told_without_its_name() {
    let place = Place::new();
    place.image("jane-doe/0.png", 0);
    let path = place.root().join("set/jane-doe");
    let mode =
        |mode| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(0o000).unwrap();
    let said = place.ingest(&folder(PatientFrom::Dicom));
    mode(0o755).unwrap();
    match said {
        Ok(_) => crate::unrun::unrun("this user may read everything"),
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("cannot read a folder 1 levels below set;"), "{error}");
            assert!(!error.contains("jane"), "{error}");
        }
    }
}
