//! What a refused publisher is told: a closed reason and one sentence its operator can act on.

use std::fmt;

use millrace_types::RefusalReason;

/// A reason with, where it helps, the offending thing and its value.
///
/// Prints as `reason: advice (detail)`, the text that encoders log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The closed reason.
    pub reason: RefusalReason,
    /// The thing that was refused and its value; never a stream key.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal that names the offending thing and its value.
    pub fn with_detail(reason: RefusalReason, detail: impl fmt::Display) -> Self {
        Self { reason, detail: Some(detail.to_string()) }
    }
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Self {
        Self { reason, detail: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.reason.advice())?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}
