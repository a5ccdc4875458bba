//! What the machine did while something was measured: how late a thread that wants nothing else was woken, how long the programs
//! that a test has started waited for a processor (`schedstat` of proc(5)), and how much of one was taken away by the host's host.
//! Five looks a second; judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::many::children_of;

/// How long the thread means to sleep.
const TICK: Duration = Duration::from_millis(10);
/// From look to look.
const LOOK: Duration = Duration::from_millis(200);
/// Looks until new processes are looked for.
const DISCOVER: u32 = 5;
/// Of `/proc/stat`, 1/100 s.
const JIFFY: Duration = Duration::from_millis(10);
/// `SCHED_IDLE`, see sched(7): who has it wants to wait.
const IDLE: &str = "5";

/// Since the look before.
#[derive(Debug)]
struct Look {
    from: Instant,
    to: Instant,
    overslept: Duration,
    stolen: Duration,
    /// By program; of its threads the one that waited longest.
    waited: Vec<(Arc<str>, Duration)>,
}

/// What was seen between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The most that a thread came too late which slept for 10 ms.
    pub overslept: Duration,
    /// Processor time that the machine's own host took away, over all processors.
    pub stolen: Duration,
    /// How long programs were ready and did not run, the longest first; of each the thread that waited longest.
    pub waited: Vec<(String, Duration)>,
}

impl Seen {
    /// All programs together: at most so much of a delay is due to the processors, however work passes from one to the next.
    pub fn all_waited(&self) -> Duration {
        self.waited.iter().map(|(_, waited)| *waited).sum()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_millis();
        write!(f, "overslept {} ms, stolen {} ms, waited", ms(self.overslept), ms(self.stolen))?;
        for (name, waited) in self.waited.iter().take(6) {
            write!(f, " {name} {} ms", ms(*waited))?;
        }
        Ok(())
    }
}

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Pressure {
    looks: Arc<Mutex<Vec<Look>>>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Default for Pressure {
    fn default() -> Self {
        let looks = Arc::<Mutex<Vec<Look>>>::default();
        let (stop, stopped) = channel();
        let kept = Arc::clone(&looks);
        let thread = std::thread::spawn(move || look(&kept, &stopped));
        Self { looks, thread: Some((stop, thread)) }
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Pressure {
    /// What was seen between two moments. Who waited is known when its wait is over, so the look after the last is counted too.
    pub fn seen(&self, from: Instant, to: Instant) -> Seen {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Seen::default();
        let mut waited = BTreeMap::<&str, Duration>::new();
        for look in looks.iter().filter(|look| look.to > from && look.from < to + LOOK) {
            seen.overslept = seen.overslept.max(look.overslept);
            seen.stolen += look.stolen;
            for (name, time) in &look.waited {
                *waited.entry(name).or_default() += *time;
            }
        }
        seen.waited = waited.into_iter().map(|(name, time)| (name.to_owned(), time)).collect();
        seen.waited.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        seen
    }
}

fn look(looks: &Mutex<Vec<Look>>, stopped: &Receiver<()>) {
    let mut programs = Programs::default();
    let (mut from, mut overslept, mut stolen) = (Instant::now(), Duration::ZERO, stolen_so_far());
    for turn in 0.. {
        if turn % DISCOVER == 0 {
            programs.discover();
        }
        while from.elapsed() < LOOK {
            let asleep = Instant::now();
            if stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            overslept = overslept.max(asleep.elapsed().saturating_sub(TICK));
        }
        let (waited, before) = (programs.waited(), stolen);
        stolen = stolen_so_far();
        let to = Instant::now();
        let look = Look { from, to, overslept, stolen: stolen.saturating_sub(before), waited };
        looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        (from, overslept) = (to, Duration::ZERO);
    }
}

/// This process and all that descend from it.
#[derive(Debug, Default)]
struct Programs {
    names: BTreeMap<i32, Arc<str>>,
    /// How long each thread has waited in its life.
    threads: BTreeMap<(i32, i32), Duration>,
}

impl Programs {
    fn discover(&mut self) {
        let mut found = BTreeSet::new();
        let mut next = vec![i32::try_from(std::process::id()).unwrap_or(0)];
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(children_of(pid));
            }
        }
        self.names.retain(|pid, _| found.contains(pid));
        self.threads.retain(|(pid, _), _| found.contains(pid));
        for pid in found {
            // What it is may change: it is forked before it becomes another program.
            self.names.insert(pid, name(pid));
        }
    }

    fn waited(&mut self) -> Vec<(Arc<str>, Duration)> {
        let mut all = Vec::new();
        for (pid, name) in &self.names {
            let mut longest = Duration::ZERO;
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten()
            {
                let tid = thread.file_name().to_string_lossy().parse().unwrap_or_default();
                let Some(now) = waited_so_far(&thread.path()) else { continue };
                let before = self.threads.insert((*pid, tid), now).unwrap_or(now);
                let waited = now.saturating_sub(before);
                if waited > longest && !is_idle(&thread.path()) {
                    longest = waited;
                }
            }
            if longest >= Duration::from_millis(1) {
                all.push((Arc::clone(name), longest));
            }
        }
        all
    }
}

/// `router-1` of a program with settings of that name, else what it is, with its number.
fn name(pid: i32) -> Arc<str> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let settings =
        words.filter_map(|word| Some(word.strip_suffix(".toml")?.rsplit_once('/')?.1.to_owned()));
    let mut settings = settings;
    let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    settings.next().unwrap_or_else(|| format!("{}[{pid}]", comm().trim_end())).into()
}

fn waited_so_far(thread: &std::path::Path) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().nth(1)?.parse().ok()?))
}

fn is_idle(thread: &std::path::Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    // The name may hold anything; the policy is field 41, and the name is the second.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(38) == Some(IDLE)
}

fn stolen_so_far() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let jiffies = stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
    JIFFY * jiffies.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use millrace_testkit::until;
    use nix::{sched::sched_getaffinity, unistd::Pid};

    use super::*;

    /// A program that never rests, on that processor, begun by `command`.
    fn busy(command: &mut Command, processor: usize) -> std::process::Child {
        command.args([
            "taskset",
            "--cpu-list",
            &processor.to_string(),
            "sh",
            "-c",
            "while :; do :; done",
        ]);
        command.stdin(Stdio::null()).spawn().expect("taskset and chrt, of util-linux")
    }

    #[tokio::test]
    async fn who_waits_for_a_processor_is_named_and_who_wants_to_wait_is_not() {
        let began = Instant::now();
        let pressure = Pressure::default();
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("processors");
        let one = (0..).find(|n| allowed.is_set(*n).expect("a processor")).expect("one");
        let mut rivals = [(); 2].map(|()| busy(Command::new("nice").args(["-n", "19"]), one));
        let mut idle = busy(Command::new("chrt").args(["--idle", "0"]), one);
        let waiting = |pid: u32| {
            let waited = pressure.seen(began, Instant::now()).waited;
            waited.iter().any(|(name, _)| *name == format!("sh[{pid}]"))
        };
        let both = || rivals.iter().all(|child| waiting(child.id()));
        until("both wait for the other", Duration::from_secs(10), both).await.expect("named");
        assert!(!waiting(idle.id()), "{}", pressure.seen(began, Instant::now()));
        for child in rivals.iter_mut().chain([&mut idle]) {
            child.kill().expect("killed");
            child.wait().expect("dead");
        }
    }
}
