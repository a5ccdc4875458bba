//! The address by which others reach a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where to connect to: a listener on all interfaces is reached at `advertise`, without one only from this host, through
/// loopback; any other at its own address.
pub fn reached_at(listener: SocketAddr, advertise: Option<IpAddr>) -> SocketAddr {
    let here = match listener.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    match listener.ip().is_unspecified() {
        true => SocketAddr::new(advertise.unwrap_or(here), listener.port()),
        false => listener,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listener_on_all_interfaces_is_reached_at_another_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let host = Some("192.0.2.7".parse().unwrap());
        assert_eq!(reached_at(at("0.0.0.0:1"), host), at("192.0.2.7:1"));
        assert_eq!(reached_at(at("[::]:1"), None), at("[::1]:1"));
        assert_eq!(reached_at(at("127.0.0.2:1"), host), at("127.0.0.2:1"));
    }
}
