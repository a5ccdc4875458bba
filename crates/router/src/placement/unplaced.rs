//! Why no node took a stream, and why each of the others has not got it.

use millrace_types::{Alternative, Because, Epoch, NodeId, RefusalReason};

/// A node, why it does not take the stream, and the same for people.
pub(super) type Refusal = (NodeId, RefusalReason, String);

/// No node took the stream.
#[derive(Debug)]
pub struct Unplaced {
    /// The reason that weighs most: lack of capacity only if every ready node lacks it.
    pub reason: RefusalReason,
    /// Each node's reason, for people.
    pub text: String,
    /// The last epoch that a node was asked under.
    pub epoch: Epoch,
    /// Each node's reason.
    pub others: Vec<Alternative>,
}

impl Unplaced {
    /// The task that asked is lost.
    pub fn by_bug(error: &tokio::task::JoinError) -> Self {
        let (reason, text) = (RefusalReason::Internal, error.to_string());
        Self { reason, text, epoch: Epoch::default(), others: Vec::new() }
    }
}

/// Nodes that take no new work decide nothing about the reason while there are others.
pub(super) fn unplaced(refusals: &[Refusal], closed: &[Refusal], epoch: Epoch) -> Unplaced {
    let full = |(_, reason, _): &&_| *reason == RefusalReason::NoCapacity;
    let fenced = refusals.iter().any(|(_, reason, _)| *reason == RefusalReason::Fenced);
    let reason = match refusals.iter().find(|refusal| !full(refusal)) {
        _ if fenced => RefusalReason::Fenced,
        _ if refusals.is_empty() => RefusalReason::NodeUnavailable,
        Some((_, reason, _)) => *reason,
        None => RefusalReason::NoCapacity,
    };
    let each = refusals.iter().chain(closed).map(|(node, reason, text)| {
        format!("{node}: {}{}{text}", reason.as_str(), if text.is_empty() { "" } else { ": " })
    });
    let text = match refusals.is_empty() && closed.is_empty() {
        true => "no node is known".to_owned(),
        false => each.collect::<Vec<_>>().join("; "),
    };
    Unplaced { reason, text, epoch, others: others(refusals, closed, &[]) }
}

/// The nodes that have not got the stream: those that refused, and those that were still to be asked.
pub(super) fn others(
    refusals: &[Refusal],
    closed: &[Refusal],
    unasked: &[NodeId],
) -> Vec<Alternative> {
    let refused = refusals.iter().chain(closed);
    let refused =
        refused.map(|(node, reason, text)| Alternative::new(node.clone(), *reason, text.clone()));
    let unasked = unasked.iter().map(|node| Alternative::new(node.clone(), Because::NotAsked, ""));
    refused.chain(unasked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_capacity_is_the_reason_only_when_every_node_lacks_it() {
        let epoch = Epoch { generation: 1, placement: 3 };
        let refusal = |node: &str, reason| (node.parse().unwrap(), reason, String::new());
        let full = refusal("a", RefusalReason::NoCapacity);
        let draining = refusal("b", RefusalReason::NodeUnavailable);
        let fenced = refusal("c", RefusalReason::Fenced);
        let reason = |refusals: &[_]| unplaced(refusals, &[], epoch).reason;
        let aside = [refusal("d", RefusalReason::NodeUnavailable)];
        let full_or_closed = unplaced(std::slice::from_ref(&full), &aside, epoch);
        assert_eq!(full_or_closed.reason, RefusalReason::NoCapacity);
        assert_eq!(full_or_closed.text, "a: no_capacity; d: node_unavailable");
        assert_eq!(unplaced(&[], &aside, epoch).reason, RefusalReason::NodeUnavailable);
        assert_eq!(reason(std::slice::from_ref(&full)), RefusalReason::NoCapacity);
        assert_eq!(reason(&[full, draining.clone()]), RefusalReason::NodeUnavailable);
        assert_eq!(reason(&[draining, fenced]), RefusalReason::Fenced);
        assert_eq!(reason(&[]), RefusalReason::NodeUnavailable);
    }
}
