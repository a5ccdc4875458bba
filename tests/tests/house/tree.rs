//! The files of the repository as the rules see them: paths from the root, sorted, without what is built or fetched;
//! and the pages that are written from sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Folders that hold nothing we wrote.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", "artifacts", "corpus"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file whose name ends with one of `endings`, as (path from the root, text). What is no UTF-8 is no text.
pub fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    let named = |path: &PathBuf| endings.iter().any(|end| path.to_string_lossy().ends_with(end));
    paths
        .into_iter()
        .filter(named)
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some((path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), text))
        })
        .collect()
}

/// The page at `path` must be `wanted`. With `MILLRACE_WRITE_REFERENCE=1` in the environment it is written instead.
pub fn assert_page(path: &str, wanted: &str) {
    let file = root().join(path);
    if env::var_os("MILLRACE_WRITE_REFERENCE").is_some() {
        fs::write(&file, wanted).unwrap();
    }
    let again =
        "MILLRACE_WRITE_REFERENCE=1 cargo test -p millrace-tests --test house the_reference";
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is out of date; write it with\n  {again}");
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !SKIPPED.contains(&&*name.to_string_lossy()) {
            walk(&path, paths);
        } else if path.is_file() {
            paths.push(path);
        }
    }
}

#[test]
fn the_walk_finds_this_file_and_nothing_that_was_built() {
    let texts = texts(&[".rs"]);
    assert!(texts.iter().any(|(path, _)| path == "tests/tests/house/tree.rs"));
    assert!(texts.iter().all(|(path, _)| !path.starts_with("target/")));
}
