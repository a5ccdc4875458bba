//! Where a stream goes: feasible nodes, best first, and for every other one why not. The node's own admission is the last word.

use millrace_types::{NodeId, RefusalReason};

use crate::{Capacity, Demand, Resource};

/// What the router believes about one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Takes new work: ready, not draining, cordoned or quarantined.
    pub ready: bool,
    /// What it has.
    pub capacity: Capacity,
    /// What is free of it.
    pub free: Capacity,
}

/// Why a node is no candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Which node.
    pub node: NodeId,
    /// The closed reason.
    pub reason: RefusalReason,
    /// The dimension that does not suffice, when that is why.
    pub resource: Option<Resource>,
}

/// Feasible nodes in the order in which to ask them (most free share of its scarcest dimension first, then by name),
/// and why each other is none.
pub fn place(candidates: &[Candidate], demand: &Demand) -> (Vec<NodeId>, Vec<Unfit>) {
    let (mut fit, mut unfit) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let lacking = Resource::ALL
            .into_iter()
            .find(|&resource| demand.amount(resource) > candidate.free.amount(resource));
        match (candidate.ready, lacking) {
            (true, None) => fit.push((headroom(candidate, demand), candidate.node.clone())),
            (ready, resource) => {
                let reason = match ready {
                    true => RefusalReason::NoCapacity,
                    false => RefusalReason::NodeUnavailable,
                };
                unfit.push(Unfit { node: candidate.node.clone(), reason, resource });
            }
        }
    }
    fit.sort_by(|(a, a_node), (b, b_node)| b.total_cmp(a).then_with(|| a_node.cmp(b_node)));
    (fit.into_iter().map(|(_, node)| node).collect(), unfit)
}

/// The smallest free share over the dimensions that remains once the demand is placed.
fn headroom(candidate: &Candidate, demand: &Demand) -> f64 {
    let left = candidate.free.minus(demand);
    Resource::ALL
        .into_iter()
        .filter(|&resource| demand.amount(resource) > 0)
        .map(|resource| {
            left.amount(resource) as f64 / candidate.capacity.amount(resource).max(1) as f64
        })
        .fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: &str, ready: bool, free: u64) -> Candidate {
        let of = |encode| Capacity { encode_pixels_per_second: encode, ..Capacity::ZERO };
        Candidate { node: node.parse().unwrap(), ready, capacity: of(100), free: of(free) }
    }

    #[test]
    fn the_emptiest_node_comes_first_and_every_other_gets_its_reason() {
        let demand = Capacity { encode_pixels_per_second: 30, ..Capacity::ZERO };
        let fleet = [
            candidate("full", true, 20),
            candidate("half", true, 50),
            candidate("empty", true, 100),
            candidate("drained", false, 100),
        ];
        let (fit, unfit) = place(&fleet, &demand);
        assert_eq!(fit.iter().map(NodeId::as_str).collect::<Vec<_>>(), ["empty", "half"]);
        assert_eq!(unfit[0].resource, Some(Resource::Encode));
        assert_eq!(unfit[1].reason, RefusalReason::NodeUnavailable);
    }
}
