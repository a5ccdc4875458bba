//! The farm under test with its fronts, and how each fault is injected, survived and undone.

use std::time::{Duration, Instant};

use hyper::Method;
use millrace_testkit::{ClipSpec, Front, until, until_some};
use millrace_tests::{Channel, Cut, Ended, Live, ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::farm_faults::{
    fault::Fault,
    measured::{self, Moment, Row, Struck},
};

/// Longer than anything that is waited for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const NODES: usize = 3;
const ETCD: [&str; 3] = ["etcd-1", "etcd-2", "etcd-3"];
const ORIGINS: [&str; 2] = ["origin-1", "origin-2"];
/// The first that the front tries.
pub const ROUTER: &str = "router-1";
/// Of records in the registry.
const LEASE_S: u64 = 2;
/// Who asks etcd.
const OPERATOR: &str = "operator/ann";

/// The farm, and what is left to be put right.
pub struct Bench {
    pub farm: ManyFarm,
    routers: Front,
    origins: Front,
    random: StdRng,
    /// Since when all of etcd is away.
    etcd_gone: Option<Instant>,
    /// Nodes to be started again once etcd is back.
    dead: Vec<String>,
    newcomers: usize,
    /// Streams whose frames are to be counted once that takes no time of others.
    ended: Vec<Ended>,
}

/// Who makes a stream.
struct Site {
    node: String,
    worker: i32,
    origin: String,
}

impl Bench {
    pub async fn start() -> Self {
        let seed = std::env::var("MILLRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(rand::random::<u64>);
        println!("seed: MILLRACE_TEST_SEED={seed}");
        let options = ManyOptions {
            nodes: NODES,
            routers: 2,
            origins: ORIGINS.len(),
            etcd_members: ETCD.len(),
            zones: 2,
            lease_seconds: LEASE_S,
            hosts: true,
            tls: true,
            ..ManyOptions::default()
        };
        let farm = ManyFarm::start(options).await.unwrap();
        let routers = [ROUTER, "router-2"].map(|name| farm.address(name, "rtmp").unwrap());
        let origins = ORIGINS.map(|name| farm.address(name, "playback").unwrap());
        Self {
            farm,
            routers: Front::start(routers.to_vec()).await.unwrap(),
            origins: Front::start(origins.to_vec()).await.unwrap(),
            random: StdRng::seed_from_u64(seed),
            etcd_gone: None,
            dead: Vec::new(),
            newcomers: 0,
            ended: Vec::new(),
        }
    }

    /// A channel that is published and watched through the fronts.
    pub async fn channel(&self, name: &str) -> Channel {
        let channel = self.farm.new_channel(name, self.routers.address()).await.unwrap();
        let playback_url = format!("http://{}/live/{name}/index.m3u8", self.origins.address());
        Channel { playback_url, ..channel }
    }

    /// What the farm decided about a stream.
    pub async fn decisions(&self, stream: &str) -> Vec<Value> {
        let path = format!("/v1/decisions?limit=1000&stream={stream}");
        let answer = self.farm.api(Method::GET, &path, String::new()).await.unwrap();
        answer["decisions"].as_array().unwrap().clone()
    }

    /// A stream, all those faults one after the other, and what each cost. No frame of it is lost.
    pub async fn stream(&mut self, name: &str, faults: &[Fault]) -> Vec<Row> {
        let clip = ClipSpec { seconds: 100, ..ClipSpec::default() };
        let newcomers = self.newcomers_to_come(faults).await;
        let live = Live::begin_at(self.channel(name).await, clip).await;
        let mut struck: Vec<Struck> = Vec::new();
        for fault in faults {
            if fault.needs_network() && self.farm.network().is_none() {
                println!("not enforceable here: {}", fault.as_str());
                continue;
            }
            let is_again = struck.last().is_some_and(|last| last.fault.costs_an_origin());
            if is_again && fault.costs_an_origin() {
                // A node that loses two so soon after each other is the one that is cut off.
                self.play(&live, 5.0).await;
            }
            self.play(&live, 0.5).await;
            let moment = self.random.random_range(0.0..2.0);
            self.play(&live, moment).await;
            struck.push(self.survive(*fault, &live, &newcomers).await);
        }
        let decisions = self.decisions(name).await;
        let ended = live.stop().await;
        if std::panic::catch_unwind(|| ended.assert_lossless()).is_err() {
            panic!("{name}: {}", measured::timeline(&struck, &decisions));
        }
        self.judge_ended();
        struck.iter().map(|struck| Row::new(struck, &ended.recording, &decisions)).collect()
    }

    /// No frame is lost of the streams that have begun and ended meanwhile.
    pub fn judge_ended(&mut self) {
        std::mem::take(&mut self.ended).iter().for_each(Ended::assert_lossless);
    }

    /// Their channels must be known before etcd goes.
    pub async fn newcomers_to_come(&mut self, faults: &[Fault]) -> Vec<Channel> {
        let mut channels = Vec::new();
        for _ in faults.iter().filter(|fault| **fault == Fault::Newcomer) {
            self.newcomers += 1;
            channels.push(self.channel(&format!("newcomer-{}", self.newcomers)).await);
        }
        channels
    }

    async fn play(&self, live: &Live, seconds: f64) {
        live.play(live.played_s() + seconds).await;
    }

    async fn site(&self, stream: &str) -> Site {
        let site = until_some("the stream is live", PATIENCE, async || {
            let view = self.farm.stream(ROUTER, stream).await.ok()?;
            let word = |name: &str| Some(view.rest.get(name)?.as_str()?.to_owned());
            let worker = view.worker_pid.filter(|_| view.state == "live")?;
            Some(Site { node: word("node")?, worker, origin: word("origin")? })
        });
        site.await.unwrap_or_else(|error| panic!("{error}\n{}", self.farm.log(ROUTER)))
    }

    /// Strikes, waits until the stream goes on and 1.6 s of it have come, and puts right what can be.
    pub async fn survive(&mut self, fault: Fault, live: &Live, newcomers: &[Channel]) -> Struck {
        let stream = live.channel.stream.as_str();
        let site = self.site(stream).await;
        let without_etcd = self.etcd_gone.is_some() && fault != Fault::EtcdBack;
        let member = self.member_to_kill(fault).await;
        let began = Moment::now();
        println!("{}: {} makes {stream} for {}", fault.as_str(), site.node, site.origin);
        self.strike(fault, &site, member, newcomers).await;
        self.until_survived(fault, stream, &site).await;
        self.play(live, 1.6).await;
        let ended = Instant::now();
        self.put_right(fault, &site, member).await;
        Struck { fault, began, ended, without_etcd }
    }

    async fn member_to_kill(&self, fault: Fault) -> Option<usize> {
        let leads = matches!(fault, Fault::EtcdLeaderKilled);
        if !leads && fault != Fault::EtcdMemberKilled {
            return None;
        }
        let certs = self.farm.certs().unwrap();
        let leader = until_some("a leader", PATIENCE, async || {
            certs.etcd_leader(&self.farm.etcd, OPERATOR).await
        });
        let leader = leader.await.unwrap();
        Some(if leads { leader } else { (leader + 1) % ETCD.len() })
    }

    async fn strike(
        &mut self,
        fault: Fault,
        site: &Site,
        member: Option<usize>,
        newcomers: &[Channel],
    ) {
        let (node, origin) = (site.node.as_str(), site.origin.as_str());
        match fault {
            Fault::WorkerKilled => kill(Pid::from_raw(site.worker), Signal::SIGKILL).unwrap(),
            Fault::WorkerHung => kill(Pid::from_raw(site.worker), Signal::SIGSTOP).unwrap(),
            Fault::DaemonUpgraded => self.restart(node, Signal::SIGTERM).await,
            Fault::DaemonKilled => self.restart(node, Signal::SIGKILL).await,
            Fault::NodeKilled => self.farm.kill(node).unwrap(),
            Fault::NodeFrozen => self.farm.signal(node, Signal::SIGSTOP).unwrap(),
            Fault::CutFromRouter(cut) => self.farm.cut(node, &[ROUTER], cut).unwrap(),
            Fault::CutFromOrigin(cut) => self.farm.cut(node, &[origin], cut).unwrap(),
            Fault::CutFromOrigins(cut) => self.farm.cut(node, &ORIGINS, cut).unwrap(),
            Fault::CutFromAll => self.farm.network().unwrap().plug(node, false).unwrap(),
            Fault::CutFromEtcd => self.farm.cut(node, &ETCD, Cut::Both).unwrap(),
            Fault::OriginKilled => self.farm.kill(origin).unwrap(),
            Fault::EtcdMemberKilled | Fault::EtcdLeaderKilled => {
                self.farm.etcd.kill_member(member.unwrap());
            }
            Fault::EtcdGone => {
                (0..ETCD.len()).for_each(|member| self.farm.etcd.kill_member(member));
                self.etcd_gone = Some(Instant::now());
            }
            Fault::EtcdBack => self.bring_etcd_back().await,
            Fault::Newcomer => {
                let clip = ClipSpec { seconds: 4, ..ClipSpec::default() };
                let newcomer = Live::begin_at(newcomers[0].clone(), clip).await;
                self.ended.push(newcomer.end().await);
            }
            Fault::RouterKilled | Fault::DualRouterKilled => {
                unreachable!("its stream is published in two pieces")
            }
        }
    }

    async fn restart(&mut self, node: &str, signal: Signal) {
        let link = self.farm.end_daemon(node, signal).unwrap();
        self.farm.next_daemon(node, link).unwrap();
        self.farm.ready(node).await.unwrap();
    }

    async fn bring_etcd_back(&mut self) {
        let gone = self.etcd_gone.take().unwrap();
        let long_enough = || gone.elapsed() >= Duration::from_secs(10 * LEASE_S);
        until("ten lease times", PATIENCE, long_enough).await.unwrap();
        (0..ETCD.len()).for_each(|member| self.farm.etcd.start_member(member).unwrap());
        for node in std::mem::take(&mut self.dead) {
            self.farm.start_again(&node).await.unwrap();
        }
        self.farm.nodes_known(NODES).await.unwrap();
    }

    /// Waits until the stream is where it is to be then.
    async fn until_survived(&self, fault: Fault, stream: &str, old: &Site) {
        match fault {
            Fault::WorkerKilled | Fault::WorkerHung => {
                self.farm.made_by(ROUTER, stream, Some(old.worker)).await.unwrap();
            }
            Fault::NodeKilled
            | Fault::NodeFrozen
            | Fault::CutFromRouter(_)
            | Fault::CutFromOrigins(_)
            | Fault::CutFromAll => {
                let (node, _) = self.farm.made_by(ROUTER, stream, Some(old.worker)).await.unwrap();
                assert_ne!(node, old.node, "the stream went to another node");
            }
            Fault::OriginKilled | Fault::CutFromOrigin(_) => {
                let moved = until_some("another origin", PATIENCE, async || {
                    (self.site(stream).await.origin != old.origin).then_some(())
                });
                moved.await.unwrap();
            }
            Fault::CutFromEtcd => {
                let gone = Instant::now();
                self.farm.nodes_known(NODES - 1).await.unwrap();
                let long_enough = || gone.elapsed() >= Duration::from_secs(3 * LEASE_S);
                until("three lease times", PATIENCE, long_enough).await.unwrap();
                assert_eq!(self.site(stream).await.worker, old.worker, "the stream stays");
            }
            Fault::EtcdMemberKilled
            | Fault::EtcdLeaderKilled
            | Fault::EtcdGone
            | Fault::EtcdBack
            | Fault::Newcomer
            | Fault::DaemonUpgraded => {
                assert_eq!(self.site(stream).await.worker, old.worker, "the stream stays");
            }
            Fault::DaemonKilled | Fault::RouterKilled | Fault::DualRouterKilled => {
                drop(self.site(stream).await);
            }
        }
    }

    /// Heals what was cut and starts what was killed. What comes back late has lost its streams, and its workers end.
    async fn put_right(&mut self, fault: Fault, old: &Site, member: Option<usize>) {
        let node = old.node.as_str();
        match fault {
            Fault::NodeKilled if self.etcd_gone.is_some() => self.dead.push(old.node.clone()),
            Fault::NodeKilled => self.farm.start_again(node).await.unwrap(),
            Fault::NodeFrozen => self.farm.signal(node, Signal::SIGCONT).unwrap(),
            Fault::OriginKilled => self.farm.start_again(&old.origin).await.unwrap(),
            Fault::CutFromRouter(_) => self.farm.cut(node, &[ROUTER], Cut::Healed).unwrap(),
            Fault::CutFromOrigin(_) | Fault::CutFromOrigins(_) => {
                self.farm.cut(node, &ORIGINS, Cut::Healed).unwrap();
            }
            Fault::CutFromEtcd => self.farm.cut(node, &ETCD, Cut::Healed).unwrap(),
            Fault::CutFromAll => self.farm.network().unwrap().plug(node, true).unwrap(),
            Fault::EtcdMemberKilled | Fault::EtcdLeaderKilled => {
                self.farm.etcd.start_member(member.unwrap()).unwrap();
            }
            _ => {}
        }
        let came_back = matches!(
            fault,
            Fault::NodeFrozen
                | Fault::CutFromRouter(_)
                | Fault::CutFromOrigins(_)
                | Fault::CutFromAll
        );
        if came_back {
            let ended = || !self.farm.workers(node).contains(&old.worker);
            let ends = until("the old worker ends", PATIENCE, ended).await;
            ends.unwrap_or_else(|error| panic!("{error}\n{}", self.farm.log(node)));
        }
        if self.etcd_gone.is_none() {
            self.farm.nodes_known(NODES).await.unwrap();
        }
    }
}
