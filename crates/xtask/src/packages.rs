//! Which Debian packages are needed, and which of them are missing. Pure: asks nobody and installs nothing.

/// To build and run Millrace.
pub const BUILD: &[&str] = &[
    // linker and C compiler (ring, libFuzzer); libclang reads FFmpeg's headers
    "build-essential",
    "clang",
    "libclang-dev",
    "pkg-config",
    // etcd's messages, for the registry
    "libprotobuf-dev",
    "protobuf-compiler",
    // the encoder of millrace-worker-av
    "libavcodec-dev",
    "libavfilter-dev",
    "libavformat-dev",
    "libavutil-dev",
    "libswresample-dev",
    "libswscale-dev",
];

/// To test it, on top of [`BUILD`]: real encoders, players and the peers we are compared with.
pub const TEST: &[&str] = &[
    "chromium",
    "chromium-driver",
    // the registry on the etcd that Debian has, beside the newest
    "etcd-server",
    "ffmpeg",
    "gstreamer1.0-libav",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-tools",
    // hosts of their own, for cut networks
    "iproute2",
    // steps the clock of the programs under test
    "libfaketime",
    "libnginx-mod-rtmp",
    "nginx-light",
    // fetches the shaka player, by version
    "npm",
    // systemd-analyze reads the units; nothing of it is started
    "systemd",
];

/// For the tests that only `cargo xtask test --full` runs, on top of [`TEST`]: OBS Studio on a virtual display.
pub const FULL_TEST: &[&str] = &["obs-studio", "xauth", "xvfb"];

/// Packages that are not needed where a program of the same name is there already, from wherever.
pub const ALSO_FROM_ELSEWHERE: &[&str] = &["npm"];

/// What `dpkg-query` must print for [`missing`]: `ii  name`, one package per line.
pub const DPKG_FORMAT: &str = "${db:Status-Abbrev} ${Package}\n";

/// Those of `wanted` that `dpkg_output` does not list as installed, in the order of `wanted`.
pub fn missing<'a>(wanted: &[&'a str], dpkg_output: &str) -> Vec<&'a str> {
    let installed: Vec<&str> =
        dpkg_output.lines().filter_map(|line| line.strip_prefix("ii")).map(str::trim).collect();
    wanted.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// The one shell command that installs `names`, as root.
pub fn install_command(names: &[&str]) -> String {
    let apt = "apt-get -o DPkg::Lock::Timeout=500";
    format!(
        "{apt} update && DEBIAN_FRONTEND=noninteractive {apt} install -y --no-install-recommends {}",
        names.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_as_installed_only_in_state_ii() {
        let dpkg = "ii  clang\nrc  ffmpeg\nun  nginx-light\nii  libavutil-dev\n";
        let wanted = ["clang", "ffmpeg", "nginx-light", "libavutil-dev", "chromium"];
        assert_eq!(missing(&wanted, dpkg), ["ffmpeg", "nginx-light", "chromium"]);
        assert_eq!(missing(&wanted, ""), wanted);
    }

    #[test]
    fn a_name_that_begins_like_an_installed_one_is_still_missing() {
        assert_eq!(missing(&["libav"], "ii  libavutil-dev\n"), ["libav"]);
    }

    #[test]
    fn the_install_command_updates_first_waits_for_the_lock_and_asks_nothing() {
        let command = install_command(&["clang", "ffmpeg"]);
        let update = command.find(" update &&").unwrap();
        assert!(update < command.find(" install -y").unwrap());
        assert_eq!(command.matches("DPkg::Lock::Timeout=500").count(), 2);
        assert!(command.contains("DEBIAN_FRONTEND=noninteractive"));
        assert!(command.ends_with("--no-install-recommends clang ffmpeg"));
    }

    #[test]
    fn every_package_is_named_once() {
        let mut all: Vec<_> = BUILD.iter().chain(TEST).chain(FULL_TEST).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
