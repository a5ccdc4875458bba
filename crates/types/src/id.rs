//! Names that are safe in a URL, a file name, a registry key and a log line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of any kind, in bytes.
const MAX_BYTES: usize = 64;

/// The text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("a {kind} may not be empty")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// More than 64 bytes.
    #[error("a {kind} may have at most 64 bytes, not {bytes}")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A character outside `a-z 0-9 - _`, or a leading `-`.
    #[error(
        "a {kind} is made of a-z, 0-9, '-' and '_' and begins with a letter or a digit, not {found:?}"
    )]
    BadCharacter {
        /// What was to be named.
        kind: &'static str,
        /// The first character that does not fit.
        found: char,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_BYTES {
        return Err(IdError::TooLong { kind, bytes: text.len() });
    }
    let fits = |(at, c): &(usize, char)| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || (*at > 0 && matches!(c, '-' | '_'))
    };
    match text.char_indices().find(|found| !fits(found)) {
        Some((_, found)) => Err(IdError::BadCharacter { kind, found }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 64 bytes of `a-z 0-9 - _`, beginning with a letter or a digit.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check($kind, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id!(
    /// Who may publish: owns stream keys, a priority and limits.
    ChannelId, "channel name"
);
id!(
    /// One live stream as players name it; public, unlike the stream key.
    StreamId, "stream name"
);
id!(
    /// One host that runs workers.
    NodeId, "node name"
);
id!(
    /// One step of a ladder, an opaque label such as `source`, `720p` or `audio`.
    RungId, "rung name"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_path_or_a_url_are_refused() {
        for bad in ["", "..", "a/b", "A", "-x", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad:?}");
        }
        assert_eq!("720p".parse::<RungId>().map(|id| id.to_string()), Ok("720p".to_owned()));
    }
}
