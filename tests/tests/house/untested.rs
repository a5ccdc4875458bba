//! What a manifest calls untested holds no test, and what holds none is called so: else a test is never run, or a program is
//! built a second time for nothing. Documentation holds no test at all: code that it shows is an example, which is built.

use crate::{assert_clean, tree};

/// A part of a crate that cargo builds once more to test it: its library, or one of its programs.
struct Target {
    manifest: String,
    kind: &'static str,
    name: String,
    tests: bool,
    documentation_tests: bool,
}

/// What is wrong with what `manifest` says of this target.
fn findings(target: &Target, manifest: &str) -> Vec<String> {
    let Target { manifest: path, kind, name, .. } = target;
    let (section, of_name) = match *kind {
        "lib" => ("lib]", String::new()),
        _ => ("[bin]]", format!("name = \"{name}\"")),
    };
    let mut sections = manifest.split("\n[").filter_map(|text| text.strip_prefix(section));
    let text = sections.find(|text| text.lines().any(|line| line == of_name));
    let says = |line: &str| text.is_some_and(|text| text.lines().any(|it| it == line));
    let mut findings = Vec::new();
    let mut compare = |line: &str, holds: bool| match (says(line), holds) {
        (true, true) => findings.push(format!("{path}: {kind} {name}: {line}, but there are")),
        (false, false) => findings.push(format!("{path}: {kind} {name}: {line} is missing")),
        _ => {}
    };
    compare("test = false", target.tests);
    if *kind == "lib" {
        // Looking for them in every library takes a minute and a half of two processors.
        compare("doctest = false", false);
    }
    if target.documentation_tests {
        findings.push(format!(
            "{path}: {kind} {name}: nothing runs what its documentation shows; include an example"
        ));
    }
    findings
}

fn holds_tests(text: &str) -> bool {
    let begins_one = |line: &str| {
        ["#[test]", "#[tokio::test", "proptest!"].iter().any(|start| line.starts_with(start))
    };
    text.lines().any(|line| begins_one(line.trim_start()))
}

/// Whether a fence in its documentation holds code: all but those of `text`.
fn holds_documentation_tests(text: &str) -> bool {
    let comment = |line: &'_ str| {
        let line = line.trim_start();
        line.strip_prefix("//! ").or_else(|| line.strip_prefix("/// ")).map(str::to_owned)
    };
    let mut fences = text.lines().filter_map(comment).filter(|line| line.starts_with("```"));
    while let Some(opening) = fences.next() {
        if opening != "```text" {
            return true;
        }
        fences.next();
    }
    false
}

/// The targets of the crate in `dir`, whose sources are among `sources`.
fn targets(dir: &str, manifest: &str, sources: &[(String, String)]) -> Vec<Target> {
    let src = format!("{dir}/src/");
    let ours: Vec<(&str, &String)> = sources
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix(&src)?, text)))
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect();
    let library = ours.iter().any(|(path, _)| *path == "lib.rs");
    let package = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or("");
    // Beside a library a program is one file; without one, all files are the program's.
    let is_program = |path: &str| path == "main.rs" || path.starts_with("bin/");
    let target = |kind, name: &str, texts: Vec<&String>| Target {
        manifest: format!("{dir}/Cargo.toml"),
        kind,
        name: name.trim_matches('"').to_owned(),
        tests: texts.iter().any(|text| holds_tests(text)),
        documentation_tests: texts.iter().any(|text| holds_documentation_tests(text)),
    };
    if !library {
        return vec![target("bin", package, ours.iter().map(|(_, text)| *text).collect())];
    }
    let rest = ours.iter().filter(|(path, _)| !is_program(path)).map(|(_, text)| *text);
    let mut targets = vec![target("lib", package, rest.collect())];
    targets.extend(ours.iter().filter(|(path, _)| is_program(path)).map(|(path, text)| {
        let name = path.strip_prefix("bin/").map_or(package, |name| name.trim_end_matches(".rs"));
        target("bin", name, vec![text])
    }));
    targets
}

#[test]
fn what_is_called_untested_holds_no_test_and_what_holds_none_is_called_so() {
    let (manifests, sources) = (tree::texts(&["Cargo.toml"]), tree::texts(&[".rs"]));
    let crates = manifests.iter().filter_map(|(path, text)| {
        let dir = path.strip_suffix("/Cargo.toml").filter(|dir| *dir != "fuzz")?;
        Some(targets(dir, text, &sources).into_iter().flat_map(move |it| findings(&it, text)))
    });
    assert_clean(&crates.flatten().collect::<Vec<_>>());
}

#[test]
fn the_rule_fails_on_a_test_that_never_runs_and_on_a_program_that_is_built_twice() {
    let sources = |library: &str, program: &str| {
        vec![
            ("a/src/lib.rs".to_owned(), library.to_owned()),
            ("a/src/bin/b.rs".to_owned(), program.to_owned()),
        ]
    };
    let found = |manifest: &str, sources: &[(String, String)]| -> Vec<String> {
        targets("a", manifest, sources).iter().flat_map(|it| findings(it, manifest)).collect()
    };
    let quiet = "[package]\nname = \"a\"\n\n[lib]\ntest = false\ndoctest = false\n\n\
                 [[bin]]\nname = \"b\"\ntest = false\n";
    assert_eq!(found(quiet, &sources("", "//! ```text\n//! ```\n")), Vec::<String>::new());
    let tested = sources("/// ```\n/// ```\n#[test]\n", "    #[tokio::test(start_paused)]\n");
    assert_eq!(
        found(quiet, &tested),
        [
            "a/Cargo.toml: lib a: test = false, but there are",
            "a/Cargo.toml: lib a: nothing runs what its documentation shows; include an example",
            "a/Cargo.toml: bin b: test = false, but there are",
        ]
    );
    let plain = "[package]\nname = \"a\"\n";
    assert_eq!(found(plain, &tested).len(), 2);
    assert_eq!(found(plain, &sources("", "")).len(), 3);
}
