//! Medians, and how many calls followed one another.

use std::time::Duration;

use serde::Serialize;

/// The middle of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// A quarter of the values are below.
    pub lower: f64,
    /// The median.
    pub median: f64,
    /// A quarter of the values are above.
    pub upper: f64,
}

impl Spread {
    /// Quartiles, between two values by the share of the way (Hyndman and Fan's type 7); of no values there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        (!values.is_empty()).then(|| Self { lower: at(0.25), median: at(0.5), upper: at(0.75) })
    }
}

/// When a call began and when it ended, both since the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Begin.
    pub begin: Duration,
    /// End.
    pub end: Duration,
}

/// The largest number of calls of which each began after the one before had ended: so many round trips one after the other the
/// caller has waited for at least, whatever it did at the same time. The greedy choice of what ends first is the largest.
pub fn round_trips(calls: &[Interval]) -> usize {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.end);
    let mut free = Duration::ZERO;
    let chosen = calls.iter().filter(|call| {
        let follows = call.begin >= free;
        if follows {
            free = call.end;
        }
        follows
    });
    chosen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_values_where_none_is_at_their_place() {
        let of = |values: &[f64]| Spread::of(values.to_vec()).map(|it| (it.lower, it.median, it.upper));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), Some((2.0, 3.0, 4.0)));
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), Some((1.75, 2.5, 3.25)));
    }

    #[test]
    fn calls_at_the_same_time_are_one_round_trip() {
        let check = |calls: &[(u64, u64)], expect: usize| {
            let interval = |&(begin, end)| Interval {
                begin: Duration::from_millis(begin),
                end: Duration::from_millis(end),
            };
            let calls: Vec<Interval> = calls.iter().map(interval).collect();
            assert_eq!(round_trips(&calls), expect, "{calls:?}");
        };
        check(&[], 0);
        // One after the other, whatever order they are told in.
        check(&[(0, 20), (21, 41), (42, 62)], 3);
        check(&[(42, 62), (0, 20), (21, 41)], 3);
        check(&[(0, 20), (20, 40)], 2);
        // Three at once, then two.
        check(&[(0, 20), (1, 21), (2, 22), (23, 43), (24, 44)], 2);
        // A long one beside two short ones is not what was waited for most often.
        check(&[(0, 100), (0, 20), (21, 41)], 2);
        // Each overlaps the next: the first and the third follow one another.
        check(&[(0, 20), (19, 39), (38, 58)], 2);
    }
}
