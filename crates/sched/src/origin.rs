//! Which origin owns a stream that has none yet: the same answer for everybody who sees the same origins, and as few
//! streams as possible change theirs when one comes or goes (rendezvous hashing, Thaler and Ravishankar 1998).

use millrace_types::{NodeId, StreamId};

/// FNV-1a, 64 bits (RFC 9923).
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The origin of a stream among those alive; `None` when there is none.
pub fn choose_origin<'a>(
    stream: &StreamId,
    origins: impl IntoIterator<Item = &'a NodeId>,
) -> Option<&'a NodeId> {
    origins.into_iter().max_by_key(|origin| (weight(stream, origin), *origin))
}

/// Where a stream goes whose node lost the origin `now`: the choice that everybody makes alike among the others, those first
/// that have not been `lost` lately as well. `None`: there is no other.
pub fn next_origin<'a>(
    stream: &StreamId,
    origins: impl IntoIterator<Item = &'a NodeId, IntoIter: Clone>,
    now: Option<&NodeId>,
    lost: &[NodeId],
) -> Option<&'a NodeId> {
    let others = origins.into_iter().filter(|origin| Some(*origin) != now);
    let well = others.clone().filter(|origin| !lost.contains(origin));
    choose_origin(stream, well).or_else(|| choose_origin(stream, others))
}

fn weight(stream: &StreamId, origin: &NodeId) -> u64 {
    let bytes = origin.as_str().bytes().chain([0]).chain(stream.as_str().bytes());
    let hash = bytes.fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    // FNV's high bits mix poorly on short texts; the finaliser of MurmurHash3 spreads them.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_spread_over_origins_and_keep_theirs_when_another_goes() {
        let origins: Vec<NodeId> =
            (1..=4).map(|number| format!("origin-{number}").parse().unwrap()).collect();
        let streams: Vec<StreamId> =
            (0..1_000).map(|number| format!("stream-{number}").parse().unwrap()).collect();
        let mut owned = [0_u32; 4];
        for stream in &streams {
            let owner = choose_origin(stream, &origins).unwrap();
            owned[origins.iter().position(|origin| origin == owner).unwrap()] += 1;
            let without_last = choose_origin(stream, &origins[..3]).unwrap();
            assert!(owner == without_last || *owner == origins[3]);
        }
        assert!(owned.iter().all(|&count| (180..320).contains(&count)), "{owned:?}");
        assert_eq!(choose_origin(&streams[0], []), None);
    }

    #[test]
    fn a_lost_origin_is_followed_by_one_that_is_not_and_by_itself_only_through_another() {
        let origins: Vec<NodeId> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let stream = "live".parse().unwrap();
        let next = |now: usize, lost: &[usize]| {
            let lost: Vec<NodeId> = lost.iter().map(|&index| origins[index].clone()).collect();
            next_origin(&stream, &origins, Some(&origins[now]), &lost).cloned()
        };
        assert_eq!(next(0, &[0, 1]), Some(origins[2].clone()));
        assert!(next(2, &[0, 1, 2]).is_some_and(|origin| origin != origins[2]));
        assert_eq!(next_origin(&stream, &origins[..1], Some(&origins[0]), &[]), None);
        assert_eq!(next_origin(&stream, &origins[..1], None, &[]), Some(&origins[0]));
    }
}
