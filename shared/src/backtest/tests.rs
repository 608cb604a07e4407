use std::num::NonZeroU32;

use proptest::prelude::*;

use super::regression::poisson;
use super::*;
use crate::policy;
use crate::recording::{Before, Counts, Minute, OfTraffic, Tally, Traffic, Version};
use crate::traffic::HISTORY;

/// Three zones of a quiet service for so many minutes, each with so many requests a minute and 0.2 % errors.
fn quiet(minutes: usize, requests: f64) -> Traffic {
    let zone = |minute: usize, zone: usize| {
        let events = |kind: usize, rate: f64| Tally::Of(poisson(rate * requests, [10 * zone + kind, minute]));
        Counts {
            requests: Tally::Of(requests),
            server_errors: events(1, 0.002),
            connection_errors: events(2, 0.0001),
            slow_requests: events(3, 0.01),
        }
    };
    history((0..minutes).map(|minute| (0..3).map(|number| zone(minute, number)).collect()).collect())
}

/// A recording without a release, of these zones by minute.
fn history(zones: Vec<Vec<Counts>>) -> Traffic {
    let before = |zones: Vec<Counts>| {
        let sum = |of: &dyn Fn(&Counts) -> Tally| {
            Tally::Of(
                zones.iter().map(|zone| if let Tally::Of(count) = of(zone) { count } else { 0.0 }).sum(),
            )
        };
        Before {
            requests: sum(&|zone| zone.requests),
            server_errors: sum(&|zone| zone.server_errors),
            connection_errors: sum(&|zone| zone.connection_errors),
            slow_requests: sum(&|zone| zone.slow_requests),
            zones,
        }
    };
    Traffic {
        version: Version,
        kind: OfTraffic::Traffic,
        period_seconds: NonZeroU32::new(60).unwrap(),
        minutes_planned: None,
        history: zones.into_iter().map(before).collect(),
        minutes: Vec::new(),
    }
}

fn named(traffic: Traffic) -> Vec<Named> {
    vec![Named { name: "quiet".to_owned(), recording: Recording::Traffic(traffic) }]
}

fn cut(traffic: &Traffic) -> Result<Vec<Window>, NoWindows> {
    windows(&named(traffic.clone()), NonZeroU32::new(15).unwrap())
}

fn traffic(window: &Window) -> &Traffic {
    match &window.rollout {
        Recording::Traffic(traffic) => traffic,
        Recording::Change(_) => panic!("{window:?}"),
    }
}

fn judged(windows: &[Window], policy: &str) -> Backtest {
    backtest(&[], windows, &policy::parse(policy).unwrap(), &mut |_| {})
}

const DEFAULTS: &str = "version: 1";

fn smallest(backtest: &Backtest, gate: Bad) -> &Smallest {
    backtest.smallest.iter().find(|smallest| smallest.gate == gate).unwrap()
}

#[test]
fn windows_lie_one_behind_the_other_and_the_zones_take_turns() {
    let quiet = quiet(HISTORY + 4 * 15 + 7, 1000.0);
    let windows = cut(&quiet).unwrap();
    let places: Vec<(usize, usize)> = windows.iter().map(|window| (window.begins_at, window.zone)).collect();
    assert_eq!(places, [(60, 0), (75, 1), (90, 2), (105, 0)]);
    for window in &windows {
        let rollout = traffic(window);
        assert_eq!(rollout.history, quiet.history[window.begins_at - HISTORY..window.begins_at]);
        assert_eq!((rollout.minutes.len(), rollout.minutes_planned), (15, NonZeroU32::new(15)));
        for (minute, before) in rollout.minutes.iter().zip(&quiet.history[window.begins_at..]) {
            assert_eq!(minute.green.as_ref(), Some(&before.zones[window.zone]));
        }
    }
}

#[test]
fn without_long_histories_with_zones_there_are_no_windows() {
    let check = |traffic: &Traffic, expect: NoWindows| assert_eq!(cut(traffic).unwrap_err(), expect);
    check(&quiet(74, 1000.0), NoWindows::TooShort { needed: 75, longest: 74 });
    check(&quiet(0, 1000.0), NoWindows::TooShort { needed: 75, longest: 0 });
    let mut bare = quiet(75, 1000.0);
    bare.history.iter_mut().for_each(|before| before.zones.truncate(1));
    check(&bare, NoWindows::NoZones);
    check(&quiet(75, 0.0), NoWindows::NoRequests);
    assert_eq!(windows(&[], NonZeroU32::MIN).unwrap_err(), NoWindows::TooShort { needed: 61, longest: 0 });
}

#[test]
fn a_minute_without_one_of_the_zones_is_no_data_and_a_window_of_them_is_none() {
    let mut quiet = quiet(HISTORY + 30, 1000.0);
    // Seven of fifteen in the first window, eight in the second.
    for gone in (60..67).chain(75..83) {
        quiet.history[gone].zones.remove(1);
    }
    let windows = cut(&quiet).unwrap();
    assert_eq!(windows.iter().map(|window| window.begins_at).collect::<Vec<_>>(), [60]);
    assert_eq!(traffic(&windows[0]).minutes[6], Minute::default());
    assert!(traffic(&windows[0]).minutes[7].green.is_some());
}

fn tally() -> impl Strategy<Value = Tally> {
    prop_oneof![
        Just(Tally::Absent),
        Just(Tally::NoData),
        (0..5000_u32).prop_map(|count| Tally::Of(f64::from(count)))
    ]
}

fn counts() -> impl Strategy<Value = Counts> {
    (tally(), tally(), tally(), tally()).prop_map(
        |(requests, server_errors, connection_errors, slow_requests)| Counts {
            requests,
            server_errors,
            connection_errors,
            slow_requests,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Whatever the zones hold: both colours together are all zones, no minute is in two windows, and it is judged.
    #[test]
    fn both_colours_together_are_all_zones(
        zones in prop::collection::vec(prop::collection::vec(counts(), 0..5), HISTORY + 1..140),
        length in 1..30_u32,
    ) {
        let run = history(zones);
        let Ok(windows) = windows(&named(run.clone()), NonZeroU32::new(length).unwrap()) else { return Ok(()) };
        let mut next = HISTORY;
        for window in &windows {
            prop_assert!(window.begins_at >= next);
            next = window.begins_at + length as usize;
            for (minute, before) in traffic(window).minutes.iter().zip(&run.history[window.begins_at..]) {
                let (Some(blue), Some(green)) = (&minute.blue, &minute.green) else { continue };
                if let (Tally::Of(blue), Tally::Of(green)) = (blue.requests, green.requests) {
                    let all: f64 = before.zones.iter().filter_map(|zone| match zone.requests {
                        Tally::Of(count) => Some(count),
                        Tally::Absent | Tally::NoData => None,
                    }).sum();
                    prop_assert!((blue + green - all).abs() < 1e-9);
                }
            }
        }
        prop_assert!(next <= run.history.len());
        let backtest = judged(&windows[..windows.len().min(2)], DEFAULTS);
        prop_assert_eq!(&backtest, &judged(&windows[..windows.len().min(2)], DEFAULTS));
    }
}

#[test]
fn releases_are_counted_by_what_they_come_to() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recordings");
    let mut recordings: Vec<Named> = ["healthy", "low-traffic", "outage", "regression-x4", "shared-incident"]
        .map(|name| {
            let json = std::fs::read(format!("{folder}/{name}.json")).unwrap();
            Named { name: name.to_owned(), recording: Recording::parse(&json).unwrap() }
        })
        .into();
    // A history alone is no release.
    recordings.extend(named(quiet(20, 100.0)));
    let mut said = Vec::new();
    let backtest = backtest(&recordings, &[], &Plan::default(), &mut |text| said.push(text.to_owned()));
    let told: Vec<(&str, Verdict, Option<&str>)> = backtest
        .rollouts
        .iter()
        .map(|replayed| (replayed.name.as_str(), replayed.answer.verdict, replayed.answer.gate.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("healthy", Verdict::Pass, None),
            ("low-traffic", Verdict::Inconclusive, None),
            ("outage", Verdict::RollBack, Some("outage")),
            ("regression-x4", Verdict::RollBack, Some("server_errors")),
            ("shared-incident", Verdict::Pass, None),
        ]
    );
    let number = |verdict| backtest.number(verdict);
    assert_eq!([number(Verdict::RollBack), number(Verdict::Pass), number(Verdict::Inconclusive)], [2, 2, 1]);
    assert_eq!(said.last().unwrap(), "judging rollout 5 of 5");
    assert_eq!((backtest.windows, backtest.smallest.len()), (0, 0));
}

#[test]
fn a_zone_that_fails_alone_is_a_false_rollback_and_quiet_time_is_none() {
    let mut run = quiet(HISTORY + 20 * 15, 3000.0);
    let clean = judged(&cut(&run).unwrap(), DEFAULTS);
    assert_eq!((clean.windows, clean.false_rollbacks.len()), (20, 0));
    // The zone whose turn it is, from the fourth minute of the third window on; and one whose turn it is not.
    for minute in 93..105 {
        run.history[minute].zones[2].server_errors = Tally::Of(300.0);
    }
    for minute in 150..165 {
        run.history[minute].zones[2].connection_errors = Tally::Of(300.0);
    }
    let backtest = judged(&cut(&run).unwrap(), DEFAULTS);
    let expect = FalseRollback {
        recording: "quiet".to_owned(),
        begins_at: 90,
        zone: 2,
        gate: Some("server_errors".to_owned()),
        minute: Some(4),
    };
    assert_eq!(backtest.false_rollbacks, [expect]);
}

#[test]
fn more_traffic_finds_smaller_regressions_sooner() {
    let found = |requests: f64, policy: &str| {
        let backtest = judged(&cut(&quiet(HISTORY + 10 * 15, requests)).unwrap(), policy);
        smallest(&backtest, Bad::ServerErrors).clone()
    };
    let large = found(30_000.0, DEFAULTS);
    assert_eq!(large.ratio, Some(1.5));
    assert!((large.share - 0.003).abs() < 1e-4, "{large:?}");
    assert!(large.rolled_back >= SURE && large.minutes.is_some(), "{large:?}");
    let small = found(300.0, DEFAULTS);
    assert!(small.ratio.unwrap() > large.ratio.unwrap(), "{small:?}");
    // Half a request a minute: half an event is believed to have been seen, and 50 times that is still next to nothing.
    let none = found(0.5, DEFAULTS);
    assert_eq!((none.ratio, none.minutes), (None, None));
    assert!(none.rolled_back < SURE, "{none:?}");
    // A judge that may never be wrong finds less, or later.
    let strict = found(300.0, "version: 1\nfalse_rollback_rate: 0.0001%");
    assert!((strict.ratio, strict.minutes) > (small.ratio, small.minutes), "{strict:?} {small:?}");
}

#[test]
fn a_regression_is_found_by_its_own_gate_or_as_an_outage() {
    // Slow requests that would roll back every window must not help to find server errors.
    let mut run = quiet(HISTORY + 6 * 15, 100.0);
    for (minute, before) in run.history.iter_mut().enumerate().skip(HISTORY) {
        before.zones[(minute - HISTORY) / 15 % 3].slow_requests = Tally::Of(90.0);
    }
    let windows = cut(&run).unwrap();
    let backtest = judged(&windows, DEFAULTS);
    assert_eq!(backtest.false_rollbacks.len(), 6);
    assert_eq!(smallest(&backtest, Bad::SlowRequests).ratio, Some(RATIOS[0]));
    assert!(smallest(&backtest, Bad::ServerErrors).ratio > Some(2.0));
}

#[test]
fn what_is_not_counted_is_not_looked_for_and_what_is_not_judged_is_told() {
    let mut run = quiet(HISTORY + 15, 1000.0);
    for before in &mut run.history {
        before.slow_requests = Tally::Absent;
        before.zones.iter_mut().for_each(|zone| zone.slow_requests = Tally::Absent);
    }
    let windows = cut(&run).unwrap();
    let gates = |backtest: &Backtest| backtest.smallest.iter().map(|found| found.gate).collect::<Vec<_>>();
    let backtest = judged(&windows, DEFAULTS);
    assert_eq!(gates(&backtest), [Bad::ServerErrors, Bad::ConnectionErrors]);
    assert_eq!(backtest.not_judged, Vec::<String>::new());
    let policy = "version: 1\ntraffic:\n  - {name: errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount}\n  - {name: latency, metric: TargetResponseTime, statistic: p99, limit: 500ms}\n";
    let backtest = judged(&windows, policy);
    assert_eq!(
        (gates(&backtest), backtest.not_judged),
        (vec![Bad::ServerErrors], vec!["latency".to_owned()])
    );
}
