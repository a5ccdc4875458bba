//! Hands the commit to `--version` and `build_info`. Outside a checkout it is `unknown`.
//! Release builds follow every commit; development builds say the commit they were first made at, to spare rebuilding.
use std::process::Command;

fn main() {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    };
    println!("cargo::rustc-env=MILLRACE_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    // `PROFILE` is that of each profile that inherits from release; the folder is named after the profile itself.
    let release =
        std::env::var("OUT_DIR").is_ok_and(|dir| dir.split('/').any(|name| name == "release"));
    for path in ["../../.git/HEAD", "../../.git/refs/heads", "../../.git/packed-refs"] {
        if release && std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
