//! The hidden level of a service: its rate of bad events, the same for both colours, as it moves from period to period.
//!
//! A filter on a lattice of logarithms (a hidden Markov model). It never decides what the level is: it carries how
//! likely each level is, so that a shared incident, a slow drift and the hour of the day explain themselves before
//! green is blamed. The formulas are in docs/judging.md.

use std::ops::Range;

use crate::arithmetic;
use crate::series::Count;

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
    /// That of a colour at each of `levels` levels when it is `steps` above the level, and at least at the node `floor`.
    pub fn above(&self, steps: usize, floor: usize, levels: usize) -> Above<'_> {
        let lifted = floor.saturating_sub(steps).min(levels);
        let end = self.heavy.end.saturating_sub(steps).min(levels);
        let heavy = if self.heavy.contains(&floor) {
            0..end.max(lifted)
        } else {
            let start = self.heavy.start.saturating_sub(steps).clamp(lifted, levels);
            start..end.max(start)
        };
        Above {
            scale: self.scale,
            lifted,
            at_floor: self.relative[floor],
            relative: &self.relative[steps..levels + steps],
            heavy,
        }
    }
}

/// How likely a count is at every level, for a colour that is above the level.
#[derive(Debug, Clone)]
pub struct Above<'a> {
    /// Logarithm of the largest.
    scale: f64,
    /// Levels below this are lifted to the floor.
    lifted: usize,
    /// The likelihood there.
    at_floor: f64,
    /// That of every other level.
    relative: &'a [f64],
    /// Where they are not negligible.
    heavy: Range<usize>,
}

impl Above<'_> {
    /// Where neither colour's likelihood is negligible; may be empty.
    fn heavy_beside(&self, blue: &Likelihood) -> Range<usize> {
        let first = blue.heavy.start.max(self.heavy.start).min(self.relative.len());
        first..blue.heavy.end.min(self.heavy.end).max(first)
    }

    /// The likelihood of both colours at a part of the levels.
    fn beside(&self, blue: &Likelihood, part: Range<usize>, both: &mut [f64]) {
        let lifted = self.lifted.clamp(part.start, part.end);
        let (below, rest) = both.split_at_mut(lifted - part.start);
        for (both, blue) in below.iter_mut().zip(&blue.relative[part.start..lifted]) {
            *both = blue * self.at_floor;
        }
        let green = &self.relative[lifted..part.end];
        for ((both, blue), green) in rest.iter_mut().zip(&blue.relative[lifted..part.end]).zip(green) {
            *both = blue * green;
        }
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

    /// Where levels that stay go, as many as `to` has; `from` begins with the lowest neighbour of the first.
    fn stay(&self, from: &[f64], to: &mut [f64]) {
        let levels = to.len();
        let neighbour = |step: usize| &from[step..step + levels];
        // Four steps at a time: what is worked out most often should be read and written least often. An odd number of
        // steps leaves one or three.
        let (fours, rest) = self.spread.as_chunks::<4>();
        for (index, four) in fours.iter().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|more| neighbour(4 * index + more));
            let places = to.iter_mut().zip(a).zip(b).zip(c).zip(d);
            let of_four = |a: &f64, b: &f64, c: &f64, d: &f64| {
                (four[0] * a + four[1] * b) + (four[2] * c + four[3] * d)
            };
            if index == 0 {
                places.for_each(|((((to, a), b), c), d)| *to = of_four(a, b, c, d));
            } else {
                places.for_each(|((((to, a), b), c), d)| *to += of_four(a, b, c, d));
            }
        }
        if fours.is_empty() {
            to.fill(0.0);
        }
        let last = 4 * fours.len();
        if let [first, second, third] = rest {
            let [a, b, c] = [0, 1, 2].map(|more| neighbour(last + more));
            for (((to, a), b), c) in to.iter_mut().zip(a).zip(b).zip(c) {
                *to = ((*to + first * a) + second * b) + third * c;
            }
        } else {
            for (share, step) in rest.iter().zip(last..) {
                for (to, from) in to.iter_mut().zip(neighbour(step)) {
                    *to += share * from;
                }
            }
        }
    }
}

/// How the level moves in a service whose levels are as likely as its history shows.
#[derive(Debug, Clone)]
pub struct Moving {
    motion: Motion,
    /// How likely each level is drawn anew.
    drawn: Vec<f64>,
    /// How likely each level is jumped to.
    anywhere: f64,
}

impl Moving {
    /// `usual` is how likely each level is at any time.
    pub fn new(motion: Motion, usual: &[f64]) -> Self {
        let redrawn = 1.0 - motion.stay - motion.jump;
        let drawn = usual.iter().map(|usual| redrawn * usual).collect();
        Self { anywhere: motion.jump / usual.len() as f64, drawn, motion }
    }
}

/// Joint weight of the data so far and of each level: `exp(scale) * weights`, where the weights sum to 1.
#[derive(Debug, Clone)]
pub struct Track {
    scale: f64,
    weights: Weights,
}

/// A weight for each level, with room beyond both ends, so that a level's neighbours can always be read.
#[derive(Debug, Clone, Default)]
struct Weights {
    /// `room` noughts, the levels, and `room` noughts.
    padded: Vec<f64>,
    room: usize,
    levels: usize,
    /// The levels whose weight may be other than 0.
    heavy: Range<usize>,
}

impl Weights {
    fn nought(levels: usize, motion: &Motion) -> Self {
        let room = 2 * motion.half;
        Self { padded: vec![0.0; levels + 2 * room], room, levels, heavy: 0..0 }
    }

    /// The weights of a part of the levels.
    fn of(&self, part: Range<usize>) -> &[f64] {
        &self.padded[part.start + self.room..part.end + self.room]
    }

    /// The same, to be changed.
    fn of_mut(&mut self, part: Range<usize>) -> &mut [f64] {
        &mut self.padded[part.start + self.room..part.end + self.room]
    }

    /// Nothing outside `part` has weight any more.
    fn keep(&mut self, part: Range<usize>) {
        let old = std::mem::replace(&mut self.heavy, part.clone());
        self.of_mut(old.start..old.end.min(part.start).max(old.start)).fill(0.0);
        self.of_mut(old.start.max(part.end).min(old.end)..old.end).fill(0.0);
    }
}

impl Track {
    /// Nothing seen yet; `prior` is how likely each level is, all together 1.
    pub fn new(prior: &[f64], motion: &Motion) -> Self {
        let mut weights = Weights::nought(prior.len(), motion);
        weights.heavy = 0..prior.len();
        weights.of_mut(0..prior.len()).copy_from_slice(prior);
        Self { scale: 0.0, weights }
    }

    /// A track of as many levels without any weight.
    #[must_use]
    pub fn nought(&self) -> Self {
        let padded = vec![0.0; self.weights.padded.len()];
        Self { scale: f64::NEG_INFINITY, weights: Weights { padded, heavy: 0..0, ..self.weights } }
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
        self.add_part(other, log_share, 0..self.weights.levels);
    }

    /// The same where only a part of the levels is looked at afterwards.
    fn add_part(&mut self, other: &Self, log_share: f64, part: Range<usize>) {
        let more = other.scale + log_share;
        let highest = self.scale.max(more);
        if highest == f64::NEG_INFINITY {
            return;
        }
        // The share of the larger is 1.
        let smaller = share(self.scale.min(more) - highest);
        let (mine, theirs) = if self.scale >= more { (1.0, smaller) } else { (smaller, 1.0) };
        let total = mine + theirs;
        let (scale, mine, theirs) = (highest + arithmetic::ln(total), mine / total, theirs / total);
        let (own, others) = (&self.weights.heavy, &other.weights.heavy);
        let heavy = if own.is_empty() {
            others.clone()
        } else {
            own.start.min(others.start)..own.end.max(others.end)
        };
        // Outside of this both are 0, or nobody looks.
        let first = heavy.start.max(part.start).min(heavy.end);
        let changed = first..heavy.end.min(part.end).max(first);
        let others = other.weights.of(changed.clone());
        for (weight, more) in self.weights.of_mut(changed).iter_mut().zip(others) {
            *weight = *weight * mine + more * theirs;
        }
        self.weights.heavy = heavy;
        self.scale = scale;
    }

    /// Lets the level move for one period, then takes in what was seen of both colours. `room` is room to work in.
    pub fn advance(&mut self, moving: &Moving, blue: &Likelihood, green: &Above, room: &mut Room) {
        if self.try_advance(moving, blue, green, room) {
            return;
        }
        // The colours contradict each other so much that hardly a level explains both: logarithms, over all levels.
        let levels = self.weights.levels;
        room.fit(&self.weights);
        room.next.of_mut(0..levels).fill(1.0);
        room.move_on(&self.weights, moving, 0..levels);
        let least = |factor: f64| factor.max(f64::MIN_POSITIVE).ln();
        let green_at =
            |level: usize| if level < green.lifted { green.at_floor } else { green.relative[level] };
        let weights = room.next.of(0..levels).iter().zip(&blue.relative).enumerate();
        let logs: Vec<f64> = weights
            .map(|(level, (weight, blue))| [*weight, *blue, green_at(level)].into_iter().map(least).sum())
            .collect();
        room.next.heavy = 0..levels;
        let total = log_sum(&logs);
        self.scale += total;
        for (weight, log) in self.weights.of_mut(0..levels).iter_mut().zip(&logs) {
            *weight = (log - total).exp();
        }
        self.weights.heavy = 0..levels;
    }

    /// The same for one of many explanations, after a share of another track was added to it: one that the data contradict
    /// is given up.
    pub fn begin_and_advance(
        &mut self,
        (other, log_share): (&Self, f64),
        moving: &Moving,
        (blue, green): (&Likelihood, &Above),
        room: &mut Room,
    ) {
        let heavy = green.heavy_beside(blue);
        if !heavy.is_empty() {
            // Levels further away move nowhere that is likely.
            let near = heavy.start.saturating_sub(moving.motion.half)..heavy.end + moving.motion.half;
            self.add_part(other, log_share, near);
            if self.try_advance(moving, blue, green, room) {
                return;
            }
        }
        self.scale = f64::NEG_INFINITY;
        self.weights.keep(0..0);
    }

    /// False when hardly a level explains what was seen; the weights are then what they were.
    fn try_advance(&mut self, moving: &Moving, blue: &Likelihood, green: &Above, room: &mut Room) -> bool {
        if self.scale == f64::NEG_INFINITY {
            return true;
        }
        let heavy = green.heavy_beside(blue);
        self.scale += blue.scale + green.scale;
        room.fit(&self.weights);
        room.next.keep(heavy.clone());
        green.beside(blue, heavy.clone(), room.next.of_mut(heavy.clone()));
        room.move_on(&self.weights, moving, heavy.clone());
        let total = sum(room.next.of(heavy.clone()));
        if total < LEAST_TOTAL {
            return false;
        }
        self.scale += arithmetic::ln(total);
        let share = 1.0 / total;
        room.next.of_mut(heavy).iter_mut().for_each(|weight| *weight *= share);
        std::mem::swap(&mut self.weights, &mut room.next);
        true
    }
}

/// Room to work in, so that none is asked for in every period.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The weights that come next.
    next: Weights,
    /// Where levels that stay go.
    moved: Vec<f64>,
}

impl Room {
    /// As large as these weights.
    fn fit(&mut self, weights: &Weights) {
        if self.next.padded.len() != weights.padded.len() {
            self.next = Weights { padded: vec![0.0; weights.padded.len()], heavy: 0..0, ..*weights };
            self.moved = vec![0.0; weights.padded.len()];
        }
    }

    /// Multiplies the likelihoods in `next`, for a part of the levels, by where the levels of `from` go. What would leave the
    /// lattice stays at its last level.
    fn move_on(&mut self, from: &Weights, moving: &Moving, part: Range<usize>) {
        let (half, levels) = (moving.motion.half, from.levels);
        // Places are those of the lattice plus `half`, since some are beyond its ends.
        let first = if part.start == 0 { 0 } else { part.start + half };
        let last = if part.end == levels { levels + 2 * half } else { part.end + half };
        moving.motion.stay(&from.padded[first..], &mut self.moved[first..last]);
        if part.start == 0 {
            let below: f64 = self.moved[..half].iter().sum();
            self.moved[half] += below;
        }
        if part.end == levels {
            let above: f64 = self.moved[levels + half..levels + 2 * half].iter().sum();
            self.moved[levels + half - 1] += above;
        }
        let sources = self.moved[part.start + half..part.end + half].iter().zip(&moving.drawn[part.clone()]);
        for (weight, (moved, drawn)) in self.next.of_mut(part).iter_mut().zip(sources) {
            *weight *= moved + drawn + moving.anywhere;
        }
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
#[inline]
fn share(log: f64) -> f64 {
    arithmetic::exp(log.max(-700.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A track as the formulas have it: every level in every period, nothing left out, nothing kept from before.
    struct Plain {
        scale: f64,
        weights: Vec<f64>,
    }

    impl Plain {
        fn add(&mut self, other: &Self, log_share: f64) {
            let more = other.scale + log_share;
            let highest = self.scale.max(more);
            if highest == f64::NEG_INFINITY {
                return;
            }
            let (mine, theirs) = (share(self.scale - highest), share(more - highest));
            let total = mine + theirs;
            for (weight, more) in self.weights.iter_mut().zip(&other.weights) {
                *weight = *weight * (mine / total) + more * (theirs / total);
            }
            self.scale = highest + arithmetic::ln(total);
        }

        fn moved(&self, motion: &Motion) -> Vec<f64> {
            let (half, levels) = (motion.half as isize, self.weights.len() as isize);
            let at = |level: isize| {
                usize::try_from(level).ok().and_then(|level| self.weights.get(level)).copied().unwrap_or(0.0)
            };
            let stay = |level: isize| {
                let from = |step: usize| at(level - half + step as isize);
                let (fours, rest) = motion.spread.as_chunks::<4>();
                let of_fours = fours.iter().zip((0..).step_by(4)).fold(0.0, |sum, ([a, b, c, d], step)| {
                    sum + ((a * from(step) + b * from(step + 1)) + (c * from(step + 2) + d * from(step + 3)))
                });
                rest.iter()
                    .zip(4 * fours.len()..)
                    .fold(of_fours, |sum, (share, step)| sum + share * from(step))
            };
            let mut moved: Vec<f64> = (0..levels).map(stay).collect();
            moved[0] += (-half..0).map(stay).sum::<f64>();
            moved[self.weights.len() - 1] += (levels..levels + half).map(stay).sum::<f64>();
            moved
        }

        /// False when hardly a level explains what was seen.
        fn advance(&mut self, moving: (&Motion, &[f64]), blue: &Likelihood, green: &Above, vanishes: bool) {
            if self.scale == f64::NEG_INFINITY {
                return;
            }
            let (motion, usual) = moving;
            let (redrawn, anywhere) =
                (1.0 - motion.stay - motion.jump, motion.jump / self.weights.len() as f64);
            let moved = self.moved(motion);
            let prior: Vec<f64> =
                moved.iter().zip(usual).map(|(moved, usual)| moved + redrawn * usual + anywhere).collect();
            let green_at = |level: usize| {
                if level < green.lifted { green.at_floor } else { green.relative[level] }
            };
            self.scale += blue.scale + green.scale;
            let joint: Vec<f64> = (0..prior.len())
                .map(|level| prior[level] * (blue.relative[level] * green_at(level)))
                .collect();
            // Sums have the bits of their order.
            let total = sum(&joint[green.heavy_beside(blue)]);
            if total >= LEAST_TOTAL {
                self.scale += arithmetic::ln(total);
                let share = 1.0 / total;
                self.weights = joint.iter().map(|weight| weight * share).collect();
            } else if vanishes {
                *self = Self { scale: f64::NEG_INFINITY, weights: vec![0.0; prior.len()] };
            } else {
                let logs: Vec<f64> = (0..prior.len())
                    .map(|level| {
                        let factors = [prior[level], blue.relative[level], green_at(level)];
                        factors.iter().map(|factor| factor.max(f64::MIN_POSITIVE).ln()).sum()
                    })
                    .collect();
                let total = log_sum(&logs);
                self.scale += total;
                self.weights = logs.iter().map(|log| (log - total).exp()).collect();
            }
        }

        fn check(&self, track: &Track) -> Result<(), TestCaseError> {
            prop_assert_eq!(self.scale.to_bits(), track.scale.to_bits());
            let bits =
                |weights: &[f64]| -> Vec<u64> { weights.iter().map(|weight| weight.to_bits()).collect() };
            prop_assert_eq!(bits(&self.weights), bits(track.weights.of(0..self.weights.len())));
            Ok(())
        }
    }

    fn any_count() -> impl Strategy<Value = Count> {
        let of = prop_oneof![1 => Just(0.0), 8 => (0.0..12.0_f64).prop_map(|log| log.exp().round())];
        (of, prop_oneof![Just(0.0), (-9.0..0.0_f64).prop_map(f64::exp), Just(1.0)])
            .prop_map(|(of, share)| Count { of, bad: (of * share).round() })
    }

    proptest! {
        /// What is left out and what is kept from period to period changes no bit.
        #[test]
        fn tracks_are_those_of_the_formulas_to_the_bit(
            low in -12.0..-1.0_f64,
            noise in prop_oneof![Just(0.0025), 0.0025..1.3_f64],
            motion in (0.0..0.99_f64, 0.02..0.9_f64).prop_map(|(stay, deviation)| Motion::new(stay, deviation, 0.0002)),
            (steps, floor) in (0_usize..35, prop_oneof![Just(0_usize), 1_usize..90]),
            periods in proptest::collection::vec((any_count(), any_count(), -12.0..0.0_f64), 1..12),
        ) {
            let lattice = Lattice::new(low, 35);
            let levels = lattice.levels();
            let usual = vec![1.0 / levels as f64; levels];
            let moving = Moving::new(motion.clone(), &usual);
            let floor = floor.min(levels - 1);
            let (mut room, mut good) = (Room::default(), Track::new(&usual, &motion));
            let mut worse = good.nought();
            let mut plain_good = Plain { scale: 0.0, weights: usual.clone() };
            let mut plain_worse = Plain { scale: f64::NEG_INFINITY, weights: vec![0.0; levels] };
            for (blue, green, log_share) in periods {
                let (blue, green) = (lattice.likelihood(blue, noise, 0), lattice.likelihood(green, noise, 35));
                let (at_level, above) = (green.above(0, 0, levels), green.above(steps, floor, levels));
                plain_worse.add(&plain_good, log_share);
                plain_worse.advance((&motion, &usual), &blue, &above, true);
                plain_good.advance((&motion, &usual), &blue, &at_level, false);
                worse.begin_and_advance((&good, log_share), &moving, (&blue, &above), &mut room);
                good.advance(&moving, &blue, &at_level, &mut room);
                plain_worse.check(&worse)?;
                plain_good.check(&good)?;
            }
        }
    }
}
