//! What of a program's settings holds until its next start, though its file says otherwise by now.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use tracing::warn;

/// The settings that a program was started by.
#[derive(Clone, Debug)]
pub struct InForce {
    settings: Value,
    reloaded: BTreeSet<String>,
}

impl InForce {
    /// `reloaded`: the dotted keys of those that change without a new start, a table with all that is in it.
    pub fn new(
        settings: &impl Serialize,
        reloaded: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { settings: value(settings), reloaded: reloaded.into_iter().map(Into::into).collect() }
    }

    /// Says which settings were read that need a new start; it names no values.
    pub fn warn_of_others(&self, read: &impl Serialize) {
        let others = self.others(read);
        if !others.is_empty() {
            let keys = others.join(", ");
            warn!(keys, "settings that need a new start stay as they were");
        }
    }

    fn others(&self, read: &impl Serialize) -> Vec<String> {
        let mut others = Vec::new();
        self.compare("", &self.settings, &value(read), &mut others);
        others
    }

    fn compare(&self, key: &str, before: &Value, now: &Value, others: &mut Vec<String>) {
        if self.reloaded.contains(key) || before == now {
            return;
        }
        let (Value::Object(old), Value::Object(new)) = (before, now) else {
            return others.push(key.to_owned());
        };
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in names {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let of = |table: &Value| table.get(name).cloned().unwrap_or_default();
            self.compare(&key, &of(before), &of(now), others);
        }
    }
}

fn value(settings: &impl Serialize) -> Value {
    // What was read from a file can be written again.
    serde_json::to_value(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_needs_a_new_start_is_named_and_nothing_else() {
        let started = json!({
            "name": "a", "limit": 1, "tls": null, "log": "info",
            "ladder": { "rungs": [1, 2], "low": true },
        });
        let in_force = InForce::new(&started, ["limit", "tls", "log"]);
        assert_eq!(in_force.others(&started), Vec::<String>::new());
        let reloads = json!({
            "name": "a", "limit": 2, "tls": { "key": "k" }, "log": "debug",
            "ladder": { "rungs": [1, 2], "low": true },
        });
        assert_eq!(in_force.others(&reloads), Vec::<String>::new());
        let others = json!({
            "name": "b", "limit": 2, "log": "info", "zone": "z",
            "ladder": { "rungs": [1], "low": true },
        });
        assert_eq!(in_force.others(&others), ["ladder.rungs", "name", "zone"]);
    }
}
