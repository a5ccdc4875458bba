//! Which nodes have just failed, so that they are not asked again at once: one circuit breaker per node. Decides; the
//! router asks a node whose breaker is open only after all others.
//!
//! ```text
//! closed --failed--> open for 1 s, 2 s, 4 s … 30 s --time--> closed, and open for longer at the next failure
//!   ^------------------------ worked ----------------------------+
//! ```

use std::{collections::BTreeMap, time::Duration};

use millrace_types::{Mono, NodeId};

/// How long a first failure keeps a breaker open; doubles with each further one up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
/// The longest time it stays open.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Breaker {
    failures: u32,
    open_until: Mono,
}

/// The breakers of all nodes that failed and have not worked since.
#[derive(Clone, Debug, Default)]
pub struct Breakers(BTreeMap<NodeId, Breaker>);

impl Breakers {
    /// The node could not be reached, did not answer, or lost a stream before it published anything. What fails while it is
    /// open belongs to the same failure. For how long it opened, when it did.
    pub fn failed(&mut self, now: Mono, node: &NodeId) -> Option<Duration> {
        let failures = match self.0.get(node) {
            Some(breaker) if now < breaker.open_until => return None,
            Some(breaker) => breaker.failures + 1,
            None => 1,
        };
        let open = (FIRST * 2_u32.pow((failures - 1).min(10))).min(LONGEST);
        self.0.insert(node.clone(), Breaker { failures, open_until: now + open });
        Some(open)
    }

    /// The node has published something: forgiven.
    pub fn worked(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    /// Whether the node is not to be asked before others.
    pub fn is_open(&self, now: Mono, node: &NodeId) -> bool {
        self.0.get(node).is_some_and(|breaker| now < breaker.open_until)
    }

    /// Whether anything is held against the node.
    pub fn is_known(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    #[test]
    fn a_node_that_fails_again_and_again_is_left_alone_for_longer_and_longer() {
        let node: NodeId = "node-1".parse().unwrap();
        let mut breakers = Breakers::default();
        assert!(!breakers.is_open(at(0), &node));
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..7 {
            breakers.failed(at(now), &node);
            let opened = now;
            while breakers.is_open(at(now), &node) {
                now += 500;
            }
            pauses.push((now - opened) / 1_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn failures_of_many_streams_at_once_count_as_one_and_work_forgives_them() {
        let (node, other) = ("node-1".parse().unwrap(), "node-2".parse().unwrap());
        let mut breakers = Breakers::default();
        let opened = (0..100).filter_map(|millis| breakers.failed(at(millis), &node));
        assert_eq!(opened.collect::<Vec<_>>(), [FIRST]);
        assert!(breakers.is_open(at(999), &node) && !breakers.is_open(at(1_000), &node));
        assert!(!breakers.is_open(at(0), &other));
        breakers.failed(at(2_000), &node);
        breakers.worked(&node);
        assert!(!breakers.is_open(at(2_000), &node) && !breakers.is_known(&node));
    }
}
