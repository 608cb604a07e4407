//! Limits on a ratio, a percentile or any statistic: the worst of the complete periods against a limit and blue.

use super::{Evidence, Reading};
use crate::policy::gates::{Bound, Threshold};
use crate::verdict::{Caveat, Finding, Outcome, Quantity};

/// One judged period: green's value, blue's level beside it, and the limit that follows.
#[derive(Debug, Clone, Copy)]
struct Judged {
    green: Reading,
    blue: Option<Level>,
    limit: f64,
    bad: bool,
}

/// Blue's level in a period.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    value: f64,
    /// Not from the same period but from all of blue's periods.
    from_before: bool,
}

/// Judges a gate. A period is bad above the limit and above the tolerated multiple of blue (or below `at_least`).
/// Periods with too few requests are left out and told; with none left, the gate is inconclusive.
pub fn threshold(name: &str, gate: &Threshold, evidence: &Evidence) -> Finding {
    let from = match gate.worst_of {
        Some(periods) => evidence.first.max(evidence.green.len().saturating_sub(periods)),
        None => evidence.first,
    };
    let green: Vec<(usize, Reading)> = (from..evidence.green.len())
        .filter_map(|index| evidence.green[index].map(|reading| (index, reading)))
        .collect();
    let enough =
        |reading: &Reading| reading.samples.is_none_or(|samples| samples >= gate.min_requests as f64);
    let usual =
        median(evidence.blue.iter().flatten().filter(|reading| enough(reading)).map(|reading| reading.value));
    let level = |index: usize| {
        let beside = evidence.blue.get(index).copied().flatten().filter(enough);
        beside
            .map(|reading| Level { value: reading.value, from_before: false })
            .or_else(|| usual.map(|value| Level { value, from_before: true }))
    };
    let compares = matches!(gate.bound, Bound::AtMost { tolerate: Some(_), .. });
    let judged: Vec<Judged> = green
        .iter()
        .filter(|(_, reading)| enough(reading))
        .filter(|(index, _)| !compares || level(*index).is_some())
        .map(|(index, reading)| judge(gate.bound, *reading, level(*index)))
        .collect();
    let few = green.iter().filter(|(_, reading)| !enough(reading)).count();
    let mut finding = match worst(&judged, gate.bound) {
        Some(worst) => told(name, gate, worst, judged.len()),
        None => nothing_judged(name, gate, green.len(), few),
    };
    if few > 0 {
        finding = finding.but(Caveat::FewRequests { periods: few, least: gate.min_requests });
    }
    finding
}

fn judge(bound: Bound, green: Reading, blue: Option<Level>) -> Judged {
    match bound {
        Bound::AtMost { limit, tolerate } => {
            let relative = tolerate.zip(blue).map_or(f64::NEG_INFINITY, |(times, level)| times * level.value);
            let limit = limit.value.max(relative);
            Judged { green, blue, limit, bad: green.value > limit }
        }
        Bound::AtLeast { limit } => {
            Judged { green, blue, limit: limit.value, bad: green.value < limit.value }
        }
    }
}

/// The period that says most: a bad one before a good one, then the one furthest on the bad side of its limit.
fn worst(judged: &[Judged], bound: Bound) -> Option<&Judged> {
    let excess = |judged: &Judged| match bound {
        Bound::AtMost { .. } => judged.green.value - judged.limit,
        Bound::AtLeast { .. } => judged.limit - judged.green.value,
    };
    judged.iter().max_by(|a, b| a.bad.cmp(&b.bad).then(excess(a).total_cmp(&excess(b))))
}

fn told(name: &str, gate: &Threshold, worst: &Judged, periods: usize) -> Finding {
    let in_unit = |value: f64| Quantity { value, ..gate.bound.limit() };
    let (value, limit) = (in_unit(worst.green.value), in_unit(worst.limit));
    let blue = worst.blue.map(|level| in_unit(level.value));
    let relation = match (gate.bound, worst.bad) {
        (Bound::AtMost { .. }, true) => "above",
        (Bound::AtMost { .. }, false) => "within",
        (Bound::AtLeast { .. }, true) => "below",
        (Bound::AtLeast { .. }, false) => "at least",
    };
    let beside = blue.map(|blue| format!(", blue {blue}")).unwrap_or_default();
    let of_periods = if periods == 1 {
        "the one complete period".to_owned()
    } else {
        format!("the worst of {periods} complete periods")
    };
    let summary = format!("green {value} in {of_periods}, {relation} the limit of {limit}{beside}");
    let outcome = if worst.bad { Outcome::Fail } else { Outcome::Pass };
    let mut finding = Finding {
        value: Some(value),
        blue,
        limit: Some(limit),
        samples: worst.green.samples.map(|samples| samples as u64),
        periods: Some(periods),
        ..Finding::new(name, outcome, summary)
    };
    if worst.blue.is_some_and(|level| level.from_before)
        && matches!(gate.bound, Bound::AtMost { tolerate: Some(_), .. })
    {
        finding = finding.but(Caveat::BlueFromBefore);
    }
    finding
}

fn nothing_judged(name: &str, gate: &Threshold, readings: usize, few: usize) -> Finding {
    let finding = Finding {
        limit: Some(gate.bound.limit()),
        periods: Some(0),
        ..Finding::new(name, Outcome::Inconclusive, "not enough data to judge green")
    };
    match (readings, few) {
        (0, _) => finding.but(Caveat::NoData),
        (all, few) if all == few => finding,
        _ => finding.but(Caveat::NoBlue),
    }
}

/// The middle of values; `None` of none.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::gates::Rule;
    use crate::policy::parse;
    use proptest::prelude::*;

    fn gate(text: &str) -> Threshold {
        match parse(&format!("traffic: [{text}]")).unwrap().traffic.remove(0).rule {
            Rule::Threshold(threshold) => threshold,
            other => panic!("{other:?}"),
        }
    }

    fn errors() -> Threshold {
        gate("{name: errors, bad: B, of: R, limit: 5%, tolerate: 2x, min_requests: 50}")
    }

    /// Readings of 100 requests each; a negative value stands for no data.
    fn series(values: &[f64]) -> Vec<Option<Reading>> {
        values
            .iter()
            .map(|value| (*value >= 0.0).then_some(Reading { value: *value, samples: Some(100.0) }))
            .collect()
    }

    fn check(gate: &Threshold, blue: &[f64], green: &[f64], expect: (Outcome, &str)) -> Finding {
        let evidence = Evidence { green: series(green), blue: series(blue), first: 0 };
        let finding = threshold("errors", gate, &evidence);
        assert_eq!((finding.outcome, finding.summary.as_str()), expect, "{finding:?}");
        finding
    }

    #[test]
    fn green_alone_above_the_limit_fails() {
        let finding = check(
            &errors(),
            &[0.01, 0.01, 0.0],
            &[0.01, 0.08, 0.02],
            (Outcome::Fail, "green 8 % in the worst of 3 complete periods, above the limit of 5 %, blue 1 %"),
        );
        assert_eq!((finding.samples, finding.periods), (Some(100), Some(3)));
        // Blue was beside it, so there is nothing to explain.
        assert_eq!(finding.caveats, []);
    }

    #[test]
    fn an_incident_on_both_colours_does_not_fail() {
        check(
            &errors(),
            &[0.2],
            &[0.3],
            (Outcome::Pass, "green 30 % in the one complete period, within the limit of 40 %, blue 20 %"),
        );
    }

    #[test]
    fn exactly_at_the_limit_passes() {
        check(
            &errors(),
            &[0.0],
            &[0.05],
            (Outcome::Pass, "green 5 % in the one complete period, within the limit of 5 %, blue 0 %"),
        );
    }

    #[test]
    fn without_blue_beside_it_blue_before_is_used() {
        let finding = check(
            &errors(),
            &[0.01, 0.04, -1.0],
            &[-1.0, -1.0, 0.06],
            (Outcome::Fail, "green 6 % in the one complete period, above the limit of 5 %, blue 2.5 %"),
        );
        assert_eq!(finding.caveats, [Caveat::BlueFromBefore]);
    }

    #[test]
    fn no_data_is_inconclusive_and_says_why() {
        let unclear = (Outcome::Inconclusive, "not enough data to judge green");
        assert_eq!(check(&errors(), &[0.0], &[-1.0], unclear).caveats, [Caveat::NoData]);
        assert_eq!(check(&errors(), &[-1.0], &[0.5], unclear).caveats, [Caveat::NoBlue]);
        let quiet = Threshold { min_requests: 101, ..errors() };
        assert_eq!(
            check(&quiet, &[0.0], &[0.5], unclear).caveats,
            [Caveat::FewRequests { periods: 1, least: 101 }]
        );
    }

    #[test]
    fn the_other_direction_and_the_latest_periods() {
        let orders = gate(
            "{metric: Orders, statistic: Sum, namespace: Shop, dimensions: {S: x}, at_least: 10, worst_of: 2}",
        );
        check(
            &orders,
            &[],
            &[3.0, 12.0, 9.0],
            (Outcome::Fail, "green 9 in the worst of 2 complete periods, below the limit of 10"),
        );
        check(
            &orders,
            &[],
            &[3.0, 12.0, 11.0],
            (Outcome::Pass, "green 11 in the worst of 2 complete periods, at least the limit of 10"),
        );
    }

    #[test]
    fn history_of_green_is_not_judged() {
        let evidence = Evidence { green: series(&[0.9, 0.0]), blue: series(&[0.0, 0.0]), first: 1 };
        assert_eq!(threshold("errors", &errors(), &evidence).outcome, Outcome::Pass);
    }

    fn any_series() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(prop_oneof![Just(-1.0), 0.0..1.0_f64], 1..8)
    }

    proptest! {
        #[test]
        fn more_errors_on_green_never_turn_fail_into_pass(blue in any_series(), green in any_series(), at in 0_usize..8, more in 0.0..0.5_f64) {
            let evidence = Evidence { green: series(&green), blue: series(&blue), first: 0 };
            let before = threshold("errors", &errors(), &evidence).outcome;
            let mut worse = evidence.clone();
            let length = green.len();
            if let Some(reading) = &mut worse.green[at % length] { reading.value += more; }
            prop_assert!(threshold("errors", &errors(), &worse).outcome >= before);
        }

        #[test]
        fn a_period_without_data_never_fails_and_the_same_input_gives_the_same_bits(blue in any_series(), green in any_series()) {
            let evidence = Evidence { green: series(&green), blue: series(&blue), first: 0 };
            let before = threshold("errors", &errors(), &evidence);
            prop_assert_eq!(&before, &threshold("errors", &errors(), &evidence));
            let mut longer = evidence;
            longer.green.push(None);
            prop_assert_eq!(threshold("errors", &errors(), &longer).outcome, before.outcome);
        }

        #[test]
        fn a_larger_tolerance_never_fails_sooner(blue in any_series(), green in any_series(), more in 0.0..3.0_f64) {
            let evidence = Evidence { green: series(&green), blue: series(&blue), first: 0 };
            let mut lenient = errors();
            lenient.bound = match lenient.bound { Bound::AtMost { limit, tolerate } => Bound::AtMost { limit, tolerate: tolerate.map(|times| times + more) }, other @ Bound::AtLeast { .. } => other };
            prop_assert!(threshold("errors", &lenient, &evidence).outcome <= threshold("errors", &errors(), &evidence).outcome);
        }
    }
}
