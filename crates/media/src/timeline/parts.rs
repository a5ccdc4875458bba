//! How long parts become: what is left of a segment in equal shares, so that its last part is as long as the others.
//!
//! Short last parts are legal, and dangerous: a player that takes 0.2 s around the end of its buffer for played never asks
//! for one, and waits for it.

/// The shortest part that is not its segment's last, of the target: RFC 8216bis, 4.4.4.9.
const FULL_PERCENT: i64 = 85;

/// How many steps of length `step` the next part lasts, when `left` more of them are expected in its segment and no part
/// may be longer than `target`, in the unit of `step`. 1 at least. The last share has all that it may: its segment's end
/// ends it, also one that comes a little later than expected.
pub(super) fn steps_of_next(left: i64, step: i64, target: i64) -> i64 {
    let most = (target / step).max(1);
    let parts = ceil(left, most);
    if parts <= 1 {
        return most;
    }
    let fewest = ceil(target * FULL_PERCENT, step * 100);
    ceil(left, parts).max(fewest).min(most)
}

const fn ceil(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

#[cfg(test)]
mod tests {
    use super::steps_of_next;

    /// Steps of each part of a segment of so many.
    fn parts(mut left: i64, step: i64, target: i64) -> Vec<i64> {
        let mut parts = Vec::new();
        while left > 0 {
            parts.push(steps_of_next(left, step, target).min(left));
            left -= parts[parts.len() - 1];
        }
        parts
    }

    #[test]
    fn a_segment_is_shared_equally_among_its_parts() {
        assert_eq!(parts(60, 3_000, 33_840), [10; 6], "30 fps");
        assert_eq!(parts(50, 3_600, 33_840), [9, 9, 8, 8, 8, 8], "25 fps");
        assert_eq!(parts(48, 3_750, 33_840), [8; 6], "24 fps");
        assert_eq!(parts(94, 1_024, 18_048), [16, 16, 16, 16, 15, 15], "sound of 48 kHz");
        assert_eq!(parts(86, 1_024, 16_581), [15, 15, 14, 14, 14, 14], "sound of 44.1 kHz");
        assert_eq!(parts(94, 1_024, 12_816), [12, 12, 12, 12, 12, 12, 11, 11], "low latency");
    }

    #[test]
    fn no_part_but_the_last_is_shorter_than_85_percent_and_none_longer_than_the_target() {
        for left in 1..200 {
            let parts = parts(left, 3_000, 33_840);
            let full = &parts[..parts.len() - 1];
            assert!(full.iter().all(|steps| (10..=11).contains(steps)), "{left}: {parts:?}");
            assert!(parts[parts.len() - 1] <= 11, "{left}: {parts:?}");
        }
    }

    #[test]
    fn beyond_the_end_that_was_expected_parts_are_as_long_as_they_may_be() {
        for left in [0, -1] {
            assert_eq!(steps_of_next(left, 3_000, 33_840), 11, "{left}");
        }
        assert_eq!(steps_of_next(1, 90_000, 33_840), 1, "one picture a second");
    }
}
