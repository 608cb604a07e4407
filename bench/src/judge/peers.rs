//! The rules by which other tools roll back, from their documentation. Each sees one metric of the cell (errors, or slow
//! requests), a point every minute, at once and without fault; that is kinder than what they would see.

use std::fmt;

use serde::Serialize;

use super::ranks;
use super::simulate::Minute;
use super::world::Metric;

/// A rule of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Flagger: a minute whose share of bad requests is above the limit, or without data, is a failed check; no pass
    /// resets them. One tick after there are so many of them green is rolled back.
    Flagger {
        /// Failed checks that it takes.
        threshold: usize,
    },
    /// Argo Rollouts: a measurement every minute fails above the limit; an empty one holds "for all points".
    Argo {
        /// One more failed measurement than this fails the run.
        failure_limit: usize,
    },
    /// Kayenta, once, when the window is over: the Mann-Whitney interval (98 %) of how much higher green is lies above a
    /// quarter of that shift, and green's mean is higher.
    Kayenta,
    /// PipeCD: every five minutes the Mann-Whitney test on the last five, 5 %, one-sided.
    PipeCd,
    /// A CloudWatch alarm on both colours together, with CodeDeploy's rollback: so many of the latest points above the
    /// limit. Missing points are left out.
    Alarm {
        /// Points above the limit that it takes.
        breaching: usize,
        /// Points that it looks at.
        of: usize,
    },
}

/// All of them, as the tables show them.
pub const PEERS: [Peer; 8] = [
    Peer::Flagger { threshold: 1 },
    Peer::Flagger { threshold: 5 },
    Peer::Argo { failure_limit: 0 },
    Peer::Argo { failure_limit: 3 },
    Peer::Kayenta,
    Peer::PipeCd,
    Peer::Alarm { breaching: 3, of: 5 },
    Peer::Alarm { breaching: 2, of: 2 },
];

/// Kayenta's confidence, and how much of the shift it tolerates.
const KAYENTA: (f64, f64) = (0.98, 0.25);
/// PipeCD's interval in minutes, and its p-value.
const PIPE_CD: (usize, f64) = (5, 0.05);

/// The limit of the rules that have one. For errors the 1 % of the tools' own examples. Slow requests are 1 % by how we
/// choose their limit; a rule that fails there would fail half of all good minutes, so it gets twice as much.
pub fn limit(metric: Metric) -> f64 {
    match metric {
        Metric::Errors => 0.01,
        Metric::Slow => 0.02,
    }
}

impl Peer {
    /// The minute (from 1) after which green is rolled back. One more than the window has means: on the tick that would
    /// have promoted green.
    pub fn judge(self, window: &[Minute], limit: f64) -> Option<usize> {
        match self {
            Self::Flagger { threshold } => {
                let failed = |minute: &Minute| green(minute).is_none_or(|share| share > limit);
                nth(window.iter().map(failed), threshold).map(|minute| minute + 1)
            }
            Self::Argo { failure_limit } => {
                let failed = |minute: &Minute| green(minute).is_some_and(|share| share > limit);
                nth(window.iter().map(failed), failure_limit + 1)
            }
            Self::Kayenta => kayenta(window).then_some(window.len()),
            Self::PipeCd => {
                let (interval, least) = PIPE_CD;
                let higher = |minutes: &[Minute]| {
                    let (green, blue) = points(minutes);
                    ranks::one_sided(&green, &blue) <= least
                };
                let found = window.chunks_exact(interval).position(higher);
                found.map(|index| (index + 1) * interval)
            }
            Self::Alarm { breaching, of } => alarm(window, limit, breaching, of),
        }
    }
}

fn kayenta(window: &[Minute]) -> bool {
    let (confidence, tolerance) = KAYENTA;
    let (green, blue) = points(window);
    let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
    match (ranks::shift(&green, &blue), ranks::shift_at_least(&green, &blue, confidence)) {
        (Some(shift), Some(least)) => least > tolerance * shift.abs() && mean(&green) > mean(&blue),
        _ => false,
    }
}

fn alarm(window: &[Minute], limit: f64, breaching: usize, of: usize) -> Option<usize> {
    let mut points: Vec<bool> = Vec::new();
    let rings = window.iter().position(|Minute { blue, green, .. }| {
        let requests = blue.of + green.of;
        if requests > 0.0 {
            points.push((blue.bad + green.bad) / requests > limit);
        }
        points.iter().rev().take(of).filter(|breached| **breached).count() >= breaching
    });
    rings.map(|index| index + 1)
}

/// Green's share of bad requests; `None` without requests.
fn green(minute: &Minute) -> Option<f64> {
    (minute.green.of > 0.0).then(|| minute.green.bad / minute.green.of)
}

/// Green's and blue's shares of bad requests, where there are requests.
fn points(minutes: &[Minute]) -> (Vec<f64>, Vec<f64>) {
    let blue = |minute: &Minute| (minute.blue.of > 0.0).then(|| minute.blue.bad / minute.blue.of);
    (minutes.iter().filter_map(green).collect(), minutes.iter().filter_map(blue).collect())
}

/// The minute (from 1) of the `number`th that is true.
fn nth(mut minutes: impl Iterator<Item = bool>, number: usize) -> Option<usize> {
    let mut found = 0;
    let index = minutes.position(|is| {
        found += usize::from(is);
        found >= number
    });
    index.map(|index| index + 1)
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flagger { threshold } => write!(f, "Flagger {threshold}"),
            Self::Argo { failure_limit } => write!(f, "Argo {failure_limit}"),
            Self::Kayenta => f.write_str("Kayenta"),
            Self::PipeCd => f.write_str("PipeCD"),
            Self::Alarm { breaching, of } => write!(f, "alarm {breaching}/{of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use shiftgate::judge::series::Count;

    use super::*;

    /// Minutes of 1,000 blue and 100 green requests, with so many bad (blue, green).
    fn minutes(bad: &[(f64, f64)]) -> Vec<Minute> {
        let minute = |&(blue, green): &(f64, f64)| Minute {
            blue: Count { of: 1000.0, bad: blue },
            green: Count { of: 100.0, bad: green },
            level: 0.0,
        };
        bad.iter().map(minute).collect()
    }

    fn greens(bad: &[f64]) -> Vec<Minute> {
        minutes(&bad.iter().map(|green| (0.0, *green)).collect::<Vec<_>>())
    }

    fn check(peer: Peer, window: &[Minute], expect: Option<usize>) {
        assert_eq!(peer.judge(window, 0.01), expect, "{peer}");
    }

    #[test]
    fn flagger_counts_failed_checks_and_rolls_back_a_tick_later() {
        let (one, three) = (Peer::Flagger { threshold: 1 }, Peer::Flagger { threshold: 3 });
        check(one, &greens(&[0.0, 1.0, 1.0]), None); // 99 % is enough
        check(one, &greens(&[0.0, 2.0, 0.0]), Some(3));
        check(three, &greens(&[2.0, 0.0, 2.0, 0.0, 2.0]), Some(6)); // no pass resets
        check(three, &greens(&[2.0, 0.0, 2.0, 0.0, 0.0]), None);
        let mut silent = greens(&[0.0, 0.0]);
        silent[1].green.of = 0.0;
        check(one, &silent, Some(3));
    }

    #[test]
    fn argo_fails_with_one_failed_measurement_more_than_allowed() {
        let (none, two) = (Peer::Argo { failure_limit: 0 }, Peer::Argo { failure_limit: 2 });
        check(none, &greens(&[1.0, 1.0, 2.0]), Some(3));
        check(two, &greens(&[2.0, 2.0, 0.0, 0.0]), None);
        check(two, &greens(&[2.0, 2.0, 0.0, 2.0]), Some(4));
        let mut silent = greens(&[0.0]);
        silent[0].green.of = 0.0;
        check(none, &silent, None);
    }

    #[test]
    fn kayenta_asks_once_whether_the_whole_interval_is_above_what_it_tolerates() {
        let window = |green: fn(f64) -> f64| {
            let bad: Vec<(f64, f64)> =
                (0..15).map(|minute| (f64::from(minute), green(f64::from(minute)))).collect();
            minutes(&bad)
        };
        check(Peer::Kayenta, &window(|minute| 10.0 + minute), Some(15));
        check(Peer::Kayenta, &window(|minute| minute / 10.0), None);
        // Higher, but the interval reaches down to 0.
        check(Peer::Kayenta, &window(|minute| minute / 10.0 + if minute > 9.0 { 1.0 } else { 0.0 }), None);
        check(Peer::Kayenta, &greens(&[0.0; 15]), None);
        // Never a change for the better.
        check(Peer::Kayenta, &minutes(&[(100.0, 0.0); 15]), None);
    }

    #[test]
    fn pipe_cd_tests_every_five_minutes_on_their_own() {
        let low = [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (5.0, 0.0)];
        let high = [(1.0, 3.0), (2.0, 4.0), (3.0, 5.0), (4.0, 6.0), (5.0, 7.0)];
        check(Peer::PipeCd, &minutes(&high), Some(5));
        check(Peer::PipeCd, &minutes(&high[..4]), None); // no five minutes yet
        check(Peer::PipeCd, &minutes(&[low, high].concat()), Some(10));
        check(Peer::PipeCd, &minutes(&[low, low].concat()), None);
    }

    #[test]
    fn an_alarm_wants_enough_of_the_latest_points_of_both_colours() {
        let (two, three) = (Peer::Alarm { breaching: 2, of: 2 }, Peer::Alarm { breaching: 3, of: 5 });
        // 1,100 requests: 11 bad are 1 %, 12 are more.
        let (calm, loud) = ((6.0, 5.0), (6.0, 6.0));
        check(two, &minutes(&[loud, calm, loud, calm, loud]), None);
        check(two, &minutes(&[calm, calm, loud, loud]), Some(4));
        check(three, &minutes(&[loud, calm, loud, calm, loud]), Some(5));
        check(three, &minutes(&[loud, calm, calm, loud, calm, loud]), None);
        let mut silent = minutes(&[loud, calm, loud]);
        (silent[1].blue.of, silent[1].green.of) = (0.0, 0.0);
        check(two, &silent, Some(3));
    }
}
