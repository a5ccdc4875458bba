//! Addresses as people and tools can use them: a listener on all interfaces is reached through loopback.

use std::net::SocketAddr;

use millrace_api::reachable;

/// `http://` and the address to connect to from this host.
pub fn http(listener: SocketAddr) -> String {
    format!("http://{}", reachable(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_become_loopback_and_others_stay() {
        let url = |address: &str| http(address.parse().unwrap());
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.1:80"), "http://10.0.0.1:80");
    }
}
