//! The hidden level of a service: its rate of bad events, the same for both colours, as it moves from period to period.
//!
//! A filter on a lattice of logarithms (a hidden Markov model). It never decides what the level is: it carries how
//! likely each level is, so that a shared incident, a slow drift and the hour of the day explain themselves before
//! green is blamed. The formulas are in docs/judging.md.

use std::ops::Range;

use super::arithmetic;
use super::series::Count;

/// Distance of two levels on the lattice, in natural logarithms: 10 %. Finer lattices found nothing more (a step of
/// 0.05 gave the same verdicts in the benchmark), since each colour's own noise is never taken to be below 5 %.
pub const STEP: f64 = 0.1;

/// The lattice ends a little above a rate of 1, where every request is bad: the Poisson law knows no upper end.
const TOP: f64 = 0.7;

/// Likelihoods below this share of the largest (a logarithm) are nought. Far below anything that evidence turns on.
const NEGLIGIBLE: f64 = -42.0;
/// Below this the product of weights and likelihoods has lost its digits.
const LEAST_TOTAL: f64 = 1e-30;

/// Rates of bad events, evenly spaced in logarithms.
#[derive(Debug, Clone)]
pub struct Lattice {
    /// Logarithm of the lowest rate.
    low: f64,
    /// The rates (bad events per request).
    rates: Vec<f64>,
    /// How far above the lowest they are, in natural logarithms.
    above: Vec<f64>,
    /// How many of them are levels; those above are levels times a ratio.
    levels: usize,
}

impl Lattice {
    /// A lattice of levels from `low` (natural logarithm of a rate) upwards, with room for `ratios` steps beyond.
    pub fn new(low: f64, ratios: usize) -> Self {
        let levels = ((TOP - low) / STEP).ceil().max(1.0) as usize + 1;
        let rates = (0..levels + ratios).map(|node| arithmetic::exp(low + STEP * node as f64)).collect();
        let above = (0..levels + ratios).map(|node| STEP * node as f64).collect();
        Self { low, rates, above, levels }
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// The level nearest to a natural logarithm of a rate.
    pub fn node(&self, log: f64) -> usize {
        ((log - self.low) / STEP).round().max(0.0) as usize
    }

    /// Natural logarithm of a level.
    pub fn log(&self, level: usize) -> f64 {
        self.low + STEP * level as f64
    }

    /// Likelihood of `count` at every level, and at `ratios` steps beyond, when the colour's own noise has the squared
    /// coefficient of variation `noise`: negative binomial with mean `of * rate` and variance `mean + noise * mean^2`.
    pub fn likelihood(&self, count: Count, noise: f64, ratios: usize) -> Likelihood {
        let nodes = self.levels + ratios;
        if count.of <= 0.0 {
            return Likelihood { scale: 0.0, relative: vec![1.0; nodes], heavy: 0..nodes };
        }
        let size = 1.0 / noise;
        let start = count.bad * (count.of.ln() + self.low);
        let log = |above: f64, rate: f64| {
            start + count.bad * above - (count.bad + size) * arithmetic::ln(1.0 + noise * count.of * rate)
        };
        // One peak, where the rate is the share of bad events; what is not negligible lies around it.
        let peak = ((count.bad / count.of).ln() - self.low) / STEP;
        let peak = (peak.round().max(0.0) as usize).min(nodes - 1);
        let highest = log(self.above[peak], self.rates[peak]);
        let counts = |node: usize| log(self.above[node], self.rates[node]) - highest >= NEGLIGIBLE;
        let heavy = first(0..peak, counts)..first(peak..nodes, |node| !counts(node));
        let mut relative = vec![0.0; nodes];
        let places = self.above[heavy.clone()].iter().zip(&self.rates[heavy.clone()]);
        for (relative, (above, rate)) in relative[heavy.clone()].iter_mut().zip(places) {
            *relative = log(*above, *rate) - highest;
        }
        // On its own, so that the compiler works out several at a time.
        for relative in &mut relative[heavy.clone()] {
            *relative = arithmetic::exp(*relative);
        }
        Likelihood { scale: highest + constant(count.bad, noise), relative, heavy }
    }
}

/// The first of a range for which a condition holds that holds for all after it too; the end if there is none.
fn first(range: Range<usize>, condition: impl Fn(usize) -> bool) -> usize {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = usize::midpoint(start, end);
        if condition(middle) { end = middle } else { start = middle + 1 }
    }
    start
}

/// The part of the negative binomial's logarithm that no rate changes; it differs between beliefs about the noise.
pub fn constant(bad: f64, noise: f64) -> f64 {
    let size = 1.0 / noise;
    libm::lgamma(bad + size) - libm::lgamma(size) - libm::lgamma(bad + 1.0) + bad * noise.ln()
}

/// How likely a count is at every rate of the lattice.
#[derive(Debug, Clone)]
pub struct Likelihood {
    /// Logarithm of the largest.
    scale: f64,
    /// All of them, as shares of the largest.
    relative: Vec<f64>,
    /// Where they are not negligible.
    heavy: Range<usize>,
}

impl Likelihood {
    /// The same at every level for a colour that is `steps` above it, and at least at the node `floor`.
    pub fn with_floor(&self, steps: usize, floor: usize, levels: usize) -> Self {
        let lifted = floor.saturating_sub(steps).min(levels);
        let mut relative = vec![self.relative[floor]; lifted];
        relative.extend_from_slice(&self.relative[lifted + steps..levels + steps]);
        let end = self.heavy.end.saturating_sub(steps).min(levels);
        let heavy = if self.heavy.contains(&floor) {
            0..end.max(lifted)
        } else {
            self.heavy.start.saturating_sub(steps).clamp(lifted, levels)..end
        };
        Self { scale: self.scale, heavy: heavy.start..heavy.end.max(heavy.start), relative }
    }
}

/// How the level goes from one period to the next: it stays near where it was, is drawn anew from what history shows,
/// or jumps anywhere (an incident).
#[derive(Debug, Clone)]
pub struct Motion {
    stay: f64,
    jump: f64,
    /// How likely a level stays and goes so many steps, from `half` down to `half` up. The same in both directions.
    spread: Vec<f64>,
    /// The most steps.
    half: usize,
}

impl Motion {
    /// A level that stays with probability `stay`, wandering by `deviation` (of its logarithm), and jumps with
    /// probability `jump`.
    pub fn new(stay: f64, deviation: f64, jump: f64) -> Self {
        let half = (3.0 * deviation / STEP).ceil().max(1.0) as i32;
        let bell = |steps: i32| (-0.5 * (f64::from(steps) * STEP / deviation).powi(2)).exp();
        let total: f64 = (-half..=half).map(bell).sum();
        let spread = (-half..=half).map(|steps| stay * bell(steps) / total).collect();
        Self { stay, jump, spread, half: half as usize }
    }
}

/// Joint weight of the data so far and of each level: `exp(scale) * weights`, where the weights sum to 1.
#[derive(Debug, Clone)]
pub struct Track {
    scale: f64,
    weights: Vec<f64>,
    /// Where weights may be other than 0.
    heavy: Range<usize>,
}

impl Track {
    /// Nothing seen yet; `prior` is how likely each level is, all together 1.
    pub fn new(prior: Vec<f64>) -> Self {
        Self { scale: 0.0, heavy: 0..prior.len(), weights: prior }
    }

    /// A track without any weight.
    pub fn nought(levels: usize) -> Self {
        Self { scale: f64::NEG_INFINITY, weights: vec![0.0; levels], heavy: 0..0 }
    }

    /// The same levels as if nothing had been seen.
    #[must_use]
    pub fn fresh(self) -> Self {
        Self { scale: 0.0, ..self }
    }

    /// Natural logarithm of the likelihood of all data so far.
    pub fn log_total(&self) -> f64 {
        self.scale
    }

    /// Adds a share (its natural logarithm) of another track, and normalises.
    pub fn add(&mut self, other: &Self, log_share: f64) {
        let more = other.scale + log_share;
        let highest = self.scale.max(more);
        if highest == f64::NEG_INFINITY {
            return;
        }
        let (mine, theirs) = (share(self.scale - highest), share(more - highest));
        let total = mine + theirs;
        let (scale, mine, theirs) = (highest + arithmetic::ln(total), mine / total, theirs / total);
        for (weight, more) in self.weights.iter_mut().zip(&other.weights) {
            *weight = *weight * mine + more * theirs;
        }
        self.heavy = if self.heavy.is_empty() {
            other.heavy.clone()
        } else {
            self.heavy.start.min(other.heavy.start)..self.heavy.end.max(other.heavy.end)
        };
        self.scale = scale;
    }

    /// Lets the level move for one period, then takes in what was seen: blue at the level, green at `ratio` steps
    /// above it. `usual` is what history shows; `room` is room to work in.
    pub fn advance(
        &mut self,
        (motion, usual): (&Motion, &[f64]),
        (blue, green): (&Likelihood, &Likelihood),
        ratio: usize,
        room: &mut Room,
    ) {
        if self.try_advance((motion, usual), (blue, green), ratio, room) {
            return;
        }
        let levels = self.weights.len();
        let redrawn = 1.0 - motion.stay - motion.jump;
        let anywhere = motion.jump / levels as f64;
        let moved = room.moved(motion, levels, &(0..levels));
        for ((weight, moved), usual) in self.weights.iter_mut().zip(moved).zip(usual) {
            *weight = moved + redrawn * usual + anywhere;
        }
        self.contradicted(blue, &green.relative[ratio..ratio + levels]);
    }

    /// The same for one of many explanations: one that the data contradict is given up.
    pub fn advance_or_vanish(
        &mut self,
        moving: (&Motion, &[f64]),
        seen: (&Likelihood, &Likelihood),
        ratio: usize,
        room: &mut Room,
    ) {
        if !self.try_advance(moving, seen, ratio, room) {
            self.scale = f64::NEG_INFINITY;
            self.weights.fill(0.0);
            self.heavy = 0..0;
        }
    }

    /// False when hardly a level explains what was seen; what the weights were is then in `room`.
    fn try_advance(
        &mut self,
        (motion, usual): (&Motion, &[f64]),
        (blue, green): (&Likelihood, &Likelihood),
        ratio: usize,
        room: &mut Room,
    ) -> bool {
        if self.scale == f64::NEG_INFINITY {
            return true;
        }
        let levels = self.weights.len();
        // Green's rates go on beyond the last level.
        let first = blue.heavy.start.max(green.heavy.start.saturating_sub(ratio)).min(levels);
        let last = blue.heavy.end.min(green.heavy.end.saturating_sub(ratio));
        let heavy = first..last.max(first);
        let green_at = &green.relative[ratio..ratio + levels];
        let redrawn = 1.0 - motion.stay - motion.jump;
        let anywhere = motion.jump / levels as f64;
        self.scale += blue.scale + green.scale;
        room.enter(self, motion);
        let moved = room.moved(motion, levels, &heavy);
        let mut seen = std::mem::take(&mut self.weights);
        seen[..heavy.start].fill(0.0);
        seen[heavy.end..].fill(0.0);
        let sources = moved.iter().zip(&usual[heavy.clone()]);
        let likely = blue.relative[heavy.clone()].iter().zip(&green_at[heavy.clone()]);
        for ((seen, (moved, usual)), (blue, green)) in seen[heavy.clone()].iter_mut().zip(sources).zip(likely)
        {
            *seen = (moved + redrawn * usual + anywhere) * (blue * green);
        }
        let total = sum(&seen[heavy.clone()]);
        self.weights = seen;
        if total < LEAST_TOTAL {
            return false;
        }
        self.scale += arithmetic::ln(total);
        let share = 1.0 / total;
        self.weights[heavy.clone()].iter_mut().for_each(|weight| *weight *= share);
        self.heavy = heavy;
        true
    }

    /// The colours contradict each other so much that hardly a level explains both: logarithms, over all levels.
    fn contradicted(&mut self, blue: &Likelihood, green_at: &[f64]) {
        let logs: Vec<f64> = self
            .weights
            .iter()
            .zip(&blue.relative)
            .zip(green_at)
            .map(|((weight, blue), green)| {
                [weight, blue, green].iter().map(|factor| factor.max(f64::MIN_POSITIVE).ln()).sum()
            })
            .collect();
        let total = log_sum(&logs);
        self.scale += total;
        self.weights = logs.iter().map(|log| (log - total).exp()).collect();
        self.heavy = 0..self.weights.len();
    }
}

/// Room to work in, so that none is asked for in every period.
#[derive(Debug, Default)]
pub struct Room {
    /// The weights of a track, with room at both ends.
    from: Vec<f64>,
    /// Where they go.
    to: Vec<f64>,
}

impl Room {
    /// Takes in the weights of a track.
    fn enter(&mut self, track: &Track, motion: &Motion) {
        let (levels, margin) = (track.weights.len(), 2 * motion.half);
        self.from.clear();
        self.from.resize(levels + 2 * margin, 0.0);
        let heavy = track.heavy.clone();
        self.from[heavy.start + margin..heavy.end + margin].copy_from_slice(&track.weights[heavy]);
    }

    /// Where levels that stay go, for a part of the lattice; what would leave the lattice stays at its last level.
    fn moved(&mut self, motion: &Motion, levels: usize, part: &Range<usize>) -> &[f64] {
        let half = motion.half;
        self.to.resize(self.to.len().max(levels + 2 * half), 0.0);
        // Places are those of the lattice plus `half`, since some are beyond its ends.
        let first = if part.start == 0 { 0 } else { part.start + half };
        let last = if part.end == levels { levels + 2 * half } else { part.end + half };
        let to = &mut self.to[first..last];
        to.fill(0.0);
        // Four steps at a time: what is worked out most often should be read and written least often.
        let (fours, rest) = motion.spread.as_chunks::<4>();
        for (four, step) in fours.iter().zip((0..).step_by(4)) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|more| &self.from[first + step + more..last + step + more]);
            for ((((to, a), b), c), d) in to.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *to += (four[0] * a + four[1] * b) + (four[2] * c + four[3] * d);
            }
        }
        for (share, step) in rest.iter().zip(4 * fours.len()..) {
            for (to, from) in to.iter_mut().zip(&self.from[first + step..last + step]) {
                *to += share * from;
            }
        }
        if part.start == 0 {
            let below: f64 = self.to[..half].iter().sum();
            self.to[half] += below;
        }
        if part.end == levels {
            let above: f64 = self.to[levels + half..levels + 2 * half].iter().sum();
            self.to[levels + half - 1] += above;
        }
        &self.to[part.start + half..part.end + half]
    }
}

/// A sum in eight lanes, which the processor adds at the same time; in a fixed order, so the same bits each time.
fn sum(values: &[f64]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// Logarithm of a sum of numbers that are given by their logarithms.
pub fn log_sum(logs: &[f64]) -> f64 {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    highest + arithmetic::ln(logs.iter().map(|log| share(log - highest)).sum::<f64>())
}

/// A number by its logarithm, which is at most 0; what is next to nothing is not less than that.
fn share(log: f64) -> f64 {
    arithmetic::exp(log.max(-700.0))
}
