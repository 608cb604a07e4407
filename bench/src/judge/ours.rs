//! Shiftgate's judge, as the product uses it while traffic shifts: three gates together, and the outage lane.

use shiftgate::judge::compare::{Comparison, Decision, compare, decide};
use shiftgate::judge::series::{Count, Pair, Series};
use shiftgate::judge::{Evidence, Reading, outage};
use shiftgate::policy::defaults;
use shiftgate::verdict::Outcome;

use super::ALPHA;
use super::simulate::{Events, Rollout};
use super::world::{Metric, Mode};

/// What the stage in flight may spend of [`ALPHA`]; the rest is the bake's.
const IN_FLIGHT: f64 = 0.75;
/// What each gate may spend of that.
const OF_ERRORS: f64 = 0.6;
const OF_CONNECTION_ERRORS: f64 = 0.1;
const OF_SLOW: f64 = 0.3;

/// What the gate of a metric tolerates.
pub fn comparison(metric: Metric) -> Comparison {
    let tolerate = match metric {
        Metric::Errors => 1.25,
        Metric::Slow => 1.5,
    };
    Comparison { tolerate, ignore_below: 0.0, pass_below: 3.0 }
}

/// The minute (from 1) after which green is rolled back.
pub fn judge(rollout: &Rollout, mode: Mode) -> Option<usize> {
    let gates = [
        (&rollout.errors, Metric::Errors, OF_ERRORS),
        (&rollout.connection, Metric::Errors, OF_CONNECTION_ERRORS),
        (&rollout.slow, Metric::Slow, OF_SLOW),
    ];
    let by_gates = gates.into_iter().filter_map(|(events, metric, share)| {
        let evidence = compare(&series(events, mode), &comparison(metric));
        match decide(&evidence, ALPHA * IN_FLIGHT * share) {
            Decision::RollBack(period) => Some(period + 1),
            Decision::Pass(_) | Decision::Unclear => None,
        }
    });
    by_gates.chain(outage_lane(rollout)).min()
}

fn series(events: &Events, mode: Mode) -> Series {
    let pair =
        |minute: &super::simulate::Minute| Pair { blue: present(minute.blue), green: present(minute.green) };
    Series {
        history: events.told(mode),
        window: events.window.iter().map(pair).collect(),
        planned: events.window.len(),
    }
}

/// The load balancer has no data on a target group without requests.
fn present(count: Count) -> Option<Count> {
    (count.of > 0.0).then_some(count)
}

/// The first minute (from 1) in which the outage lane, looking every minute, fails green.
fn outage_lane(rollout: &Rollout) -> Option<usize> {
    let both = || rollout.errors.window.iter().zip(&rollout.connection.window);
    let reading = |errors: Count, connection: Count| {
        let share = |of: f64| (errors.bad + connection.bad) / of;
        present(errors).map(|errors| Reading { value: share(errors.of), samples: Some(errors.of) })
    };
    let mut seen = Evidence::default();
    both()
        .position(|(errors, connection)| {
            seen.green.push(reading(errors.green, connection.green));
            seen.blue.push(reading(errors.blue, connection.blue));
            outage(&defaults::OUTAGE, &seen).outcome == Outcome::Fail
        })
        .map(|period| period + 1)
}

#[cfg(test)]
mod tests {
    use super::super::world::{Cell, Noise, Onset, Release, Setting, Split, WINDOW};
    use super::*;

    fn rollout(traffic: u32, release: Release, onset: Onset) -> Rollout {
        let setting = Setting {
            metric: Metric::Errors,
            traffic,
            base: 0.002,
            split: Split::Canary,
            noise: Noise::Clean,
            window: WINDOW,
        };
        Rollout::new(&Cell { setting, release, onset }, 1)
    }

    #[test]
    fn an_outage_is_seen_in_its_first_minute_and_after_two_with_few_requests() {
        assert_eq!(outage_lane(&rollout(12_000, Release::Outage, Onset::AtOnce)), Some(1));
        assert_eq!(outage_lane(&rollout(12_000, Release::Outage, Onset::Late)), Some(6));
        assert_eq!(outage_lane(&rollout(600, Release::Outage, Onset::AtOnce)), Some(2));
        assert_eq!(outage_lane(&rollout(12_000, Release::Worse(10.0), Onset::AtOnce)), None);
    }

    #[test]
    fn any_of_the_three_gates_rolls_back() {
        for mode in Mode::ALL {
            assert_eq!(judge(&rollout(12_000, Release::Good, Onset::AtOnce), mode), None);
            let bad = rollout(12_000, Release::Worse(20.0), Onset::AtOnce).errors;
            let good = rollout(12_000, Release::Good, Onset::AtOnce);
            for rollout in [
                Rollout { errors: bad.clone(), ..good.clone() },
                Rollout { connection: bad.clone(), ..good.clone() },
                Rollout { slow: bad.clone(), ..good.clone() },
            ] {
                assert!(judge(&rollout, mode).is_some_and(|minute| minute <= 3), "{mode}");
            }
        }
    }
}
