//! What the units name: programs, flags, settings, users, directories.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, process::Command};

use millrace_testkit::Scratch;
use millrace_tests::program;
use nix::unistd::geteuid;

use crate::units::unit::{Unit, folder};

/// The flags that `--help` of a program (and of its command) names.
fn flags(name: &str, command: Option<&str>) -> BTreeSet<String> {
    let help = Command::new(program(name).unwrap()).args(command).arg("--help").output().unwrap();
    assert!(help.status.success(), "{name} --help");
    let text = String::from_utf8(help.stdout).unwrap();
    let words = text.split(|letter: char| letter.is_whitespace() || letter == ',');
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// Users that `sysusers.conf` makes.
fn users() -> Vec<String> {
    let text = fs::read_to_string(folder().join("sysusers.conf")).unwrap();
    let made = text.lines().filter_map(|line| line.strip_prefix("u "));
    made.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_flag_of_a_units_command_line_is_one_of_its_program() {
    for unit in Unit::daemons() {
        let (name, arguments) = unit.command();
        let command = arguments.first().copied().filter(|word| !word.starts_with("--"));
        let known = flags(name, command);
        let used: Vec<_> = arguments.iter().filter(|word| word.starts_with("--")).collect();
        assert!(!used.is_empty(), "{}: reads no settings", unit.name);
        for flag in used {
            assert!(known.contains(*flag), "{}: {name} has no {flag}", unit.name);
        }
    }
}

#[test]
fn the_unit_that_empties_a_node_at_shutdown_asks_for_what_there_is_and_stops_before_the_node() {
    let unit = Unit::named("millrace-node-drain.service");
    let (name, arguments) = unit.command_of("ExecStop");
    assert_eq!((name, arguments[0]), ("millrace", "drain"));
    let known = flags(name, Some("drain"));
    for flag in arguments.iter().filter(|word| word.starts_with("--")) {
        assert!(known.contains(*flag), "millrace drain has no {flag}");
    }
    assert!(arguments.contains(&"--until-restart"), "a host that comes back takes streams again");
    let node = Unit::named("millrace-node.service");
    let patience = |key: &str| unit.values(key)[0].parse::<u32>().unwrap();
    let timeout = arguments.iter().position(|word| *word == "--timeout").unwrap() + 1;
    assert!(patience("TimeoutStopSec") > arguments[timeout].parse::<u32>().unwrap());
    assert!(unit.values("After")[0].split_whitespace().any(|after| after == node.name));
}

#[test]
fn every_settings_file_that_a_unit_names_is_shipped_as_an_example() {
    let crates = folder().join("../crates");
    for unit in Unit::daemons() {
        let (_, arguments) = unit.command();
        let at = arguments.iter().position(|word| *word == "--config").unwrap();
        let file = arguments[at + 1].strip_prefix("/etc/millrace/").unwrap();
        let folders = fs::read_dir(&crates).unwrap();
        let mut examples = folders.map(|it| it.unwrap().path().join("config").join(file));
        assert!(examples.any(|path| path.is_file()), "{}: no example of {file}", unit.name);
    }
}

#[test]
fn every_unit_is_watched_restarted_and_run_by_a_user_that_is_made_for_it() {
    let users = users();
    assert_eq!(users, ["millrace", "millrace-worker"]);
    let example = folder().join("../crates/millrace/config/standalone.toml");
    let settings = fs::read_to_string(example).unwrap();
    assert!(settings.contains("\nworker_user = \"millrace-worker\"\n"), "the node's default");
    for unit in Unit::daemons() {
        let one = |key: &str| unit.values(key).last().copied().unwrap_or_default().to_owned();
        assert_eq!(one("Type"), "notify", "{}", unit.name);
        assert_eq!(one("Restart"), "always", "{}", unit.name);
        assert!(one("WatchdogSec").parse::<u32>().is_ok_and(|seconds| seconds >= 10));
        assert!(one("LimitNOFILE").parse::<u32>().is_ok());
        let user = one("User");
        assert!(users.contains(&user) || user == "root", "{}: user {user:?}", unit.name);
    }
}

#[test]
fn users_and_directories_are_made_as_the_units_need_them() {
    if !geteuid().is_root() {
        println!("not tried: only root gives files to other users");
        return;
    }
    let scratch = Scratch::new("root").unwrap();
    let root = scratch.path();
    fs::create_dir(root.join("etc")).unwrap();
    for (tool, more, file) in [
        ("systemd-sysusers", None, "sysusers.conf"),
        ("systemd-tmpfiles", Some("--create"), "tmpfiles.conf"),
    ] {
        let mut command = Command::new(tool);
        command.args(more).arg("--root").arg(root).arg(folder().join(file));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let id = |name: &str| {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split(':').nth(2).unwrap().parse::<u32>().unwrap()
    };
    let (ours, workers) = (id("millrace"), id("millrace-worker"));
    assert!(ours != workers && ours != 0 && workers != 0);
    let found = |path: &str| {
        let made = fs::metadata(root.join(path)).unwrap();
        (made.mode() & 0o7777, made.uid(), made.gid())
    };
    assert_eq!(found("etc/millrace"), (0o750, 0, ours));
    assert_eq!(found("var/lib/millrace"), (0o700, ours, ours));
    assert_eq!(found("run/millrace"), (0o755, 0, 0));
}
