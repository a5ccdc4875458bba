//! Which build this is.

/// The commit it was built from, 12 hex digits, or `unknown`.
pub const COMMIT: &str = env!("MILLRACE_COMMIT");
/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `--version` prints after the program's name: `0.1.0 (0123456789ab)`.
pub fn version_line() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("MILLRACE_COMMIT"), ")")
}
