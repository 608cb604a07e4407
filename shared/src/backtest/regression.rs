//! The smallest regression that would have been found: the A/A windows again, with bad events added to green.

use serde::Serialize;

use super::windows::Window;
use crate::judge::noise;
use crate::judge::series::Past;
use crate::policy::plan::Plan;
use crate::recording::{self, Bad, Counts, Recording, Tally, Traffic, Verdict};

/// How many times the usual bad events green is given, from the first minute on.
pub const RATIOS: [f64; 8] = [1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0];
/// A regression is found when it is rolled back in this share of the windows: 4 of 5.
pub const SURE: f64 = 0.8;
/// So many windows, evenly spread, tell whether a ratio is found: 80 % is then known to 3 %.
const ENOUGH: usize = 200;
/// Up to this mean a Poisson number is drawn by its law, above it by the normal law, which is then within a thousandth.
const LARGE: f64 = 500.0;

/// The smallest regression that a gate finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Smallest {
    /// What has become more.
    pub gate: Bad,
    /// How many times as much; `None` when not even the largest of [`RATIOS`] is found.
    pub ratio: Option<f64>,
    /// Bad events per request, 0 to 1, that this ratio (or the largest) comes to in the median window.
    pub share: f64,
    /// Share of the windows in which it is rolled back, 0 to 1.
    pub rolled_back: f64,
    /// Minutes until then in the median window, if most are rolled back.
    pub minutes: Option<usize>,
}

/// Goes up the ratios until one is found. `None` without windows that have this count.
pub(super) fn smallest(
    windows: &[Window],
    bad: Bad,
    plan: &Plan,
    say: &mut dyn FnMut(&str),
) -> Option<Smallest> {
    let known: Vec<Subject> = windows.iter().enumerate().filter_map(|at| Subject::new(at, bad)).collect();
    let chosen: Vec<&Subject> = known.iter().step_by(known.len().div_ceil(ENOUGH).max(1)).collect();
    let mut last = None;
    for ratio in RATIOS.into_iter().filter(|_| !chosen.is_empty()) {
        say(&format!("looking for {ratio} times the {}", bad.name()));
        let minutes: Vec<Option<usize>> =
            chosen.iter().map(|subject| subject.rolled_back(bad, ratio, plan)).collect();
        let rolled_back = minutes.iter().flatten().count() as f64 / minutes.len() as f64;
        let found = rolled_back >= SURE;
        last = Some(Smallest {
            gate: bad,
            ratio: found.then_some(ratio),
            share: (ratio * median(chosen.iter().map(|subject| subject.rate))).min(1.0),
            rolled_back,
            minutes: median_minute(&minutes),
        });
        if found {
            break;
        }
    }
    last
}

/// The upper median of positive numbers.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The upper median, where a window that is never rolled back comes last.
fn median_minute(minutes: &[Option<usize>]) -> Option<usize> {
    let mut sorted: Vec<usize> = minutes.iter().map(|minute| minute.unwrap_or(usize::MAX)).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().filter(|minute| *minute != usize::MAX)
}

/// A window to which bad events are added.
struct Subject<'a> {
    traffic: &'a Traffic,
    /// Its number, which its random numbers depend on.
    number: usize,
    /// Usual bad events per request.
    rate: f64,
}

impl<'a> Subject<'a> {
    /// `None` when the window has no such count.
    fn new((number, window): (usize, &'a Window), bad: Bad) -> Option<Self> {
        let Recording::Traffic(traffic) = &window.rollout else { return None };
        bad.known_from(traffic)?;
        let past: Vec<Past> = traffic
            .history
            .iter()
            .map(|before| Past { total: bad.count(&before.total()), zones: Vec::new() })
            .collect();
        Some(Self { traffic, number, rate: noise::learn(&past).rate })
    }

    /// The minute in which green with so many times its bad events is rolled back.
    fn rolled_back(&self, bad: Bad, ratio: f64, plan: &Plan) -> Option<usize> {
        let answer = recording::judge(&Recording::Traffic(self.worse(bad, ratio)), plan);
        answer.minute.filter(|_| answer.verdict == Verdict::RollBack)
    }

    /// The window with this count alone, so that no other gate has a say but the outage lane, and more of it on green.
    fn worse(&self, bad: Bad, ratio: f64) -> Traffic {
        let mut traffic = self.traffic.clone();
        for before in &mut traffic.history {
            let total = alone(bad, &before.total());
            before.server_errors = total.server_errors;
            before.connection_errors = total.connection_errors;
            before.slow_requests = total.slow_requests;
            before.zones.iter_mut().for_each(|zone| *zone = alone(bad, zone));
        }
        for (minute, seen) in traffic.minutes.iter_mut().enumerate() {
            for counts in [&mut seen.blue, &mut seen.green].into_iter().flatten() {
                *counts = alone(bad, counts);
            }
            if let Some(counts) = &mut seen.green
                && let Some(count) = bad.count(counts)
            {
                let extra = poisson((ratio - 1.0) * self.rate * count.of, [self.number, minute]);
                // Where a retry has already counted twice there may be more than requests.
                *bad.tally_mut(counts) = Tally::Of((count.bad + extra).min(count.of).max(count.bad));
            }
        }
        traffic
    }
}

/// The requests and one count of bad events.
fn alone(bad: Bad, counts: &Counts) -> Counts {
    let mut alone = Counts { requests: counts.requests, ..Counts::default() };
    *bad.tally_mut(&mut alone) = bad.tally(counts);
    alone
}

/// A Poisson number. The same seed gives one that never falls as the mean rises, so a larger ratio never has fewer bad
/// events in the same minute.
pub(super) fn poisson(mean: f64, seed: [usize; 2]) -> f64 {
    let [first, second] = uniform(seed);
    if mean > LARGE {
        let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
        return (mean + mean.sqrt() * normal).round().max(0.0);
    }
    let mut number = 0.0;
    let mut probability = (-mean).exp();
    let mut up_to = probability;
    // Beyond the mean the probabilities soon end; rounding may leave their sum just below the number drawn.
    while up_to < first && (number < mean || probability > 0.0) {
        number += 1.0;
        probability *= mean / number;
        up_to += probability;
    }
    number
}

/// Two numbers above 0 and below 1, by `SplitMix64` (Steele, Lea, Flood 2014).
fn uniform([window, minute]: [usize; 2]) -> [f64; 2] {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = |state: u64| {
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    };
    let begin = mixed(((window as u64) << 32) + minute as u64 + GAMMA);
    [1, 2].map(|draw: u64| {
        let bits = mixed(begin.wrapping_add(draw.wrapping_mul(GAMMA))) >> 12;
        (bits as f64 + 0.5) / 2_f64.powi(52)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_mean_and_variance_of_their_law() {
        for mean in [0.0, 0.3, 4.0, 80.0, 480.0, 520.0, 1e5] {
            let drawn: Vec<f64> = (0..4000).map(|index| poisson(mean, [index / 15, index % 15])).collect();
            let number = drawn.len() as f64;
            let seen = drawn.iter().sum::<f64>() / number;
            let variance = drawn.iter().map(|drawn| (drawn - seen).powi(2)).sum::<f64>() / number;
            // Four standard errors.
            assert!((seen - mean).abs() <= 4.0 * (mean / number).sqrt(), "{mean}: {seen}");
            assert!((variance - mean).abs() <= 0.12 * mean + 0.01, "{mean}: variance {variance}");
        }
    }

    #[test]
    fn more_is_never_fewer_and_a_seed_is_a_number() {
        for seed in 0..50 {
            let numbers: Vec<f64> =
                (0..60).map(|step| poisson(0.1 * 1.2_f64.powi(step), [seed, 3])).collect();
            // The two laws meet at 500, where one draws differently than the other.
            let (small, large): (Vec<f64>, Vec<f64>) = numbers.iter().partition(|number| **number < 400.0);
            assert!(small.is_sorted() && large.iter().all(|number| *number >= 400.0), "{numbers:?}");
            assert_eq!(poisson(7.0, [seed, 3]).to_bits(), poisson(7.0, [seed, 3]).to_bits());
        }
        assert_ne!(uniform([1, 2]).map(f64::to_bits), uniform([2, 1]).map(f64::to_bits));
    }

    #[test]
    fn a_median_knows_of_those_that_are_never_rolled_back() {
        assert_eq!(median_minute(&[Some(3), None, Some(2)]), Some(3));
        assert_eq!(median_minute(&[Some(3), None, None]), None);
        assert_eq!(median_minute(&[]), None);
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-12);
    }
}
