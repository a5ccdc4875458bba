//! Starts a worker with an empty hand: a listening socket as descriptor 3, a pipe for its words, and nothing else of ours.
//!
//! The pipe may have a name, so that a daemon which adopts the worker hears it too. The worker then holds both ends: it is
//! never told that nobody listens, and never waits for who does not; what does not fit is lost.
//!
//! By `posix_spawn`, because its child runs only the C library's own code between `fork` and `exec`: safe in a program with
//! threads, cheap in one with much memory, and an `exec` that fails is an error here, not a death there.
#![allow(unsafe_code)] // nix offers neither closing all descriptors above a number nor a session of one's own

use std::{
    ffi::{CString, NulError, c_char},
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    ptr,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo, pipe2},
};

use crate::{Child, LISTENER_FD, Limits};

/// `POSIX_SPAWN_SETSID` of glibc's `<spawn.h>`: the child leads a session of its own.
const POSIX_SPAWN_SETSID: i32 = 0x80;

/// How to start a worker.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// The executable.
    pub program: &'a Path,
    /// Its only argument: which worker this is, for people who read process lists. Never an order, never a secret.
    pub label: &'a str,
    /// The bound and listening Unix socket that becomes descriptor 3. Close it here afterwards.
    pub listener: BorrowedFd<'a>,
    /// What it may use, passed in its environment for [`crate::Confine`].
    pub limits: Limits,
}

/// A worker was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program's path or the label holds a NUL byte.
    #[error("worker's path or label: {0}")]
    Text(#[from] NulError),
    /// No descriptor for its standard streams, or its pidfd.
    #[error("descriptors of a worker: {0}")]
    Descriptors(io::Error),
    /// The program does not run.
    #[error("{}: {errno}", program.display())]
    Program {
        /// Which one.
        program: PathBuf,
        /// What the kernel said of it.
        errno: Errno,
    },
}

impl Spawn<'_> {
    /// Starts it: own session, default signal handling, standard input `/dev/null`, output and error into one pipe.
    /// The process must not ignore SIGCHLD, or the pid could be another's before its pidfd is open.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left behind.
    pub fn start(&self) -> Result<Child, SpawnError> {
        let descriptors = |error: Errno| SpawnError::Descriptors(error.into());
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(descriptors)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(descriptors)?;
        self.start_with(output, theirs)
    }

    /// As [`Self::start`], with a pipe that is made at `words` and stays there: see [`listen_to`].
    ///
    /// # Errors
    /// As [`Self::start`]; a pipe that was made stays.
    pub fn start_heard_at(&self, words: &Path) -> Result<Child, SpawnError> {
        let made = mkfifo(words, Mode::S_IRUSR | Mode::S_IWUSR);
        made.map_err(|errno| SpawnError::Descriptors(errno.into()))?;
        let output = listen_to(words).map_err(SpawnError::Descriptors)?;
        let mut both = OpenOptions::new();
        let both = both.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let theirs = both.open(words).map_err(SpawnError::Descriptors)?;
        self.start_with(output, theirs.into())
    }

    fn start_with(&self, output: OwnedFd, theirs: OwnedFd) -> Result<Child, SpawnError> {
        let null = File::open("/dev/null").map_err(SpawnError::Descriptors)?;
        let pid = self.spawn(null.into(), theirs)?;
        let child = Child::adopt(pid.as_raw().unsigned_abs()).map_err(|error| {
            // Nobody could watch it. It is ours and not reaped, so the number means it.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
            SpawnError::Descriptors(error)
        })?;
        Ok(child.with_output(output))
    }

    fn spawn(&self, null: OwnedFd, output: OwnedFd) -> Result<Pid, SpawnError> {
        let program = CString::new(self.program.as_os_str().as_bytes())?;
        let arguments = Strings::new(vec![program.clone(), CString::new(self.label)?]);
        let environment = Strings::new(self.limits.to_env());
        let failed = |errno| SpawnError::Program { program: self.program.to_owned(), errno };

        let mut actions = Actions::new().map_err(failed)?;
        // Sources lie above 2 (Rust's runtime keeps 0 to 2 open) and 3 is written last: no copy hides a later source.
        for (from, to) in [
            (null.as_raw_fd(), libc::STDIN_FILENO),
            (output.as_raw_fd(), libc::STDOUT_FILENO),
            (output.as_raw_fd(), libc::STDERR_FILENO),
            (self.listener.as_raw_fd(), LISTENER_FD),
        ] {
            actions.copy(from, to).map_err(failed)?;
        }
        actions.close_from(LISTENER_FD + 1).map_err(failed)?;
        let attributes = Attributes::own_session().map_err(failed)?;

        let mut pid = 0;
        // SAFETY: all pointers are to live, initialised objects; both lists end in a null pointer and point into
        // strings that outlive the call, which returns only after the child has left our memory.
        let result = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                arguments.pointers.as_ptr(),
                environment.pointers.as_ptr(),
            )
        };
        done(result).map_err(failed)?;
        Ok(Pid::from_raw(pid))
    }
}

/// The reading end of a worker's pipe that has a name; it does not block.
///
/// # Errors
/// It is not there.
pub fn listen_to(words: &Path) -> io::Result<OwnedFd> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(words);
    opened.map(OwnedFd::from)
}

/// Strings as C passes them: pointers that end in a null, beside what they point into.
struct Strings {
    pointers: Vec<*mut c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]);
        Self { pointers: pointers.collect(), _owned: owned }
    }
}

/// The `posix_spawn` family returns its error instead of setting `errno`.
const fn done(result: i32) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::from_raw(result)) }
}

/// What the child does with descriptors, in order.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> Result<Self, Errno> {
        let mut actions = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given, and only then is it taken as such.
        unsafe {
            done(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    /// Also when both are the same: the copy is kept over `exec` (POSIX 2024, glibc since 2.29).
    fn copy(&mut self, from: RawFd, to: RawFd) -> Result<(), Errno> {
        // SAFETY: the object is initialised and not moved while the library works on it.
        done(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    fn close_from(&mut self, first: RawFd) -> Result<(), Errno> {
        // SAFETY: as above.
        done(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.0, first) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// A session of its own, no blocked signal, every signal's default.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn own_session() -> Result<Self, Errno> {
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
        let flags = i16::try_from(flags).expect("invariant: the flags are small");
        let (mut none, mut all) =
            (std::mem::MaybeUninit::uninit(), std::mem::MaybeUninit::uninit());
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: each object is initialised by the first call on it, before any other reads it; `Self` owns the
        // attributes from then on and destroys them also when a later call fails.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            done(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut this = Self(attributes.assume_init());
            done(libc::posix_spawnattr_setflags(&raw mut this.0, flags))?;
            done(libc::posix_spawnattr_setsigmask(&raw mut this.0, none.as_ptr()))?;
            done(libc::posix_spawnattr_setsigdefault(&raw mut this.0, all.as_ptr()))?;
            Ok(this)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `own_session`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
