//! A certificate of a public listener that only those trust who were given it, to be renewed under way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use millrace_testkit::Scratch;

/// Certificate and key for 127.0.0.1, in files.
#[derive(Debug)]
pub struct SelfSigned(Scratch);

impl SelfSigned {
    /// A folder for them, empty yet.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Scratch::new("certificate")?))
    }

    /// Writes a certificate that nobody has seen, and a copy of it to trust.
    ///
    /// # Errors
    /// When openssl does not make one.
    pub fn renew(&self, copy: &str) -> anyhow::Result<PathBuf> {
        let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=millrace -addext subjectAltName=IP:127.0.0.1 \
            -addext basicConstraints=critical,CA:FALSE -out cert.pem -keyout key.pem";
        let mut command = Command::new("openssl");
        let output = command.args(make.split_whitespace()).current_dir(self.dir()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let trusted = self.dir().join(copy);
        fs::copy(self.dir().join("cert.pem"), &trusted)?;
        Ok(trusted)
    }

    /// The line of a program's settings that names them.
    pub fn setting(&self) -> String {
        let dir = self.dir().display();
        format!("tls = {{ certificate = '{dir}/cert.pem', key = '{dir}/key.pem' }}")
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }
}
