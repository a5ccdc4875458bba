//! The process's open files, and how many of them strangers may hold: players and publishers have fixed shares, so that
//! however many connect, files are left for workers, for the programs of the farm among themselves, and for operators.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What players' connections may hold, of 16 parts.
const PLAYERS: u64 = 8;
/// What publishers' connections may hold, of 16 parts: each that is live holds several more files for its stream.
const PUBLISHERS: u64 = 2;
/// What may be held at each listener by who looks after the farm, of 16 parts.
const PAGES: u64 = 1;

/// Lets this process open as many files as it may at most: a login's usual limit is 1024, and each player holds one. Workers have
/// a limit of their own.
pub fn raise_open_files() {
    // What stays as it was is a smaller share, no fault.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// The most connections of players at a time.
pub fn files_for_players() -> usize {
    share(open_files(), PLAYERS)
}

/// The most connections of publishers at a time.
pub fn files_for_publishers() -> usize {
    share(open_files(), PUBLISHERS)
}

/// The most connections at a time to a listener for the API or admin pages.
pub fn files_for_pages() -> usize {
    share(open_files(), PAGES)
}

/// No limit that can be read is none.
fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(now, _)| now)
}

fn share(files: u64, parts: u64) -> usize {
    usize::try_from(files / 16 * parts).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_and_publishers_leave_files_for_the_farm() {
        let shares = |files| (share(files, PLAYERS), share(files, PUBLISHERS));
        assert_eq!(shares(600), (296, 74));
        assert_eq!(shares(65_536), (32_768, 8_192));
        assert_eq!(share(u64::MAX, PLAYERS) as u64, u64::MAX / 16 * 8, "no limit is no fault");
    }
}
