//! `millrace doctor`: what this host lacks, and what to do about it. Looks and reports; changes nothing.

mod finding;
mod holder;
mod host;
mod kernel;
mod programs;

use std::process::ExitCode;

use crate::{
    arguments::DoctorArguments, doctor::finding::Finding, settings::Settings, table::table,
};

pub use finding::Verdict;
pub use holder::{Holder, holder};

/// Prints every finding. Exit code 2 when something is missing without which nothing runs.
///
/// # Errors
/// A configuration that cannot be read.
pub fn run(arguments: &DoctorArguments) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(arguments.config.as_deref())?;
    let worker_dir = arguments.worker_dir.clone().or(settings.sections.node.worker_dir.clone());
    let mut findings = programs::workers(worker_dir.as_deref());
    findings.extend(host::ports(&settings.listeners()));
    findings.extend(kernel::sandbox());
    findings.extend(host::machine());
    match arguments.json {
        true => crate::output::say(format_args!("{}", serde_json::to_string_pretty(&findings)?)),
        false => crate::output::print(format_args!("{}", shown(&findings))),
    }
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn shown(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let advice = match &finding.what_to_do {
                Some(what_to_do) => format!("{}: {what_to_do}", finding.found),
                None => finding.found.clone(),
            };
            [finding.check.to_owned(), finding.verdict.to_string(), advice]
        })
        .collect();
    table(["CHECK", "STATE", "FOUND"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_order_says_what_to_do() {
        let mut findings = programs::workers(Some(std::path::Path::new("/nowhere")));
        findings.extend(kernel::sandbox());
        findings.extend(host::machine());
        for finding in &findings {
            let advised = finding.what_to_do.is_some();
            assert_eq!(advised, finding.verdict != Verdict::Ok, "{finding:?}");
        }
        assert_eq!(findings[0].verdict, Verdict::Missing);
        assert!(shown(&findings).contains("cargo build"));
    }
}
