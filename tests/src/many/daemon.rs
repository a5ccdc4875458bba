//! A node's daemon alone: ended and started again while its workers live on.

use std::{fs, net::SocketAddr};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{ManyFarm, Running, census::is_zombie};

impl ManyFarm {
    /// Sends a signal to a node's daemon and to none of its workers, and waits for its end. Where routers reached it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn end_daemon(&mut self, name: &str, signal: Signal) -> anyhow::Result<SocketAddr> {
        let link = self.address(name, "link")?;
        let mut gone = self.programs.remove(name).with_context(|| format!("no {name} runs"))?;
        kill(Pid::from_raw(i32::try_from(gone.child.id())?), signal)?;
        gone.child.wait()?;
        Ok(link)
    }

    /// Starts the next daemon of a node where the one before listened, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn next_daemon(&mut self, name: &str, link: SocketAddr) -> anyhow::Result<()> {
        self.spawn_at(name, None, &json!({ "link": link.to_string() }))
    }

    /// Tells a program to stop (SIGTERM), which a node's workers outlive, and waits for its end. It starts again where it listened.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let gone = self.programs.remove(name).with_context(|| format!("no {name} runs"))?;
        let Running { mut child, ready } = gone;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        tokio::task::spawn_blocking(move || child.wait()).await??;
        self.stopped.insert(name.to_owned(), ready);
        Ok(())
    }

    /// Stops a program and starts it again where it listened, as `systemctl restart` does; waits until it can work.
    ///
    /// # Errors
    /// When it does not run, or cannot work in time; its log is in the error.
    pub async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        self.stop(name).await?;
        self.start_again(name).await
    }

    /// Waits until a program that was started can work.
    ///
    /// # Errors
    /// When it cannot in time; its log is in the error.
    pub async fn ready(&mut self, name: &str) -> anyhow::Result<()> {
        self.await_ready(name).await
    }

    /// The workers that a node's daemon, also an earlier one, has written down and that live.
    pub fn workers(&self, name: &str) -> Vec<i32> {
        let entries = fs::read_dir(self.run_dir.join(name)).into_iter().flatten().flatten();
        let identities = entries.filter(|entry| {
            entry.path().extension().is_some_and(|ending| ending == "json")
                && entry.file_name().to_string_lossy().starts_with("worker-")
        });
        let pids = identities.filter_map(|entry| {
            let identity: Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            i32::try_from(identity["pid"].as_i64()?).ok()
        });
        pids.filter(|pid| is_worker(*pid)).collect()
    }
}

/// Whether the process lives and is a worker.
fn is_worker(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.starts_with("millrace-worker"))
        && !is_zombie(pid)
}
