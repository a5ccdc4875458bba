//! Values of many types that are written as JSON.

use std::fmt::{self, Debug};

use serde::{Serialize, de::DeserializeOwned};

/// A value of any type, with how to write and read it.
pub struct Json {
    text: String,
    shown: String,
    read: fn(&str) -> Json,
}

impl Json {
    pub fn of<T: Serialize + DeserializeOwned + Debug>(value: T) -> Self {
        let text = serde_json::to_string(&value).unwrap();
        let read = |text: &str| Self::of::<T>(serde_json::from_str(text).unwrap());
        Self { text, shown: format!("{value:?}"), read }
    }
}

pub fn write(json: &Json) -> String {
    json.text.clone()
}

pub fn read(line: &str, like: &Json) -> Json {
    (like.read)(line)
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

impl Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
