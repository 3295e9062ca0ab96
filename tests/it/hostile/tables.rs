//! Tables that are no tables, or say what none should.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::LONGEST;
use crate::binary::{Ended, ended, umbra};
use crate::ingest::shaded;

const HEADER: &str = "file,patient_id,labels,mask_file\n";

/// Each with a name and whether it may be taken.
fn traps() -> Vec<(&'static str, Vec<u8>)> {
    let row =
        |text: &str| format!("{HEADER}0.png,a,x,\n{text}\n1.png,b,y,\n2.png,c,z,\n").into_bytes();
    let good = "0.png,a,x,\n1.png,b,y,\n2.png,c,z,\n";
    vec![
        ("empty", Vec::new()),
        ("header only", HEADER.into()),
        ("no line end", format!("{HEADER}{}", good.trim_end()).into()),
        ("byte order mark", format!("\u{feff}{HEADER}{good}").into()),
        ("carriage returns", format!("{HEADER}{good}").replace('\n', "\r\n").into()),
        ("old carriage returns", format!("{HEADER}{good}").replace('\n', "\r").into()),
        ("blank lines", format!("\n\n{HEADER}\n\n{good}\n\n").into()),
        ("tabs", format!("{HEADER}{good}").replace(',', "\t").into()),
        ("semicolons", format!("{HEADER}{good}").replace(',', ";").into()),
        ("UTF-16", format!("{HEADER}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("Latin-1", [HEADER.as_bytes(), b"0.png,M\xfcller,x,\n"].concat()),
        ("zeros", vec![0; 4096]),
        ("zero in a cell", row("3.png,CANARY\0,x,")),
        ("binary", (0..=255u8).cycle().take(100_000).collect()),
        ("quote never closed", row("\"3.png,CANARY,x,")),
        ("quote in a cell", row("3.png,CAN\"ARY,x,")),
        ("quote behind a cell", row("\"3.png\"CANARY,a,x,")),
        ("a line break in a cell", row("3.png,\"CANARY\nerror: all is lost\",x,")),
        ("too few cells", row("3.png")),
        ("too many cells", row("3.png,a,x,,,,,,CANARY")),
        ("no file", row(",CANARY,x,")),
        ("twice", row("0.png,CANARY,x,")),
        ("two patients", row("0.png,other,x,")),
        ("columns alike", format!("file,file,patient_id\n{good}").into()),
        ("no column", format!("path,patient\n{good}").into()),
        ("many columns", format!("{}{HEADER}{good}", "c,".repeat(100_000)).into()),
        ("a long cell", row(&format!("3.png,{},x,", "CANARY".repeat(2_000_000)))),
        ("a long line", row(&",".repeat(5_000_000))),
        ("many labels", row(&format!("3.png,a,{},", "x|".repeat(500_000)))),
        ("out of the root", row("../../../../../../../etc/passwd,a,x,")),
        ("from the root", row("/etc/passwd,a,x,")),
        ("an address", row("https://example.org/CANARY.png,a,x,")),
        ("a mask out of the root", row("0.png,a,x,../../../etc/passwd")),
        ("a device", row("/dev/zero,a,x,")),
        ("a folder", row(".,a,x,")),
        ("a formula", row("=cmd|' /C calc'!A0,a,x,")),
        ("an escape", row("\u{1b}[2J.png,\u{1b}]0;CANARY\u{7},x,")),
        ("a name turned round", row("\u{202e}gnp.3,a,x,")),
    ]
}

/// An ingest over the table, of three good images.
fn ingested(home: &Path, table: &[u8]) -> (Ended, Duration) {
    let set = home.join("set");
    fs::create_dir_all(&set).unwrap();
    for shade in 0..3u8 {
        shaded(shade).save(set.join(format!("{shade}.png"))).unwrap();
    }
    fs::write(set.join("manifest.csv"), table).unwrap();
    let columns = "columns: (split: None, dataset: None, view: None)";
    let source = format!("data.source=Manifest(path: \"set/manifest.csv\", {columns})");
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--data-root"]).arg(home);
    command.arg("--checkpoints").arg(home.join("runs"));
    command.args(["--set", "data.max_damaged=1.0", "--set", &source]);
    let start = Instant::now();
    (ended(&mut command), start.elapsed())
}

#[test]
fn every_table_is_read_or_refused_in_one_sentence() {
    let mut taken = 0;
    let traps = traps();
    for (name, table) in &traps {
        let home = tempfile::tempdir().unwrap();
        let (Ended { code, stdout, stderr }, took) = ingested(home.path(), table);
        assert!(took < LONGEST, "{name}: {took:?}");
        taken += u32::from(code == Some(0));
        let is_documented = matches!(code, Some(0..=3));
        assert!(is_documented, "{name}: {code:?} {stderr}");
        let said = stdout + &stderr;
        let is_plain = said.chars().all(|c| c == '\n' || !c.is_control());
        assert!(is_plain && !said.contains("CANARY"), "{name}: {said:?}");
        if code != Some(0) {
            let sentences = said.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(sentences, 1, "{name}: {said}");
            assert!(said.contains("manifest.csv") && said.len() < 2_000, "{name}: {said}");
        }
        if std::env::var_os("UMBRA_SHOW").is_some() {
            println!("{name}\t{code:?}\t{}", said.replace('\n', " | "));
        }
    }
    println!("{} tables, {taken} of them taken", traps.len());
}
