//! Streams come and go for minutes, workers and publishers are killed, nodes are drained, daemons restarted. After that the farm
//! holds what it held before: descriptors, children, threads, files, keys, reservations.
//!
//! What each program has allocated is weighed twice while nothing goes on, before the second half and after it: what streams leave
//! behind shows there, whatever the living need and whatever the allocator keeps. In the long form, two hours or
//! `MILLRACE_SOAK_MINUTES`, resident memory does not grow while they live either.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use etcd_client::GetOptions;
use hyper::Method;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until_some};
use millrace_tests::{Channel, Held, ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// How long the churn lasts; 2 h in the long form.
const CHURN: Duration = Duration::from_secs(240);
const LONG_CHURN: Duration = Duration::from_secs(7_200);
/// Publishes in all, at least.
const PUBLISHES: usize = 60;
/// Channels, all of which have been published to before anything is counted.
const CHANNELS: usize = 8;
/// Of them published to at a time.
const AT_ONCE: usize = 5;
/// From one thing that happens to the next.
const HAPPENS_EVERY: Duration = Duration::from_secs(3);
/// From one look at the publishers to the next, and from one at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WEIGH_EVERY: Duration = Duration::from_secs(1);
/// A publisher that stops may come back for 30 s; so long after that at most nothing is going on.
const PATIENCE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(10);
/// Sockets that a program may hold beyond those it began with: connections to others are kept for a while, to be used again.
const KEPT_SOCKETS: usize = 12;
/// Threads beyond those: the last of a pool may be waiting for its end.
const KEPT_THREADS: usize = 2;
/// Growth of a program's memory over the last half, bytes per minute.
const GROWTH: f64 = 1024.0 * 1024.0;
/// After a while without streams, until the windows of all are full again and old ones gone.
const WARM_UP: Duration = Duration::from_secs(180);
const NODES: usize = 3;

/// A publisher at work.
struct Publishing {
    channel: usize,
    clip: ClipSpec,
    publisher: Publisher,
    /// Watches, and is to see every frame.
    player: Option<Player>,
    is_cut_off: bool,
}

struct Soak {
    farm: ManyFarm,
    channels: Vec<Channel>,
    random: StdRng,
    publishing: Vec<Publishing>,
    publishes: usize,
    /// Recordings that are checked beside the churn.
    checks: JoinSet<()>,
    drained: Option<String>,
    /// What happened, and how often.
    happened: BTreeMap<&'static str, usize>,
}

/// What is to be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Inventory {
    files: BTreeMap<String, usize>,
    children: BTreeMap<String, usize>,
    zombies: usize,
    mapped: BTreeMap<String, BTreeSet<String>>,
    run_files: BTreeMap<String, usize>,
    keys: i64,
    promised: u64,
    serving: u64,
}

impl Soak {
    async fn begin() -> Self {
        let seed = std::env::var("MILLRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(rand::random::<u64>);
        println!("seed: MILLRACE_TEST_SEED={seed}");
        let rungs = vec![("144p", 144, 100)];
        let options = ManyOptions {
            nodes: NODES,
            origins: 2,
            rungs,
            tls: true,
            keep_ended_s: 2,
            heaps: true,
            ..ManyOptions::default()
        };
        let farm = ManyFarm::start(options).await.unwrap();
        let router = farm.address("router-1", "rtmp").unwrap();
        let mut channels = Vec::new();
        for number in 1..=CHANNELS {
            channels.push(farm.new_channel(&format!("live-{number}"), router).await.unwrap());
        }
        Self {
            farm,
            channels,
            random: StdRng::seed_from_u64(seed),
            publishing: Vec::new(),
            publishes: 0,
            checks: JoinSet::new(),
            drained: None,
            happened: BTreeMap::new(),
        }
    }

    /// Small pictures pass through as they are, others have an encoded rung.
    fn clip(&mut self) -> ClipSpec {
        let (width, height) = if self.random.random_bool(0.5) { (160, 90) } else { (320, 180) };
        let seconds = self.random.random_range(3..=6);
        ClipSpec { width, height, kbps: 150, seconds, ..ClipSpec::default() }
    }

    fn publish(&mut self, channel: usize, is_watched: bool) {
        let clip = self.clip();
        let to = &self.channels[channel];
        let publisher = Publisher::start(&clip.file().unwrap(), &to.rtmp_url).unwrap();
        let player = is_watched.then(|| Player::start(&to.playback_url, PlayerOptions::default()));
        self.publishes += 1;
        self.publishing.push(Publishing { channel, clip, publisher, player, is_cut_off: false });
    }

    /// Publishers that have ended make room.
    async fn look(&mut self) {
        while let Some(done) = self.publishing.iter_mut().position(|it| !it.publisher.is_running())
        {
            let mut done = self.publishing.swap_remove(done);
            let status = done.publisher.wait(PATIENCE).await.unwrap();
            assert!(status.success() || done.is_cut_off, "{}", done.publisher.log());
            if let Some(player) = done.player {
                player.media(f64::from(done.clip.seconds) - 0.2, PATIENCE).await.unwrap();
                let recording = player.stop().await.unwrap();
                let expected = done.clip.expected().as_downloaded();
                self.checks.spawn_blocking(move || {
                    check(&recording, &expected).unwrap().assert_lossless();
                });
            }
        }
        while let Some(checked) = self.checks.try_join_next() {
            checked.unwrap();
        }
    }

    /// Publishes, breaks and repairs until the time is over, restarts daemons for the first part of it; what each program's
    /// memory was meanwhile.
    async fn churn(
        &mut self,
        lasts: Duration,
        daemons_for: Duration,
    ) -> Vec<(f64, BTreeMap<String, u64>)> {
        let began = Instant::now();
        let (mut happened_at, mut weighed_at) = (began, began);
        let mut weights = Vec::new();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while began.elapsed() < lasts {
            self.look().await;
            while self.publishing.len() < AT_ONCE {
                let busy: Vec<_> = self.publishing.iter().map(|it| it.channel).collect();
                let free: Vec<_> = (0..CHANNELS).filter(|it| !busy.contains(it)).collect();
                let channel = free[self.random.random_range(0..free.len())];
                self.publish(channel, false);
            }
            if happened_at.elapsed() >= HAPPENS_EVERY {
                happened_at = Instant::now();
                self.something_happens(began.elapsed() < daemons_for).await;
            }
            if weighed_at.elapsed() >= WEIGH_EVERY {
                weighed_at = Instant::now();
                weights.push((began.elapsed().as_secs_f64(), self.farm.anonymous_bytes()));
            }
            looks.tick().await;
        }
        weights
    }

    async fn something_happens(&mut self, daemons_too: bool) {
        let what = match self.random.random_range(0..if daemons_too { 5 } else { 4 }) {
            0 => self.kill_worker().await,
            1 => self.cut_publisher_off().await,
            2 | 3 => self.drain().await,
            _ => self.restart_daemon().await,
        };
        *self.happened.entry(what).or_default() += 1;
    }

    async fn kill_worker(&mut self) -> &'static str {
        let which = self.random.random_range(0..self.publishing.len());
        let stream = &self.channels[self.publishing[which].channel].stream;
        let view = self.farm.stream("router-1", stream).await;
        match view.ok().and_then(|view| view.worker_pid) {
            Some(pid) if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() => "worker killed",
            _ => "no worker to kill",
        }
    }

    /// It comes back at once, with another clip.
    async fn cut_publisher_off(&mut self) -> &'static str {
        let which = self.random.random_range(0..self.publishing.len());
        let publishing = &mut self.publishing[which];
        publishing.is_cut_off = true;
        publishing.player = None;
        let channel = publishing.channel;
        publishing.publisher.kill().await.unwrap();
        self.look().await;
        self.publish(channel, false);
        "publisher back"
    }

    async fn drain(&mut self) -> &'static str {
        if let Some(node) = self.drained.take() {
            self.order(&node, "uncordon").await;
            return "node uncordoned";
        }
        let node = format!("node-{}", self.random.random_range(1..=NODES));
        self.order(&node, "drain").await;
        self.drained = Some(node);
        "node drained"
    }

    async fn order(&self, node: &str, order: &str) {
        let path = format!("/v1/nodes/{node}/{order}");
        self.farm.api(Method::POST, &path, "{}".to_owned()).await.unwrap();
    }

    async fn restart_daemon(&mut self) -> &'static str {
        let node = format!("node-{}", self.random.random_range(1..=NODES));
        let link = self.farm.end_daemon(&node, Signal::SIGTERM).unwrap();
        self.farm.next_daemon(&node, link).unwrap();
        self.farm.ready(&node).await.unwrap();
        "daemon restarted"
    }

    /// Waits until all streams are over, and a while more; what there is then.
    async fn idle(&mut self) -> Inventory {
        if let Some(node) = self.drained.take() {
            self.order(&node, "uncordon").await;
        }
        let ended = until_some("publishers end", PATIENCE, async || {
            self.look().await;
            self.publishing.is_empty().then_some(())
        });
        ended.await.unwrap();
        while let Some(checked) = self.checks.join_next().await {
            checked.unwrap();
        }
        let quiet = async {
            let (mut since, mut looks) = (Instant::now(), interval(LOOK_EVERY));
            while since.elapsed() < IDLE {
                if self.sum("millrace_router_sessions", "router-1").await > 0 {
                    since = Instant::now();
                }
                looks.tick().await;
            }
        };
        let is_quiet = timeout(PATIENCE + IDLE, quiet).await.is_ok();
        assert!(is_quiet, "streams go on: {:?}", self.serving().await);
        self.inventory().await
    }

    async fn sum(&self, metric: &str, program: &str) -> u64 {
        self.farm.metric(program, metric).await.unwrap() as u64
    }

    async fn serving(&self) -> u64 {
        let mut serving = 0;
        for node in 1..=NODES {
            serving += self.sum("millrace_node_workers ", &format!("node-{node}")).await;
        }
        serving
    }

    /// Sockets and threads: what may be a few more than before.
    fn pools(&self) -> BTreeMap<String, (usize, usize)> {
        let of = |(name, held): (&String, &Held)| (name.clone(), (held.sockets, held.threads));
        self.farm.held().iter().map(of).collect()
    }

    async fn inventory(&self) -> Inventory {
        let mut promised = 0;
        for node in 1..=NODES {
            promised += self.sum("millrace_node_promised_units", &format!("node-{node}")).await;
        }
        let certs = self.farm.certs().unwrap();
        let mut etcd = certs.etcd_client(&self.farm.etcd, "operator/ann").await.unwrap();
        let all = GetOptions::new().with_prefix().with_count_only();
        let keys = etcd.get("/millrace/", Some(all)).await.unwrap().count();
        let held = self.farm.held();
        let of = |what: fn(&Held) -> usize| -> BTreeMap<String, usize> {
            held.iter().map(|(name, held)| (name.clone(), what(held))).collect()
        };
        Inventory {
            files: of(|held| held.descriptors - held.sockets),
            children: of(|held| held.children),
            zombies: held.values().map(|held| held.zombies).sum(),
            mapped: held.iter().map(|(name, held)| (name.clone(), held.mapped.clone())).collect(),
            run_files: self.farm.run_files(),
            keys,
            promised,
            serving: self.serving().await,
        }
    }
}

/// Bytes per minute by which a program's memory grew over those looks: the median of all slopes between two of them
/// (Theil and Sen), which a few leaps do not move.
fn growth(weights: &[(f64, u64)]) -> f64 {
    let mut slopes = Vec::new();
    for (index, (at, bytes)) in weights.iter().enumerate() {
        for (later, more) in &weights[index + 1..] {
            slopes.push((*more as f64 - *bytes as f64) / (later - at) * 60.0);
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or_default()
}

/// How long the long form's churn lasts; `None`: it is not asked for.
fn long_churn() -> Option<Duration> {
    let minutes = std::env::var("MILLRACE_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    let minutes = minutes.map(|minutes: u64| Duration::from_secs(minutes * 60));
    minutes.or_else(|| std::env::var_os("MILLRACE_FULL").map(|_| LONG_CHURN))
}

#[tokio::test]
async fn after_a_churn_the_farm_holds_what_it_held_before() {
    let long = long_churn();
    let half = long.unwrap_or(CHURN) / 2;
    let mut soak = Soak::begin().await;
    for channel in 0..CHANNELS {
        soak.publish(channel, true);
    }
    let (before, pools_before) = (soak.idle().await, soak.pools());
    // A young daemon's memory grows.
    soak.churn(half, half / 2).await;
    soak.idle().await;
    let (weighed, publishes_then) = (soak.farm.heap_bytes().unwrap(), soak.publishes);
    let since = Instant::now();
    let weights = soak.churn(half, Duration::ZERO).await;
    let (after, pools) = (soak.idle().await, soak.pools());
    let minutes = since.elapsed().as_secs_f64() / 60.0;
    println!(
        "{} publishes, {publishes_then} until the first weighing, {:?}",
        soak.publishes, soak.happened
    );
    println!("{after:?}, sockets and threads {pools:?} after {pools_before:?}");
    let mut grown = Vec::new();
    for (name, now) in soak.farm.heap_bytes().unwrap() {
        let kept = (now as f64 - weighed[&name] as f64) / minutes;
        let (kib, then) = (now / 1024, weighed[&name] / 1024);
        println!("{name}: {then} KiB left, then {kib}: {:.0} KiB a minute", kept / 1024.0);
        grown.extend((kept > GROWTH).then(|| format!("what is left in {name}")));
        let warm = weights.iter().filter(|(at, _)| *at >= WARM_UP.as_secs_f64());
        let living: Vec<_> = warm.map(|(at, bytes)| (*at, bytes[&name])).collect();
        // In minutes the windows have not been filled once.
        if let Some((_, last)) = living.last().filter(|_| long.is_some()) {
            let slope = growth(&living);
            println!("{name}: {} KiB resident, {:.0} KiB a minute", last / 1024, slope / 1024.0);
            grown.extend((slope > GROWTH).then(|| format!("memory of {name}")));
        }
    }
    assert!(soak.publishes >= PUBLISHES, "{} publishes", soak.publishes);
    assert_eq!(before, after);
    for (name, (sockets, threads)) in &pools {
        let (sockets_before, threads_before) = pools_before[name];
        assert!(*sockets <= sockets_before + KEPT_SOCKETS, "{name} holds {sockets} sockets");
        assert!(*threads <= threads_before + KEPT_THREADS, "{name} holds {threads} threads");
    }
    assert!(grown.is_empty(), "these grow: {grown:?}");
}

#[test]
fn growth_is_the_usual_slope_and_no_leap() {
    let steady: Vec<_> = (0..20).map(|n| (f64::from(n), u64::from(n as u32) * 1_000)).collect();
    assert_eq!(growth(&steady), 60_000.0);
    let mut leaps: Vec<_> = (0..20).map(|n| (f64::from(n), 5_000)).collect();
    leaps[7].1 = 9_000_000;
    assert_eq!(growth(&leaps), 0.0);
    assert_eq!(growth(&[]), 0.0);
}
