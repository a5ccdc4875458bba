//! Whether a program can take work now, what keeps it from that and since when, and what a person must mend although it works on.
//! Set by its main loops, read by `/readyz`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use millrace_types::{Mono, Wall};

use crate::{Clock, SystemClock};

/// The part that every program lacks until it has started.
const START: &str = "start";

/// Answers when it is asked: what is wrong now, if anything is.
type Question = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<State>);

struct State {
    clock: SystemClock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Parts without which no work can be taken.
    lacks: BTreeMap<&'static str, Said>,
    /// Parts that should be mended.
    faults: BTreeMap<&'static str, Said>,
    questions: Vec<(&'static str, Question)>,
}

/// A text, and since when it holds.
struct Said {
    text: String,
    since: (Mono, Wall),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl Default for Readiness {
    /// Of a program that is starting.
    fn default() -> Self {
        let (clock, known) = (SystemClock::new(), Mutex::default());
        let this = Self(Arc::new(State { clock, known }));
        this.lacks(START, "the program is starting");
        this
    }
}

impl Readiness {
    /// The program has started.
    pub fn started(&self) {
        self.has(START);
    }

    /// The program takes nothing new any more.
    pub fn stopping(&self) {
        self.lacks("stop", "the program is stopping");
    }

    /// Without this part no work can be taken; `text` says why, and what to do.
    pub fn lacks(&self, part: &'static str, text: impl Into<String>) {
        self.say(|known| &mut known.lacks, part, Some(text.into()));
    }

    /// That part is there again.
    pub fn has(&self, part: &'static str) {
        self.say(|known| &mut known.lacks, part, None);
    }

    /// Says what a person must mend although the program works on; `None` when there is nothing.
    pub fn set_fault(&self, part: &'static str, fault: Option<String>) {
        self.say(|known| &mut known.faults, part, fault);
    }

    /// The same of what need not be watched: asked whenever somebody wants to know.
    pub fn ask_for_fault(
        &self,
        part: &'static str,
        question: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        self.known().questions.push((part, Box::new(question)));
    }

    /// Whether the program can take work now.
    pub fn get(&self) -> bool {
        self.known().lacks.is_empty()
    }

    /// What strangers are told: whether it is ready, and nothing else.
    pub fn word(&self) -> &'static str {
        if self.get() { "ready\n" } else { "not ready\n" }
    }

    /// What whoever runs the farm is told: the word, then a line for each part that is missing or at fault.
    pub fn text(&self) -> String {
        let now = self.0.clock.mono();
        let mut text = self.word().to_owned();
        let known = self.known();
        let lacks = known.lacks.iter().map(|said| ("missing", said));
        for (what, (part, said)) in lacks.chain(known.faults.iter().map(|said| ("fault", said))) {
            let (from, at) = said.since;
            let seconds = now.since(from).as_secs();
            let _ = writeln!(text, "{what}: {part}: {}, since {at}, for {seconds} s", said.text);
        }
        for (part, question) in &known.questions {
            if let Some(answer) = question() {
                let _ = writeln!(text, "fault: {part}: {answer}");
            }
        }
        text
    }

    /// The time stays that of the first word of several about the same part.
    fn say(
        &self,
        of: impl FnOnce(&mut Known) -> &mut BTreeMap<&'static str, Said>,
        part: &'static str,
        text: Option<String>,
    ) {
        let mut known = self.known();
        let said = of(&mut known);
        match text {
            None => drop(said.remove(part)),
            Some(text) => {
                let clock = self.0.clock;
                let since = || (clock.mono(), clock.wall());
                let since = said.get(part).map_or_else(since, |said| said.since);
                said.insert(part, Said { text, since });
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_time_and_not_to_strangers() {
        let readiness = Readiness::default();
        assert!(!readiness.get() && readiness.text().contains("missing: start: the program"));
        readiness.started();
        assert_eq!((readiness.text().as_str(), readiness.word()), ("ready\n", "ready\n"));
        readiness.lacks("order", "it is drained");
        let first = readiness.text();
        readiness.lacks("order", "it is cordoned");
        let second = readiness.text();
        let since = |text: &str| text.split("since ").nth(1).map(|rest| rest[..24].to_owned());
        assert!(first.starts_with("not ready\nmissing: order: it is drained, since "), "{first}");
        assert_eq!(since(&first), since(&second), "the same part is missing all the time");
        assert_eq!(readiness.word(), "not ready\n");
        readiness.has("order");
        assert!(readiness.get());
        readiness.stopping();
        assert!(!readiness.get());
    }

    #[test]
    fn a_fault_that_does_not_keep_a_program_from_working_is_said_beside_its_readiness() {
        let readiness = Readiness::default();
        readiness.started();
        readiness.set_fault("tokens", Some("tokens:3: no".to_owned()));
        readiness.ask_for_fault("registry", || Some("no answer".to_owned()));
        readiness.ask_for_fault("nodes", || None);
        let text = readiness.text();
        assert!(text.starts_with("ready\nfault: tokens: tokens:3: no, since "), "{text}");
        assert!(text.ends_with(" s\nfault: registry: no answer\n"), "{text}");
        readiness.set_fault("tokens", None);
        assert!(readiness.get() && !readiness.text().contains("tokens"));
    }
}
