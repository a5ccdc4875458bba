//! The operator at the farm of many programs: `millrace` with its own arguments, and the farm's API.

use std::process::{Command, Stdio};

use anyhow::ensure;
use serde_json::Value;

use crate::{ManyFarm, farm::program};

impl ManyFarm {
    /// Runs `millrace` against this farm's API; what it printed.
    ///
    /// # Errors
    /// When it fails; its words are in the error.
    pub fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let api = format!("http://{}", self.address("api-1", "api")?);
        let mut command = Command::new(program("millrace")?);
        command.args(arguments).args(["--api", &api]).stdin(Stdio::null());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "millrace {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, with `--json`.
    ///
    /// # Errors
    /// As [`Self::operator`], and when it does not print JSON.
    pub fn operator_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.operator(&[arguments, &["--json"]].concat())?)?)
    }
}
