//! Debian's nginx in a folder and on a port of its own, with a configuration of ours. Not the system's service.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use millrace_testkit::{Scratch, free_port};

const START: Duration = Duration::from_secs(5);

/// A running nginx; killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    scratch: Scratch,
}

impl Nginx {
    /// Starts nginx with one of the configurations in `benches/nginx`, each `@NAME@` replaced.
    ///
    /// # Errors
    /// It does not listen after some seconds; the error holds its log.
    pub fn start(configuration: &str, replace: &[(&str, &str)]) -> anyhow::Result<Self> {
        let scratch = Scratch::new("nginx")?;
        let dir = scratch.path();
        fs::create_dir(dir.join("www"))?;
        let port = free_port()?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("nginx").join(configuration);
        let mut text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        text = text.replace("@PORT@", &port.to_string());
        text = text.replace("@DIR@", &dir.display().to_string());
        for (name, value) in replace {
            text = text.replace(name, value);
        }
        let file = dir.join("nginx.conf");
        fs::write(&file, text)?;
        let said = fs::File::create(dir.join("stderr.log"))?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .context("nginx (Debian: nginx-light)")?;
        let mut nginx = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), scratch };
        nginx.wait_until_it_listens()?;
        Ok(nginx)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder whose files it serves.
    pub fn www(&self) -> PathBuf {
        self.scratch.path().join("www")
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > deadline || self.child.try_wait()?.is_some() {
                let said = |file| fs::read_to_string(self.scratch.path().join(file));
                let said = [said("stderr.log"), said("error.log")].map(Result::unwrap_or_default);
                bail!("nginx does not listen: {}", said.concat());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
