//! What only a person can provide: a free port, a readable configuration, the workers' programs. Ends with exit code 2.

/// Something is missing or given wrongly; the text says what and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Prerequisite(pub String);
