//! What programs write to each other is written down, version by version, in `docs/protocol/written`: messages of Link and worker
//! socket, records of the registry, bodies of the origin's intake. What an earlier version wrote must be read as it was meant, and
//! what this build writes must stay as it stands there.
//!
//! One line each: a name, and what a build of that version wrote. A line never changes, and a version that a released
//! build speaks gets no new ones but for values it always had. Lines of the newest version that are missing are added with
//! `MILLRACE_WRITE_REFERENCE=1`; what has to change needs a new version of the protocol (`docs/protocol/versions.md`).

mod bodies;
mod json;
mod messages;
mod records;
#[path = "../../../crates/wire/tests/samples/mod.rs"]
mod samples;

use std::{collections::BTreeMap, env, fmt::Debug, fs};

use millrace_types::Versions;

use crate::tree;

/// The newest version that is spoken.
const NEWEST: u32 = Versions::OURS.newest;

/// A value of every kind that is written, by a name that stays.
type Samples<T> = Vec<(&'static str, T)>;

/// How values of one kind become a line and are read again.
struct Form<T> {
    /// The file's name.
    file: &'static str,
    /// One value of each, as builds of that version have them.
    samples: fn(u32) -> Samples<T>,
    write: fn(&T) -> String,
    read: fn(&str, &T) -> T,
}

/// The lines of a version, by name.
fn lines(file: &str, version: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(tree::root().join(path(file, version))).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, written)| (name.to_owned(), written.to_owned())).collect()
}

fn path(file: &str, version: u32) -> String {
    format!("docs/protocol/written/v{version}-{file}.txt")
}

impl<T: Debug + PartialEq> Form<T> {
    /// Adds what is missing of the newest version, if that is wanted.
    fn write_down(&self) {
        if env::var_os("MILLRACE_WRITE_REFERENCE").is_none() {
            return;
        }
        let mut lines = lines(self.file, NEWEST);
        for (name, value) in (self.samples)(NEWEST) {
            lines.entry(name.to_owned()).or_insert_with(|| (self.write)(&value));
        }
        let lines = lines.iter().map(|(name, written)| format!("{name} {written}\n"));
        let page = tree::root().join(path(self.file, NEWEST));
        fs::write(page, lines.collect::<String>()).unwrap();
    }

    fn assert_holds(&self) {
        self.write_down();
        for version in Versions::OURS.oldest..=NEWEST {
            let mut lines = lines(self.file, version);
            for (name, value) in (self.samples)(version) {
                let file = path(self.file, version);
                let line = lines.remove(name).unwrap_or_else(|| panic!("{file} has no {name}"));
                assert_eq!((self.read)(&line, &value), value, "{file}: {name} is read otherwise");
                assert_eq!((self.write)(&value), line, "{file}: {name} is written otherwise");
            }
            assert!(lines.is_empty(), "v{version} wrote what is not read any more: {lines:?}");
        }
    }
}

#[test]
fn the_reference_of_each_version_has_what_is_written_and_it_is_read_as_it_was_meant() {
    messages::FORM.assert_holds();
    for form in [bodies::FORM, records::FORM] {
        form.assert_holds();
    }
}
