//! The outage lane: most of green's requests bad while blue's are not. Beside every gate, with limits of its own.

use super::{Evidence, Reading};
use crate::policy::plan::Outage;
use crate::verdict::{Finding, Outcome, Quantity};

/// Name of the finding.
const NAME: &str = "outage";

/// Judges green's share of bad requests (server and connection errors together). Fails on enough bad periods in a
/// row, or on one with very many requests; periods with too few requests interrupt nothing and count for nothing.
pub fn outage(limits: &Outage, evidence: &Evidence) -> Finding {
    let mut row = 0;
    let mut judged = 0;
    let mut worst: Option<Reading> = None;
    for index in evidence.first..evidence.green.len() {
        let Some(green) = evidence.green[index] else { continue };
        let requests = green.samples.unwrap_or(0.0);
        if requests < limits.min_requests as f64 {
            continue;
        }
        judged += 1;
        let blue = evidence.blue.get(index).copied().flatten().map_or(0.0, |blue| blue.value);
        let down = green.value >= limits.share && blue < limits.blue_below;
        row = if down { row + 1 } else { 0 };
        if row >= limits.periods || (down && requests >= limits.at_once_from as f64) {
            return told(limits, Outcome::Fail, green, judged);
        }
        if worst.is_none_or(|worst| green.value > worst.value) {
            worst = Some(green);
        }
    }
    match worst {
        Some(worst) => told(limits, Outcome::Pass, worst, judged),
        // Silence is the other gates' to tell; an outage is what is seen, not what is not.
        None => Finding::new(NAME, Outcome::Pass, "no period with enough requests to see one"),
    }
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
