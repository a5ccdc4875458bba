//! The system calls that a worker may make. Everything else kills the process, so that the node sees `killed_seccomp`.
//!
//! Allowed is what computing needs: memory, threads, clocks, random numbers, and reading, writing, accepting and waiting
//! on descriptors that exist. Not among it: new sockets, files, programs, processes, signals to others, shared or
//! executable memory.
//!
//! Two groups are *refused* with an error instead, because honest libraries try them and have a fallback: looking for
//! files (EACCES), and `clone3` (ENOSYS), whose flags a filter cannot read; the C library then uses `clone`. The kernel
//! takes the strictest verdict of all filters, so the refusing ones are installed first and the allow-list names their
//! calls too. Calls allowed without a condition cost nothing: the kernel caches the verdict (Linux 5.11).

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Width,
    SeccompCmpOp as Compare, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Which files the process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// None: a lookup gets EACCES.
    None,
    /// Those that landlock leaves, to read.
    ReadOnly,
}

/// Installs the filters in the calling thread, for it and all it starts. Needs `no_new_privs`.
pub(crate) fn apply(files: Files) -> Result<(), Error> {
    seccompiler::apply_filter(&refuse(&[libc::SYS_clone3], libc::ENOSYS)?)?;
    if files == Files::None {
        seccompiler::apply_filter(&refuse(LOOKUPS, libc::EACCES)?)?;
    }
    seccompiler::apply_filter(&allow_list(files)?)
}

/// Allowed whatever the arguments.
const PLAIN: &[c_long] = &[
    // data over descriptors that exist
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_fstat,
    libc::SYS_close,
    // waiting
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    // memory (mmap and mprotect: see CONDITIONAL)
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // threads
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // clocks, random numbers, and looking at oneself
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    // signals to oneself
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
];

/// The same for calls that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const PLAIN_LEGACY: &[c_long] =
    &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN_LEGACY: &[c_long] = &[];

/// Looking for files, and at them by name.
#[cfg(target_arch = "x86_64")]
const LOOKUPS: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
];
#[cfg(not(target_arch = "x86_64"))]
const LOOKUPS: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
];

/// Reading a file that was opened.
const FILE_READS: &[c_long] = &[libc::SYS_lseek, libc::SYS_pread64, libc::SYS_getdents64];

/// All that a thread shares with its process, and no namespace of its own (clone(2)).
const CLONE_MASK: i32 = libc::CLONE_THREAD
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// `PR_SET_VMA` of `<linux/prctl.h>`: names a mapping; newer C libraries do it for thread stacks.
const PR_SET_VMA: i32 = 0x53_56_4d_41;

/// `MAP_TYPE` of `<linux/mman.h>`: whether a mapping is private or shared.
const MAP_TYPE: i32 = 0x0f;
/// A mapping may have none of what the limit of private memory does not count, beside being private.
const MAP_MASK: i32 = MAP_TYPE | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB;
/// `SOCK_TYPE_MASK` of `<linux/net.h>`.
const SOCK_TYPE: u64 = 0x0f;

/// A call with the conditions on its arguments that must all hold; several entries of one call are alternatives.
type Conditional = (c_long, Vec<SeccompCondition>);

fn conditional() -> Result<Vec<Conditional>, BackendError> {
    let no_exec = || masked(2, as_bits(libc::PROT_EXEC), 0);
    let mut calls = vec![
        (
            libc::SYS_mmap,
            vec![no_exec()?, masked(3, as_bits(MAP_MASK), as_bits(libc::MAP_PRIVATE))?],
        ),
        (libc::SYS_mprotect, vec![no_exec()?]),
        (libc::SYS_clone, vec![masked(0, as_bits(CLONE_MASK), as_bits(libc::CLONE_THREAD))?]),
        // `abort` and panics: a signal to a thread of this process and no other.
        (libc::SYS_tgkill, vec![equals(0, u64::from(std::process::id()))?]),
        // Reads a limit (the new one is a null pointer) of itself (0).
        (libc::SYS_prlimit64, vec![equals(0, 0)?, equals_pointer(2, 0)?]),
        // A pair connected to itself, of the kind that cannot be sent to anybody else.
        (
            libc::SYS_socketpair,
            vec![
                equals(0, as_bits(libc::AF_UNIX))?,
                masked(1, SOCK_TYPE, as_bits(libc::SOCK_STREAM))?,
            ],
        ),
    ];
    for request in [libc::TCGETS, libc::FIONBIO] {
        calls.push((libc::SYS_ioctl, vec![equals(1, request)?]));
    }
    // Not F_SETOWN, which would have the kernel send signals to others.
    for command in [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
    ] {
        calls.push((libc::SYS_fcntl, vec![equals(1, as_bits(command))?]));
    }
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, PR_SET_VMA] {
        calls.push((libc::SYS_prctl, vec![equals(0, as_bits(option))?]));
    }
    Ok(calls)
}

/// A filter that answers `calls` with an error and has no opinion on others.
fn refuse(calls: &[c_long], errno: i32) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture()?)?.try_into()
}

fn allow_list(files: Files) -> Result<BpfProgram, BackendError> {
    let reads = if files == Files::ReadOnly { FILE_READS } else { &[] };
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = [PLAIN, PLAIN_LEGACY, LOOKUPS, reads]
        .iter()
        .flat_map(|calls| calls.iter())
        .chain(&[libc::SYS_clone3]) // refused before, not killed
        .map(|call| (*call, Vec::new()))
        .collect();
    for (call, conditions) in conditional()? {
        rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
    }
    let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, kill, allow, architecture()?)?.try_into()
}

fn architecture() -> Result<TargetArch, BackendError> {
    std::env::consts::ARCH.try_into()
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Width::Dword, Compare::Eq, value)
}

fn equals_pointer(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Width::Qword, Compare::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Width::Dword, Compare::MaskedEq(mask), value)
}

/// The low 32 bits that the kernel sees of a C `int`.
const fn as_bits(value: i32) -> u64 {
    value.cast_unsigned() as u64
}
