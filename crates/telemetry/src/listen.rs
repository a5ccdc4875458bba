//! Opens a program's listeners. Why one cannot be had is said with the setting that chooses another.

use std::{io, net::SocketAddr};

use crate::SettingsError;
use tokio::net::TcpListener;

/// An address cannot be listened on: a person must choose another, or end who has it.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {address}: {}", why_not(.error))]
pub struct ListenError {
    /// The key in the settings.
    pub setting: &'static str,
    /// The address wanted.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

/// A listener, and where it really is: port 0 takes a free one.
///
/// # Errors
/// [`ListenError`]
pub async fn listen(
    setting: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |error| ListenError { setting, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Whether each of a program's listeners has an address of its own.
///
/// # Errors
/// [`SettingsError`] that names two which have not.
pub fn apart(listeners: &[(&str, SocketAddr)]) -> Result<(), SettingsError> {
    let meet = |a: SocketAddr, b: SocketAddr| {
        let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && (everywhere || a.ip() == b.ip())
    };
    for (at, (setting, address)) in listeners.iter().enumerate() {
        if let Some((other, before)) = listeners[..at].iter().find(|(_, it)| meet(*it, *address)) {
            let text = format!(
                "{other} {before} and {setting} {address} are the same address: choose another for one of them"
            );
            return Err(SettingsError::of(text));
        }
    }
    Ok(())
}

/// How an address to listen on looks.
pub(crate) const EXAMPLE: &str = "give ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080";

/// An address to listen on, as a command line gives it.
///
/// # Errors
/// What such an address looks like.
pub fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| EXAMPLE)
}

/// Why an address cannot be listened on, for people.
pub fn why_not(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need root".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_of_a_program_at_one_address_are_both_named() {
        let told = |a: &str, b: &str| {
            let listeners = [("listen_a", a.parse().unwrap()), ("listen_b", b.parse().unwrap())];
            apart(&listeners).map_err(|error| error.to_string())
        };
        let error = told("0.0.0.0:80", "127.0.0.1:80").unwrap_err();
        assert!(error.starts_with("listen_a 0.0.0.0:80 and listen_b 127.0.0.1:80 are"), "{error}");
        assert!(told("[::1]:80", "[::1]:80").is_err());
        for (a, b) in
            [("127.0.0.1:80", "127.0.0.2:80"), ("0.0.0.0:0", "0.0.0.0:0"), ("[::]:1", "[::]:2")]
        {
            assert_eq!(told(a, b), Ok(()));
        }
    }

    #[tokio::test]
    async fn a_taken_address_is_an_error_that_names_the_setting() {
        let (_taken, at) = listen("listen_api", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = listen("listen_api", at).await.unwrap_err().to_string();
        assert_eq!(error, format!("listen_api {at}: another program listens there"));
    }
}
