//! Which subnet of 256 addresses nobody on this machine uses: neither an interface, a bridge of containers, nor a route to elsewhere.

use std::net::Ipv4Addr;

/// Where to look, in this order: first address, and how many bits of it stand. The last is set aside for measurements (RFC 2544).
const POOLS: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::new(10, 128, 0, 0), 9),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];
/// A route that says less is the way to everywhere.
const LEAST_BITS: u32 = 8;

/// The first three bytes of a subnet that none of the routes touches, as `ip -4 -o route show table all` prints them. `unique` says
/// where the search begins, so that networks that are made at the same time differ.
pub fn free(unique: u32, routes: &str) -> Option<[u8; 3]> {
    let taken: Vec<(u32, u32)> = routes.lines().filter_map(destination).collect();
    let is_free = |subnet: &u32| {
        let touches = |&(network, bits): &(u32, u32)| {
            let shift = 32 - bits.min(24);
            network >> shift == *subnet >> shift
        };
        !taken.iter().any(touches)
    };
    let all = POOLS.iter().flat_map(|(first, bits)| {
        let count = 1u32 << (24 - bits);
        (0..count).map(move |at| first.to_bits() + ((unique.wrapping_add(at) % count) << 8))
    });
    let [a, b, c, _] = all.into_iter().find(is_free)?.to_be_bytes();
    Some([a, b, c])
}

/// What a route leads to, as address and bits; `None` for the way to everywhere. The kind of the route may stand before it.
fn destination(route: &str) -> Option<(u32, u32)> {
    let found = route.split_whitespace().take(2).find_map(|word| {
        let (address, bits) = word.split_once('/').unwrap_or((word, "32"));
        Some((address.parse::<Ipv4Addr>().ok()?.to_bits(), bits.parse::<u32>().ok()?))
    });
    found.filter(|(_, bits)| (LEAST_BITS..=32).contains(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &str = "default via 192.0.2.1 dev eth0 \n\
        0.0.0.0/1 via 10.200.0.1 dev tun0 \n\
        172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown \n\
        local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1 \n\
        local 192.0.2.2 dev eth0 table local proto kernel scope host src 192.0.2.2 \n";

    #[test]
    fn a_subnet_that_is_routed_or_has_one_address_in_use_is_passed_over() {
        assert_eq!(free(5, USUAL), Some([10, 128, 5]));
        let host = format!("{USUAL}local 10.128.5.9 dev br0 table local\n");
        assert_eq!(free(5, &host), Some([10, 128, 6]));
        let bridge = format!("{USUAL}unreachable 10.128.0.0/16\n");
        assert_eq!(free(5, &bridge), Some([10, 129, 0]));
    }

    #[test]
    fn where_a_whole_range_is_routed_the_next_one_is_taken_until_none_is_left() {
        let company = format!("{USUAL}10.0.0.0/8 via 192.0.2.3 dev eth0\n");
        assert_eq!(free(0x100, &company), Some([172, 18, 0]), "not that of the containers");
        let more = format!("{company}172.16.0.0/12 dev a\n192.168.0.0/16 dev b\n");
        assert_eq!(free(1, &more), Some([198, 18, 1]));
        assert_eq!(free(1, &format!("{more}198.18.0.0/15 dev c\n")), None);
    }
}
