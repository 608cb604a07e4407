//! What a rollout can find: the smallest regression that the judge would see, with this traffic and this noise.

use crate::compare::{Comparison, Process};
use crate::noise;
use crate::series::{Count, Pair, Past};

/// The share of rollouts in which a regression of the size that is told is found, as a quantile of the normal law: 80 %.
const SURE: f64 = 0.8416;

/// Requests of one period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// To blue.
    pub blue: f64,
    /// To green.
    pub green: f64,
}

/// A regression that a rollout can find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findable {
    /// Green's bad events per event over the service's usual ones; above 1.
    pub ratio: f64,
    /// Green's bad events per event, 0 to 1. A ratio alone says little about a service that hardly ever fails.
    pub share: f64,
}

/// The smallest regression that is found in four rollouts of five, if it is there from the first period on; `None` when
/// not even a green that answers every request with an error would be.
///
/// The judge is shown the counts that a regression gives on average. Evidence behaves nearly like a random walk whose
/// variance is twice its drift (as the logarithm of a likelihood ratio does), so it must reach its limit with so much to
/// spare.
pub fn smallest_found(
    history: &[Past],
    traffic: &[Traffic],
    comparison: &Comparison,
    chance: f64,
) -> Option<Findable> {
    let rate = noise::learn(history).rate;
    let largest = 1.0 / rate;
    let limit = -chance.ln();
    // needed - SURE * sqrt(2 * needed) = limit
    let needed = (SURE / 2_f64.sqrt() + (SURE * SURE / 2.0 + limit).sqrt()).powi(2);
    // What is learned from history is the same for every ratio.
    let before = Process::new(history, traffic.len(), comparison);
    let found = |ratio: f64| {
        let mut process = before.clone();
        traffic.iter().any(|traffic| process.next(expected(traffic, rate, ratio)).for_rollback() >= needed)
    };
    if !found(largest) {
        return None;
    }
    let (mut missed, mut seen) = (1.0_f64.ln(), largest.ln());
    while seen - missed > 0.02 {
        let middle = f64::midpoint(missed, seen);
        if found(middle.exp()) { seen = middle } else { missed = middle }
    }
    Some(Findable { ratio: seen.exp(), share: rate * seen.exp() })
}

/// The counts that a period gives on average, when green has `ratio` times the bad events of blue.
fn expected(traffic: &Traffic, rate: f64, ratio: f64) -> Pair {
    let count = |of: f64, rate: f64| (of > 0.0).then(|| Count { of, bad: of * rate.min(1.0) });
    Pair { blue: count(traffic.blue, rate), green: count(traffic.green, rate * ratio) }
}
