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

/// What other hosts are told and cannot reach, of listeners by their settings: a line each. None where all are of this host only.
pub fn reached_from_here_only(
    listeners: &[(&str, SocketAddr)],
    advertise: Option<IpAddr>,
) -> Vec<String> {
    let is_here = |&(_, at): &&(&str, SocketAddr)| at.ip().is_loopback();
    if listeners.iter().all(|listener| is_here(&listener)) {
        return Vec::new();
    }
    let told = listeners.iter().filter_map(|&(setting, at)| {
        let told = reached_at(at, advertise);
        let why = match at.ip().is_loopback() {
            true => "listen where other hosts reach it, as another listener of this program does",
            false => "set advertise to the address at which other hosts reach this one",
        };
        let line =
            || format!("{setting} = {at}: other hosts are told {told}, which is here only; {why}");
        told.ip().is_loopback().then(line)
    });
    told.collect()
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
    fn listeners_that_others_are_told_of_and_cannot_reach_are_named_with_what_to_do() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let lines = |link, admin, advertise: Option<&str>| {
            let listeners = [("listen_link", at(link)), ("listen_admin", at(admin))];
            reached_from_here_only(&listeners, advertise.map(|ip| ip.parse().unwrap()))
        };
        let both = lines("0.0.0.0:7001", "127.0.0.1:9102", None);
        assert!(
            both[0].starts_with("listen_link = 0.0.0.0:7001: other hosts are told 127.0.0.1:7001")
        );
        assert!(both[0].contains("set advertise") && both[1].contains("listen where"), "{both:?}");
        assert_eq!(lines("0.0.0.0:7001", "127.0.0.1:9102", Some("192.0.2.7")).len(), 1);
        let none = Vec::<String>::new();
        assert_eq!(lines("0.0.0.0:7001", "0.0.0.0:9102", Some("192.0.2.7")), none);
        assert_eq!(lines("192.0.2.7:7001", "192.0.2.7:9102", None), none);
        assert_eq!(lines("127.0.0.1:7001", "127.0.0.1:9102", None), none, "a farm on one host");
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
