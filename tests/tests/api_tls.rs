//! The commands ask the API over HTTPS: whom they trust, and what they say of anybody else.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hyper::Method;
use millrace_testkit::until;
use millrace_tests::{Farm, FarmOptions, SelfSigned, program};

const WITHIN: Duration = Duration::from_secs(10);

/// `millrace nodes --api URL`; what it printed, or what it said when it failed.
fn nodes(api: &str, trusted: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(program("millrace").unwrap());
    command.args(["nodes", "--json", "--api", api]).stdin(Stdio::null());
    if let Some(trusted) = trusted {
        command.arg("--api-ca").arg(trusted);
    }
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[tokio::test]
async fn commands_ask_over_https_whom_they_trust_and_the_certificate_is_renewed_without_a_restart()
{
    let certificate = SelfSigned::new().unwrap();
    let first = certificate.renew("first.pem").unwrap();
    let toml = format!("[api]\n{}", certificate.setting());
    let options = FarmOptions { toml, rungs: Vec::new(), ..FarmOptions::default() };
    let farm = Farm::start(options.clone()).await.unwrap();
    let plain = farm.api_url().to_owned();
    let secure = plain.replace("http://", "https://");
    let there = nodes(&secure, Some(&first)).unwrap();
    assert!(there.contains("node-1"), "{there}");
    assert!(nodes(&plain, None).is_ok(), "this host also without");
    farm.api(Method::GET, "/v1/nodes", String::new()).await.unwrap();

    let stranger = nodes(&secure, None).unwrap_err();
    assert!(stranger.contains("no authority that counts here"), "{stranger}");
    let useless = nodes(&plain, Some(&first)).unwrap_err();
    assert!(useless.contains("https:// only"), "{useless}");
    let odd = nodes(plain.trim_start_matches("http://"), None).unwrap_err();
    assert!(odd.contains("give http://HOST:PORT or https://HOST:PORT"), "{odd}");

    let second = certificate.renew("second.pem").unwrap();
    assert!(nodes(&secure, Some(&second)).is_err(), "it is not read before it is asked for");
    farm.reload(&options).unwrap();
    until("the new one", WITHIN, || nodes(&secure, Some(&second)).is_ok()).await.unwrap();
    assert!(nodes(&secure, Some(&first)).is_err());
}
