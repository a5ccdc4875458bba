//! The delivery directives in a playlist's query (RFC 8216bis 6.2.5). Strangers write it; other parameters are theirs and ignored.

use millrace_types::{Msn, PartNo};

/// Longest query that is looked at, in bytes.
const MAX_QUERY_BYTES: usize = 1024;

/// What a player wants of a media playlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Answer only once the playlist holds this position.
    pub block: Option<BlockUntil>,
    /// A delta update will do (`_HLS_skip`).
    pub skip: bool,
}

/// A position in a media playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockUntil {
    /// `_HLS_msn`: a segment.
    pub msn: Msn,
    /// `_HLS_part`: a part of it; without it the whole segment.
    pub part: Option<PartNo>,
}

/// The query breaks the rules: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// More than 1024 bytes.
    #[error("the query has {0} bytes, at most {MAX_QUERY_BYTES} are read")]
    TooLong(usize),
    /// Not a decimal number that fits.
    #[error("{0} is not a decimal number in range")]
    Number(&'static str),
    /// `_HLS_skip` other than YES or v2.
    #[error("_HLS_skip is neither YES nor v2")]
    Skip,
    /// A directive stands there twice.
    #[error("{0} stands there twice")]
    Twice(&'static str),
    /// `_HLS_part` needs `_HLS_msn`.
    #[error("_HLS_part without _HLS_msn")]
    PartWithoutMsn,
}

impl Query {
    /// Reads the part of a URL after `?`, without percent-decoding: directives are plain.
    ///
    /// # Errors
    /// Says what is wrong with a directive.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(QueryError::TooLong(query.len()));
        }
        let (mut msn, mut part, mut skip) = (None, None, None);
        for pair in query.split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("_HLS_msn", value) => once(&mut msn, "_HLS_msn", number("_HLS_msn", value)?)?,
                ("_HLS_part", value) => once(&mut part, "_HLS_part", number("_HLS_part", value)?)?,
                ("_HLS_skip", "YES" | "v2") => once(&mut skip, "_HLS_skip", ())?,
                ("_HLS_skip", _) => return Err(QueryError::Skip),
                _ => {}
            }
        }
        let block = match (msn, part) {
            (None, None) => None,
            (None, Some(_)) => return Err(QueryError::PartWithoutMsn),
            (Some(msn), part) => Some(BlockUntil { msn: Msn(msn), part: part.map(PartNo) }),
        };
        Ok(Self { block, skip: skip.is_some() })
    }
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::Twice(name)),
    }
}

/// A decimal-integer of RFC 8216bis 4.2: digits only, no sign.
fn number<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T, QueryError> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok()).flatten().ok_or(QueryError::Number(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_among_parameters_of_others() {
        let query =
            Query::parse("token=a%26b&_HLS_msn=1795222923&_HLS_part=4&_HLS_skip=YES&x").unwrap();
        let block = BlockUntil { msn: Msn(1_795_222_923), part: Some(PartNo(4)) };
        assert_eq!(query, Query { block: Some(block), skip: true });
        assert_eq!(Query::parse(""), Ok(Query::default()));
    }

    #[test]
    fn malformed_directives_are_refused_by_name() {
        for (text, error) in [
            ("_HLS_part=1", QueryError::PartWithoutMsn),
            ("_HLS_msn=", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=+1", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=18446744073709551616", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=1&_HLS_part=4294967296", QueryError::Number("_HLS_part")),
            ("_HLS_msn=1&_HLS_msn=1", QueryError::Twice("_HLS_msn")),
            ("_HLS_skip=no", QueryError::Skip),
        ] {
            assert_eq!(Query::parse(text), Err(error), "{text}");
        }
        assert_eq!(Query::parse(&"x".repeat(1025)), Err(QueryError::TooLong(1025)));
    }
}
