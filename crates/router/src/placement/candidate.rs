//! A node as a stream's placement sees it.

use millrace_registry::{NodeRecord, NodeState};
use millrace_sched::{Candidate, Capacity, Demand, Standing};

/// What a node has in all.
pub fn capacity(record: &NodeRecord) -> Capacity {
    Capacity {
        decode_pixels_per_second: record.decode_pixels_per_second,
        encode_pixels_per_second: record.encode_pixels_per_second,
        workers: record.workers,
        memory_bytes: record.memory_bytes,
        host_cpu_millicores: record.host_cpu_millicores,
        egress_bits_per_second: record.egress_bits_per_second,
    }
}

/// What the node said last of itself. What this stream holds there counts as free for it: it is a moment old, or about to go.
pub fn candidate(
    record: &NodeRecord,
    demand: &Demand,
    was_here: bool,
    is_current: bool,
) -> Candidate {
    let capacity = capacity(record);
    let allocated = Demand {
        decode_pixels_per_second: record.allocated.decode_pixels_per_second,
        encode_pixels_per_second: record.allocated.encode_pixels_per_second,
        workers: record.allocated.workers,
        memory_bytes: record.allocated.memory_bytes,
        host_cpu_millicores: record.allocated.host_cpu_millicores,
        egress_bits_per_second: record.allocated.egress_bits_per_second,
    };
    let others = if was_here { allocated.minus(demand) } else { allocated };
    let free = if is_current { capacity.minus(&others) } else { capacity };
    let standing = match record.state {
        NodeState::Ready => Standing::Open,
        NodeState::Cordoned if was_here => Standing::Open,
        NodeState::Draining if was_here => Standing::LastResort,
        NodeState::Draining | NodeState::Cordoned | NodeState::Quarantined | NodeState::Unknown => {
            Standing::Closed
        }
    };
    Candidate { node: record.node.clone(), standing, capacity, free, labels: record.labels.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_not_free_but_for_the_stream_that_holds_it_and_old_news_count_for_nothing()
     {
        let mut record = NodeRecord {
            node: "a".parse().unwrap(),
            link: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 2).into(),
            state: NodeState::Ready,
            decode_pixels_per_second: 100,
            encode_pixels_per_second: 100,
            workers: 2,
            memory_bytes: 100,
            host_cpu_millicores: None,
            egress_bits_per_second: Some(100),
            allocated: Default::default(),
            labels: Default::default(),
            started: Default::default(),
            version: String::new(),
            speaks: Default::default(),
        };
        (record.allocated.workers, record.allocated.memory_bytes) = (2, 60);
        record.allocated.host_cpu_millicores = 7;
        record.allocated.egress_bits_per_second = 50;
        let demand =
            Demand { workers: 1, memory_bytes: 30, egress_bits_per_second: 50, ..Demand::ZERO };
        let free = |was_here, is_current| {
            let free = candidate(&record, &demand, was_here, is_current).free;
            assert_eq!(free.host_cpu_millicores, None, "not limited, whatever is reserved");
            (free.workers, free.memory_bytes, free.egress_bits_per_second)
        };
        assert_eq!(free(false, true), (0, 40, Some(50)));
        assert_eq!(free(true, true), (1, 70, Some(100)));
        assert_eq!(free(false, false), (2, 100, Some(100)));
        let standing = |state, was_here| {
            let record = NodeRecord { state, ..record.clone() };
            candidate(&record, &demand, was_here, true).standing
        };
        assert_eq!(standing(NodeState::Draining, true), Standing::LastResort);
        assert_eq!(standing(NodeState::Cordoned, true), Standing::Open);
        assert_eq!(standing(NodeState::Draining, false), Standing::Closed);
        assert_eq!(standing(NodeState::Quarantined, true), Standing::Closed);
    }
}
