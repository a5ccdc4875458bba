//! How many connections there are, in all and per address. A [`Place`] is held as long as its connection lives.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts connections against two limits.
#[derive(Debug, Default)]
pub struct ConnectionLimit {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub struct Place {
    limit: Arc<ConnectionLimit>,
    address: IpAddr,
}

impl ConnectionLimit {
    /// A place for a connection from `address`, unless there are `most` in all or `per_address` from there. An IPv6 subscriber owns
    /// a whole /64, so its addresses count as one; IPv4 inside IPv6 counts as IPv4.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        most: usize,
        per_address: usize,
    ) -> Option<Place> {
        let address = subscriber(address.to_canonical());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.in_all >= most || here >= per_address {
            return None;
        }
        taken.in_all += 1;
        taken.by_address.insert(address, here + 1);
        Some(Place { limit: Arc::clone(self), address })
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.limit.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_address_and_in_all_and_come_back() {
        let limit = Arc::<ConnectionLimit>::default();
        let enter = |address| limit.enter(address, 3, 2);
        let [a, b, c]: [IpAddr; 3] =
            ["10.0.0.1", "2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        let mut places = vec![enter(b).unwrap(), enter(c).unwrap()];
        assert!(enter(b).is_none());
        places.push(enter(a).unwrap());
        assert!(enter("10.0.0.2".parse().unwrap()).is_none());
        places.clear();
        assert!(enter(b).is_some());
        assert!(limit.taken.lock().unwrap().by_address.is_empty());
    }
}
