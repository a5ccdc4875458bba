//! Which streams have a second encoder because so many watch them: the hottest, as long as a share of the farm suffices.
//!
//! ```text
//! cold --viewers >= threshold--> waits --its place in the share--> granted
//!   ^                                                                |
//!   +-- less than half of the threshold for `cool_s`, or ------------+
//!       others need its place for 10 s
//! ```
//! Every router decides for its own streams, and all alike: by what the registry says of everybody's. Streams that are pinned
//! to two encoders are not asked about here and take nothing of the share. Decides; sessions ask for encoders.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millrace_types::{Mono, StreamId};
use serde::{Deserialize, Serialize};

use crate::{Capacity, Demand, Resource};

/// How long a stream must have no place in the share until it gives its own up: what the registry says of others may lag.
const SETTLE: Duration = Duration::from_secs(10);
/// A stream without a place gets that of another only with more than 5/4 of its viewers.
const HELD: u64 = 5;
/// See above.
const NEW: u64 = 4;

/// When streams get a second encoder by themselves: `[hot]` in the TOML, the same for all routers of a farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HotConfig {
    /// Viewers from which on a stream is to have two encoders.
    pub viewers: u64,
    /// Share of the farm's capacity that second encoders of such streams may take, percent; 0: there are none.
    pub share_percent: u8,
    /// How long a stream must have had less than half of those viewers until it has one encoder again, seconds.
    pub cool_s: u64,
}

impl Default for HotConfig {
    fn default() -> Self {
        Self { viewers: 1_000, share_percent: 5, cool_s: 600 }
    }
}

/// A live stream that is not pinned, as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub stream: StreamId,
    /// How many watch it.
    pub viewers: u64,
    /// What one encoder of it takes.
    pub demand: Demand,
    /// This router has its session.
    pub is_here: bool,
    /// Its record says that it has a place in the share.
    pub is_granted: bool,
}

/// What a stream's viewers are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// One encoder.
    Cold,
    /// Two, but others take all of the share.
    Waits {
        /// How many watch it.
        viewers: u64,
    },
    /// Two.
    Granted {
        /// How many watch it.
        viewers: u64,
    },
}

/// The place of a stream in the share.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Since when few watch it.
    few_since: Option<Mono>,
    /// Since when it is others' turn.
    loses_since: Option<Mono>,
}

/// The streams of one router.
#[derive(Clone, Debug, Default)]
pub struct HotStreams {
    config: HotConfig,
    /// Every one that was looked at, and its place.
    here: BTreeMap<StreamId, Option<Place>>,
}

impl HotStreams {
    /// Of a router that has no streams yet.
    pub fn new(config: HotConfig) -> Self {
        Self { config, here: BTreeMap::new() }
    }

    /// Looks at all live streams of the farm, whose nodes have `total` in all; what each of this router's is worth from now on.
    pub fn look(
        &mut self,
        now: Mono,
        total: &Capacity,
        watched: &[Watched],
    ) -> BTreeMap<StreamId, Heat> {
        let here: BTreeMap<&StreamId, &Watched> =
            watched.iter().filter(|it| it.is_here).map(|it| (&it.stream, it)).collect();
        self.here.retain(|stream, _| here.contains_key(stream));
        for (stream, it) in &here {
            // At first sight its record counts: the router before may have granted it.
            let place = self.here.entry((*stream).clone());
            let place = place.or_insert_with(|| it.is_granted.then(Place::default));
            cool(now, &self.config, it.viewers, place);
        }
        let limit = total.percent(self.config.share_percent);
        let order = self.order(watched);
        let turn = first_that_fit(&order, &limit);
        for (stream, place) in &mut self.here {
            settle(now, turn.contains(stream), place);
        }
        self.grant(&order, &turn, &limit);
        here.into_iter().map(|(stream, it)| (stream.clone(), self.heat(it))).collect()
    }

    fn has_place(&self, it: &Watched) -> bool {
        match it.is_here {
            true => self.here.get(&it.stream).is_some_and(Option::is_some),
            false => it.is_granted,
        }
    }

    fn is_hot(&self, it: &Watched) -> bool {
        it.viewers >= self.config.viewers
    }

    /// Those that have a place or are hot, the hottest first.
    fn order<'a>(&self, watched: &'a [Watched]) -> Vec<&'a Watched> {
        let weight =
            |it: &Watched| it.viewers.saturating_mul(if self.has_place(it) { HELD } else { NEW });
        let wants = |it: &&Watched| self.has_place(it) || self.is_hot(it);
        let mut order: Vec<&Watched> = watched.iter().filter(wants).collect();
        order.sort_by_key(|it| (Reverse(weight(it)), &it.stream));
        order
    }

    /// Gives places to those whose turn it is, as far as others have left theirs.
    fn grant(&mut self, order: &[&Watched], turn: &BTreeSet<StreamId>, limit: &Capacity) {
        let held = order.iter().filter(|it| self.has_place(it));
        let mut used = held.fold(Demand::ZERO, |used, it| used.plus(&it.demand));
        for it in order.iter().filter(|it| it.is_here && turn.contains(&it.stream)) {
            if !self.has_place(it) && fits(&used, &it.demand, limit) {
                used = used.plus(&it.demand);
                self.here.insert(it.stream.clone(), Some(Place::default()));
            }
        }
    }

    fn heat(&self, it: &Watched) -> Heat {
        let viewers = it.viewers;
        match () {
            () if self.has_place(it) => Heat::Granted { viewers },
            () if self.is_hot(it) && self.config.share_percent > 0 => Heat::Waits { viewers },
            () => Heat::Cold,
        }
    }
}

/// Takes the place of a stream that few have watched for long.
fn cool(now: Mono, config: &HotConfig, viewers: u64, place: &mut Option<Place>) {
    let Some(held) = place else { return };
    match viewers.saturating_mul(2) < config.viewers {
        true => {
            let since = *held.few_since.get_or_insert(now);
            if now.since(since) >= Duration::from_secs(config.cool_s) {
                *place = None;
            }
        }
        false => held.few_since = None,
    }
}

/// Takes the place of a stream whose turn it has not been for a while.
fn settle(now: Mono, is_its_turn: bool, place: &mut Option<Place>) {
    let Some(held) = place else { return };
    if is_its_turn {
        held.loses_since = None;
    } else if now.since(*held.loses_since.get_or_insert(now)) >= SETTLE {
        *place = None;
    }
}

/// Those that the share suffices for, one after the other; one that is too large for what is left lets the next have it.
fn first_that_fit(order: &[&Watched], limit: &Capacity) -> BTreeSet<StreamId> {
    let mut used = Demand::ZERO;
    let mut turn = BTreeSet::new();
    for it in order {
        if fits(&used, &it.demand, limit) {
            used = used.plus(&it.demand);
            turn.insert(it.stream.clone());
        }
    }
    turn
}

fn fits(used: &Demand, demand: &Demand, limit: &Capacity) -> bool {
    let with = used.plus(demand);
    let fits = |it: &Resource| demand.amount(*it) == 0 || limit.has(*it, with.amount(*it));
    Resource::ALL.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The share is 5 % of this: room for 50 units.
    const TOTAL: Capacity = Capacity { encode_pixels_per_second: 1_000, ..Capacity::ZERO };

    fn at(secs: u64) -> Mono {
        Mono(Duration::from_secs(secs))
    }

    fn watched(name: &str, viewers: u64, cost: u64) -> Watched {
        Watched {
            stream: name.parse().unwrap(),
            viewers,
            demand: Demand { encode_pixels_per_second: cost, ..Demand::ZERO },
            is_here: true,
            is_granted: false,
        }
    }

    /// The streams with a place after a look.
    fn granted(
        hot: &mut HotStreams,
        now: u64,
        total: &Capacity,
        streams: &[Watched],
    ) -> Vec<String> {
        let heats = hot.look(at(now), total, streams).into_iter();
        let granted = heats.filter(|(_, heat)| matches!(heat, Heat::Granted { .. }));
        granted.map(|(stream, _)| stream.to_string()).collect()
    }

    #[test]
    fn a_stream_is_hot_at_once_and_cold_only_after_ten_minutes_below_half() {
        let mut hot = HotStreams::default();
        let mut one =
            |now, viewers| !granted(&mut hot, now, &TOTAL, &[watched("a", viewers, 50)]).is_empty();
        assert!(!one(0, 999) && one(1, 1_000));
        assert!(one(2, 500) && one(10_000, 500), "half is enough");
        assert!(one(10_001, 499) && one(10_600, 499));
        assert!(one(10_601, 500) && one(10_602, 499) && one(11_201, 499), "the time begins anew");
        assert!(!one(11_202, 499) && !one(11_203, 999));
    }

    #[test]
    fn the_hottest_that_fit_have_the_share_and_the_others_wait() {
        let mut hot = HotStreams::default();
        let streams = [watched("a", 1_500, 30), watched("b", 2_000, 30), watched("c", 1_200, 20)];
        let heats = hot.look(at(0), &TOTAL, &streams);
        let heats: Vec<Heat> = heats.into_values().collect();
        let expected = [
            Heat::Waits { viewers: 1_500 },
            Heat::Granted { viewers: 2_000 },
            Heat::Granted { viewers: 1_200 },
        ];
        assert_eq!(heats, expected);
        assert!(granted(&mut HotStreams::default(), 0, &Capacity::ZERO, &streams).is_empty());
    }

    #[test]
    fn a_place_changes_hands_only_for_a_quarter_more_viewers_and_after_ten_seconds() {
        let mut hot = HotStreams::default();
        let mut have =
            |now, a, b| granted(&mut hot, now, &TOTAL, &[watched("a", a, 50), watched("b", b, 50)]);
        assert_eq!(have(0, 1_100, 0), ["a"]);
        assert_eq!(have(100, 1_100, 1_375), ["a"]);
        assert_eq!(have(200, 1_100, 1_376), ["a"]);
        assert_eq!(have(209, 1_100, 1_376), ["a"]);
        assert_eq!(have(210, 1_100, 1_376), ["b"]);
    }

    #[test]
    fn other_routers_streams_take_their_part_of_the_share() {
        let elsewhere = |is_granted, viewers| Watched {
            is_here: false,
            is_granted,
            ..watched("b", viewers, 50)
        };
        let mut hot = HotStreams::default();
        let mine = watched("a", 3_000, 50);
        let mut have = |now, other| granted(&mut hot, now, &TOTAL, &[mine.clone(), other]);
        assert!(have(0, elsewhere(true, 1_000)).is_empty(), "until the other has left it");
        assert!(have(1, elsewhere(false, 4_000)).is_empty(), "it is the other's turn");
        assert_eq!(have(2, elsewhere(false, 1_000)), ["a"]);
    }

    #[test]
    fn a_router_that_takes_a_stream_over_leaves_it_its_place_and_trusts_its_record_only_once() {
        let mut hot = HotStreams::new(HotConfig { cool_s: 5, ..HotConfig::default() });
        let taken = Watched { is_granted: true, ..watched("a", 10, 50) };
        let mut have = |now| granted(&mut hot, now, &TOTAL, std::slice::from_ref(&taken));
        assert_eq!(have(0), ["a"]);
        assert!(have(5).is_empty() && have(6).is_empty());
    }

    #[test]
    fn without_a_share_no_stream_is_hot() {
        let mut hot = HotStreams::new(HotConfig { share_percent: 0, ..HotConfig::default() });
        let heats = hot.look(at(0), &TOTAL, &[watched("a", 9_999, 1)]);
        assert_eq!(heats.into_values().collect::<Vec<_>>(), [Heat::Cold]);
    }

    /// Who watches what over time, second by second: viewers and cost of each stream.
    fn audiences() -> impl Strategy<Value = Vec<Vec<(u64, u64)>>> {
        let streams = prop::collection::vec((0..4_000_u64, 1..40_u64), 8);
        prop::collection::vec(streams, 1..60)
    }

    /// The streams of two routers, as the one at `here` sees them.
    fn seen(
        audience: &[(u64, u64)],
        costs: &[(u64, u64)],
        here: usize,
        granted: &[bool],
    ) -> Vec<Watched> {
        let each = audience.iter().zip(costs).zip(granted).enumerate();
        each.map(|(index, (((viewers, _), (_, cost)), is_granted))| Watched {
            is_here: index % 2 == here,
            is_granted: *is_granted,
            ..watched(&format!("s{index}"), *viewers, *cost)
        })
        .collect()
    }

    proptest! {
        #[test]
        fn two_routers_never_grant_more_than_the_share(audiences in audiences()) {
            let mut routers = [HotStreams::default(), HotStreams::default()];
            let (costs, mut granted) = (&audiences[0], [false; 8]);
            for (second, audience) in audiences.iter().enumerate() {
                let here = second % 2;
                let streams = seen(audience, costs, here, &granted);
                for (stream, heat) in routers[here].look(at(second as u64 * 3), &TOTAL, &streams) {
                    let index: usize = stream.as_str()[1..].parse().unwrap();
                    granted[index] = matches!(heat, Heat::Granted { .. });
                }
                let used: u64 = costs.iter().zip(granted).filter(|(_, it)| *it).map(|((_, cost), _)| cost).sum();
                prop_assert!(used <= 50, "{used}");
            }
        }

        #[test]
        fn who_waits_does_not_fit_beside_those_with_more_viewers(audience in prop::collection::vec((0..4_000_u64, 1..40_u64), 8)) {
            let streams: Vec<Watched> = seen(&audience, &audience, 0, &[false; 8])
                .into_iter().map(|it| Watched { is_here: true, ..it }).collect();
            let heats = HotStreams::default().look(at(0), &TOTAL, &streams);
            for waits in streams.iter().filter(|it| matches!(heats[&it.stream], Heat::Waits { .. })) {
                let hotter = streams.iter().filter(|it| {
                    it.viewers >= waits.viewers && matches!(heats[&it.stream], Heat::Granted { .. })
                });
                let used: u64 = hotter.map(|it| it.demand.encode_pixels_per_second).sum();
                prop_assert!(used + waits.demand.encode_pixels_per_second > 50);
            }
        }

        #[test]
        fn viewers_that_come_and_go_above_half_change_nothing(walk in prop::collection::vec(500..5_000_u64, 1..200)) {
            let mut hot = HotStreams::default();
            granted(&mut hot, 0, &TOTAL, &[watched("a", 1_000, 50)]);
            for (index, viewers) in walk.into_iter().enumerate() {
                let now = 1_000 * (index as u64 + 1);
                prop_assert_eq!(granted(&mut hot, now, &TOTAL, &[watched("a", viewers, 50)]).len(), 1);
            }
        }
    }
}
