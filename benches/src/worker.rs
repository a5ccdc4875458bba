//! A worker as a process of its own, started and fed as the node does, and everything it makes.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use millrace_media::Item;
use millrace_sandbox::{Child, Death, Limits, Spawn, User};
use millrace_sched::{LadderConfig, Source, full_ladder, passthrough_ladder};
use millrace_testkit::Scratch;
use millrace_types::{Epoch, FrameRate, Ladder, RungId};
use millrace_wire::{
    Decoder, End, Message, PartAck, Start,
    blocking::{read_message, write_message},
};

use crate::{Usage, sibling_program};

/// No worker here takes so long for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Items handed over before the worker says that it works on them: two seconds of a stream. More would pile up in front
/// of the acknowledgements, and the worker would hold every part that it made meanwhile.
const AHEAD: u64 = 150;

/// What came out, per rung: each init section and part, one after the other.
pub type Rungs = BTreeMap<RungId, Vec<u8>>;

/// The work of a stream of 1080p30.
pub fn start_order(transcoded: bool) -> Start {
    let source = Source {
        video: Some((1920, 1080, FrameRate { num: 30, den: 1 })),
        announced: Default::default(),
    };
    let ladder: Ladder = match transcoded {
        true => full_ladder(&source, &LadderConfig::default()),
        false => passthrough_ladder(&source),
    };
    let stream = "bench".parse().expect("invariant: a stream's name");
    Start {
        stream,
        epoch: Epoch { generation: 1, placement: 1 },
        ladder,
        resume: Vec::new(),
        hello: None,
        version: 2,
    }
}

/// Adds what a message carries to the rung that it is of.
pub fn collect(message: &Message, rungs: &mut Rungs) {
    let (rung, bytes) = match message {
        Message::Init(init) => (&init.record.rung, &init.bytes),
        Message::Part(part) => (&part.record.rung, &part.bytes),
        _ => return,
    };
    rungs.entry(rung.clone()).or_default().extend_from_slice(bytes);
}

/// A worker that runs; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    to: Sender<Message>,
    beat: Arc<AtomicU64>,
    rungs: Arc<Mutex<Rungs>>,
    reader: Option<JoinHandle<()>>,
    last_seq: u64,
    _scratch: Scratch,
}

impl Worker {
    /// Starts a worker of this build and gives it its work.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &str, order: Start) -> anyhow::Result<Self> {
        let scratch = Scratch::new("worker")?;
        let socket = scratch.path().join("s");
        let listener = UnixListener::bind(&socket)?;
        let limits = Limits { memory_bytes: 512 << 20, threads: None, user: own_user() };
        let program = sibling_program(program)?;
        let label = "bench";
        let spawn = Spawn { program: &program, label, listener: listener.as_fd(), limits };
        let child = spawn.start()?;
        let stream = connect(&socket)?;
        let (beat, rungs) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Rungs>>::default());
        let (to, queued) = channel::<Message>();
        let mut writer = stream.try_clone()?;
        std::thread::spawn(move || {
            queued.iter().try_for_each(|message| write_message(&mut writer, &message))
        });
        let reader = {
            let (acks, beat, rungs) = (to.clone(), beat.clone(), rungs.clone());
            std::thread::spawn(move || listen(stream, &acks, &beat, &rungs))
        };
        to.send(Message::Start(order))?;
        let reader = Some(reader);
        Ok(Self { child, to, beat, rungs, reader, last_seq: 0, _scratch: scratch })
    }

    /// Hands over items as fast as the worker takes them; returns when it has all but the last two seconds.
    ///
    /// # Errors
    /// It is too slow, or died.
    pub fn feed(&mut self, items: &[Item]) -> anyhow::Result<()> {
        for item in items {
            self.last_seq = item.seq();
            self.to.send(Message::Item(item.clone()))?;
            self.wait_until_behind(AHEAD)?;
        }
        Ok(())
    }

    /// Waits until everything that was fed is worked off.
    ///
    /// # Errors
    /// It is too slow, or died.
    pub fn wait_until_done(&mut self) -> anyhow::Result<()> {
        self.wait_until_behind(0)
    }

    fn wait_until_behind(&mut self, items: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.beat.load(Ordering::Relaxed) + items < self.last_seq {
            if let Some(death) = self.child.try_wait()? {
                bail!("the worker died: {death:?} {}", self.words());
            }
            ensure!(Instant::now() < deadline, "the worker is too slow");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it uses.
    pub fn usage(&self) -> Usage {
        Usage::of(self.child.pid())
    }

    /// Says that the stream is over, waits until the worker has ended, and gives all that it made.
    ///
    /// # Errors
    /// It did not end well.
    pub fn finish(mut self) -> anyhow::Result<Rungs> {
        self.to.send(Message::End(End { continues: false }))?;
        match self.child.wait_for(PATIENCE)? {
            Some(Death::Exited(0)) => {}
            death => bail!("the worker ended with {death:?}: {}", self.words()),
        }
        if let Some(reader) = self.reader.take() {
            reader.join().ok().context("the reader of the worker's socket")?;
        }
        Ok(std::mem::take(&mut *self.rungs.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn words(&mut self) -> String {
        let mut words = String::new();
        if let Some(output) = self.child.take_output() {
            let _ = fs::File::from(output).read_to_string(&mut words);
        }
        words
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait_for(PATIENCE);
    }
}

/// Acknowledges parts at once, keeps what comes.
fn listen(mut stream: UnixStream, acks: &Sender<Message>, beat: &AtomicU64, rungs: &Mutex<Rungs>) {
    let mut decoder = Decoder::default();
    while let Ok(Some(message)) = read_message(&mut stream, &mut decoder) {
        match &message {
            Message::Heartbeat(heartbeat) => beat.store(heartbeat.seq, Ordering::Relaxed),
            Message::Part(part) => {
                let record = &part.record;
                let (rung, msn, part) = (record.rung.clone(), record.msn, record.part);
                let _ = acks.send(Message::PartAck(PartAck { rung, msn, part }));
            }
            _ => {}
        }
        collect(&message, &mut rungs.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| socket.display().to_string())
}

/// As the node: nobody, where it may change users at all.
fn own_user() -> Option<User> {
    nix::unistd::geteuid().is_root().then_some(User::NOBODY)
}
