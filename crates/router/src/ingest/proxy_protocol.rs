//! PROXY protocol version 2 (HAProxy's specification, section 2.2): who is behind a load balancer that we trust.
//! Whom to trust is the server's to decide.

use std::{io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and extensions of real proxies stay far below this.
const MAX_BODY_BYTES: usize = 512;

/// The header is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection ended or broke inside the header.
    #[error("proxy header cut short: {0}")]
    Io(#[from] io::Error),
    /// Not version 2 of the protocol.
    #[error("no proxy protocol version 2 header")]
    Signature,
    /// An unknown command, or lengths that cannot be.
    #[error("proxy header with command {command}, family {family}, {bytes} bytes")]
    Form { command: u8, family: u8, bytes: usize },
}

/// Reads the header; `None` when the proxy speaks for itself (its own health checks).
pub async fn read_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; 16];
    socket.read_exact(&mut fixed).await?;
    let [.., version_command, family, high, low] = fixed;
    if !fixed.starts_with(&SIGNATURE) || version_command >> 4 != 2 {
        return Err(ProxyError::Signature);
    }
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    let command = version_command & 0x0F;
    let malformed = ProxyError::Form { command, family, bytes };
    if bytes > MAX_BODY_BYTES {
        return Err(malformed);
    }
    let mut body = vec![0; bytes];
    socket.read_exact(&mut body).await?;
    match (command, family) {
        (0, _) => Ok(None),
        (1, 0x11) => source::<4>(&body, 8).map(Some).ok_or(malformed),
        (1, 0x21) => source::<16>(&body, 32).map(Some).ok_or(malformed),
        _ => Err(malformed),
    }
}

/// The source address of `N` bytes and, behind both addresses, its port.
fn source<const N: usize>(body: &[u8], port_at: usize) -> Option<SocketAddr>
where
    std::net::IpAddr: From<[u8; N]>,
{
    let address: [u8; N] = *body.first_chunk()?;
    let port = u16::from_be_bytes(*body.get(port_at..)?.first_chunk()?);
    Some(SocketAddr::new(address.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(tail: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
        read_header(&mut &[&SIGNATURE[..], tail].concat()[..]).await
    }

    #[tokio::test]
    async fn the_source_address_of_both_families_is_read() {
        let v4 = [0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x1F, 0x90, 7, 143];
        assert_eq!(read(&v4).await.unwrap(), Some("192.0.2.7:8080".parse().unwrap()));
        let mut v6 = vec![0x21, 0x21, 0, 36];
        v6.extend([0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0; 16]);
        v6.extend([0, 80, 0, 81]);
        assert_eq!(read(&v6).await.unwrap(), Some("[2001:db8::1]:80".parse().unwrap()));
        assert_eq!(read(&[0x20, 0, 0, 0]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn other_bytes_are_no_header() {
        assert!(matches!(read(&[0x11, 0x11, 0, 12]).await, Err(ProxyError::Signature)));
        assert!(matches!(read(&[0x21, 0x11, 0xFF, 0]).await, Err(ProxyError::Form { .. })));
        assert!(matches!(
            read(&[0x21, 0x11, 0, 4, 1, 2, 3, 4]).await,
            Err(ProxyError::Form { .. })
        ));
        assert!(matches!(read(&[0x21, 0x11, 0, 12, 1]).await, Err(ProxyError::Io(_))));
    }
}
