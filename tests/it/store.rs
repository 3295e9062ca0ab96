//! Stores: what goes in comes out, from any reader, and damage is told.

use half::f16;
use std::fs;
use std::path::Path;
use umbra::data::store::{
    Check, ColumnSpec, Dtype, Store, StoreError, StoreSpec, StoreWriter, Values,
};
use umbra::random::Stream;

fn spec(shard_rows: usize) -> StoreSpec {
    StoreSpec {
        inputs_hash: "abc".into(),
        shard_rows,
        columns: vec![
            ColumnSpec::new("mean", Dtype::F16, &[2, 3, 3]),
            ColumnSpec::new("tokens", Dtype::F32, &[1, 5]),
            ColumnSpec::new("padding", Dtype::U8, &[4]),
            ColumnSpec::new("patient", Dtype::I64, &[]),
        ],
        notes: [("latent_scale".to_owned(), "0.18215".to_owned())].into(),
    }
}

fn mean(row: u64) -> Vec<f32> {
    Stream::new(1, "mean").at(row).normals(18)
}

fn tokens(row: u64) -> Vec<f32> {
    Stream::new(1, "tokens").at(row).normals(5)
}

fn key(row: u64) -> i64 {
    1000 - 3 * row as i64
}

fn push(writer: &mut StoreWriter, rows: std::ops::Range<u64>) {
    for row in rows {
        assert_eq!(writer.rows(), row);
        let (mean, tokens) = (mean(row), tokens(row));
        let padding = [row as u8, 0, 255, 7];
        let values = [
            Values::Floats(&mean),
            Values::Floats(&tokens),
            Values::Bytes(&padding),
            Values::Integers(&[-(row as i64)]),
        ];
        writer.push(key(row), &values).unwrap();
    }
}

fn write(path: &Path, rows: u64) {
    let mut writer = StoreWriter::open(path, spec(4)).unwrap();
    push(&mut writer, 0..rows);
    writer.finish().unwrap();
}

fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn rows_come_back() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    write(&path, 11);
    let store = Store::open(&path, Check::Hashes).unwrap();
    assert_eq!((store.len(), store.spec()), (11, &spec(4)));
    let mut room = vec![0.0; 18];
    for row in 0..11 {
        let rounded: Vec<f32> =
            mean(row).iter().map(|&value| f16::from_f32(value).to_f32()).collect();
        store.column("mean").unwrap().read_into(row, &mut room);
        assert_eq!(room, rounded);
        assert_eq!(store.row(row, "tokens").unwrap(), tokens(row));
        assert_eq!(store.column("padding").unwrap().bytes(row), [row as u8, 0, 255, 7]);
        assert_eq!(store.column("patient").unwrap().integers(row), [-(row as i64)]);
        assert_eq!(store.keys()[row as usize], key(row));
        assert_eq!(store.row_of(key(row)), Some(row));
    }
    assert_eq!(store.row_of(5), None);
    let said = store.row(0, "logvar").unwrap_err().to_string();
    assert!(
        said.ends_with("store has no column logvar; it has key, mean, tokens, padding, patient"),
        "{said}"
    );
    let names: Vec<_> = contents(&path).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["00000.safetensors", "00001.safetensors", "00002.safetensors", "index.json"]
    );
}

/// A writer that is dropped is one that is killed: it does nothing on its way out.
#[test]
fn a_store_that_is_cut_off_is_taken_up_and_ends_the_same() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    write(&whole, 11);
    for cut in 0..11 {
        let path = home.path().join(format!("cut-{cut}"));
        push(&mut StoreWriter::open(&path, spec(4)).unwrap(), 0..cut);
        assert!(matches!(Store::open(&path, Check::Sizes), Err(StoreError::Read { .. })));
        let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
        assert_eq!(writer.rows(), cut / 4 * 4);
        push(&mut writer, cut / 4 * 4..11);
        writer.finish().unwrap();
        assert_eq!(contents(&path), contents(&whole), "cut at {cut}");
    }
    // Cut off after the last shard, before the name.
    let path = home.path().join("late");
    fs::create_dir(home.path().join("late.partial")).unwrap();
    for (name, bytes) in contents(&whole) {
        fs::write(home.path().join("late.partial").join(name), bytes).unwrap();
    }
    let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
    assert_eq!(writer.rows(), 8);
    push(&mut writer, 8..11);
    writer.finish().unwrap();
    assert_eq!(contents(&path), contents(&whole));
}

/// Rows that cannot be made keep their places; a store that lacks some is completed to the bytes it would have had.
#[test]
fn a_store_that_lacks_rows_is_read_and_completed() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    write(&whole, 11);
    let path = home.path().join("store");
    // In the first shard one, all of the second, the last of the last.
    let first_missing = [2, 4, 5, 6, 7, 10];
    let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
    fill(&mut writer, 11, &first_missing);
    writer.finish().unwrap();
    let keys = |rows: &[u64]| rows.iter().map(|&row| key(row)).collect::<Vec<_>>();
    let store = Store::open(&path, Check::Hashes).unwrap();
    assert_eq!((store.len(), store.missing()), (5, &keys(&first_missing)[..]));
    for (at, row) in [0, 1, 3, 8, 9].into_iter().enumerate() {
        assert_eq!(store.row_of(key(row)), Some(at as u64));
        assert_eq!(store.row(at as u64, "tokens").unwrap(), tokens(row), "row {row}");
        assert_eq!(store.column("patient").unwrap().integers(at as u64), [-(row as i64)]);
    }
    assert!(first_missing.iter().all(|&row| store.row_of(key(row)).is_none()));

    // Some come back; of those that were there, one has gone: the store has it still.
    let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
    assert!(!writer.keep_shard().unwrap(), "the first shard lacks a row");
    fill(&mut writer, 11, &[0, 2, 6, 9]);
    writer.finish().unwrap();
    let second = Store::open(&path, Check::Hashes).unwrap();
    assert_eq!((second.len(), second.missing()), (9, &keys(&[2, 6])[..]));
    assert_eq!(second.row(0, "tokens").unwrap(), tokens(0));
    // Who has the old one open sees what it has always seen.
    assert_eq!(store.row(3, "tokens").unwrap(), tokens(8));

    // All: cut off anywhere on the way.
    for cut in 0..3 {
        let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
        fill(&mut writer, 4 * cut, &[]);
        drop(writer);
    }
    let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
    assert_eq!(writer.rows(), 8);
    assert!(writer.keep_shard().unwrap(), "the last shard lacks none");
    assert_eq!(writer.rows(), 11);
    writer.finish().unwrap();
    assert_eq!(contents(&path), contents(&whole));
    assert_eq!(second.row(8, "tokens").unwrap(), tokens(10));
}

/// Rows from where the writer stands to `to`, all but those that are `missing`.
fn fill(writer: &mut StoreWriter, to: u64, missing: &[u64]) {
    for row in writer.rows()..to {
        match missing.contains(&row) {
            true => writer.push_unmade(key(row)).unwrap(),
            false => push(writer, row..row + 1),
        }
    }
}

#[test]
fn an_index_whose_missing_rows_do_not_agree_is_damaged() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    let mut writer = StoreWriter::open(&path, spec(4)).unwrap();
    fill(&mut writer, 6, &[1]);
    writer.finish().unwrap();
    let text = fs::read_to_string(path.join("index.json")).unwrap();
    let said = |missing: &str| {
        let changed = text.replacen(&format!("        {}", key(1)), missing, 1);
        assert_ne!(changed, text);
        fs::write(path.join("index.json"), changed).unwrap();
        Store::open(&path, Check::Sizes).unwrap_err().to_string()
    };
    assert!(said("").contains("its counts of rows do not agree"));
    assert!(said("        1, 2").contains("its counts of rows do not agree"));
    assert_eq!(said(&key(0).to_string()), format!("two rows have the key {}", key(0)));
}

#[test]
fn a_part_of_other_inputs_or_with_damage_is_not_taken_up() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    push(&mut StoreWriter::open(&path, spec(4)).unwrap(), 0..9);
    let other = StoreSpec { inputs_hash: "def".into(), ..spec(4) };
    assert_eq!(StoreWriter::open(&path, other).unwrap().rows(), 0);

    push(&mut StoreWriter::open(&path, spec(4)).unwrap(), 0..9);
    let shard = home.path().join("store.partial/00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert_eq!(StoreWriter::open(&path, spec(4)).unwrap().rows(), 0);
}

#[test]
fn damage_is_one_sentence_with_its_path() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    write(&path, 6);
    let shard = path.join("00001.safetensors");
    let whole = fs::read(&shard).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&shard, &damaged).unwrap();
        let said = Store::open(&path, Check::Hashes).unwrap_err().to_string();
        assert!(
            said.contains("00001.safetensors is damaged: ")
                && said.ends_with("; remove the store and encode again"),
            "byte {at}: {said}"
        );
        if let Ok(opened) = Store::open(&path, Check::Sizes) {
            assert_eq!(opened.verify_while(|| true).unwrap_err().to_string(), said);
        }
    }
    fs::write(&shard, &whole).unwrap();
    let opened = Store::open(&path, Check::Sizes).unwrap();
    assert!(opened.verify_while(|| true).unwrap());
    assert!(!opened.verify_while(|| false).unwrap(), "whoever was stopped has seen nothing");
    fs::write(&shard, &whole[..whole.len() - 8]).unwrap();
    let said = Store::open(&path, Check::Sizes).unwrap_err().to_string();
    assert!(said.contains("bytes, expected"), "{said}");
    fs::write(&shard, b"").unwrap();
    assert!(Store::open(&path, Check::Sizes).is_err());
    fs::remove_file(&shard).unwrap();
    let said = Store::open(&path, Check::Sizes).unwrap_err().to_string();
    assert!(said.starts_with("cannot read") && said.ends_with("00001.safetensors"), "{said}");
    fs::write(&shard, &whole).unwrap();
    Store::open(&path, Check::Hashes).unwrap();

    let index = path.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
    let said = Store::open(&path, Check::Sizes).unwrap_err().to_string();
    assert!(said.ends_with("index.json has schema 2; this build reads 1"), "{said}");
    fs::write(&index, text.replace("\"rows\": 6", "\"rows\": 7")).unwrap();
    let said = Store::open(&path, Check::Sizes).unwrap_err().to_string();
    assert!(said.contains("its counts of rows do not agree"), "{said}");
}

#[test]
fn a_row_that_does_not_fit_is_refused_and_the_writer_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    let columns = vec![
        ColumnSpec::new("mean", Dtype::F16, &[1]),
        ColumnSpec::new("logvar", Dtype::F16, &[1]),
    ];
    let spec = StoreSpec { columns, ..spec(2) };
    let mut writer = StoreWriter::open(&path, spec).unwrap();
    let row = |value| [Values::Floats(&[1.0]), Values::Floats(value)];
    writer.push(1, &row(&[0.5])).unwrap();
    let said = writer.push(2, &row(&[1e6])).unwrap_err().to_string();
    assert_eq!(said, "row for the column logvar: a value that is not finite in half precision");
    let said = writer.push(1, &row(&[0.0])).unwrap_err().to_string();
    assert_eq!(said, "two rows have the key 1");
    writer.push(3, &row(&[0.25])).unwrap();
    writer.finish().unwrap();
    let store = Store::open(&path, Check::Hashes).unwrap();
    assert_eq!(store.keys(), [1, 3]);
    assert_eq!(store.row(1, "logvar").unwrap(), [0.25]);
}

/// Reference: tests/golden/store.py, with the safetensors package from PyPI: the same bytes.
#[test]
fn a_shard_is_what_stock_python_writes() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    let spec = StoreSpec { shard_rows: 3, ..spec(3) };
    let mut writer = StoreWriter::open(&path, spec).unwrap();
    for row in 0..3i16 {
        let mean: Vec<f32> = (0..18).map(|at| f32::from(at - 18 * row) / 8.0).collect();
        let tokens: Vec<f32> = (0..5).map(|at| f32::from(at + row) / 3.0).collect();
        let padding = [row as u8, 1, 2, 255];
        let values = [
            Values::Floats(&mean),
            Values::Floats(&tokens),
            Values::Bytes(&padding),
            Values::Integers(&[i64::from(row) - 1]),
        ];
        writer.push(i64::from(row) * 10, &values).unwrap();
    }
    writer.finish().unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store.safetensors");
    assert_eq!(fs::read(path.join("00000.safetensors")).unwrap(), fs::read(golden).unwrap());
}
