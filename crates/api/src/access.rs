//! Who may do what: this host everything, as long as nobody has a token or the settings say so; others what their token says. Reading is free to all who reach the listener, unless the
//! settings say otherwise.
//!
//! "This host" means a connection from loopback that no proxy and no foreign web page stands behind: a browser on this
//! host sends requests for any page it shows, so its `Origin` must be ours, and `Host` must be an address or
//! `localhost`, because any other name may have been pointed at loopback by a stranger.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::http::{HeaderMap, Version, header};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{Role, tokens::Tokens};

/// Shortest token that is taken.
const MIN_CHARS: usize = 16;
/// Headers that a proxy adds.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// A token that is too easy to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at least {MIN_CHARS} characters, this one has {0}")]
pub struct TokenError(usize);

/// The secret that lets other hosts change something. Shown as `***` everywhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(Box<str>);

impl TryFrom<String> for Token {
    type Error = TokenError;
    fn try_from(text: String) -> Result<Self, TokenError> {
        match text.chars().count() {
            short if short < MIN_CHARS => Err(TokenError(short)),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// What lets others in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The one in the settings, for everything.
    pub(crate) token: Option<Token>,
    /// Those in a file, each for its role.
    pub(crate) tokens: Option<Tokens>,
    /// Reading is not free.
    pub(crate) read_needs_token: bool,
    /// This host needs no token.
    pub(crate) trusts_this_host: bool,
}

impl Access {
    /// What a request from `peer` with these headers may do, and who asks, for the log: a token's name says nothing of the token.
    pub(crate) fn role(
        &self,
        peer: SocketAddr,
        version: Version,
        headers: &HeaderMap,
    ) -> Option<(Role, String)> {
        let is_here = peer.ip().to_canonical().is_loopback() && is_direct(version, headers);
        if self.trusts_this_host && is_here {
            return Some((Role::Write, "this host".to_owned()));
        }
        let shown = shown_token(headers).and_then(|token| self.role_of(token));
        shown.or_else(|| (!self.read_needs_token).then(|| (Role::Read, "anybody".to_owned())))
    }

    /// Why a request with these headers may not do what it wants.
    pub(crate) fn denial(&self, headers: &HeaderMap) -> Denial {
        match shown_token(headers) {
            Some(token) if self.role_of(token).is_some() => Denial::ReadsOnly,
            Some(_) => Denial::UnknownToken,
            None if headers.contains_key(header::AUTHORIZATION) => Denial::NotBearer,
            None => Denial::NoToken,
        }
    }

    /// Compares digests, so that the time it takes says nothing about the tokens.
    fn role_of(&self, shown: &str) -> Option<(Role, String)> {
        let is_it = |token: &Token| Sha256::digest(shown) == Sha256::digest(token.0.as_bytes());
        if self.token.as_ref().is_some_and(is_it) {
            return Some((Role::Write, "the token of the settings".to_owned()));
        }
        self.tokens.as_ref()?.role_of(shown)
    }
}

/// The token that a request shows.
fn shown_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Why a request may not do what it wants: for whoever is told what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// It shows no token.
    NoToken,
    /// It shows a way to log in that is none here.
    NotBearer,
    /// It shows a token that nobody has.
    UnknownToken,
    /// It shows a token for reading, and wants to change something.
    ReadsOnly,
}

/// Some proxies add no header unless told to, and speak HTTP/1.0, as nobody else does.
fn is_direct(version: Version, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let proxied =
        version < Version::HTTP_11 || PROXY_HEADERS.iter().any(|name| headers.contains_key(*name));
    let Some(host) = text(header::HOST) else { return !proxied };
    let same_origin = match text(header::ORIGIN) {
        Some(origin) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        None => true,
    };
    !proxied && same_origin && is_unspoofable(host)
}

/// Whether the host part is an address or `localhost`.
fn is_unspoofable(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(access: &Access, peer: &str, headers: &[(&'static str, &str)]) -> Option<Role> {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        let headers = headers.collect();
        access.role(peer.parse().unwrap(), Version::HTTP_11, &headers).map(|(role, _)| role)
    }

    fn access() -> Access {
        let token = Token::try_from("correct-horse-battery".to_owned()).unwrap();
        Access { token: Some(token), trusts_this_host: true, ..Access::default() }
    }

    fn allowed(peer: &str, headers: &[(&'static str, &str)]) -> bool {
        role(&access(), peer, headers) == Some(Role::Write)
    }

    #[test]
    fn reading_is_free_unless_it_needs_a_token() {
        let right = ("authorization", "Bearer correct-horse-battery");
        let wrong = ("authorization", "Bearer wrong");
        let closed = Access { read_needs_token: true, ..access() };
        for (headers, open_role, closed_role) in [
            (&[][..], Some(Role::Read), None),
            (&[wrong][..], Some(Role::Read), None),
            (&[right][..], Some(Role::Write), Some(Role::Write)),
        ] {
            assert_eq!(role(&access(), "10.0.0.1:5", headers), open_role);
            assert_eq!(role(&closed, "10.0.0.1:5", headers), closed_role);
        }
    }

    #[test]
    fn a_wrong_token_is_told_from_none_and_from_one_that_only_reads() {
        let headers =
            |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let denial = |value: &str| access().denial(&headers(value));
        assert_eq!(access().denial(&HeaderMap::new()), Denial::NoToken);
        assert_eq!(denial("Bearer wrong"), Denial::UnknownToken);
        assert_eq!(denial("Basic Y29ycmVjdA=="), Denial::NotBearer);
        assert_eq!(denial("bearer correct-horse-battery"), Denial::ReadsOnly);
    }

    #[test]
    fn other_hosts_need_the_token() {
        let right = ("authorization", "Bearer correct-horse-battery");
        assert!(!allowed("10.0.0.1:5", &[("host", "10.0.0.2:8090")]));
        assert!(!allowed("10.0.0.1:5", &[("authorization", "Bearer correct-horse")]));
        assert!(allowed("10.0.0.1:5", &[right]));
    }

    #[test]
    fn this_host_needs_none_unless_a_page_or_a_proxy_asks_through_it() {
        let host = ("host", "127.0.0.1:8090");
        assert!(allowed("127.0.0.1:5", &[host]));
        assert!(allowed("[::ffff:127.0.0.1]:5", &[("host", "localhost:8090")]));
        assert!(allowed("[::1]:5", &[("host", "[::1]:8090")]));
        assert!(allowed("127.0.0.1:5", &[host, ("origin", "http://127.0.0.1:8090")]));
        assert!(!allowed("127.0.0.1:5", &[host, ("origin", "http://evil.example")]));
        assert!(!allowed("127.0.0.1:5", &[("host", "rebound.example:8090")]));
        assert!(!allowed("127.0.0.1:5", &[host, ("x-forwarded-for", "10.0.0.1")]));
        assert!(!allowed("127.0.0.1:5", &[host, ("x-real-ip", "10.0.0.1")]));
        let (here, none) = ("127.0.0.1:5".parse().unwrap(), HeaderMap::new());
        let by = |version| access().role(here, version, &none).unwrap().0;
        assert_eq!((by(Version::HTTP_10), by(Version::HTTP_2)), (Role::Read, Role::Write));
        let wary = Access { trusts_this_host: false, ..access() };
        assert_eq!(role(&wary, "127.0.0.1:5", &[host]), Some(Role::Read));
    }
}
