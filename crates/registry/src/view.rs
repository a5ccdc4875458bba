//! The local view: every record under the prefix as it was last known, by key. Pure: folds facts, asks nobody.
//!
//! A record that went with somebody's lease is doubted until this process's own lease is known to live: where a store has lost time or
//! grants no leases, everybody's are gone, and nobody is.
//!
//! Each fact carries the store's revision, which grows with every write. A fact older than what is known of its key is
//! ignored, so the process's own writes may come ahead of the news of them.
//!
//! A store that was restored from a copy starts again at an older revision, and its next writes bear numbers that were
//! used before. The [`Mark`], the newest write that the store itself told of, shows it: a store that has another write
//! at that revision, or none yet, has another history, and only a whole reading counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Changes whose keys are remembered; who has missed more looks at everything.
const JOURNAL: usize = 4096;

/// One record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// JSON.
    pub text: String,
    /// Of the write that made it so.
    pub revision: i64,
    /// The lease it goes with; 0: none.
    pub lease: i64,
}

/// One write as the store tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which record.
    pub key: String,
    /// When.
    pub revision: i64,
    /// What it became; `None`: deleted.
    pub entry: Option<Entry>,
}

/// What is known of all keys.
#[derive(Debug, Default)]
pub struct View {
    entries: BTreeMap<String, Entry>,
    /// Deleted ahead of the store's news, by the revision of that.
    gone: BTreeMap<String, i64>,
    /// Told of as deleted, of records with a lease, by the revision of that: shown until it is believed.
    doubted: BTreeMap<String, i64>,
    /// Known before the store was last read whole, and since then not there or as they were earlier: nobody is known to have
    /// deleted or changed them. As they were.
    lost: BTreeMap<String, Entry>,
    /// The newest revision that anything was known of.
    newest: i64,
    /// The newest revision that was known ahead of the store's news.
    ahead: i64,
    mark: Option<Mark>,
    /// The keys of the newest changes, oldest first.
    journal: VecDeque<String>,
    /// Changes so far, those of the journal the last of them.
    changes: u64,
}

/// What has changed since somebody looked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These, by key.
    Keys(BTreeSet<String>),
    /// More than is remembered: anything may have.
    Anything,
}

impl View {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Those whose key begins so, in the order of the keys.
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// Whether the record vanished, or went back to what it was earlier, with what the store remembers, and not because somebody
    /// deleted or changed it.
    pub fn is_lost(&self, key: &str) -> bool {
        self.lost.contains_key(key)
    }

    /// Such a record as it was.
    pub fn lost(&self, key: &str) -> Option<&Entry> {
        self.lost.get(key)
    }

    /// Changes so far: where a later [`Self::changed_since`] begins.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The keys that have changed since there were so many changes.
    pub fn changed_since(&self, changes: u64) -> Changed {
        let new = usize::try_from(self.changes.saturating_sub(changes)).unwrap_or(usize::MAX);
        match self.journal.len().checked_sub(new) {
            Some(known) => Changed::Keys(self.journal.range(known..).cloned().collect()),
            None => Changed::Anything,
        }
    }

    fn known_at(&mut self, revision: i64) {
        self.newest = self.newest.max(revision);
        self.ahead = self.ahead.max(revision);
    }

    fn note(&mut self, key: &str) {
        if self.journal.len() == JOURNAL {
            self.journal.pop_front();
        }
        self.journal.push_back(key.to_owned());
        self.changes += 1;
    }

    /// The newest revision that anything was known of.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// From where a new watch may go on; `None`: only a whole reading will do. What is known ahead of the news is not in a
    /// history that was set back to before it, and no watch from the mark on would say so.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref().filter(|mark| mark.revision >= self.ahead)
    }

    /// The record was written; whether that was news.
    pub fn put(&mut self, key: &str, entry: Entry) -> bool {
        let known = self.entries.get(key).map(|known| known.revision);
        let known = known.max(self.gone.get(key).copied());
        if known.is_some_and(|known| known >= entry.revision) {
            return false;
        }
        self.known_at(entry.revision);
        self.gone.remove(key);
        self.doubted.remove(key);
        self.lost.remove(key);
        self.entries.insert(key.to_owned(), entry);
        self.note(key);
        true
    }

    /// The record was not there at that revision; whether that was news.
    pub fn delete(&mut self, key: &str, revision: i64) -> bool {
        if self.entries.get(key).is_some_and(|known| known.revision > revision) {
            return false;
        }
        self.known_at(revision);
        let gone = self.gone.entry(key.to_owned()).or_default();
        *gone = revision.max(*gone);
        self.doubted.remove(key);
        self.lost.remove(key);
        let was_known = self.entries.remove(key).is_some();
        if was_known {
            self.note(key);
        }
        was_known
    }

    /// The store told of a write, after all earlier ones; whether it was news.
    pub fn tell(&mut self, told: Mark) -> bool {
        let news = match &told.entry {
            Some(entry) => self.put(&told.key, entry.clone()),
            None if self.goes_with_a_lease(&told) => {
                self.known_at(told.revision);
                self.doubted.insert(told.key.clone(), told.revision);
                false
            }
            None => self.delete(&told.key, told.revision),
        };
        self.gone.retain(|_, revision| *revision > told.revision);
        self.mark = Some(told);
        news
    }

    fn goes_with_a_lease(&self, told: &Mark) -> bool {
        let known = self.entries.get(&told.key);
        known.is_some_and(|known| known.lease != 0 && known.revision < told.revision)
    }

    /// The newest deletion that is doubted.
    pub fn newest_doubt(&self) -> Option<i64> {
        self.doubted.values().max().copied()
    }

    /// What was doubted is so, up to that deletion; whether that was news.
    pub fn believe(&mut self, up_to: i64) -> bool {
        let doubted = self.doubted.iter().filter(|(_, revision)| **revision <= up_to);
        let doubted: Vec<_> = doubted.map(|(key, revision)| (key.clone(), *revision)).collect();
        doubted.iter().filter(|(key, revision)| self.delete(key, *revision)).count() > 0
    }

    /// The store was read whole at `revision`, after `asked_at` was the newest that was known; whether that was news.
    pub fn load(&mut self, asked_at: i64, revision: i64, entries: BTreeMap<String, Entry>) -> bool {
        self.doubted.clear();
        let before = std::mem::replace(&mut self.entries, entries);
        let newest = self.entries.iter().max_by_key(|(_, entry)| entry.revision);
        self.mark = newest.map(|(key, entry)| Mark {
            key: key.clone(),
            revision: entry.revision,
            entry: Some(entry.clone()),
        });
        if revision < asked_at {
            // Another history: nothing of the old one counts.
            self.newest = revision;
            self.ahead = 0;
            self.gone.clear();
        } else {
            self.newest = self.newest.max(revision);
            if self.ahead <= revision {
                self.ahead = 0;
            }
            for (key, entry) in before.iter().filter(|(_, entry)| entry.revision > revision) {
                self.entries.insert(key.clone(), entry.clone());
            }
            self.gone.retain(|_, gone| *gone > revision);
            self.entries
                .retain(|key, entry| self.gone.get(key).is_none_or(|gone| *gone < entry.revision));
        }
        let entries = &self.entries;
        self.lost.retain(|key, _| entries.get(key) == before.get(key));
        let gone = &self.gone;
        let forgotten = before.iter().filter(|(key, known)| {
            entries.get(*key).is_none_or(|entry| entry.revision < known.revision)
        });
        let forgotten = forgotten.filter(|(key, _)| !gone.contains_key(*key));
        self.lost.extend(forgotten.map(|(key, known)| (key.clone(), known.clone())));
        let both: BTreeSet<&String> = before.keys().chain(self.entries.keys()).collect();
        let changed = |key: &&String| before.get(*key) != self.entries.get(*key);
        let changed: Vec<String> = both.into_iter().filter(changed).cloned().collect();
        changed.iter().for_each(|key| self.note(key));
        !changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, revision: i64) -> Entry {
        Entry { text: text.to_owned(), revision, lease: 0 }
    }

    fn told(key: &str, text: &str, revision: i64) -> Mark {
        Mark { key: key.to_owned(), revision, entry: Some(entry(text, revision)) }
    }

    fn texts(view: &View) -> Vec<(&str, &str)> {
        view.list("").map(|(key, entry)| (key, entry.text.as_str())).collect()
    }

    #[test]
    fn what_went_with_a_lease_is_shown_until_that_is_believed_or_it_is_back() {
        let mut view = View::default();
        let leased = |text: &str, revision| Entry { lease: 7, ..entry(text, revision) };
        let put = |key: &str, revision| Mark {
            key: key.to_owned(),
            revision,
            entry: Some(leased("1", revision)),
        };
        let gone = |key: &str, revision| Mark { key: key.to_owned(), revision, entry: None };
        for mark in [put("a", 1), put("b", 2), put("c", 3), told("d", "no lease", 4)] {
            view.tell(mark);
        }
        for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(!view.tell(gone(key, 5 + at as i64)), "no news yet");
        }
        assert!(view.tell(gone("d", 8)) && view.newest_doubt() == Some(7));
        assert_eq!(view.mark().map(|mark| mark.revision), Some(8), "the watch goes on behind it");
        view.tell(put("b", 9));
        assert!(view.believe(6) && !view.believe(6));
        assert_eq!(texts(&view), [("b", "1"), ("c", "1")]);
        assert!(view.delete("c", 10), "who asks the store is told");
        assert_eq!((view.newest_doubt(), texts(&view).len()), (None, 1));
    }

    #[test]
    fn what_a_wiped_store_forgot_is_lost_and_what_somebody_deleted_is_not() {
        let mut view = View::default();
        view.tell(told("kept", "1", 5));
        view.tell(told("deleted", "1", 6));
        view.tell(Mark { key: "deleted".to_owned(), revision: 7, entry: None });
        view.load(7, 1, BTreeMap::new());
        assert_eq!(["kept", "deleted", "never"].map(|key| view.is_lost(key)), [true, false, false]);
        assert_eq!(view.lost("kept"), Some(&entry("1", 5)));
        view.put("kept", entry("again", 2));
        assert!(!view.is_lost("kept"));
    }

    #[test]
    fn what_a_store_that_was_set_back_has_as_it_was_earlier_is_lost_until_somebody_changes_it() {
        let mut view = View::default();
        for (key, revision) in [("same", 1), ("changed", 2), ("changed", 5)] {
            view.tell(told(key, "x", revision));
        }
        let copy: BTreeMap<_, _> =
            [("same", 1), ("changed", 2)].map(|(key, at)| (key.to_owned(), entry("x", at))).into();
        view.load(5, 2, copy.clone());
        assert_eq!(["same", "changed"].map(|key| view.is_lost(key)), [false, true]);
        view.load(2, 3, copy);
        assert!(view.is_lost("changed"), "also when it is read once more");
        view.tell(told("changed", "y", 4));
        assert!(!view.is_lost("changed"));
    }

    #[test]
    fn who_looks_again_hears_of_what_has_changed_only_and_of_anything_after_too_much() {
        let mut view = View::default();
        let keys =
            |names: &[&str]| Changed::Keys(names.iter().map(|&key| key.to_owned()).collect());
        view.tell(told("a", "1", 1));
        let looked = view.changes();
        assert_eq!(view.changed_since(looked), keys(&[]));
        view.tell(told("b", "1", 2));
        view.tell(told("b", "1", 2));
        view.tell(Mark { key: "c".to_owned(), revision: 3, entry: None });
        assert_eq!(view.changed_since(looked), keys(&["b"]), "no news is no change");
        view.load(3, 4, [("b".to_owned(), entry("1", 2)), ("d".to_owned(), entry("1", 4))].into());
        assert_eq!(view.changed_since(looked), keys(&["a", "b", "d"]));
        for revision in 5..5 + JOURNAL as i64 {
            view.tell(told("e", "1", revision));
        }
        assert_eq!(view.changed_since(looked), Changed::Anything);
    }

    #[test]
    fn older_news_does_not_undo_ones_own_write_or_deletion() {
        let mut view = View::default();
        assert!(view.put("a", entry("mine", 7)));
        assert!(!view.tell(told("a", "old", 5)));
        assert!(!view.tell(told("a", "mine", 7)));
        assert!(view.delete("a", 9));
        assert!(!view.tell(told("a", "late", 8)));
        assert_eq!(texts(&view), []);
        assert!(view.tell(told("a", "new", 10)));
        assert_eq!(texts(&view), [("a", "new")]);
    }

    #[test]
    fn a_whole_reading_replaces_all_but_what_was_written_meanwhile() {
        let mut view = View::default();
        view.tell(told("vanished", "x", 1));
        view.put("mine", entry("new", 12));
        view.delete("gone", 11);
        let read = [("mine", entry("old", 3)), ("gone", entry("still", 4)), ("b", entry("b", 9))];
        let read = read.map(|(key, entry)| (key.to_owned(), entry)).into();
        assert!(view.load(1, 10, read));
        assert_eq!(texts(&view), [("b", "b"), ("mine", "new")]);
        assert_eq!(view.mark(), None, "the store has not told of what was written meanwhile");
        view.tell(told("mine", "new", 12));
        assert_eq!(view.mark().map(|mark| mark.revision), Some(12));
    }

    #[test]
    fn what_was_written_and_never_told_of_is_not_taken_for_granted() {
        let mut view = View::default();
        view.load(
            0,
            3,
            [("a".to_owned(), entry("old", 2)), ("b".to_owned(), entry("b", 3))].into(),
        );
        assert_eq!(view.mark(), Some(&told("b", "b", 3)));
        view.put("a", entry("new", 4));
        assert_eq!(view.mark(), None, "a store set back to 3 would have b and not the new a");
        view.load(
            4,
            3,
            [("a".to_owned(), entry("old", 2)), ("b".to_owned(), entry("b", 3))].into(),
        );
        assert_eq!(texts(&view), [("a", "old"), ("b", "b")]);
        view.put("a", entry("new", 4));
        view.load(
            4,
            5,
            [("a".to_owned(), entry("new", 4)), ("b".to_owned(), entry("b", 3))].into(),
        );
        assert_eq!(view.mark().map(|mark| mark.revision), Some(4), "read is as good as told");
    }

    #[test]
    fn of_a_store_that_went_back_only_the_whole_reading_counts() {
        let mut view = View::default();
        view.put("mine", entry("lost", 120));
        view.delete("b", 119);
        assert!(view.load(120, 50, [("b".to_owned(), entry("restored", 40))].into()));
        assert_eq!(texts(&view), [("b", "restored")]);
        assert!(view.tell(told("mine", "again", 51)));
        assert_eq!(view.newest(), 51);
    }
}
