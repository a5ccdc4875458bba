//! What can happen to a farm: its name, how the farm's decisions show that it was noticed, and how soon the next part must come.

use std::time::Duration;

use millrace_tests::Cut;

/// A part lasts a third of a second; one that is one part late comes so long after the one before.
pub const ONE_PART_LATE: Duration = Duration::from_millis(668);

/// One fault, always at the programs that make the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    WorkerKilled,
    /// SIGSTOP.
    WorkerHung,
    /// The node's daemon ends by SIGTERM, and the next one begins at once.
    DaemonUpgraded,
    /// The same by SIGKILL.
    DaemonKilled,
    /// SIGKILL to the daemon and all workers.
    NodeKilled,
    /// SIGSTOP to the daemon and all workers, and SIGCONT once the stream is elsewhere.
    NodeFrozen,
    /// The node and the router of the stream.
    CutFromRouter(Cut),
    /// The node and the origin that owns the stream.
    CutFromOrigin(Cut),
    /// The node and all origins.
    CutFromOrigins(Cut),
    /// The node and everybody: its cable is pulled, and plugged in again once the stream is elsewhere.
    CutFromAll,
    /// The node and all members of etcd, for three lease times.
    CutFromEtcd,
    /// A member that does not lead.
    EtcdMemberKilled,
    /// The one that does.
    EtcdLeaderKilled,
    /// All members, which stay away until [`Self::EtcdBack`].
    EtcdGone,
    /// Nothing: another stream begins, and ends.
    Newcomer,
    /// All members are back, after ten lease times.
    EtcdBack,
    /// The origin that owns the stream.
    OriginKilled,
    /// The router to which the encoder sends.
    RouterKilled,
    /// The same, and two nodes make the stream.
    DualRouterKilled,
}

impl Fault {
    /// For the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkerKilled => "a worker killed",
            Self::WorkerHung => "a worker hung",
            Self::DaemonUpgraded => "a node's daemon upgraded",
            Self::DaemonKilled => "a node's daemon killed alone",
            Self::NodeKilled => "a node killed with its workers",
            Self::NodeFrozen => "a node frozen, and back",
            Self::CutFromRouter(Cut::Sent) => "a node does not reach its router, which reaches it",
            Self::CutFromRouter(Cut::Received) => {
                "a router does not reach its node, which reaches it"
            }
            Self::CutFromRouter(_) => "a node cut off from its router",
            Self::CutFromOrigin(Cut::Sent) => "a node does not reach its origin, which reaches it",
            Self::CutFromOrigin(Cut::Received) => {
                "an origin does not reach its node, which reaches it"
            }
            Self::CutFromOrigin(_) => "a node cut off from its origin",
            Self::CutFromOrigins(Cut::Received) => "no origin reaches a node, which reaches them",
            Self::CutFromOrigins(_) => "a node cut off from all origins",
            Self::CutFromAll => "a node cut off from everybody, and back",
            Self::CutFromEtcd => "a node cut off from etcd for three lease times",
            Self::EtcdMemberKilled => "a member of etcd killed",
            Self::EtcdLeaderKilled => "the leader of etcd killed",
            Self::EtcdGone => "all of etcd gone",
            Self::Newcomer => "another stream begins",
            Self::EtcdBack => "all of etcd back",
            Self::OriginKilled => "the origin of the stream killed",
            Self::RouterKilled => "the router killed",
            Self::DualRouterKilled => "the router of a stream with two encoders killed",
        }
    }

    /// Kinds of decisions, the first of which after the fault says that it was noticed.
    pub const fn noticed_by(self) -> &'static [&'static str] {
        match self {
            Self::WorkerKilled | Self::WorkerHung => &["worker_ended", "placement_lost"],
            Self::DaemonUpgraded | Self::DaemonKilled => &["node_restarts", "placement_lost"],
            Self::NodeKilled | Self::NodeFrozen | Self::CutFromRouter(_) | Self::CutFromAll => {
                &["placement_lost"]
            }
            Self::CutFromOrigin(_) | Self::CutFromOrigins(_) | Self::OriginKilled => {
                &["origin_lost"]
            }
            Self::RouterKilled | Self::DualRouterKilled => &["claimed"],
            Self::CutFromEtcd
            | Self::EtcdMemberKilled
            | Self::EtcdLeaderKilled
            | Self::EtcdGone
            | Self::Newcomer
            | Self::EtcdBack => &[],
        }
    }

    /// From the fault to the next part at most.
    pub const fn bound(self) -> Option<Duration> {
        match self {
            Self::RouterKilled | Self::DualRouterKilled => None,
            Self::WorkerKilled | Self::DaemonUpgraded | Self::DaemonKilled => {
                Some(Duration::from_millis(1_000))
            }
            Self::WorkerHung => Some(Duration::from_millis(2_200)),
            Self::NodeKilled
            | Self::NodeFrozen
            | Self::CutFromRouter(_)
            | Self::CutFromOrigin(_)
            | Self::CutFromOrigins(_)
            | Self::CutFromAll => Some(Duration::from_millis(3_000)),
            Self::OriginKilled => Some(Duration::from_millis(2_000)),
            Self::CutFromEtcd
            | Self::EtcdMemberKilled
            | Self::EtcdLeaderKilled
            | Self::EtcdGone
            | Self::Newcomer
            | Self::EtcdBack => Some(ONE_PART_LATE),
        }
    }

    /// What is to be done to have it once more.
    pub const fn once_more(&self) -> &[Self] {
        match self {
            Self::EtcdGone | Self::EtcdBack => &[Self::EtcdGone, Self::EtcdBack],
            other => std::slice::from_ref(other),
        }
    }

    /// Whether the node stays and another origin owns the stream afterwards.
    pub const fn costs_an_origin(self) -> bool {
        matches!(self, Self::CutFromOrigin(_) | Self::OriginKilled)
    }

    /// Whether it takes hosts that can be cut off.
    pub const fn needs_network(self) -> bool {
        matches!(
            self,
            Self::CutFromRouter(_)
                | Self::CutFromOrigin(_)
                | Self::CutFromOrigins(_)
                | Self::CutFromAll
                | Self::CutFromEtcd
        )
    }
}
