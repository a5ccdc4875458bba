//! Resource limits of the process itself. They must apply, or the worker does not start.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, rlim_t, setrlimit},
};

/// Descriptors: four inherited, a daemon or two, and what an event loop needs.
const MAX_DESCRIPTORS: rlim_t = 64;

/// Sets memory, descriptors, core and file size; soft and hard alike, so that they cannot be raised again.
///
/// Memory by `RLIMIT_DATA`, which counts private writable memory, not by `RLIMIT_AS`: that would count the large
/// reservations of the C library's arenas too. What it does not count (shared memory, mappings that grow like a
/// stack) seccomp forbids.
pub(crate) fn apply(memory_bytes: u64) -> Result<(), (Resource, Errno)> {
    for (resource, limit) in [
        (Resource::RLIMIT_DATA, memory_bytes),
        (Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        lower(resource, limit).map_err(|errno| (resource, errno))?;
    }
    Ok(())
}

/// Limits the threads of the process's user, as seen in its user namespace.
pub(crate) fn limit_threads(threads: u32) -> Result<(), Errno> {
    lower(Resource::RLIMIT_NPROC, threads.into())
}

/// Never raises: a host's own, lower limit stays.
fn lower(resource: Resource, limit: rlim_t) -> Result<(), Errno> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit)
}
