//! Opens a program's listeners. Why one cannot be had is said with the setting that chooses another.

use std::{io, net::SocketAddr};

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

    #[tokio::test]
    async fn a_taken_address_is_an_error_that_names_the_setting() {
        let (_taken, at) = listen("listen_api", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = listen("listen_api", at).await.unwrap_err().to_string();
        assert_eq!(error, format!("listen_api {at}: another program listens there"));
    }
}
