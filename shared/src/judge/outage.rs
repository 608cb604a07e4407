//! The outage lane: most of green's requests bad while blue's are not. Beside every gate, with limits of its own.

use super::{Evidence, Reading};
use crate::policy::plan::Outage;
use crate::verdict::{Finding, Outcome, Quantity};

/// Name of the finding.
const NAME: &str = "outage";

/// The first period (an index) at which green is down: enough bad periods in a row, or one with very many requests.
/// Periods with too few requests interrupt nothing and count for nothing.
pub fn down_since(limits: &Outage, evidence: &Evidence) -> Option<usize> {
    let mut row = 0;
    judged(limits, evidence)
        .find(|(index, green)| {
            let blue = evidence.blue.get(*index).copied().flatten().map_or(0.0, |blue| blue.value);
            let down = green.value >= limits.share && blue < limits.blue_below;
            row = if down { row + 1 } else { 0 };
            row >= limits.periods || (down && green.samples.unwrap_or(0.0) >= limits.at_once_from as f64)
        })
        .map(|(index, _)| index)
}

/// Judges green's share of bad requests (server and connection errors together).
pub fn outage(limits: &Outage, evidence: &Evidence) -> Finding {
    if let Some(since) = down_since(limits, evidence) {
        let periods = judged(limits, evidence).take_while(|(index, _)| *index <= since);
        if let Some((periods, green)) = periods.map(|(_, green)| green).enumerate().last() {
            return told(limits, Outcome::Fail, green, periods + 1);
        }
    }
    let worst = judged(limits, evidence)
        .map(|(_, green)| green)
        .reduce(|worst, green| if green.value > worst.value { green } else { worst });
    match worst {
        Some(worst) => told(limits, Outcome::Pass, worst, judged(limits, evidence).count()),
        // Silence is the other gates' to tell; an outage is what is seen, not what is not.
        None => Finding::new(NAME, Outcome::Pass, "no period with enough requests to see one"),
    }
}

/// Green's readings that have enough requests, with their index.
fn judged<'a>(limits: &Outage, evidence: &'a Evidence) -> impl Iterator<Item = (usize, Reading)> + use<'a> {
    let least = limits.min_requests as f64;
    let readings = evidence.green.iter().enumerate().skip(evidence.first);
    readings
        .filter_map(|(index, green)| green.map(|green| (index, green)))
        .filter(move |(_, green)| green.samples.unwrap_or(0.0) >= least)
}

fn told(limits: &Outage, outcome: Outcome, reading: Reading, periods: usize) -> Finding {
    let (value, limit) = (Quantity::share(reading.value), Quantity::share(limits.share));
    let summary = match outcome {
        Outcome::Fail => format!("green is down: {value} of its requests are bad"),
        _ => format!("at most {value} of green's requests are bad in a period"),
    };
    Finding {
        value: Some(value),
        limit: Some(limit),
        samples: reading.samples.map(|samples| samples as u64),
        periods: Some(periods),
        ..Finding::new(NAME, outcome, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::defaults;

    /// Periods of green and blue as (bad share, requests).
    fn check(green: &[(f64, f64)], blue: &[(f64, f64)], expect: Outcome) {
        let series = |periods: &[(f64, f64)]| {
            periods
                .iter()
                .map(|(value, samples)| Some(Reading { value: *value, samples: Some(*samples) }))
                .collect()
        };
        let evidence = Evidence { green: series(green), blue: series(blue), first: 0 };
        assert_eq!(outage(&defaults::OUTAGE, &evidence).outcome, expect, "{green:?} {blue:?}");
    }

    #[test]
    fn an_outage_is_green_alone_for_long_enough() {
        use Outcome::{Fail, Pass};
        check(&[(0.5, 20.0), (0.6, 20.0)], &[], Fail);
        check(&[(0.9, 20.0)], &[], Pass);
        check(&[(0.9, 200.0)], &[], Fail);
        check(&[(0.9, 20.0), (0.1, 20.0), (0.9, 20.0)], &[], Pass);
        check(&[(0.9, 20.0), (1.0, 3.0), (0.9, 20.0)], &[], Fail);
        check(&[(0.9, 300.0)], &[(0.1, 300.0)], Pass);
        check(&[(0.49, 3000.0), (0.49, 3000.0)], &[], Pass);
        check(&[], &[], Pass);
    }
}
