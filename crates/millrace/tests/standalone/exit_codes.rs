//! Commands that fail: with which code, and with which words. 2 is for a person to change something first.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use millrace_testkit::Scratch;
use nix::unistd::geteuid;

use super::{millrace, ready_file, standalone, text};

#[test]
fn a_taken_port_ends_the_start_with_code_2_and_the_flag_to_change() {
    let scratch = Scratch::new("standalone-port").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = standalone(&scratch);
    let config = format!("[router]\nlisten_rtmp = '{address}'\n");
    fs::write(scratch.path().join("standalone.toml"), config).unwrap();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let rtmp = arguments.iter().position(|argument| argument == "--listen-rtmp").unwrap();
    command = millrace();
    command.args(&arguments[..rtmp]).args(&arguments[rtmp + 2..]);
    let output = command.output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--listen-rtmp") && said.contains(&address), "{said}");
    assert!(!ready_file(&scratch).exists());
}

#[test]
fn a_misspelled_key_is_found_by_config_check() {
    let scratch = Scratch::new("config-check").unwrap();
    let file = scratch.path().join("standalone.toml");
    fs::write(&file, "[origin]\nmax_conections = 3\n").unwrap();
    let output = millrace().args(["config", "check", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("max_conections"), "{}", text(&output));
    fs::write(&file, "[origin]\nmax_connections = 3\n").unwrap();
    let output = millrace().args(["config", "show", "--config"]).arg(&file).output().unwrap();
    assert!(text(&output).contains("file     origin.max_connections = 3\n"), "{}", text(&output));
}

#[test]
fn a_programs_own_file_is_checked_by_its_name_or_as_told() {
    let scratch = Scratch::new("config-programs").unwrap();
    let keys = [
        ("router", "max_bitrate_kbps = 1"),
        ("node", "usable_share = 0.5"),
        ("origin", "keep_ended_s = 1"),
        ("api", "listen_api = '127.0.0.1:1'"),
    ];
    let check = |arguments: &[&str], file: &PathBuf| {
        let mut command = millrace();
        command.args(["config", "check"]).args(arguments).arg(file).output().unwrap()
    };
    for (program, key) in keys {
        let file = scratch.path().join(format!("{program}.toml"));
        let registry = "[registry]\nendpoints = ['http://127.0.0.1:1']";
        fs::write(&file, format!("{key}\n{registry}\n")).unwrap();
        let output = check(&[], &file);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let other = if program == "api" { "node" } else { "api" };
        let output = check(&["--program", other], &file);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let name = key.split(' ').next().unwrap();
        assert!(text(&output).contains(name), "{}", text(&output));
    }
}

#[test]
fn a_farm_that_gets_no_network_namespaces_says_what_lacks_and_does_without_unless_nothing_else_will_do()
 {
    let scratch = Scratch::new("no-hosts").unwrap();
    let up = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        // Whoever is not root lacks it anyhow.
        command.args(geteuid().is_root().then_some("--bounding-set=-sys_admin"));
        command.arg("--").arg(millrace().get_program()).args(["farm", "up", "--nodes", "1"]);
        command.args(["--etcd", "/bin/true"]).args(arguments).env("TMPDIR", scratch.path());
        command.output().unwrap()
    };
    let only = up(&["--addresses", "namespaces"]);
    assert_eq!(only.status.code(), Some(2), "{}", text(&only));
    assert!(text(&only).contains("--addresses namespaces: "), "{}", text(&only));
    let without = text(&up(&[]));
    assert!(without.contains("partition drills are off"), "{without}");
    let why = ["no network namespace", "only root"].iter().any(|why| without.contains(why));
    assert!(why && without.contains("127.0."), "{without}");
}

#[test]
fn a_farm_that_does_not_run_is_a_failure_and_a_wrong_command_is_usage() {
    let streams = ["streams", "--api", "http://127.0.0.1:9"];
    let output = millrace().args(streams).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("--api"), "{}", text(&output));
    let scratch = Scratch::new("wrong-use").unwrap();
    let taken = TcpListener::bind("127.250.3.2:7001").unwrap();
    for (line, wanted) in [
        ("streams --api nonsense", "http://HOST:PORT"),
        ("streams --api https://127.0.0.1:9 --api-ca /nowhere/ca.pem", "--api-ca: /nowhere/ca.pem"),
        ("streams --token-file /nowhere/token", "--token-file /nowhere/token"),
        ("drain", "<NODE>"),
        ("drain --config /nowhere/node.toml", "--config /nowhere/node.toml"),
        ("backup /nowhere/farm.json", "/nowhere/farm.json"),
        ("restore /nowhere/farm.json", "/nowhere/farm.json"),
        ("certs show /nowhere/a.pem", "/nowhere/a.pem"),
        ("certs show --dir /nowhere", "/nowhere"),
        ("certs issue king a", "router, node, origin"),
        ("tokens add /nowhere/tokens ci --role read", "/nowhere/tokens"),
        ("standalone --state-dir /proc/nowhere", "--state-dir"),
        ("standalone --listen-playback 8081", "such as 0.0.0.0:8080"),
        ("channels rotate news --overlap 99999999999", "give 0 to 31622400 seconds"),
        ("farm up --subnet 250 --etcd /bin/true", "127.250.3.2:7001"),
    ] {
        let mut command = millrace();
        command.args(line.split(' ')).env("TMPDIR", scratch.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output));
        assert!(text(&output).contains(wanted), "{line}: {}", text(&output));
    }
    drop(taken);
    // The ports are free now, and the etcd ends at once: no log has words in it.
    let mut command = millrace();
    command.args(["farm", "up", "--subnet", "250", "--etcd", "/bin/true", "--nodes", "1"]);
    let output = command.env("TMPDIR", scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().flatten().collect();
    let logs = |dir: &fs::DirEntry| fs::read_dir(dir.path()).unwrap().flatten().collect::<Vec<_>>();
    let is_log = |file: &fs::DirEntry| file.path().extension().is_some_and(|it| it == "log");
    assert!(left.len() <= 1 && left.iter().flat_map(logs).all(|file| is_log(&file)), "{left:?}");
    assert_eq!(millrace().arg("strems").output().unwrap().status.code(), Some(2));
    let version = text(&millrace().arg("--version").output().unwrap());
    assert!(version.contains('(') && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}
