//! Pages that name files name files that are there.

use std::path::{Path, PathBuf};

/// Every page of the project, from the package's root.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "recipes/README.md"]
        .into_iter()
        .map(|page| root.join(page))
        .collect();
    for folder in ["docs", "docs/decisions"] {
        let files = std::fs::read_dir(root.join(folder)).unwrap().map(|file| file.unwrap().path());
        pages.extend(files.filter(|file| file.extension().is_some_and(|end| end == "md")));
    }
    pages
}

/// What stands between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A file of ours, by its end; `mine` is what the reader is to write.
fn is_file_of_ours(name: &str) -> bool {
    let is_path = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    let ends = [".rs", ".ron", ".py", ".md", ".toml"];
    is_path && ends.iter().any(|end| name.ends_with(end)) && !name.contains("mine")
}

/// Every file of the project's own folders.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
        if item.is_dir() { files(&item, found) } else { found.push(item) }
    }
}

/// A page may leave out the first folders of a path. Experiments are not asked: they tell of what was there then.
#[test]
fn pages_name_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alone = ["README.md", "CHANGELOG.md", "data/README.md", "checkpoints/README.md"];
    let mut there: Vec<PathBuf> = alone.iter().map(|file| root.join(file)).collect();
    let folders = ["src", "tests", "docs", "recipes", "benches"];
    folders.iter().for_each(|folder| files(&root.join(folder), &mut there));
    let mut named = 0;
    let mut missing = Vec::new();
    for page in pages().into_iter().filter(|page| !page.ends_with("docs/experiments.md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in quoted(&text).filter(|name| name.contains('/') && is_file_of_ours(name)) {
            named += 1;
            if !there.iter().any(|file| file.ends_with(name)) {
                missing.push(format!("{}: {name}", page.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(named > 50, "only {named} files are named: are pages still read?");
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}
