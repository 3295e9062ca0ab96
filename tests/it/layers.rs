//! Imports point down: the order of docs/architecture.md, enforced.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the ground up. Those on one line may use each other.
const LAYERS: [&[&str]; 12] = [
    &["device", "telemetry", "random", "artifact", "metric", "interrupt"],
    &["data"],
    &["models"],
    &["diffusion"],
    &["encode"],
    &["sample"],
    &["train"],
    &["evaluate"],
    &["export", "forward"],
    &["recipe"],
    &["stages"],
    &["cli"],
];

#[test]
fn imports_point_down() {
    let mut upward = String::new();
    for file in rust_files(&source()) {
        let Some(from) = module(&file) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (line, to) in imports(&text) {
            if layer(&to) > layer(&from) {
                writeln!(
                    upward,
                    "{}:{line}: {from} uses {to}, which lies above it",
                    file.display()
                )
                .unwrap();
            }
        }
    }
    assert!(upward.is_empty(), "\n{upward}");
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
                let x = crate::models::weights(); use crate::{train, crate::encode::y};\n";
    let found: Vec<(usize, String)> = imports(text);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, name)| (*line, &name[..])).collect();
    assert_eq!(found, [(1, "data"), (1, "random"), (6, "models"), (6, "train"), (6, "encode")]);
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
