//! Settings that a person must change first end every program with 2, which its unit does not start again.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

use millrace_testkit::Scratch;
use millrace_tests::program;

/// How a program ends with these settings, and what it says.
fn ends(kind: &str, settings: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let scratch = Scratch::new("exit-codes").unwrap();
    let file = scratch.path().join("settings.toml");
    fs::write(&file, settings).unwrap();
    let mut command = Command::new(program(&format!("millrace-{kind}")).unwrap());
    command.arg("--config").arg(&file).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Does it for all of them at once: each program looks for a registry for a while before it is told what is wrong.
fn for_each<T: Sync>(all: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| all.iter().for_each(|one| drop(scope.spawn(|| check(one)))));
}

#[test]
fn an_address_that_is_taken_ends_a_program_with_2_and_is_named_once_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let run_dir = Scratch::new("taken").unwrap();
    let registry = "[registry]\nendpoints = ['http://127.0.0.1:9']\n";
    let run_dir = format!("run_dir = '{}'\n{registry}", run_dir.path().display());
    let programs = [
        ("router", "rtmp", registry),
        ("node", "link", run_dir.as_str()),
        ("origin", "playback", registry),
        ("api", "api", registry),
    ];
    for_each(&programs, |(kind, listener, settings)| {
        let (code, said) = ends(kind, settings, &[&format!("--listen-{listener}"), &at]);
        assert_eq!(code, Some(2), "{kind}: {said}");
        let wanted =
            format!("millrace-{kind}: listen_{listener} {at}: another program listens there\n");
        assert!(said.ends_with(&wanted), "{kind}: {said}");
        assert_eq!(said.matches("another program").count(), 1, "{said}");
    });
}

#[test]
fn files_that_are_missing_end_a_program_with_2_and_are_named_with_their_setting() {
    let registry = "[registry]\nendpoints = ['http://127.0.0.1:9']\n";
    let tls = "tls = { certificate = '/nowhere/a.pem', key = '/nowhere/a.key' }\n";
    let wanted = "tls: /nowhere/a.pem: ";
    let programs = [
        ("router", tls, wanted, &["admin", "rtmp"][..]),
        ("origin", tls, wanted, &["admin", "playback", "intake"]),
        ("api", tls, wanted, &["admin", "api"]),
        ("api", "tokens = '/nowhere/tokens'\n", "tokens: /nowhere/tokens: ", &["admin", "api"]),
        ("node", "run_dir = '/proc/nowhere'\n", "run_dir /proc/nowhere: ", &["admin", "link"]),
    ];
    for_each(&programs, |(kind, setting, at_fault, arguments)| {
        let arguments: Vec<_> =
            arguments.iter().map(|name| format!("--listen-{name}=127.0.0.1:0")).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, said) = ends(kind, &format!("{setting}{registry}"), &arguments);
        assert_eq!(code, Some(2), "{kind}: {said}");
        assert!(said.contains(at_fault), "{kind}: {said}");
    });
    for (kind, flag, at_fault) in [
        ("router", "--log=a=b=c[", "a=b=c["),
        ("origin", "--ready-json=/nowhere/ready.json", "--ready-json /nowhere/ready.json: "),
    ] {
        let (code, said) = ends(kind, registry, &[flag]);
        assert!(code == Some(2) && said.contains(at_fault), "{code:?} {kind} {flag}: {said}");
    }
}

#[test]
fn settings_that_cannot_be_used_end_a_program_with_2_and_name_what_is_wrong() {
    let registry = "[registry]\nendpoints = ['http://127.0.0.1:9']\n";
    for (settings, at_fault) in [
        (format!("nmae = 'a'\n{registry}"), "nmae"),
        (registry.replace("http", "ftp"), "ftp://127.0.0.1:9"),
        (format!("{registry}lease_seconds = 1\n"), "lease_seconds 1"),
        (String::new(), "no registry"),
        ("name = \n".to_owned(), "settings.toml"),
        (format!("log = 'loud'\n{registry}"), "\"loud\" is no level"),
    ] {
        for kind in ["router", "node", "origin", "api"] {
            let (code, said) = ends(kind, &settings, &[]);
            assert_eq!(code, Some(2), "{kind} with {settings:?}: {said}");
            assert!(said.contains(at_fault), "{kind} with {settings:?}: {said}");
        }
    }
}
