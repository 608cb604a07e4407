//! Slow requests where CloudWatch does not count them: green's quantile of each minute beside blue's. A sign test, weaker
//! than counting, but it may be looked at after every minute too.
//!
//! Wealth of a gambler who stakes a share of it, minute by minute, on green's quantile being the higher one: fair at best
//! while green is as fast as blue, so it reaches k with a chance of at most 1 in k (Ville; Waudby-Smith and Ramdas,
//! *Estimating means of bounded random variables by betting*). It is the mean of several stakes.

use shiftgate_judge::level::log_sum;

use super::median;
use crate::verdict::{ByChance, Caveat, Finding, Outcome, Quantity};

/// Shares of the wealth that are staked.
const STAKES: [f64; 4] = [0.25, 0.5, 0.75, 0.95];
/// Green must be slower than blue by so much to count as slower.
const MARGIN: f64 = 1.1;
/// Samples that a minute must have above a quantile for it to mean something. With fewer, the quantile of the colour with
/// less traffic is too low: regressions would be missed.
const SAMPLES_ABOVE: f64 = 10.0;
/// Percentiles to choose from.
const PERCENTILES: [f64; 4] = [99.0, 95.0, 90.0, 50.0];
/// Fewer samples in a period do not bear even the median.
pub const LEAST_SAMPLES: u64 = 20;

/// The highest percentile that a period with so many samples can bear; `None` when not even the median.
pub fn highest_percentile(samples: f64) -> Option<f64> {
    PERCENTILES.into_iter().find(|percentile| samples * (100.0 - percentile) >= 100.0 * SAMPLES_ABOVE)
}

/// The percentile of blue and green in one period, in the metric's unit.
pub type Pair = (f64, f64);

/// What the periods say, oldest first. `chance` is what the gate may spend, 0 to 1; `percentile` names what was read.
pub fn slower(gate: &str, metric: &str, percentile: f64, pairs: &[Pair], chance: f64) -> Finding {
    let uncounted = Caveat::NoTrimmedCount { metric: metric.to_owned(), percentile: percentile as u32 };
    let evidence = evidence(pairs);
    let decided = evidence.iter().position(|evidence| *evidence >= -chance.ln());
    let seen = &pairs[..decided.map_or(pairs.len(), |period| period + 1)];
    let [blue, green] =
        [|pair: &Pair| pair.0, |pair: &Pair| pair.1].map(|side| median(seen.iter().map(side)));
    let (Some(blue), Some(green)) = (blue.map(Quantity::seconds), green.map(Quantity::seconds)) else {
        let none = Finding::new(gate, Outcome::Inconclusive, "too few samples of both colours in any period");
        return none.but(uncounted);
    };
    let by_chance = ByChance::of_evidence(evidence[..seen.len()].iter().copied(), chance);
    let above = seen.iter().filter(|pair| is_slower(pair)).count();
    let levels = format!(
        "p{percentile} of green {green} beside blue's {blue}, and above it in {above} of {} periods",
        seen.len()
    );
    let (outcome, summary) = match decided {
        Some(_) => (Outcome::Fail, format!("{levels}: {by_chance} if green were as fast as blue")),
        None => (Outcome::Inconclusive, format!("{levels}: no regression seen")),
    };
    Finding {
        value: Some(green),
        blue: Some(blue),
        periods: Some(seen.len()),
        by_chance: Some(by_chance),
        ..Finding::new(gate, outcome, summary).but(uncounted)
    }
}

fn is_slower((blue, green): &Pair) -> bool {
    *green > MARGIN * blue
}

/// Natural logarithm of the evidence after each period.
fn evidence(pairs: &[Pair]) -> Vec<f64> {
    let mut wealth = [-(STAKES.len() as f64).ln(); STAKES.len()];
    pairs
        .iter()
        .map(|pair| {
            for (wealth, stake) in wealth.iter_mut().zip(STAKES) {
                *wealth += if is_slower(pair) { stake } else { -stake }.ln_1p();
            }
            log_sum(&wealth)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wealth_grows_as_the_stakes_say() {
        // One slower minute: the mean of 1.25, 1.5, 1.75 and 1.95 is 1.6125. Then one that is not: of 1.25 x 0.75 and so on.
        let grown = evidence(&[(1.0, 2.0), (1.0, 1.05)]);
        let expect = [1.6125, (1.25 * 0.75 + 1.5 * 0.5 + 1.75 * 0.25 + 1.95 * 0.05) / 4.0];
        for (grown, expect) in grown.iter().zip(expect) {
            assert!((grown.exp() - expect).abs() < 1e-12, "{} {expect}", grown.exp());
        }
    }

    #[test]
    fn a_version_that_is_slower_in_every_minute_is_found_and_one_that_is_not_never() {
        // A quarter of 1.95^k + 1.75^k + 1.5^k + 1.25^k is 283 after 10 periods and 530 after 11; 444 are needed.
        let told = |pairs: &[Pair]| slower("slow requests", "TargetResponseTime", 95.0, pairs, 0.00225);
        let found = told(&[(0.2, 0.4); 20]);
        assert_eq!((found.outcome, found.periods), (Outcome::Fail, Some(11)));
        assert!(found.summary.starts_with("p95 of green 400 ms beside blue's 200 ms"), "{}", found.summary);
        assert_eq!(told(&[(0.2, 0.4); 10]).outcome, Outcome::Inconclusive);
        assert_eq!(told(&[(0.2, 0.2); 500]).outcome, Outcome::Inconclusive);
        assert_eq!(told(&[]).outcome, Outcome::Inconclusive);
    }

    #[test]
    fn the_percentile_fits_the_traffic() {
        assert!(highest_percentile(LEAST_SAMPLES as f64).is_some());
        assert!(highest_percentile(LEAST_SAMPLES as f64 - 1.0).is_none());
        let found = [1000.0, 999.0, 200.0, 100.0, 99.0, 20.0, 19.0].map(highest_percentile);
        assert_eq!(found, [Some(99.0), Some(95.0), Some(95.0), Some(90.0), Some(50.0), Some(50.0), None]);
    }

    proptest! {
        /// Fair coins: the mean of the wealth over all outcomes of a few minutes is 1, so no look has an edge.
        #[test]
        fn nobody_gets_rich_on_equal_colours(minutes in 1_u32..10) {
            let outcomes = 1_u32 << minutes;
            let wealth: f64 = (0..outcomes)
                .map(|outcome| {
                    let pairs: Vec<Pair> = (0..minutes)
                        .map(|minute| (1.0, if outcome >> minute & 1 == 1 { 2.0 } else { 1.0 }))
                        .collect();
                    evidence(&pairs).last().map_or(1.0, |last| last.exp())
                })
                .sum();
            prop_assert!((wealth / f64::from(outcomes) - 1.0).abs() < 1e-9, "{}", wealth / f64::from(outcomes));
        }
    }
}
