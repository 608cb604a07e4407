//! How noisy a service is, learned from what it did before the shift.
//!
//! Two kinds must be told apart. Noise of the *level* moves both colours together and harms nobody: the level is
//! integrated out. Noise of each *colour* on its own looks like a difference between them: it must be expected, or good
//! releases are rolled back. Availability zones tell the two apart, since zones of one colour in one minute are an A/A
//! experiment. Without zones, or without history, several beliefs are held side by side and the window decides.

use crate::level::{Lattice, Motion, STEP};
use crate::series::{Count, Past};

/// Fewer periods of history than this teach nothing about noise.
const LEAST_HISTORY: usize = 5;
/// Noise of a colour is never taken to be below 5 % (squared): no two colours are ever equal.
const LEAST_NOISE: f64 = 0.05 * 0.05;
/// Nor above that of a colour whose bad events double and halve freely (a coefficient of variation of 1.14).
const MOST_NOISE: f64 = 1.3;
/// What is learned from zones is an estimate from an hour; it is raised by this factor.
const CAUTION: f64 = 1.3;
/// Without zones a colour may be noisier than the history of the whole service, which is the mean of its zones.
const CAUTION_WITHOUT_ZONES: f64 = 3.0;
/// Weight of the belief that colours are as noisy as the whole history, beside what zones say. Noise that hits all
/// zones of one colour alike is invisible to zones; this weight costs next to nothing when there is none.
const WEIGHT_OF_COLOUR_NOISE: f64 = 0.01;
/// Probability that the level jumps anywhere in a period: two incidents a week. It bounds how sure the judge can be when
/// green serves alone, where an incident and a bad release look alike.
const JUMP: f64 = 0.0002;
/// A level without any noise in its history is still not taken to be steadier than 15 %.
const LEAST_DEVIATION: f64 = 0.15;

/// One way in which the service may behave.
#[derive(Debug, Clone)]
pub struct Belief {
    /// How much it is believed, before the window; all beliefs together 1.
    pub weight: f64,
    /// Each colour's own noise: squared coefficient of variation per period.
    pub noise: f64,
    /// The same in the history, where one colour is the mean of its zones.
    pub history_noise: f64,
    /// How likely each level of the lattice is at any time.
    pub usual: Vec<f64>,
    /// How the level may move; history decides between them.
    pub motions: Vec<Motion>,
}

/// What history says in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Bad events per event; half an event is added, so that it is never 0.
    pub rate: f64,
    /// Bad events seen.
    pub bad: f64,
    /// Squared coefficient of variation of the whole service per period, beyond chance.
    pub total_noise: f64,
    /// The same of one zone against the others; `None` without zones.
    pub zone_noise: Option<f64>,
    /// Zones.
    pub zones: usize,
    /// Whether there is enough history to learn from.
    pub enough: bool,
}

impl Learned {
    /// Whether the history is noisy and has no zones, so that nobody knows whose noise it is: the level's, which harms
    /// nobody, or each colour's own.
    pub fn ambiguous(&self) -> bool {
        self.enough && self.zone_noise.is_none() && self.total_noise > LEAST_NOISE
    }
}

/// Learns from the history. Estimates by moments: what the variance has beyond that of Poisson counts, over the squared
/// mean (docs/judging.md).
pub fn learn(history: &[Past]) -> Learned {
    let totals: Vec<Count> = history.iter().filter_map(|past| past.total).collect();
    let bad: f64 = totals.iter().map(|count| count.bad).sum();
    let of: f64 = totals.iter().map(|count| count.of).sum();
    let mean_rate = if of > 0.0 { bad / of } else { 0.0 };
    let total_noise = excess(totals.iter().map(|count| {
        let mean = mean_rate * count.of;
        (count.bad - mean, mean, mean)
    }));
    let zones = history.iter().map(|past| past.zones.len()).max().unwrap_or(0);
    let zone_noise = (zones > 1).then(|| excess(history.iter().flat_map(within_zones)));
    Learned {
        rate: (bad + 0.5) / (of + 10.0),
        bad,
        total_noise,
        zone_noise,
        zones,
        enough: totals.iter().filter(|count| count.of > 0.0).count() >= LEAST_HISTORY,
    }
}

/// For each zone of a period: how far it is from its share of the period's bad events, the variance that chance would
/// give it, and that share. In an order that does not depend on how zones are named, so that sums have the same bits.
fn within_zones(past: &Past) -> impl Iterator<Item = (f64, f64, f64)> {
    let mut zones = past.zones.clone();
    zones.sort_by(|one, other| one.of.total_cmp(&other.of).then(one.bad.total_cmp(&other.bad)));
    let bad: f64 = zones.iter().map(|zone| zone.bad).sum();
    let of: f64 = zones.iter().map(|zone| zone.of).sum();
    let telling = zones.len() > 1 && of > 0.0;
    zones.into_iter().filter(move |_| telling).map(move |zone| {
        let share = zone.of / of;
        (zone.bad - bad * share, bad * share * (1.0 - share), bad * share)
    })
}

/// Excess variance over squared mean, from (deviation, variance by chance, mean); not below 0.
fn excess(parts: impl Iterator<Item = (f64, f64, f64)>) -> f64 {
    let (above, squares) = parts.fold((0.0, 0.0), |(above, squares), (deviation, chance, mean)| {
        (above + deviation * deviation - chance, squares + mean * mean)
    });
    if squares > 0.0 { (above / squares).max(0.0) } else { 0.0 }
}

/// The lattice that holds every level that this service may show.
pub fn lattice(learned: &Learned, ratios: usize) -> Lattice {
    let low = if learned.enough { learned.rate.ln() - 3.0 } else { 1e-6_f64.ln() };
    Lattice::new(low.min(0.0), ratios)
}

/// The ways in which this service may behave, with their weights.
pub fn beliefs(learned: &Learned, lattice: &Lattice) -> Vec<Belief> {
    let belief = |weight: f64, noise: f64, history_noise: f64, level_noise: f64| {
        let deviation = level_noise.ln_1p().sqrt().max(LEAST_DEVIATION);
        Belief {
            weight,
            noise: noise.max(LEAST_NOISE),
            history_noise: history_noise.max(LEAST_NOISE),
            usual: usual(learned, lattice, deviation),
            motions: motions(learned, deviation),
        }
    };
    let total = learned.total_noise.min(MOST_NOISE);
    match learned.zone_noise {
        _ if !learned.enough => [(0.8, 0.01), (0.15, 0.25), (0.05, MOST_NOISE)]
            .map(|(weight, noise)| belief(weight, noise, LEAST_NOISE, 0.0))
            .into(),
        Some(zone_noise) => {
            let noise = CAUTION * zone_noise;
            let of_zones = zone_noise / learned.zones as f64;
            let level = (learned.total_noise - of_zones).max(0.0);
            if total > 1.5 * noise.max(LEAST_NOISE) {
                vec![
                    belief(1.0 - WEIGHT_OF_COLOUR_NOISE, noise, of_zones, level),
                    belief(WEIGHT_OF_COLOUR_NOISE, total, total, 0.0),
                ]
            } else {
                vec![belief(1.0, noise, of_zones, level)]
            }
        }
        None if total <= LEAST_NOISE => vec![belief(1.0, 0.0, 0.0, learned.total_noise)],
        None => vec![
            belief(0.4, 0.0, 0.0, learned.total_noise),
            belief(0.3, total, total, total / 4.0),
            belief(0.3, (CAUTION_WITHOUT_ZONES * total).min(MOST_NOISE), total, total / 4.0),
        ],
    }
}

/// How likely each level is at any time: log-normal around history's rate, as wide as the level is noisy and the rate
/// uncertain; every level alike where there is no history.
fn usual(learned: &Learned, lattice: &Lattice, deviation: f64) -> Vec<f64> {
    let levels = lattice.levels();
    if !learned.enough {
        return vec![1.0 / levels as f64; levels];
    }
    let middle = learned.rate.ln() - deviation * deviation / 2.0;
    let width = (deviation * deviation + 1.0 / (learned.bad + 1.0)).sqrt();
    let bell: Vec<f64> =
        (0..levels).map(|level| (-0.5 * ((lattice.log(level) - middle) / width).powi(2)).exp()).collect();
    let total: f64 = bell.iter().sum();
    bell.iter().map(|weight| weight / total).collect()
}

/// Levels that are drawn anew nearly every period, that swing over several, and that drift.
fn motions(learned: &Learned, deviation: f64) -> Vec<Motion> {
    if learned.enough {
        vec![Motion::new(0.3, 0.5 * STEP, JUMP), Motion::new(0.95, 0.45 * deviation, JUMP)]
    } else {
        vec![Motion::new(0.5, 0.2, JUMP), Motion::new(0.95, 0.2, JUMP)]
    }
}
