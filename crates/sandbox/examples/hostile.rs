//! A worker that turns on its host: confines itself, then does what its label says. The tests start it and look at its end.
//!
//! The first word of the label is the deed, a second its argument. It answers `refused: <why>` and exits 0 when the deed
//! fails with an error, `done` and exits 1 when it succeeds; usually it does not live to say either.
#![allow(unsafe_code)] // attacks are raw system calls

use std::{
    ffi::CString,
    fs,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    process::ExitCode,
    ptr, thread,
    time::{Duration, Instant},
};

use millrace_sandbox::{Confine, Limits, inherited_listener};
use nix::libc;

/// A bomb only in name: were the sandbox broken, its test should fail and not take the host with it.
const FORKS: u32 = 16;
/// When it gives up, should nobody be left to end it.
const LIFETIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let label = std::env::args().nth(1).expect("a deed as the label");
    let (deed, argument) = label.split_once(' ').unwrap_or((&label, ""));
    if deed == "threads-before" {
        thread::spawn(thread::park);
    }
    if deed == "as-nobody" && nix::unistd::geteuid().is_root() {
        nix::unistd::setgid(65_534.into()).expect("setgid");
        nix::unistd::setuid(65_534.into()).expect("setuid");
    }
    let readable = if deed == "read" { vec![PathBuf::from("/usr/lib")] } else { Vec::new() };
    let limits = Limits::from_env().expect("limits from the node");
    let owner = nix::unistd::geteuid().as_raw();
    match (Confine { limits, readable }).apply() {
        Ok(report) => println!("{}", serde_json::to_string(&report).expect("JSON")),
        Err(error) => {
            println!("not confined: {error}");
            return ExitCode::from(70);
        }
    }
    match attempt(deed, argument, owner) {
        Ok(()) => {
            println!("done");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::SUCCESS
        }
    }
}

/// The result of a raw system call.
fn called(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn attempt(deed: &str, argument: &str, owner: u32) -> io::Result<()> {
    let number = || argument.parse::<i64>().expect("a number");
    let null = ptr::null::<libc::c_char>();
    // SAFETY: every call gets valid pointers or null; what they do to the process is the point.
    unsafe {
        match deed {
            "serve" | "as-nobody" => std::process::exit(serve(owner)),
            "spin" => {
                let start = Instant::now();
                while start.elapsed() < LIFETIME {
                    std::hint::spin_loop();
                }
                Ok(())
            }
            "open" => fs::read("/etc/passwd").map(drop),
            "read" => {
                assert!(fs::read_dir("/usr/lib").expect("granted").count() > 0);
                fs::read(argument).map(drop)
            }
            "panic" => panic!("a bug"),
            "abort" => std::process::abort(),
            "overflow" => std::process::exit(i32::from(overflow(number()) == 0)),
            "socket" => called(libc::syscall(libc::SYS_socket, libc::AF_INET, 1, 0)),
            "connect" => {
                let (pair, _) = std::os::unix::net::UnixStream::pair()?;
                let address = b"\x01\x00\x00abstract";
                let (address, bytes) = (address.as_ptr(), address.len());
                called(libc::syscall(libc::SYS_connect, pair.as_raw_fd(), address, bytes))
            }
            "datagrams" => std::os::unix::net::UnixDatagram::pair().map(drop),
            "exec" => {
                let shell = CString::new("/bin/sh")?;
                let argv = [shell.as_ptr(), null];
                called(libc::execve(shell.as_ptr(), argv.as_ptr(), &raw const null).into())
            }
            "ptrace" => called(libc::ptrace(libc::PTRACE_ATTACH, libc::getppid(), 0, 0)),
            "kill" => called(libc::kill(libc::getppid(), libc::SIGKILL).into()),
            "tgkill" => called(libc::syscall(libc::SYS_tgkill, number(), number(), libc::SIGKILL)),
            "fork" => {
                for _ in 0..FORKS {
                    match libc::fork() {
                        0 => libc::_exit(0),
                        result => called(result.into())?,
                    }
                }
                Ok(())
            }
            "threads" => bomb_threads(),
            "allocate" => {
                let bytes = usize::try_from(number()).expect("a size");
                std::hint::black_box(vec![1_u8; bytes]);
                Ok(())
            }
            "mount" => called(libc::mount(null, null, null, 0, ptr::null()).into()),
            "unshare" => called(libc::unshare(libc::CLONE_NEWUSER).into()),
            "setuid" => called(libc::syscall(libc::SYS_setuid, 0)),
            "unlink" => fs::remove_file("/etc/passwd"),
            other => memory(other),
        }
    }
}

/// Ways around the limit of private memory.
fn memory(deed: &str) -> io::Result<()> {
    const BYTES: usize = 2 << 30;
    let usable = libc::PROT_READ | libc::PROT_WRITE;
    let map = |access, flags| {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), BYTES, access, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start) }
    };
    match deed {
        "share-memory" => map(usable, libc::MAP_SHARED).map(drop),
        "grow-memory" => map(usable, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN).map(drop),
        "run-memory" => map(usable | libc::PROT_EXEC, libc::MAP_PRIVATE).map(drop),
        "reserve-memory" => {
            let start = map(libc::PROT_NONE, libc::MAP_PRIVATE).expect("reserving costs nothing");
            // SAFETY: the mapping just made, which nothing else knows.
            called(unsafe { libc::mprotect(start, BYTES, usable) }.into())
        }
        other => panic!("no such deed: {other}"),
    }
}

#[allow(unconditional_recursion)]
fn overflow(depth: i64) -> i64 {
    std::hint::black_box(depth) + overflow(depth + 1)
}

/// Starts threads until one is refused.
fn bomb_threads() -> io::Result<()> {
    for started in 0..200 {
        if let Err(error) = thread::Builder::new().stack_size(64 << 10).spawn(thread::park) {
            return Err(io::Error::other(format!("after {started} threads: {error}")));
        }
    }
    Ok(())
}

/// What an honest worker does: tokio on several threads, files looked for in vain, one daemon of its owner served until it hangs up.
fn serve(owner: u32) -> i32 {
    let listener = inherited_listener().expect("a listener");
    assert!(inherited_listener().is_err(), "it can be taken once");
    assert!(thread::available_parallelism().is_ok());
    let pair = thread::Builder::new().name("named".into()).spawn(|| 6 * 7).expect("a thread");
    assert_eq!(pair.join().expect("joined"), 42);

    listener.set_nonblocking(true).expect("nonblocking");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener).expect("registered");
        let accepted = tokio::time::timeout(LIFETIME, listener.accept()).await;
        let (stream, _) = accepted.expect("a daemon in time").expect("a daemon");
        assert_eq!(stream.peer_cred().expect("credentials").uid(), owner, "a stranger");
        let stream = stream.into_std().expect("ours");
        stream.set_nonblocking(false).expect("blocking");
        tokio::task::spawn_blocking(|| echo(stream)).await.expect("joined");
    });
    0
}

fn echo(mut stream: std::os::unix::net::UnixStream) {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).expect("readable") {
            0 => return,
            bytes => stream.write_all(&buffer[..bytes]).expect("writable"),
        }
    }
}
