//! Where a stream goes: feasible → rank → ask. Here the first two: feasible nodes, best first, and for every other one why not.
//! The asking is the router's, and the node's own admission the last word.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use millrace_types::{NodeId, RefusalReason};

use crate::{Capacity, Demand, Resource};

/// The label that says which zone a node is in.
pub const ZONE: &str = "zone";

/// Whether a node takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Any.
    Open,
    /// Only this stream, which it made until now, and only if nobody else does.
    LastResort,
    /// None: draining, cordoned or quarantined.
    Closed,
}

/// What the router believes about one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Whether it takes work.
    pub standing: Standing,
    /// What it has.
    pub capacity: Capacity,
    /// What is free of it, for this stream.
    pub free: Capacity,
    /// Where it is, and what its operator says of it.
    pub labels: BTreeMap<String, String>,
}

/// What a stream asks of the node besides capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Nodes that it may not go to: it is leaving them, or made there already.
    pub avoid: BTreeSet<NodeId>,
    /// The one node that it may go to, where somebody has said which.
    pub only: Option<NodeId>,
    /// Labels that the node must have.
    pub require: BTreeMap<String, String>,
    /// Zones in which it is made already: nodes of others come first.
    pub apart_from: BTreeSet<String>,
    /// Share of its scarcest dimension that must stay free, percent: for what may go without.
    pub spare_percent: u8,
}

/// Why a node is no candidate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is draining, cordoned or quarantined.
    #[error("takes no new work")]
    Closed,
    /// The stream may not go there.
    #[error("the stream is to be elsewhere")]
    Avoided,
    /// A label that it lacks, or has with another value.
    #[error("label {name} is not {value}")]
    Label {
        /// Its name.
        name: String,
        /// The value that is required.
        value: String,
    },
    /// It has room, but is to keep it for others.
    #[error("less than {percent} % of what is scarcest would stay free")]
    Spare {
        /// How much is to stay free.
        percent: u8,
    },
    /// The first dimension that does not suffice.
    #[error("{} needs {needed} but {free} of {total} are free", resource.as_str())]
    Full {
        /// Which.
        resource: Resource,
        /// What the stream needs of it.
        needed: u64,
        /// What is free.
        free: u64,
        /// What the node has.
        total: u64,
    },
}

impl Unfit {
    /// The closed reason.
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::Full { .. } | Self::Spare { .. } => RefusalReason::NoCapacity,
            Self::Closed | Self::Avoided | Self::Label { .. } => RefusalReason::NodeUnavailable,
        }
    }
}

/// A node that can take the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Which.
    pub node: NodeId,
    /// Share of its scarcest dimension that stays free, 0 to 1.
    pub headroom: f64,
    /// The stream is made in its zone already.
    pub shares_zone: bool,
    /// [`Standing::Open`] or [`Standing::LastResort`].
    pub standing: Standing,
}

/// Every node's verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// Those that can take the stream, in the order in which to ask them.
    pub order: Vec<Ranked>,
    /// Every other, and why not.
    pub unfit: Vec<(NodeId, Unfit)>,
}

/// Judges every node: open ones first, then those of another zone, then the one whose scarcest dimension keeps the largest
/// free share, then by name.
pub fn place(candidates: &[Candidate], demand: &Demand, constraints: &Constraints) -> Placement {
    let mut placement = Placement::default();
    for candidate in candidates {
        let node = candidate.node.clone();
        match unfit(candidate, demand, constraints) {
            Some(unfit) => placement.unfit.push((node, unfit)),
            None => placement.order.push(Ranked {
                node,
                headroom: headroom(candidate, demand),
                shares_zone: candidate
                    .labels
                    .get(ZONE)
                    .is_some_and(|zone| constraints.apart_from.contains(zone)),
                standing: candidate.standing,
            }),
        }
    }
    placement.order.sort_by(better);
    placement
}

fn unfit(candidate: &Candidate, demand: &Demand, constraints: &Constraints) -> Option<Unfit> {
    let is_another = constraints.only.as_ref().is_some_and(|only| *only != candidate.node);
    if is_another || constraints.avoid.contains(&candidate.node) {
        return Some(Unfit::Avoided);
    }
    if candidate.standing == Standing::Closed {
        return Some(Unfit::Closed);
    }
    let mut required = constraints.require.iter();
    if let Some((name, value)) =
        required.find(|(name, value)| candidate.labels.get(*name) != Some(*value))
    {
        return Some(Unfit::Label { name: name.clone(), value: value.clone() });
    }
    let full = Resource::ALL.into_iter().find_map(|resource| {
        let needed = demand.amount(resource);
        let free = candidate.free.amount(resource).filter(|&free| needed > free)?;
        let total = candidate.capacity.amount(resource).unwrap_or(free);
        Some(Unfit::Full { resource, needed, free, total })
    });
    let percent = constraints.spare_percent;
    let is_scarce = headroom(candidate, demand) * 100.0 < f64::from(percent);
    full.or_else(|| is_scarce.then_some(Unfit::Spare { percent }))
}

fn better(a: &Ranked, b: &Ranked) -> Ordering {
    let by_kind = (a.standing, a.shares_zone).cmp(&(b.standing, b.shares_zone));
    by_kind.then_with(|| b.headroom.total_cmp(&a.headroom)).then_with(|| a.node.cmp(&b.node))
}

/// The smallest free share over the limited dimensions that remains once the demand is placed.
fn headroom(candidate: &Candidate, demand: &Demand) -> f64 {
    let left = candidate.free.minus(demand);
    Resource::ALL
        .into_iter()
        .filter(|&resource| demand.amount(resource) > 0)
        .filter_map(|resource| {
            let (left, all) = (left.amount(resource)?, candidate.capacity.amount(resource)?);
            Some(left as f64 / all.max(1) as f64)
        })
        .fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(pixels: u64) -> Capacity {
        Capacity { encode_pixels_per_second: pixels, ..Capacity::ZERO }
    }

    const WANTED: Demand = Demand { encode_pixels_per_second: 30, ..Demand::ZERO };

    fn candidate(node: &str, free: u64) -> Candidate {
        Candidate {
            node: node.parse().unwrap(),
            standing: Standing::Open,
            capacity: encode(100),
            free: encode(free),
            labels: BTreeMap::new(),
        }
    }

    fn in_zone(node: &str, free: u64, zone: &str) -> Candidate {
        let labels = BTreeMap::from([(ZONE.to_owned(), zone.to_owned())]);
        Candidate { labels, ..candidate(node, free) }
    }

    fn order(fleet: &[Candidate], constraints: &Constraints) -> Vec<String> {
        let placement = place(fleet, &WANTED, constraints);
        placement.order.iter().map(|ranked| ranked.node.to_string()).collect()
    }

    #[test]
    fn the_emptiest_node_comes_first_and_every_other_gets_its_reason() {
        let closed = Candidate { standing: Standing::Closed, ..candidate("drained", 100) };
        let fleet = [candidate("full", 20), candidate("half", 50), candidate("empty", 100), closed];
        let placement = place(&fleet, &WANTED, &Constraints::default());
        assert_eq!(order(&fleet, &Constraints::default()), ["empty", "half"]);
        assert_eq!(placement.order[0].headroom, 0.7);
        let (full, drained) = (&placement.unfit[0].1, &placement.unfit[1].1);
        assert_eq!(full.to_string(), "encode needs 30 but 20 of 100 are free");
        assert_eq!(full.reason(), RefusalReason::NoCapacity);
        assert_eq!(drained.to_string(), "takes no new work");
        assert_eq!(drained.reason(), RefusalReason::NodeUnavailable);
    }

    #[test]
    fn what_is_free_decides_and_not_what_a_node_has() {
        let large = Candidate { capacity: encode(1_000), ..candidate("large", 40) };
        assert_eq!(
            order(&[large, candidate("small", 90)], &Constraints::default()),
            ["small", "large"]
        );
    }

    #[test]
    fn a_node_that_lacks_egress_or_host_cpu_is_not_asked_and_one_that_does_not_know_its_own_is() {
        let with = |node: &str, host_cpu_millicores, egress_bits_per_second| {
            let open = encode(100);
            let capacity = Capacity { host_cpu_millicores, egress_bits_per_second, ..open };
            Candidate { capacity, free: capacity, ..candidate(node, 0) }
        };
        let fleet = [
            with("narrow", Some(100), Some(9)),
            with("busy", Some(4), None),
            with("wide", Some(100), Some(11)),
            with("unknown", None, None),
        ];
        let demand = Demand { host_cpu_millicores: 5, egress_bits_per_second: 10, ..WANTED };
        let placement = place(&fleet, &demand, &Constraints::default());
        let order: Vec<_> = placement.order.iter().map(|ranked| ranked.node.as_str()).collect();
        assert_eq!(order, ["unknown", "wide"], "what has no limit is not scarce");
        assert!(placement.unfit.iter().all(|(_, why)| why.reason() == RefusalReason::NoCapacity));
        let why: Vec<_> = placement.unfit.iter().map(|(_, why)| why.to_string()).collect();
        assert_eq!(
            why,
            ["egress needs 10 but 9 of 9 are free", "host_cpu needs 5 but 4 of 4 are free"]
        );
    }

    #[test]
    fn a_node_to_avoid_is_never_chosen_and_a_last_resort_comes_last() {
        let last = Candidate { standing: Standing::LastResort, ..candidate("a", 100) };
        let fleet = [last, candidate("b", 100), candidate("c", 40)];
        assert_eq!(order(&fleet, &Constraints::default()), ["b", "c", "a"]);
        let avoid = BTreeSet::from(["b".parse().unwrap()]);
        let constraints = Constraints { avoid, ..Constraints::default() };
        assert_eq!(order(&fleet, &constraints), ["c", "a"]);
        assert_eq!(place(&fleet, &WANTED, &constraints).unfit[0].1, Unfit::Avoided);
    }

    #[test]
    fn only_the_node_that_was_said_is_chosen_and_only_if_it_has_room() {
        let fleet = [candidate("a", 100), candidate("b", 50), candidate("full", 20)];
        let only = |node: &str| Constraints {
            only: Some(node.parse().unwrap()),
            ..Constraints::default()
        };
        assert_eq!(order(&fleet, &only("b")), ["b"]);
        assert_eq!(place(&fleet, &WANTED, &only("b")).unfit[0].1, Unfit::Avoided);
        let full = place(&fleet, &WANTED, &only("full"));
        assert!(full.order.is_empty());
        assert!(matches!(full.unfit[2].1, Unfit::Full { .. }));
    }

    #[test]
    fn what_may_go_without_leaves_room_for_others() {
        let fleet = [candidate("a", 40), candidate("b", 50)];
        let constraints = Constraints { spare_percent: 15, ..Constraints::default() };
        assert_eq!(order(&fleet, &constraints), ["b"]);
        let scarce = &place(&fleet, &WANTED, &constraints).unfit[0].1;
        assert_eq!(scarce.to_string(), "less than 15 % of what is scarcest would stay free");
        assert_eq!(scarce.reason(), RefusalReason::NoCapacity);
    }

    #[test]
    fn another_zone_comes_first_and_the_same_is_better_than_none() {
        let fleet = [in_zone("a", 100, "east"), in_zone("b", 50, "west"), candidate("c", 40)];
        let apart_from = BTreeSet::from(["east".to_owned()]);
        let constraints = Constraints { apart_from, ..Constraints::default() };
        assert_eq!(order(&fleet, &constraints), ["b", "c", "a"]);
        assert_eq!(order(&fleet[..1], &constraints), ["a"]);
    }

    #[test]
    fn a_required_label_rules_out_who_lacks_it() {
        let fleet = [in_zone("a", 100, "east"), in_zone("b", 50, "west"), candidate("c", 40)];
        let require = BTreeMap::from([(ZONE.to_owned(), "west".to_owned())]);
        let constraints = Constraints { require, ..Constraints::default() };
        assert_eq!(order(&fleet, &constraints), ["b"]);
        let unfit = place(&fleet, &WANTED, &constraints).unfit;
        assert_eq!(unfit[1].1.to_string(), "label zone is not west");
    }
}
