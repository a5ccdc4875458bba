//! A node as far as one worker sees it: spawns it as the real one does, speaks with it, looks at its process.

use std::{
    fs,
    io::Read,
    net::Shutdown,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use millrace_hls::PartRecord;
use millrace_sandbox::{Child, Death, Limits, Spawn, User};
use millrace_types::WorkerExit;
use millrace_wire::{
    Decoder, Message, PartAck,
    blocking::{read_message, write_message},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon of one worker. Reading never waits for writing, or both sides could stand still.
pub struct Node {
    child: Child,
    socket: PathBuf,
    link: Link,
}

struct Link {
    to: Sender<Message>,
    from: Receiver<Message>,
    stream: UnixStream,
}

impl Node {
    pub fn spawn(program: &str, acknowledges: bool) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("worker-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&socket)?;
        let limits = Limits { memory_bytes: 512 << 20, threads: None, user: Some(User::NOBODY) };
        let program = Path::new(program);
        let spawn = Spawn { program, label: "test", listener: listener.as_fd(), limits };
        let child = spawn.start()?;
        let link = Link::connect(&socket, acknowledges)?;
        Ok(Self { child, socket, link })
    }

    /// Drops the connection, as a daemon that restarts, and makes a new one that acknowledges.
    pub fn reconnect(&mut self) -> Result<()> {
        self.link.stream.shutdown(Shutdown::Both)?;
        self.link = Link::connect(&self.socket, true)?;
        Ok(())
    }

    /// Goes away for good; how long the worker stays on after that, and how it ends.
    pub fn leave(mut self, patience: Duration) -> Result<(Duration, Death)> {
        self.link.stream.shutdown(Shutdown::Both)?;
        let since = Instant::now();
        let death = self.child.wait_for(patience)?.context("the worker stays")?;
        Ok((since.elapsed(), death))
    }

    pub fn say(&mut self, message: &Message) -> Result<()> {
        self.link.to.send(message.clone()).context("the worker does not listen")
    }

    pub fn hear(&mut self) -> Result<Message> {
        self.next()?.context("the worker is gone")
    }

    fn next(&mut self) -> Result<Option<Message>> {
        match self.link.from.recv_timeout(PATIENCE) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("the worker is silent"),
        }
    }

    /// Lets time go by in which the worker has nothing to say.
    pub fn silence(&mut self, time: Duration) -> Result<()> {
        match self.link.from.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            other => bail!("not silent: {other:?}"),
        }
    }

    /// What the worker says until it has nothing to do.
    pub fn parts_until_beat(&mut self) -> Result<Vec<Message>> {
        let (mut said, mut seq) = (Vec::new(), None);
        loop {
            match self.hear()? {
                Message::Heartbeat(beat) if seq == Some(beat.seq) && beat.seq > 0 => {
                    return Ok(said);
                }
                Message::Heartbeat(beat) => seq = Some(beat.seq),
                message => said.push(message),
            }
        }
    }

    /// What the worker says until it ends, with the exit that is expected.
    pub fn said_to_the_end(&mut self, exit: WorkerExit) -> Result<Vec<Message>> {
        let mut said = Vec::new();
        while let Some(message) = self.next()? {
            said.push(message);
        }
        match self.child.wait_for(PATIENCE)? {
            Some(Death::Exited(code)) if code == exit.code() => Ok(said),
            other => {
                let mut words = String::new();
                if let Some(output) = self.child.take_output() {
                    let _ = fs::File::from(output).read_to_string(&mut words);
                }
                bail!("{other:?} instead of {exit:?}: {words}")
            }
        }
    }

    /// Shared libraries that are mapped.
    pub fn libraries(&self) -> Result<Vec<String>> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.pid()))?;
        let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        Ok(paths.filter(|path| path.contains(".so")).map(str::to_owned).collect())
    }

    /// CPU time of all its threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.child.cpu_time()?.as_secs_f64())
    }

    /// Proportional share of memory.
    pub fn pss_kib(&self) -> Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.pid()))?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("Pss")?;
        Ok(line.split_whitespace().nth(1).context("Pss")?.parse()?)
    }
}

impl Link {
    fn connect(socket: &Path, acknowledges: bool) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let (mut reader, mut writer) = (stream.try_clone()?, stream.try_clone()?);
        let (to, queued) = channel::<Message>();
        let (heard, from) = channel();
        std::thread::spawn(move || {
            queued.iter().try_for_each(|message| write_message(&mut writer, &message))
        });
        let acks = to.clone();
        std::thread::spawn(move || {
            let mut decoder = Decoder::default();
            while let Ok(Some(message)) = read_message(&mut reader, &mut decoder) {
                if let (Message::Part(part), true) = (&message, acknowledges) {
                    let PartRecord { rung, msn, part, .. } = part.record.clone();
                    let _ = acks.send(Message::PartAck(PartAck { rung, msn, part }));
                }
                if heard.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Self { to, from, stream })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait_for(PATIENCE);
        let _ = fs::remove_file(&self.socket);
    }
}
