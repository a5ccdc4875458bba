//! Threads that carry media. Each has streams of its own and looks at all their sockets in beats: what comes within one beat waits
//! in the kernel, and one wake-up serves every stream.
//!
//! ```text
//! sleep until a beat after the last look → whatever is ready, of all streams → sleep …
//!       └─ not while somebody on the thread is in a [`Hurry`]: a handshake, a placement, a move
//! ```
//! A thread that has nothing to do does not beat: it wakes up when something comes, at once.

use std::{
    cell::{Cell, OnceCell},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

/// Cores for each thread: a stream's relay costs little beside its encoding, and fewer threads wake up less.
const CORES_PER_THREAD: usize = 4;
/// Tasks that run before the thread looks at its sockets again: all that a beat has brought.
const TASKS_PER_LOOK: u32 = 4096;

thread_local! {
    /// Set on relay threads.
    static OWN: OnceCell<Arc<Hurries>> = const { OnceCell::new() };
    /// When the thread last looked at its sockets.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The threads of one program; clones share them. By default there are none, and streams run where all else does, without beats.
#[derive(Clone, Debug, Default)]
pub struct RelayThreads {
    threads: Arc<[RelayThread]>,
    turn: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct RelayThread {
    runtime: Handle,
    hurries: Arc<Hurries>,
    /// Dropped, it ends the thread and whatever runs there.
    _running: oneshot::Sender<()>,
}

impl RelayThreads {
    /// Starts one for every four cores; they look at their sockets no sooner than `beat` after the last look.
    ///
    /// # Errors
    /// The system has no more threads or descriptors.
    pub fn start(beat: Duration) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |_| RelayThread::start(beat);
        let threads =
            (0..cores.div_ceil(CORES_PER_THREAD)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, turn: Arc::default() })
    }

    /// Where a new stream is to run, and the hurry that it begins in. Sockets opened there belong there.
    pub fn next(&self) -> (Handle, Hurry) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.threads.get(turn % self.threads.len().max(1)) {
            Some(thread) => (thread.runtime.clone(), Hurries::one_more(&thread.hurries)),
            None => (Handle::current(), Hurry(None)),
        }
    }
}

impl RelayThread {
    fn start(beat: Duration) -> io::Result<Self> {
        let (running, ended) = oneshot::channel::<()>();
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let hurries =
                Arc::new(Hurries { count: AtomicUsize::new(0), thread: thread::current() });
            OWN.with(|own| drop(own.set(Arc::clone(&hurries))));
            match runtime(Arc::clone(&hurries), beat) {
                Ok(runtime) => {
                    let _ = started.send(Ok((runtime.handle().clone(), hurries)));
                    let _ = runtime.block_on(ended);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        thread::Builder::new().name("relay".to_owned()).spawn(run)?;
        let gone = |_| io::Error::other("relay thread died at its start");
        let (runtime, hurries) = starting.recv().map_err(gone)??;
        Ok(Self { runtime, hurries, _running: running })
    }
}

fn runtime(hurries: Arc<Hurries>, beat: Duration) -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_PER_LOOK)
        .on_thread_park(move || hurries.pause(beat))
        .on_thread_unpark(|| LOOKED.set(Some(Instant::now())))
        .build()
}

/// How many on a thread are in a hurry, and how to wake it.
#[derive(Debug)]
struct Hurries {
    count: AtomicUsize,
    thread: Thread,
}

impl Hurries {
    fn one_more(all: &Arc<Self>) -> Hurry {
        all.count.fetch_add(1, Ordering::AcqRel);
        all.thread.unpark();
        Hurry(Some(Arc::clone(all)))
    }

    /// Waits for the next beat, or until somebody is in a hurry.
    fn pause(&self, beat: Duration) {
        let Some(looked) = LOOKED.get() else { return };
        while self.count.load(Ordering::Acquire) == 0 {
            let Some(left) = beat.checked_sub(looked.elapsed()).filter(|left| !left.is_zero())
            else {
                return;
            };
            thread::park_timeout(left);
        }
    }
}

/// While it is held, its thread looks at its sockets at once.
#[derive(Debug)]
pub struct Hurry(Option<Arc<Hurries>>);

impl Hurry {
    /// On this thread; elsewhere than on a relay thread it changes nothing.
    pub fn here() -> Self {
        OWN.with(|own| own.get().map_or(Self(None), Hurries::one_more))
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        if let Some(all) = &self.0 {
            all.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Round trips between two tasks of a relay thread within a second, over a connection of their own.
    async fn round_trips() -> u32 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let echo = tokio::spawn(async move {
            while let Ok(byte) = far.read_u8().await {
                far.write_u8(byte).await.unwrap();
            }
        });
        let (start, mut trips) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(1) {
            near.write_u8(7).await.unwrap();
            near.read_u8().await.unwrap();
            trips += 1;
        }
        echo.abort();
        trips
    }

    #[test]
    fn a_thread_looks_at_its_sockets_once_a_beat_and_at_once_while_somebody_is_in_a_hurry() {
        let threads = RelayThreads::start(Duration::from_millis(20)).unwrap();
        let trips_with = |hurry: bool| {
            let (runtime, begins) = threads.next();
            let (told, count) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                let hurry = hurry.then(Hurry::here);
                drop(begins);
                told.send(round_trips().await).unwrap();
                drop(hurry);
            });
            count.recv().unwrap()
        };
        // There and back take a look each, but for a few at the begin and the end.
        let calm = trips_with(false);
        assert!((1..=30).contains(&calm), "{calm} round trips in a second of 50 looks");
        let hurried = trips_with(true);
        assert!(hurried > 100, "{hurried} round trips in a second");
        let calm = trips_with(false);
        assert!(calm <= 30, "{calm} round trips after the hurry");
    }

    #[tokio::test]
    async fn without_threads_of_their_own_streams_run_where_the_rest_does() {
        let (runtime, _hurry) = RelayThreads::default().next();
        assert_eq!(runtime.id(), Handle::current().id());
    }
}
