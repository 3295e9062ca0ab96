//! Imports point down: the order of docs/architecture.md, enforced.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the ground up. Those on one line do not know each other.
const LAYERS: [&[&str]; 11] = [
    &["random"],
    &["engine"],
    &["device", "faults", "interrupt", "artifact"],
    &["telemetry", "metric", "diffusion"],
    &["data"],
    &["models"],
    &["sample", "train"],
    &["evaluate", "interop"],
    &["recipe"],
    &["stages"],
    &["cli"],
];

/// Rooms that compute without the tensor library.
const WITHOUT_TENSORS: [&str; 6] =
    ["random", "artifact", "interrupt", "telemetry", "metric", "data"];

#[test]
fn imports_point_down() {
    let mut upward = String::new();
    for file in rust_files(&source()) {
        let Some(from) = module(&file) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (line, to) in imports(&text) {
            if to != from && layer(&to) >= layer(&from) {
                writeln!(
                    upward,
                    "{}:{line}: {from} uses {to}, which does not lie below it",
                    file.display()
                )
                .unwrap();
            }
        }
    }
    assert!(upward.is_empty(), "\n{upward}");
}

#[test]
fn some_rooms_hold_no_tensors() {
    for file in rust_files(&source()) {
        if module(&file).is_some_and(|room| WITHOUT_TENSORS.contains(&&room[..])) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().map(|line| line.split("//").next().unwrap());
            let line = code.into_iter().position(|line| line.contains("burn::"));
            assert_eq!(line, None, "{} uses the tensor library", file.display());
        }
    }
}

/// The table on the library's front page is this order, too.
#[test]
fn the_front_page_names_the_rooms_from_the_ground_up() {
    let library = fs::read_to_string(source().join("lib.rs")).unwrap();
    let row = |line: &str| Some(line.strip_prefix("//! | [`")?.split_once("`]")?.0.to_owned());
    let rows: Vec<String> = library.lines().filter_map(row).collect();
    let order: Vec<usize> = rows.iter().map(|room| layer(room)).collect();
    assert!(order.is_sorted(), "{rows:?}");
    assert_eq!(rows.len(), LAYERS.concat().len());
}

#[test]
fn every_module_has_its_layer() {
    let library = fs::read_to_string(source().join("lib.rs")).unwrap();
    let mut declared: Vec<&str> = library
        .lines()
        .filter_map(|line| {
            line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect();
    declared.sort_unstable();
    let mut ordered = LAYERS.concat();
    ordered.sort_unstable();
    assert_eq!(declared, ordered);
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{\n    data::{image, file},\n    random::Stream,\n};\n// crate::cli in a comment\n\
                let x = crate::models::weights(); use crate::{train, crate::sample::y};\n";
    let found: Vec<(usize, String)> = imports(text);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, name)| (*line, &name[..])).collect();
    assert_eq!(found, [(1, "data"), (1, "random"), (6, "models"), (6, "train"), (6, "sample")]);
}

/// Line and name of every top-level module that `text` reaches through `crate::`, comments left out.
fn imports(text: &str) -> Vec<(usize, String)> {
    let without_comments: Vec<&str> =
        text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    let code = without_comments.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => top_names(group),
            None => vec![word(rest)],
        };
        found.extend(
            names
                .into_iter()
                .filter(|name| !name.is_empty() && name != "crate")
                .map(|name| (line, name)),
        );
    }
    found
}

/// The first word of every entry of a use group, whose opening brace is already gone.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut is_start, mut names) = (1, true, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => is_start = depth == 1,
            letter if is_start && !letter.is_whitespace() => {
                names.push(word(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The layer of a module; what is no module of ours (a macro, `crate::Item`) counts as the lowest.
fn layer(module: &str) -> usize {
    LAYERS.iter().position(|modules| modules.contains(&module)).unwrap_or(0)
}

/// The top-level module that `file` belongs to; none for `lib.rs` and `main.rs`.
fn module(file: &Path) -> Option<String> {
    let below = file.strip_prefix(source()).unwrap();
    let first = Path::new(below.components().next().unwrap().as_os_str());
    let name = first.file_stem().unwrap().to_str().unwrap().to_owned();
    (name != "lib" && name != "main").then_some(name)
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
