//! The after-shift judge on metrics without a change and with one: how often it gives a false alarm, and what it finds,
//! beside simpler statistics under the same placebo test.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Poisson, StandardNormal, StudentT};
use rand_pcg::Pcg64Mcg;
use shiftgate::judge::placebo::{Change, Direction, placebo};
use std::f64::consts::TAU;
use std::fmt::Write;

/// Periods of the window after the change, of the hour before it, and of a day: minutes.
const WINDOW: usize = 10;
const BEFORE: usize = 60;
const DAY: usize = 1440;
/// False alarms are counted at these chances; what is found, at 1 % and 0.25 %.
const CHANCES: [f64; 4] = [0.05, 0.01, 0.0025, 0.001];
const FOUND_AT: [f64; 2] = [0.01, 0.0025];
/// Changes in units of a series' noise, and as ratios.
const STEPS: [f64; 5] = [0.5, 1.0, 2.0, 3.0, 5.0];
const RATIOS: [f64; 3] = [1.5, 2.0, 3.0];

/// A kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Log-normal, each minute on its own.
    White,
    /// Log-normal with memory: autoregressive, 0.9 a minute.
    Autocorrelated,
    /// A wave a day (from half to double), one a week, and noise with memory.
    Seasonal,
    /// The same, changed where the day rises most steeply.
    SteepestHour,
    /// Heavy-tailed noise, and rare bursts of a few minutes whose heights have no mean square.
    Bursty,
    /// Errors per request of a small service: half of the minutes have none, traffic has a wave a day.
    Errors,
    /// Noise that is seven times as large at one time of the day as at another.
    UnevenNoise,
}

const KINDS: [Kind; 7] = [
    Kind::White,
    Kind::Autocorrelated,
    Kind::Seasonal,
    Kind::SteepestHour,
    Kind::Bursty,
    Kind::Errors,
    Kind::UnevenNoise,
];

/// How a change is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// The one that we use.
    Ours,
    /// Difference of the means of the window and of the hour before, judged when the window is over.
    Means,
    /// The same of logarithms.
    Logs,
    /// Difference of medians.
    Medians,
}

const JUDGES: [Judge; 4] = [Judge::Ours, Judge::Means, Judge::Logs, Judge::Medians];

/// Two tables in Markdown: false alarms and what is found, in percent of `runs` changes of each kind after `days` of
/// history.
pub fn run(runs: usize, days: usize) -> String {
    let mut alarms = String::from(
        "| metric | judge | false alarms % at 5 % | 1 % | 0.25 % | 0.1 % |\n|---|---|---|---|---|---|\n",
    );
    let mut found = String::from(
        "| metric | judge | found % at 1 % / 0.25 %: 0.5 s | 1 s | 2 s | 3 s | 5 s | x1.5 | x2 | x3 |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for kind in KINDS {
        for judge in JUDGES {
            let (false_alarms, shares) = trial(kind, judge, runs, days);
            let _ = write!(alarms, "| {kind:?} | {judge:?} |");
            let _ = write!(found, "| {kind:?} | {judge:?} |");
            for share in false_alarms {
                let _ = write!(alarms, " {:.2} |", 100.0 * share);
            }
            for share in shares {
                let _ = write!(found, " {:.0} / {:.0} |", 100.0 * share[0], 100.0 * share[1]);
            }
            alarms.push('\n');
            found.push('\n');
        }
    }
    format!("{alarms}\n{found}")
}

/// Shares of false alarms, and of changes found, of one judge on one kind.
fn trial(kind: Kind, judge: Judge, runs: usize, days: usize) -> ([f64; 4], Vec<[f64; 2]>) {
    let change_at = days * DAY;
    let mut alarms = [0.0; 4];
    let mut found = vec![[0.0; 2]; STEPS.len() + RATIOS.len()];
    for run in 0..runs {
        let mut random = Pcg64Mcg::seed_from_u64(1_000_003 * (run as u64 + 1));
        let (values, noise) = draw(kind, change_at + WINDOW, change_at, &mut random);
        let chance = |factor: f64| {
            let mut values = values.clone();
            for value in &mut values[change_at..] {
                *value *= factor;
            }
            chance(judge, &values, change_at)
        };
        let quiet = chance(1.0);
        for (alarms, nominal) in alarms.iter_mut().zip(CHANCES) {
            *alarms += f64::from(u8::from(quiet <= nominal)) / runs as f64;
        }
        let factors = STEPS.iter().map(|step| (step * noise).exp()).chain(RATIOS);
        for (found, factor) in found.iter_mut().zip(factors) {
            let chance = chance(factor);
            for (found, nominal) in found.iter_mut().zip(FOUND_AT) {
                *found += f64::from(u8::from(chance <= nominal)) / runs as f64;
            }
        }
    }
    (alarms, found)
}

/// The chance that a judge gives to the change; 1 where it cannot judge.
fn chance(judge: Judge, values: &[f64], change_at: usize) -> f64 {
    if judge == Judge::Ours {
        let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
        let change = Change {
            values: &values,
            change_at,
            planned: WINDOW,
            period_seconds: 60,
            direction: Direction::Up,
            tolerate: 1.0,
        };
        return placebo(&change).map_or(1.0, |placebo| placebo.chance);
    }
    let level = |values: &[f64]| match judge {
        Judge::Medians => {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        }
        _ => values.iter().sum::<f64>() / values.len() as f64,
    };
    let least = values[..change_at].iter().copied().filter(|value| *value > 0.0).fold(f64::MAX, f64::min);
    let values: Vec<f64> = match judge {
        Judge::Logs => values.iter().map(|value| value.max(least).ln()).collect(),
        _ => values.to_vec(),
    };
    let rise = |time: usize| level(&values[time..time + WINDOW]) - level(&values[time - BEFORE..time]);
    let now = rise(change_at);
    let times = BEFORE..=change_at - WINDOW;
    let count = times.clone().count();
    let as_large = times.filter(|time| rise(*time) >= now).count();
    (1 + as_large) as f64 / (1 + count) as f64
}

/// A metric, and the deviation of the logarithm of its noise (1 for errors).
fn draw(kind: Kind, periods: usize, change_at: usize, random: &mut Pcg64Mcg) -> (Vec<f64>, f64) {
    let (phase, week): (f64, f64) = (random.random(), random.random());
    let phase = if kind == Kind::SteepestHour { -(change_at as f64) / DAY as f64 } else { phase };
    let wave = |period: usize| (TAU * (period as f64 / DAY as f64 + phase)).sin();
    let weekly = |period: usize| (TAU * (period as f64 / (7 * DAY) as f64 + week)).sin();
    let memory: f64 = match kind {
        Kind::Autocorrelated => 0.9,
        Kind::Seasonal | Kind::SteepestHour => 0.7,
        _ => 0.0,
    };
    let (mut state, mut left, mut height): (f64, usize, f64) = (StandardNormal.sample(random), 0, 0.0);
    let heavy = StudentT::new(3.0).ok();
    let noise = match kind {
        Kind::White | Kind::Autocorrelated => 0.3,
        Kind::Seasonal | Kind::SteepestHour => 0.2,
        Kind::Bursty => 0.173,
        Kind::Errors => 1.0,
        Kind::UnevenNoise => 0.15,
    };
    let values = (0..periods)
        .map(|period| {
            let normal: f64 = StandardNormal.sample(random);
            state = memory * state + (1.0 - memory * memory).sqrt() * normal;
            match kind {
                Kind::White | Kind::Autocorrelated => (noise * state).exp(),
                Kind::Seasonal | Kind::SteepestHour => {
                    (0.7 * wave(period) + 0.2 * weekly(period) + noise * state).exp()
                }
                Kind::Bursty => {
                    if left == 0 && random.random::<f64>() < 0.01 {
                        left = random.random_range(1..=4);
                        height = 1.5 * (1.0 - random.random::<f64>()).powf(-1.0 / 1.5);
                    }
                    let burst = if left > 0 { height } else { 0.0 };
                    left = left.saturating_sub(1);
                    let noise: f64 = heavy.map_or(normal, |heavy| heavy.sample(random));
                    (0.1 * noise).exp() * (1.0 + burst)
                }
                Kind::Errors => {
                    let requests = 1000.0 * (0.8 * wave(period)).exp();
                    Poisson::new(0.001 * requests).map_or(0.0, |errors| errors.sample(random)) / requests
                }
                Kind::UnevenNoise => (noise * wave(period).exp() * state).exp(),
            }
        })
        .collect();
    (values, noise)
}
