//! The local view: every record under the prefix as it was last known, by key. Pure: folds facts, asks nobody.
//!
//! Each fact carries the store's revision, which grows with every write. A fact older than what is known of its key is
//! ignored, so the process's own writes may come ahead of the news of them.

use std::collections::BTreeMap;

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

/// What is known of all keys.
#[derive(Debug, Default)]
pub struct View {
    entries: BTreeMap<String, Entry>,
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

    /// The record was written.
    pub fn put(&mut self, key: &str, entry: Entry) {
        self.entries.insert(key.to_owned(), entry);
    }

    /// The record was deleted.
    pub fn delete(&mut self, key: &str) {
        self.entries.remove(key);
    }
}
