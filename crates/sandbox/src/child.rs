//! One running process, held by its pidfd: no other process that is given the same number later is ever meant.
//!
//! Observes and signals; decides nothing and never blocks, except in [`Child::wait_for`].
//! Dropping it neither kills nor reaps: a worker outlives its daemon.
#![allow(unsafe_code)] // pidfd_open, pidfd_send_signal and the CPU clock of another process have no safe wrapper

use std::{
    fs, io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
};

use crate::Death;

/// A process we started, or adopted from the daemon before us.
///
/// Its descriptor ([`AsRawFd`]) is the pidfd, which becomes readable the moment the process dies.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    output: Option<OwnedFd>,
    death: Option<Death>,
}

impl Child {
    /// The process `pid`, which an earlier daemon started (as the peer credentials of its socket tell).
    ///
    /// # Errors
    /// No such process, or no descriptor left.
    pub fn adopt(pid: u32) -> io::Result<Self> {
        // SAFETY: takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(Errno::result(fd)?).expect("invariant: a descriptor is an int");
        // SAFETY: the kernel just opened it for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { pid, pidfd, output: None, death: None })
    }

    /// Takes what it writes to standard output and error: see [`Self::take_output`].
    pub fn with_output(self, output: OwnedFd) -> Self {
        Self { output: Some(output), ..self }
    }

    /// Its number, for people and logs.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// What it writes to standard output and error: a pipe that does not block. `None` the second time, and when adopted.
    /// Read it, or the worker blocks once the pipe is full, and to its end, which may come a moment after the death: a
    /// process that is just being started elsewhere in the program holds a copy until its `exec`.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// How it died, `None` while it lives. Reaps it; ask when the pidfd is readable.
    ///
    /// # Errors
    /// What `waitid` reports beside a process that is not ours to reap.
    pub fn try_wait(&mut self) -> io::Result<Option<Death>> {
        if self.death.is_none() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            self.death = match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                Ok(WaitStatus::Exited(_, code)) => Some(Death::Exited(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Death::Signal(signal as i32)),
                Ok(_) => None,
                Err(Errno::ECHILD) => self.is_gone(Duration::ZERO)?.then_some(Death::Unobserved),
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(self.death)
    }

    /// As [`Self::try_wait`], but blocks the thread for up to `patience`.
    ///
    /// # Errors
    /// As [`Self::try_wait`].
    pub fn wait_for(&mut self, patience: Duration) -> io::Result<Option<Death>> {
        if self.death.is_none() {
            self.is_gone(patience)?;
        }
        self.try_wait()
    }

    fn is_gone(&self, patience: Duration) -> io::Result<bool> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, patience)? > 0)
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// It is gone (ESRCH), or belongs to somebody else (EPERM).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Ends it (SIGKILL); the pidfd tells when that has happened.
    ///
    /// # Errors
    /// As [`Self::terminate`].
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        let (pidfd, info) = (self.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open, and a null siginfo asks for that of kill(2).
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, info, 0) };
        Errno::result(sent)?;
        Ok(())
    }

    /// Whether it stands still by SIGSTOP or a debugger (state `T` or `t`, proc(5)).
    ///
    /// # Errors
    /// It is gone.
    pub fn is_stopped(&self) -> io::Result<bool> {
        Ok(matches!(self.stat(0)?.as_str(), "T" | "t"))
    }

    /// Whether a thread of it would run if it had a processor, or waits for a disk (state `R` or `D`, proc(5)): it is not at fault.
    ///
    /// # Errors
    /// It is gone.
    pub fn waits_for_the_host(&self) -> io::Result<bool> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid))?;
        // A thread that ends meanwhile waits for nothing.
        let mut stats =
            threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        let waits = stats.any(|text| matches!(stat_field(&text, 0), Some("R" | "D")));
        self.still_there()?;
        Ok(waits)
    }

    /// When it started, in clock ticks since the host did (proc(5)): with its number, who it is and no later process.
    ///
    /// # Errors
    /// It is gone.
    pub fn started_at(&self) -> io::Result<u64> {
        self.stat(19)?.parse().map_err(io::Error::other)
    }

    /// Memory that is really there, in bytes, shared pages included.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let pages: u64 = self.stat(21)?.parse().map_err(io::Error::other)?;
        // SAFETY: takes an integer, returns an integer.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(pages * u64::try_from(page_bytes).map_err(io::Error::other)?)
    }

    /// CPU time of all its threads since it started, by its own CPU clock.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let pid = libc::pid_t::try_from(self.pid).map_err(io::Error::other)?;
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both calls write to locals of the right type and keep no pointer.
        let read = unsafe {
            match libc::clock_getcpuclockid(pid, &raw mut clock) {
                0 => Errno::result(libc::clock_gettime(clock, &raw mut time)).map(drop),
                errno => Err(Errno::from_raw(errno)),
            }
        };
        read?;
        self.still_there()?;
        Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    /// A field of `/proc/pid/stat`, counted from the state, which follows the name in brackets (proc(5)).
    fn stat(&self, field: usize) -> io::Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        self.still_there()?;
        let found = stat_field(&text, field).map(str::to_owned);
        found.ok_or_else(|| io::Error::other(format!("{text:?} has no field {field}")))
    }

    /// Rules out that what was just read by number came from a later process of the same number.
    fn still_there(&self) -> io::Result<()> {
        if self.death.is_some() || self.is_gone(Duration::ZERO)? {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    }
}

/// A field of a `stat` file, counted from the state, which follows the name in brackets (proc(5)).
fn stat_field(text: &str, field: usize) -> Option<&str> {
    text.rsplit_once(") ")?.1.split_ascii_whitespace().nth(field)
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

const _: () = assert!(mem::size_of::<libc::pid_t>() == mem::size_of::<u32>());
