//! Counts are never tried again: what a test's earlier try of the same run has miscounted stands against its later ones. Bounds on time
//! may be missed once on a busy machine, and the test runner tries such a test again, whatever it was that failed.

use std::{env, fs, path::PathBuf};

/// Insists that nothing was miscounted, neither now nor in an earlier try of this test in the same run of nextest.
///
/// # Panics
/// With `what`, or with what the earlier try had counted.
#[track_caller]
pub fn assert_counted(faults: usize, what: impl FnOnce() -> String) {
    let marker = marker();
    if let Some(before) = marker.as_ref().and_then(|path| fs::read_to_string(path).ok()) {
        panic!("an earlier try miscounted, and counts are not tried again: {before}");
    }
    if faults > 0 {
        let what = what();
        if let Some(path) = marker {
            // Without it the next try counts for itself; this one fails in any case.
            let _ = fs::create_dir_all(path.parent().unwrap_or(&path));
            let _ = fs::write(path, &what);
        }
        panic!("{faults} faults\n{what}");
    }
}

/// Where an earlier try of this test, in the same run, would have left word; `None` outside nextest, where no test is tried again.
fn marker() -> Option<PathBuf> {
    let run = env::var("NEXTEST_RUN_ID").ok()?;
    // Nextest starts a process for each test, and names the test.
    let test = env::args().skip(1).find(|argument| !argument.starts_with('-'))?;
    Some(marker_of(&run, &test))
}

fn marker_of(run: &str, test: &str) -> PathBuf {
    env::temp_dir().join("millrace-miscounted").join(run).join(test.replace("::", "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_of_each_run_has_a_marker_of_its_own() {
        let of = |run, test| marker_of(run, test);
        assert_eq!(of("a", "b::c"), of("a", "b::c"));
        assert_ne!(of("a", "b::c"), of("b", "b::c"));
        assert_ne!(of("a", "b::c"), of("a", "b::d"));
    }

    #[test]
    fn what_was_miscounted_once_fails_each_later_try_of_the_same_run() {
        assert_counted(0, String::new);
        let first =
            std::panic::catch_unwind(|| assert_counted(1, || "frame 7 is missing".to_owned()));
        assert!(first.is_err());
        let later = std::panic::catch_unwind(|| assert_counted(0, String::new));
        // Outside nextest there are no further tries.
        assert_eq!(later.is_err(), marker().is_some());
        if let Some(path) = marker() {
            fs::remove_file(path).unwrap();
        }
    }
}
