//! Answers that are kept for a while: bounded in bytes, the oldest goes first. Pure.

use std::collections::{BTreeMap, VecDeque};

use millrace_types::Mono;

/// What an entry takes besides its bytes.
const ENTRY_BYTES: usize = 512;

struct Entry<T> {
    value: T,
    bytes: usize,
    until: Mono,
    number: u64,
}

/// Values by key.
pub(crate) struct Kept<T> {
    max_bytes: usize,
    bytes: usize,
    next: u64,
    entries: BTreeMap<String, Entry<T>>,
    /// By age; of a key that was put again the older numbers are stale.
    order: VecDeque<(u64, String)>,
}

impl<T: Clone> Kept<T> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, next: 0, entries: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The value, unless its time is up.
    pub(crate) fn get(&mut self, now: Mono, key: &str) -> Option<T> {
        let entry = self.entries.get(key)?;
        if entry.until <= now {
            self.forget(key);
            return None;
        }
        Some(entry.value.clone())
    }

    /// The value, unless its time is up, and keeps it no longer.
    pub(crate) fn take(&mut self, now: Mono, key: &str) -> Option<T> {
        let value = self.get(now, key);
        self.forget(key);
        value
    }

    /// Forgets every value whose time is up.
    pub(crate) fn forget_old(&mut self, now: Mono) {
        let bytes = &mut self.bytes;
        self.entries.retain(|_, entry| {
            let stands = entry.until > now;
            *bytes -= if stands { 0 } else { entry.bytes };
            stands
        });
        self.tidy();
    }

    /// Keeps a value of so many bytes; those that were put first go when there are too many.
    pub(crate) fn put(&mut self, key: String, value: T, bytes: usize, until: Mono) {
        self.forget(&key);
        let (bytes, number) = (bytes + ENTRY_BYTES, self.next);
        self.next += 1;
        self.bytes += bytes;
        self.order.push_back((number, key.clone()));
        self.entries.insert(key, Entry { value, bytes, until, number });
        while self.bytes > self.max_bytes {
            let Some((number, key)) = self.order.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.number == number) {
                self.forget(&key);
            }
        }
        self.tidy();
    }

    /// Keys that were put again, and those that are gone, leave numbers behind.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            let stands = |(number, key): &(u64, String)| {
                entries.get(key).is_some_and(|entry| entry.number == *number)
            };
            self.order.retain(stands);
            self.order.shrink_to(2 * self.order.len());
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn a_value_is_kept_until_its_time_is_up() {
        let mut kept = Kept::new(1 << 20);
        kept.put("a".to_owned(), 1, 10, at(5));
        assert_eq!([kept.get(at(4), "a"), kept.get(at(5), "a")], [Some(1), None]);
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn what_nobody_asks_for_again_goes_when_its_time_is_up() {
        let mut kept = Kept::new(1 << 20);
        for key in 0..100 {
            kept.put(key.to_string(), key, 10, at(5 + key % 2));
        }
        kept.forget_old(at(5));
        assert_eq!((kept.entries.len(), kept.bytes), (50, 50 * (10 + ENTRY_BYTES)));
        kept.forget_old(at(6));
        assert_eq!((kept.entries.len(), kept.bytes, kept.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_value_is_taken_once() {
        let mut kept = Kept::new(1 << 20);
        kept.put("a".to_owned(), 1, 10, at(5));
        assert_eq!([kept.take(at(1), "a"), kept.take(at(1), "a")], [Some(1), None]);
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much_and_an_old_number_takes_no_new_value_along() {
        let mut kept = Kept::new(3 * (100 + ENTRY_BYTES));
        for key in ["a", "b", "a", "c"] {
            kept.put(key.to_owned(), key, 100, at(9));
        }
        kept.put("d".to_owned(), "d", 100, at(9));
        let there = ["a", "b", "c", "d"].map(|key| kept.get(at(1), key).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert!(kept.bytes <= kept.max_bytes);
    }

    #[test]
    fn values_that_are_put_again_and_again_leave_nothing_behind() {
        let mut kept = Kept::new(1 << 20);
        for round in 0..1_000 {
            kept.put("a".to_owned(), round, 10, at(9));
        }
        assert!(kept.order.len() < 32 && kept.bytes == 10 + ENTRY_BYTES);
    }
}
