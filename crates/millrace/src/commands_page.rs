//! Writes `docs/reference/commands.md` from the command line's own definition, or holds the page against it.

use std::{env, fmt::Write as _, fs, path::Path};

use clap::{Command, CommandFactory as _};

use crate::arguments::Arguments;

const HEAD: &str = "# Commands

Written from the sources by a test; do not edit. `millrace COMMAND --help` says the same.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed; standard error says why |
| 2 | wrong usage, or something is missing that a person must provide: a free port, a readable file, a program, a token |
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut root = Arguments::command();
    root.build();
    describe(&root, "millrace", &mut page);
    page
}

fn describe(command: &Command, name: &str, page: &mut String) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        let help = sub.clone().bin_name(&name).render_long_help().to_string();
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {name}\n\n```\n{}\n```\n", lines.join("\n").trim());
        describe(sub, &name, page);
    }
}

#[test]
fn the_reference_says_what_the_command_line_takes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
    let page = page();
    assert!(page.contains("## millrace config check") && page.contains("--listen-rtmps"), "{page}");
    if env::var_os("MILLRACE_WRITE_REFERENCE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/commands.md is old: MILLRACE_WRITE_REFERENCE=1 writes it"
    );
}
