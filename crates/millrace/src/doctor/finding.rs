//! One line of the doctor's report.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// In order.
    Ok,
    /// It runs, with less than it could have.
    Warn,
    /// It does not run.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        })
    }
}

/// What was looked at, what was found, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    #[serde(rename = "state")]
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless it is in order.
    pub what_to_do: Option<String>,
}

impl Finding {
    /// In order.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), what_to_do: None }
    }

    /// Less than could be.
    pub fn warn(check: &'static str, found: impl Into<String>, what_to_do: &str) -> Self {
        let what_to_do = Some(what_to_do.to_owned());
        Self { check, verdict: Verdict::Warn, found: found.into(), what_to_do }
    }

    /// Nothing runs without it.
    pub fn missing(check: &'static str, found: impl Into<String>, what_to_do: &str) -> Self {
        let what_to_do = Some(what_to_do.to_owned());
        Self { check, verdict: Verdict::Missing, found: found.into(), what_to_do }
    }
}
