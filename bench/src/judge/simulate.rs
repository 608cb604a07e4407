//! Simulated rollouts.
//!
//! Requests of a colour (or zone) in a minute are Poisson around its share of the traffic. Bad events are Poisson around
//! requests x base rate x level x the colour's own noise x what the release makes of it, and never more than requests.
//! Metrics are delivered at once: the delay of a real metric is the same for every judge.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Poisson, StandardNormal};
use rand_pcg::Pcg64;
use shiftgate::judge::series::{Count, Past};

use super::world::{Cell, HISTORY, Metric, Mode, Noise, Onset, Release, ZONES};

/// Slow requests where all is well: the limit is about blue's 99th percentile.
const SLOW: f64 = 0.01;
/// Server errors where the cell is about slow requests.
const ERRORS: f64 = 0.002;
/// Connection errors are anywhere from 0 to this.
const MOST_CONNECTION_ERRORS: f64 = 0.000_05;
/// The minutes of an incident, counted from 0, and how many times the level it is.
const INCIDENT: (std::ops::Range<isize>, f64) = (4..8, 25.0);

/// One rollout, as the gates see it.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Requests with a server error.
    pub errors: Events,
    /// Requests with a connection error.
    pub connection: Events,
    /// Slow requests.
    pub slow: Events,
}

/// One kind of bad events.
#[derive(Debug, Clone)]
pub struct Events {
    /// Blue before the shift, oldest first.
    pub history: Vec<Past>,
    /// Both colours, oldest first.
    pub window: Vec<Minute>,
}

/// One minute of both colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// The old version.
    pub blue: Count,
    /// The new version.
    pub green: Count,
    /// The true rate of a good version, but for a colour's own noise. For the oracle alone.
    pub level: f64,
}

impl Rollout {
    /// The rollout of a cell with this number. Any two runs, cells and metrics are independent, and the same run of the
    /// same cell is the same whatever else is simulated.
    pub fn new(cell: &Cell, run: usize) -> Self {
        let mut random = Pcg64::seed_from_u64(seed(&cell.name(), run));
        let traffic = Traffic::new(cell, &mut random);
        let good = |base: f64| {
            let setting = super::world::Setting { base, ..cell.setting };
            Cell { setting, release: Release::Good, onset: Onset::AtOnce }
        };
        let connection = good(random.random::<f64>() * MOST_CONNECTION_ERRORS);
        let (errors, slow) = match cell.setting.metric {
            Metric::Errors => (*cell, good(SLOW)),
            Metric::Slow => (good(ERRORS), *cell),
        };
        let mut events = |cell: &Cell| Events::new(cell, &traffic, &mut random);
        Self { errors: events(&errors), connection: events(&connection), slow: events(&slow) }
    }

    /// What the cell is about.
    pub fn subject(&self, metric: Metric) -> &Events {
        match metric {
            Metric::Errors => &self.errors,
            Metric::Slow => &self.slow,
        }
    }
}

impl Events {
    fn new(cell: &Cell, traffic: &Traffic, random: &mut Pcg64) -> Self {
        let setting = &cell.setting;
        let mut level = Level::new(setting.noise, random);
        let history = (-(HISTORY as isize)..0)
            .zip(&traffic.history)
            .map(|(minute, requests)| {
                let rate = setting.base * level.at(minute, random) * of_colour(setting.noise, random);
                let zones = requests.map(|of| {
                    let rate = rate * of_arm(setting.noise, random);
                    Count { of, bad: bad(of, rate, random) }
                });
                let total = Count {
                    of: zones.iter().map(|zone| zone.of).sum(),
                    bad: zones.iter().map(|zone| zone.bad).sum(),
                };
                Past { total: (total.of > 0.0).then_some(total), zones: zones.to_vec() }
            })
            .collect();
        let window = traffic
            .window
            .iter()
            .enumerate()
            .map(|(minute, &[blue, green])| {
                let level = setting.base * level.at(minute as isize, random);
                let mut count = |of: f64, rate: f64| {
                    let own = of_colour(setting.noise, random) * of_arm(setting.noise, random);
                    Count { of, bad: bad(of, rate * own, random) }
                };
                Minute {
                    blue: count(blue, level),
                    green: count(green, cell.green_rate(level, minute)),
                    level,
                }
            })
            .collect();
        Self { history, window }
    }

    /// What a judge is told of the past in a mode.
    pub fn told(&self, mode: Mode) -> Vec<Past> {
        match mode {
            Mode::Zones => self.history.clone(),
            Mode::NoZones => {
                let without = |past: &Past| Past { total: past.total, zones: Vec::new() };
                self.history.iter().map(without).collect()
            }
            Mode::NoHistory => Vec::new(),
        }
    }

    /// Green's bad events up to a minute (counted from 1); of the whole window without one.
    pub fn served(&self, until: Option<usize>) -> f64 {
        self.window.iter().take(until.unwrap_or(usize::MAX)).map(|minute| minute.green.bad).sum()
    }
}

/// Requests, which all kinds of bad events share.
struct Traffic {
    history: Vec<[f64; ZONES]>,
    /// Blue's and green's.
    window: Vec<[f64; 2]>,
}

impl Traffic {
    fn new(cell: &Cell, random: &mut Pcg64) -> Self {
        let all = f64::from(cell.setting.traffic);
        let history =
            (0..HISTORY).map(|_| [(); ZONES].map(|()| poisson(all / ZONES as f64, random))).collect();
        let minutes = cell.setting.window;
        let window = (0..minutes)
            .map(|minute| {
                let green = cell.setting.split.green(minute, minutes);
                [1.0 - green, green].map(|share| poisson(all * share, random))
            })
            .collect();
        Self { history, window }
    }
}

/// The level of both colours as it moves, around 1.
struct Level {
    noise: Noise,
    /// The wave's beginning, in radians.
    phase: f64,
    /// Where the autocorrelated level is, in standard deviations.
    state: f64,
}

impl Level {
    fn new(noise: Noise, random: &mut Pcg64) -> Self {
        Self { noise, phase: random.random::<f64>() * TAU, state: StandardNormal.sample(random) }
    }

    /// The level of a minute, counted from the shift; minutes are asked for one after the other.
    fn at(&mut self, minute: isize, random: &mut Pcg64) -> f64 {
        match self.noise {
            Noise::Shared => log_normal(1.0, random),
            Noise::Autocorrelated => {
                let (memory, variance) = (0.9_f64, 0.25_f64.ln_1p());
                let new: f64 = StandardNormal.sample(random);
                self.state = memory * self.state + (1.0 - memory * memory).sqrt() * new;
                (variance.sqrt() * self.state - variance / 2.0).exp()
            }
            Noise::Drift => (0.7 * (self.phase + minute as f64 / 120.0 * TAU).sin()).exp(),
            Noise::Incident if INCIDENT.0.contains(&minute) => INCIDENT.1,
            Noise::Clean | Noise::Incident | Noise::PerArm(_) | Noise::Colour(_) => 1.0,
        }
    }
}

/// A colour's own noise that its zones share.
fn of_colour(noise: Noise, random: &mut Pcg64) -> f64 {
    if let Noise::Colour(cv) = noise { log_normal(cv, random) } else { 1.0 }
}

/// The own noise of a colour or zone.
fn of_arm(noise: Noise, random: &mut Pcg64) -> f64 {
    if let Noise::PerArm(cv) = noise { log_normal(cv, random) } else { 1.0 }
}

fn bad(of: f64, rate: f64, random: &mut Pcg64) -> f64 {
    poisson(of * rate, random).min(of)
}

/// Log-normal with mean 1.
fn log_normal(cv: f64, random: &mut Pcg64) -> f64 {
    let variance = (cv * cv).ln_1p();
    let normal: f64 = StandardNormal.sample(random);
    (variance.sqrt() * normal - variance / 2.0).exp()
}

fn poisson(mean: f64, random: &mut Pcg64) -> f64 {
    // A mean of 0 has no law, and needs none.
    Poisson::new(mean).map_or(0.0, |law| law.sample(random))
}

/// FNV-1a of a cell's name and the number of the run.
fn seed(name: &str, run: usize) -> u64 {
    let bytes = name.bytes().chain((run as u64).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::world::{Setting, Split, WINDOW};
    use super::*;

    fn cell(noise: Noise, release: Release, split: Split) -> Cell {
        let setting =
            Setting { metric: Metric::Errors, traffic: 30_000, base: 0.01, split, noise, window: WINDOW };
        Cell { setting, release, onset: Onset::AtOnce }
    }

    fn runs(cell: &Cell) -> Vec<Rollout> {
        (0..200).map(|run| Rollout::new(cell, run)).collect()
    }

    /// Mean and squared coefficient of variation.
    fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let number = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / number;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / number;
        (mean, variance / mean / mean)
    }

    #[test]
    fn counts_have_the_means_that_the_cell_says() {
        let runs = runs(&cell(Noise::Clean, Release::Worse(3.0), Split::Canary));
        let minutes = || runs.iter().flat_map(|run| run.errors.window.iter());
        let near = |values: Vec<f64>, expect: f64| {
            let (mean, _) = moments(values.iter().copied());
            assert!((mean / expect - 1.0).abs() < 0.02, "{mean} instead of {expect}");
        };
        near(minutes().map(|minute| minute.green.of).collect(), 3_000.0);
        near(minutes().map(|minute| minute.blue.of).collect(), 27_000.0);
        near(minutes().map(|minute| minute.green.bad).collect(), 90.0);
        near(minutes().map(|minute| minute.blue.bad).collect(), 270.0);
        let zones = runs.iter().flat_map(|run| run.errors.history.iter()).flat_map(|past| past.zones.iter());
        near(zones.map(|zone| zone.bad).collect(), 100.0);
        let slow = runs.iter().flat_map(|run| run.slow.window.iter());
        near(slow.map(|minute| minute.green.bad).collect(), 30.0);
    }

    #[test]
    fn each_noise_is_as_large_as_it_says_and_hits_whom_it_says() {
        // (noise, the level's CV^2, a colour's own CV^2 in the window, a zone's own CV^2 in the history)
        for (noise, level, own, zone) in [
            (Noise::Clean, 0.0, 0.0, 0.0),
            (Noise::Shared, 1.0, 0.0, 0.0),
            (Noise::Autocorrelated, 0.25, 0.0, 0.0),
            (Noise::PerArm(0.5), 0.0, 0.25, 0.25),
            (Noise::Colour(0.5), 0.0, 0.25, 0.0),
        ] {
            let runs = runs(&cell(noise, Release::Good, Split::Constant));
            let minutes = || runs.iter().flat_map(|run| run.errors.window.iter());
            let (mean, cv2) = moments(minutes().map(|minute| minute.level));
            assert!((mean / 0.01 - 1.0).abs() < 0.06, "{noise}: level {mean}");
            assert!((cv2 - level).abs() < 0.1 * level.max(0.1), "{noise}: level {cv2}");
            let rates = minutes().map(|minute| minute.green.bad / minute.green.of / minute.level);
            let (_, cv2) = moments(rates);
            assert!((cv2 - own).abs() < 0.1 * own.max(0.15), "{noise}: colour {cv2}");
            // Two zones of one minute: CV^2 of their ratio to their mean is half of one zone's.
            let pasts = runs.iter().flat_map(|run| run.errors.history.iter());
            let differences = pasts.map(|past| {
                let [a, b] = [0, 1].map(|zone: usize| past.zones[zone].bad / past.zones[zone].of);
                (a - b).powi(2) / 2.0
            });
            let (between, _) = moments(differences);
            let cv2 = between / 0.01_f64.powi(2);
            assert!((cv2 - zone).abs() < 0.15 * zone.max(0.15), "{noise}: zone {cv2}");
        }
    }

    #[test]
    fn an_autocorrelated_level_remembers_and_a_shared_one_does_not() {
        let memory = |noise: Noise| {
            let runs = runs(&cell(noise, Release::Good, Split::Canary));
            let logs: Vec<Vec<f64>> = runs
                .iter()
                .map(|run| run.errors.window.iter().map(|minute| minute.level.ln()).collect())
                .collect();
            let (mean, _) = moments(logs.iter().flatten().copied());
            let products = |lag: usize| {
                let pairs = logs.iter().flat_map(|run| run.iter().zip(&run[lag..]));
                moments(pairs.map(|(a, b)| (a - mean) * (b - mean))).0
            };
            products(1) / products(0)
        };
        assert!((memory(Noise::Autocorrelated) - 0.9).abs() < 0.05);
        assert!(memory(Noise::Shared).abs() < 0.05);
    }

    #[test]
    fn an_incident_is_there_for_both_colours_from_minute_5_to_8() {
        let run = Rollout::new(&cell(Noise::Incident, Release::Good, Split::Constant), 0);
        let high: Vec<usize> = (0..WINDOW).filter(|minute| run.errors.window[*minute].level > 0.2).collect();
        assert_eq!(high, [4, 5, 6, 7]);
        assert!(high.iter().all(|minute| run.errors.window[*minute].blue.bad > 3_000.0));
    }

    #[test]
    fn a_run_is_the_same_each_time_and_no_other() {
        let cell = cell(Noise::Shared, Release::Good, Split::Linear);
        let window = |run: usize| Rollout::new(&cell, run).errors.window;
        assert_eq!(window(7), window(7));
        assert_ne!(window(7), window(8));
        assert_eq!(window(7)[WINDOW - 1].blue, Count { of: 0.0, bad: 0.0 });
    }
}
