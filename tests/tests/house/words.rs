//! Words that may not stand in the repository: places that exist on the machine of whoever wrote it, and nowhere else.

use crate::{assert_clean, tree};

const TEXT: &[&str] = &[
    ".rs", ".md", ".toml", ".yml", ".yaml", ".json", ".sh", ".html", ".css", ".service", ".conf",
    ".py", ".j2", ".ci/run", "NOTICE",
];

/// Put together here, so that this file does not find itself.
fn forbidden() -> [String; 3] {
    [["../", "shared"].concat(), ["/wo", "rk/"].concat(), [".lib", "rary/"].concat()]
}

fn findings(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(at, line)| {
            let words = forbidden().into_iter().filter(move |word| line.contains(word.as_str()));
            words.map(move |word| format!("{path}:{}: {word}", at + 1))
        })
        .collect()
}

#[test]
fn no_file_names_a_place_that_only_its_author_has() {
    let texts = tree::texts(TEXT);
    let all: Vec<String> = texts.iter().flat_map(|(path, text)| findings(path, text)).collect();
    assert_clean(&all);
}

#[test]
fn the_rule_finds_each_word_with_its_line() {
    for word in forbidden() {
        assert_eq!(findings("a.md", &format!("ok\nsee {word}x\n")), [format!("a.md:2: {word}")]);
    }
    assert!(findings("a.md", "shared work of a library\n").is_empty());
}
