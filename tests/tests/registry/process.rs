//! A process of its own that keeps one node's record, to be paused and killed.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use millrace_registry::{Registry, RegistryConfig};
use millrace_testkit::Etcd;
use millrace_tests::HostClock;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::registry::node;

/// The node's name and its number of workers.
pub const NODE: (&str, u64) = ("helper", 7);
/// Where the process learns of the cluster.
const ENDPOINT: &str = "MILLRACE_TEST_KEEPER_ENDPOINT";

/// Gone with its owner.
pub struct Keeper(Child);

impl Keeper {
    pub fn start(etcd: &Etcd) -> anyhow::Result<Self> {
        Self::start_in(etcd, [])
    }

    /// One that lives by that clock.
    pub fn start_by(etcd: &Etcd, clock: &HostClock) -> anyhow::Result<Self> {
        Self::start_in(etcd, clock.environment())
    }

    fn start_in(
        etcd: &Etcd,
        environment: impl IntoIterator<Item = (&'static str, PathBuf)>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe()?);
        command.args([
            "--exact",
            "registry::process::keeps_a_record_until_it_is_killed",
            "--ignored",
        ]);
        command.envs(environment).env(ENDPOINT, &etcd.endpoints()[0]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "other tests run it, in a process of its own"]
async fn keeps_a_record_until_it_is_killed() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let config = RegistryConfig { endpoints: vec![endpoint], ..RegistryConfig::default() };
    let registry = Registry::connect(&config).expect("settings");
    let _kept = registry.keep(&node(NODE.0, NODE.1));
    std::future::pending::<()>().await;
}
