//! The address by which others reach a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::SettingsError;

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

/// Whether others can connect to what is advertised.
///
/// # Errors
/// [`SettingsError`]: it is no address of one host.
pub fn reachable(advertise: Option<IpAddr>) -> Result<(), SettingsError> {
    let broadcast = IpAddr::from(Ipv4Addr::BROADCAST);
    let is_none = |ip: &IpAddr| ip.is_unspecified() || ip.is_multicast() || *ip == broadcast;
    match advertise.filter(is_none) {
        Some(ip) => Err(SettingsError::of(format_args!(
            "advertise = {ip}: nobody can connect to that; give the address at which other hosts reach this one"
        ))),
        None => Ok(()),
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

    #[test]
    fn what_is_advertised_is_the_address_of_one_host() {
        let said = |text: &str| reachable(Some(text.parse().unwrap())).map_err(|e| e.to_string());
        for none in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255"] {
            assert!(said(none).unwrap_err().contains(&format!("advertise = {none}: ")));
        }
        assert_eq!(said("192.0.2.7"), Ok(()));
        assert!(reachable(None).is_ok());
    }
}
