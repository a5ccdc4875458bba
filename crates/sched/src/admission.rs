//! A node's own books: what it has, what it has promised, and whether it takes one stream more. Never over-commits.

use std::collections::BTreeMap;

use crate::{Capacity, Demand, Resource};

/// Proof of a promise; give it back with [`Ledger::release`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reservation(u64);

/// Why a node takes no more: the first dimension that does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} needs {needed} but {free} of {total} are free", resource.as_str())]
pub struct NoRoom {
    /// The dimension.
    pub resource: Resource,
    /// What the stream needs of it.
    pub needed: u64,
    /// What is free.
    pub free: u64,
    /// What the host has.
    pub total: u64,
}

/// What a node has and what it has promised.
#[derive(Debug)]
pub struct Ledger {
    capacity: Capacity,
    promised: BTreeMap<u64, Demand>,
    next: u64,
}

impl Ledger {
    /// A host that has `capacity` and has promised nothing.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, promised: BTreeMap::new(), next: 0 }
    }

    /// Promises `demand`, or says what does not suffice.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing has changed then.
    pub fn admit(&mut self, demand: Demand) -> Result<Reservation, NoRoom> {
        let free = self.free();
        for resource in Resource::ALL {
            let needed = demand.amount(resource);
            if let Some(free) = free.amount(resource).filter(|&free| needed > free) {
                let total = self.capacity.amount(resource).unwrap_or(free);
                return Err(NoRoom { resource, needed, free, total });
            }
        }
        Ok(self.take_over(demand))
    }

    /// Promises what runs already, also beyond what there is: nothing that runs is refused for lack of room.
    pub fn take_over(&mut self, demand: Demand) -> Reservation {
        let reservation = self.next;
        self.next += 1;
        self.promised.insert(reservation, demand);
        Reservation(reservation)
    }

    /// Takes a promise back.
    pub fn release(&mut self, reservation: Reservation) {
        self.promised.remove(&reservation.0);
    }

    /// What the host has.
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// What is promised in all.
    pub fn promised(&self) -> Demand {
        self.promised.values().fold(Demand::ZERO, |sum, demand| sum.plus(demand))
    }

    /// What is free.
    pub fn free(&self) -> Capacity {
        self.capacity.minus(&self.promised())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of a host whose egress nobody knows.
    fn capacity(encode: u64, workers: u64) -> Capacity {
        let egress_bits_per_second = None;
        Capacity {
            encode_pixels_per_second: encode,
            workers,
            egress_bits_per_second,
            ..Capacity::ZERO
        }
    }

    fn demand(encode: u64, workers: u64) -> Demand {
        Demand { encode_pixels_per_second: encode, workers, ..Demand::ZERO }
    }

    #[test]
    fn a_refusal_names_the_dimension_that_does_not_suffice() {
        let mut ledger = Ledger::new(capacity(100, 1));
        let first = ledger.admit(demand(60, 1)).unwrap();
        let refusal = ledger.admit(demand(60, 0)).unwrap_err();
        assert_eq!(refusal.to_string(), "encode needs 60 but 40 of 100 are free");
        ledger.release(first);
        assert!(ledger.admit(demand(100, 1)).is_ok());
    }

    #[test]
    fn host_cpu_and_egress_refuse_by_their_names_and_only_where_they_are_known() {
        let host = Capacity { host_cpu_millicores: Some(10), ..capacity(100, 9) };
        let one = Demand { host_cpu_millicores: 6, egress_bits_per_second: 7, ..demand(1, 1) };
        let mut unknown = Ledger::new(host);
        let mut known = Ledger::new(Capacity { egress_bits_per_second: Some(13), ..host });
        for ledger in [&mut unknown, &mut known] {
            ledger.admit(one).unwrap();
        }
        let refusal = unknown.admit(one).unwrap_err().to_string();
        assert_eq!(refusal, "host_cpu needs 6 but 4 of 10 are free");
        let idle = Demand { host_cpu_millicores: 0, ..one };
        assert!(unknown.admit(idle).is_ok());
        let refusal = known.admit(idle).unwrap_err().to_string();
        assert_eq!(refusal, "egress needs 7 but 6 of 13 are free");
    }

    #[test]
    fn what_runs_already_counts_even_beyond_the_capacity_and_nothing_new_comes_in_beside_it() {
        let mut ledger = Ledger::new(capacity(100, 2));
        let running = ledger.take_over(demand(150, 1));
        assert!(ledger.admit(demand(1, 1)).is_err());
        assert_eq!(ledger.free().amount(Resource::Encode), Some(0));
        ledger.release(running);
        assert!(ledger.admit(demand(100, 1)).is_ok());
    }

    proptest! {
        #[test]
        fn never_promises_more_than_it_has(steps in prop::collection::vec((0..50_u64, 0..3_u64, any::<bool>()), 0..60)) {
            let mut ledger = Ledger::new(Capacity { host_cpu_millicores: Some(90), ..capacity(100, 5) });
            let mut held = Vec::new();
            for (encode, workers, release) in steps {
                // As much host CPU as pixels, of which there are a few less.
                let wanted = Demand { host_cpu_millicores: encode, egress_bits_per_second: 1 << 40, ..demand(encode, workers) };
                if release {
                    if let Some(reservation) = held.pop() {
                        ledger.release(reservation);
                    }
                } else if let Ok(reservation) = ledger.admit(wanted) {
                    held.push(reservation);
                }
                for resource in Resource::ALL {
                    prop_assert!(ledger.capacity().has(resource, ledger.promised().amount(resource)));
                }
            }
            held.drain(..).for_each(|reservation| ledger.release(reservation));
            prop_assert_eq!(ledger.promised(), Demand::ZERO);
        }
    }
}
