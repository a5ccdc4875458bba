//! A record that this build read and writes again keeps what it has no word for: fields of a newer build, and values that it
//! did not change. Pure: JSON in, JSON out.
//!
//! Field by field: one that this build does not know stays; one that it did not change stays as it was written, to the last
//! letter; one that it changed is replaced as a whole.

use serde_json::{Map, Value};

/// `new` in place of the record `written`, which this build understood as `was`. All are JSON objects.
pub fn rewritten(written: &str, was: &str, new: &str) -> String {
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text);
    let (Ok(written), Ok(was), Ok(mut fields)) = (object(written), object(was), object(new)) else {
        return new.to_owned();
    };
    let mut kept = false;
    for (name, value) in written {
        let is_known = was.contains_key(&name) || fields.contains_key(&name);
        let is_unchanged = was.get(&name) == fields.get(&name);
        if (!is_known || is_unchanged) && fields.get(&name) != Some(&value) {
            fields.insert(name, value);
            kept = true;
        }
    }
    if kept { Value::Object(fields).to_string() } else { new.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_or_not_changed_stays_and_what_is_changed_is_replaced() {
        let written =
            r#"{"epoch":{"n":1,"new":2},"node":{"a":1,"new":2},"priority":"urgent","shard":[7]}"#;
        let was = r#"{"epoch":{"n":1},"node":{"a":1},"priority":"unknown","dual":true}"#;
        let new = r#"{"epoch":{"n":2},"node":{"a":1},"priority":"unknown","origin":"o"}"#;
        let rewritten: Value = serde_json::from_str(&rewritten(written, was, new)).unwrap();
        let expected = serde_json::json!({
            "epoch": {"n": 2}, "node": {"a": 1, "new": 2}, "priority": "urgent", "shard": [7],
            "origin": "o",
        });
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn a_record_of_ones_own_build_is_written_as_it_is_told() {
        let new = r#"{"b":1,"a":{"y":1,"x":2}}"#;
        assert_eq!(
            rewritten(
                r#"{"b":0,"a":{"y":1,"x":2},"gone":1}"#,
                r#"{"b":0,"a":{"y":1,"x":2},"gone":1}"#,
                new
            ),
            new
        );
    }
}
