//! The after-shift judge: one version serves everything, so there is nothing to compare it with but its own past. Is the
//! change at a known moment larger than the changes that history shows at other times?
//!
//! A placebo test. One statistic `S(t)` says how much the metric seems to rise at time `t`. It is taken at the moment of
//! the change and at every earlier time at which the same windows fit, the placebo times. The chance is the share of
//! placebo times with a statistic at least as large.
//!
//! With `y = ln(value + floor)`, and for every look `k` of the window (after 1, 2, ... periods):
//!
//! - `forecast(t, k)`: least squares over the placebo times, from the means of the last 3, 15 and 60 periods before `t`
//!   and from what the level did at the same clock time on other days;
//! - `D(t, k)`: mean, and median, of `y` over the `k` periods from `t` on, less the forecast. A change by a factor `r`
//!   moves `D` by `ln r` whatever the forecast, so the best forecast finds most;
//! - divided by how rough the 60 periods before `t` were, beside other times;
//! - divided by the 99 % point of the same at placebo times, so that all looks weigh alike;
//! - `S(t)` is the largest of them. Since placebo times are looked at as often as the change is, looking every minute
//!   costs nothing: the chance at any look holds for all looks together.
//!
//! Times that overlap are alike. The 4,250 placebo times of three days are worth about 1,000 independent ones, and
//! [`Placebo::independent`] says how many: one for each run of times above the 95 % point (the runs estimator of the
//! extremal index, after Leadbetter). So beyond the 95 % point `u` the chance is not only what is counted, but the larger
//! of that and an exponential tail whose mean excess `m` is known from `c` runs: `share * (1 + (S - u) / (c m))^-c`, the
//! predictive law of an exponential variable with an unknown mean. A chance below 1 in (1 + placebo times) cannot be
//! shown; see [`Placebo::smallest`].
//!
//! What happens by the clock, such as a nightly job, is expected of its time of the day: where most earlier days show
//! nearly as large a change within five periods of the same time, the change is no alarm.
//!
//! What was tried, and figures, are in docs/judging.md.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lengths of the windows before the change whose means the forecast knows, in periods; the last is also that of the
/// window over which roughness is measured.
const BEFORE: [usize; 3] = [3, 15, 60];
/// The longest of them.
const LONG: usize = BEFORE[2];
/// The clock time on other days is taken twice: alone, for what happens by the clock, and with so many periods on either
/// side, for what comes and goes with the hour.
const AROUND: usize = 15;
/// Looks of a window; a longer window is looked at after fewer, ever longer stretches.
const LOOKS: usize = 10;
/// Fewer placebo times than this are too little to judge by.
const LEAST_TIMES: usize = 180;
/// The share of placebo times whose statistics make the tail.
const TAIL: f64 = 0.05;
/// What happens by the clock is so many periods early or late,
const BY_THE_CLOCK: usize = 5;
/// and changes that are so much of another are nearly as large.
const NEARLY: f64 = 0.8;
/// A rise smaller than this is rounding.
const NOTHING: f64 = 1e-9;
/// How much less sure one must be that a change is larger than tolerated, than that there is one; as in `compare`.
const LENIENCE: f64 = 20.0;
/// What the forecast is made of: a constant, the means of three windows, the same clock time on other days twice.
const FEATURES: usize = 6;
/// The forecast is pulled towards the level of the last hour as if so many placebo times had spoken for it.
const PULL: f64 = 100.0;
const DAY_SECONDS: u64 = 86_400;

/// Which change of a metric is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A rise.
    Up,
    /// A fall.
    Down,
    /// Either.
    Any,
}

/// A metric before and after a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change<'a> {
    /// A value per period, oldest first, none negative; `None` is no data. Nothing after the window.
    pub values: &'a [Option<f64>],
    /// Index of the first period after the change.
    pub change_at: usize,
    /// Periods that the window after the change has when it is over. While it is growing, the same number is given at
    /// every look.
    pub planned: usize,
    /// Length of a period in seconds.
    pub period_seconds: u64,
    /// Which way is worse.
    pub direction: Direction,
    /// The ratio of after to before that is tolerated, at least 1; its inverse for a fall.
    pub tolerate: f64,
}

/// How unusual a change is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placebo {
    /// The chance of a change as large at a time without one, over all looks of the window together; from 0 to 1.
    pub chance: f64,
    /// The smallest chance that this history can show. Who asks for a smaller one never gets an alarm, and must call that
    /// inconclusive.
    pub smallest: f64,
    /// The typical value (median) of the hour before (60 periods).
    pub before: f64,
    /// What history forecasts for the window so far.
    pub expected: f64,
    /// The typical value of the window so far.
    pub after: f64,
    /// Placebo times.
    pub times: usize,
    /// Placebo times with a change at least as large.
    pub as_large: usize,
    /// How many independent times the placebo times are worth.
    pub independent: f64,
    /// Most earlier days show nearly as large a change at this time of the day; then `chance` is 1.
    pub daily: bool,
}

/// Why a change cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unjudged {
    /// The same windows fit at too few earlier times.
    #[error("too little history: {times} earlier times to compare with, {least} are needed")]
    TooLittleHistory {
        /// Placebo times.
        times: usize,
        /// How many are needed.
        least: usize,
    },
    /// Half of the last 60 periods before the change have no data.
    #[error("no data before the change")]
    NoDataBefore,
    /// Half of the periods after it, at every look.
    #[error("no data after the change")]
    NoDataAfter,
    /// Ratios of negative values mean nothing.
    #[error("negative values cannot be compared as ratios")]
    Negative,
}

/// Judges the change. Never finds an alarm where there are no data after it.
pub fn placebo(change: &Change<'_>) -> Result<Placebo, Unjudged> {
    let change_at = change.change_at.min(change.values.len());
    let planned = change.planned.max(1);
    let end = change.values.len().min(change_at + planned);
    let values: Vec<Option<f64>> =
        change.values[..end].iter().map(|value| value.filter(|value| value.is_finite())).collect();
    if values.iter().flatten().any(|value| *value < 0.0) {
        return Err(Unjudged::Negative);
    }
    let (history, after) = values.split_at(change_at);
    let floor = floor(history).or_else(|| floor(after)).unwrap_or(1.0);
    let log = |value: f64| (value + floor).ln();
    let unlog = |log: f64| (log.exp() - floor).max(0.0);
    let history: Vec<Option<f64>> = history.iter().map(|value| value.map(log)).collect();
    let after_logs = |factor: f64| -> Vec<Option<f64>> {
        after.iter().map(|value| value.map(|value| log(value * factor))).collect()
    };

    let day = usize::try_from(DAY_SECONDS / change.period_seconds.max(1)).unwrap_or(usize::MAX).max(1);
    let past = Past::new(history, day);
    let times: Vec<usize> = (LONG..(change_at + 1).saturating_sub(planned))
        .filter(|time| past.has_data(*time, planned))
        .collect();
    if times.len() < LEAST_TIMES {
        return Err(Unjudged::TooLittleHistory { times: times.len(), least: LEAST_TIMES });
    }
    if !past.known_before(change_at) {
        return Err(Unjudged::NoDataBefore);
    }
    let looks = looks(planned);
    let signs: &[f64] = match change.direction {
        Direction::Up => &[1.0],
        Direction::Down => &[-1.0],
        Direction::Any => &[1.0, -1.0],
    };
    let learned = Learned::new(&past, &times, &looks, signs);
    // A rise is divided by what is tolerated, a fall multiplied.
    let judged = |tolerate: f64| {
        signs
            .iter()
            .filter_map(|sign| learned.statistic(&after_logs(tolerate.powf(-sign)), *sign))
            .max_by(f64::total_cmp)
    };
    let tolerate = if change.tolerate.is_finite() { change.tolerate.max(1.0) } else { 1.0 };
    let (Some(changed), Some(beyond)) = (judged(1.0), judged(tolerate)) else {
        return Err(Unjudged::NoDataAfter);
    };
    let by_chance = learned.law.chance(changed).max(learned.law.chance(beyond) / LENIENCE);
    let seen = after_logs(1.0);
    let expected = learned.expected(seen.len());
    let daily = learned.law.on_most_days(changed, change_at, day);
    Ok(Placebo {
        chance: if daily { 1.0 } else { by_chance.min(1.0) },
        smallest: learned.law.smallest(),
        before: median(past.logs[change_at - LONG..].iter().flatten().copied()).map_or(0.0, unlog),
        expected: expected.map_or(0.0, unlog),
        after: median(seen.iter().flatten().copied()).map_or(0.0, unlog),
        times: times.len(),
        as_large: learned.law.as_large(changed),
        independent: learned.law.independent,
        daily,
    })
}

/// What is added to every value before its logarithm is taken, in the unit of the values: next to nothing where there are
/// no zeros, and twice what is typical where a tenth or more are zero, since a count of 1 after 0 is no infinite rise.
/// `None` where no value is above 0.
fn floor(values: &[Option<f64>]) -> Option<f64> {
    let (mut known, mut zeros) = (0.0, 0.0);
    for value in values.iter().flatten() {
        known += 1.0;
        zeros += f64::from(u8::from(*value <= 0.0));
    }
    let typical = median(values.iter().flatten().copied().filter(|value| *value > 0.0))?;
    Some(typical * (20.0 * zeros / known).clamp(1e-3, 2.0))
}

/// After how many periods a window is looked at: each, or ten lengths that grow by the same factor.
fn looks(planned: usize) -> Vec<usize> {
    if planned <= LOOKS {
        return (1..=planned).collect();
    }
    let factor = (planned as f64).powf(1.0 / (LOOKS - 1) as f64);
    let mut looks: Vec<usize> =
        (0..LOOKS).map(|look| (factor.powf(look as f64).round() as usize).clamp(1, planned)).collect();
    looks.dedup();
    looks
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| quantile(&mut values, 0.5))
}

/// The value at a quantile, from 0 to 1; of at least one value.
fn quantile(values: &mut [f64], at: f64) -> f64 {
    let index = ((values.len() - 1) as f64 * at) as usize;
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}

/// Sums that make the mean of any stretch cheap.
struct Sums {
    sum: Vec<f64>,
    count: Vec<u32>,
}

impl Sums {
    fn new(values: &[Option<f64>]) -> Self {
        let (mut sum, mut count) = (vec![0.0], vec![0]);
        for (index, value) in values.iter().enumerate() {
            sum.push(sum[index] + value.unwrap_or(0.0));
            count.push(count[index] + u32::from(value.is_some()));
        }
        Self { sum, count }
    }

    /// The mean from one index to before another; `None` when less than half of it has data.
    fn mean(&self, from: usize, to: usize) -> Option<f64> {
        let count = self.count[to] - self.count[from];
        (count > 0 && 2 * count as usize >= to - from)
            .then(|| (self.sum[to] - self.sum[from]) / f64::from(count))
    }
}

/// The history, as logarithms.
struct Past {
    logs: Vec<Option<f64>>,
    sums: Sums,
    /// Differences of neighbours, without sign, capped so that a spike does not make an hour rough.
    rough: Sums,
    /// The mean of the whole history.
    usual: f64,
    /// Periods of a day.
    day: usize,
}

impl Past {
    fn new(logs: Vec<Option<f64>>, day: usize) -> Self {
        let mut steps: Vec<Option<f64>> =
            logs.windows(2).map(|pair| Some((pair[1]? - pair[0]?).abs())).collect();
        let typical = median(steps.iter().flatten().copied().filter(|step| *step > 0.0)).unwrap_or(0.0);
        for step in steps.iter_mut().flatten() {
            *step = step.min(5.0 * typical);
        }
        steps.insert(0, None);
        let sums = Sums::new(&logs);
        let usual = sums.sum[logs.len()] / f64::from(sums.count[logs.len()].max(1));
        Self { rough: Sums::new(&steps), sums, usual, logs, day }
    }

    fn known_before(&self, time: usize) -> bool {
        time >= LONG && self.sums.mean(time - LONG, time).is_some()
    }

    fn has_data(&self, time: usize, window: usize) -> bool {
        self.known_before(time) && self.sums.mean(time, time + window).is_some()
    }

    /// How rough the hour before was: root of the mean square is not robust, so the mean of the steps.
    fn roughness(&self, time: usize) -> f64 {
        self.rough.mean(time - LONG, time).unwrap_or(0.0)
    }

    /// What the forecast for a window from `time` on is made of. The level of the last hour is the second.
    fn features(&self, time: usize, window: usize) -> [f64; FEATURES] {
        let mean = |length: usize| self.sums.mean(time - length, time);
        let level = mean(LONG).unwrap_or(self.usual);
        let [short, middle] = [BEFORE[0], BEFORE[1]].map(|length| mean(length).unwrap_or(level) - level);
        [
            1.0,
            level - self.usual,
            short,
            middle,
            self.other_days(time, window, AROUND),
            self.other_days(time, window, 0),
        ]
    }

    /// How far the level rose at the same clock time on other days, earlier and later, on average, with so many
    /// periods around it; 0 without any.
    fn other_days(&self, time: usize, window: usize, around: usize) -> f64 {
        let end = self.logs.len();
        let rise = |time: usize| -> Option<f64> {
            let from = time.checked_sub(LONG)?;
            let to = time.checked_add(window + around).filter(|to| *to <= end)?;
            Some(self.sums.mean(time - around, to)? - self.sums.mean(from, time)?)
        };
        let earlier = (1..).map_while(|days| time.checked_sub(self.day.checked_mul(days)?));
        let later =
            (1..).map_while(|days| time.checked_add(self.day.checked_mul(days)?).filter(|time| *time < end));
        let (sum, count) = earlier
            .chain(later)
            .filter_map(rise)
            .fold((0.0, 0.0), |(sum, count), rise| (sum + rise, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

/// What history says about changes after `periods`.
struct Look {
    periods: usize,
    /// The forecast at the moment of the change.
    forecast: f64,
    /// For each sign, what a rise of the mean and of the median is divided by.
    units: Vec<[f64; 2]>,
}

/// Everything that is known before the change.
struct Learned {
    looks: Vec<Look>,
    signs: Vec<f64>,
    law: Law,
}

impl Learned {
    fn new(past: &Past, times: &[usize], looks: &[usize], signs: &[f64]) -> Self {
        let (change_at, planned) = (past.logs.len(), looks.last().copied().unwrap_or(1));
        let (rough, rough_at_change) = relative_roughness(past, times);
        let medians = medians(past, times, looks);
        let features: Vec<[f64; FEATURES]> = times.iter().map(|time| past.features(*time, planned)).collect();
        let features_at_change = past.features(change_at, planned);
        let mut statistics = vec![f64::NEG_INFINITY; times.len()];
        let looks = looks
            .iter()
            .zip(&medians)
            .map(|(periods, medians)| {
                let means: Vec<Option<f64>> = times
                    .iter()
                    .map(|time| Some(past.sums.mean(*time, time + periods)? - past.usual))
                    .collect();
                let weights = least_squares(&features, &means);
                let forecast: Vec<f64> =
                    features.iter().map(|features| forecast_of(&weights, features)).collect();
                let units = signs
                    .iter()
                    .map(|sign| {
                        [&means, medians].map(|levels| {
                            let rises: Vec<Option<f64>> = (0..times.len())
                                .map(|index| {
                                    Some(rise(levels[index]? - forecast[index], *sign, rough[index]))
                                })
                                .collect();
                            let unit = unit(&rises);
                            for (statistic, rise) in statistics.iter_mut().zip(rises) {
                                *statistic = rise.map_or(*statistic, |rise| statistic.max(rise / unit));
                            }
                            unit * rough_at_change
                        })
                    })
                    .collect();
                let forecast = past.usual + forecast_of(&weights, &features_at_change);
                Look { periods: *periods, forecast, units }
            })
            .collect();
        Self { looks, signs: signs.to_vec(), law: Law::new(times, statistics, planned) }
    }

    /// The statistic at the moment of the change, one way; `None` without data.
    fn statistic(&self, after: &[Option<f64>], sign: f64) -> Option<f64> {
        let sums = Sums::new(after);
        let way = self.signs.iter().position(|known| known.total_cmp(&sign).is_eq())?;
        self.looks
            .iter()
            .filter(|look| look.periods <= after.len())
            .filter_map(|look| {
                let levels = [
                    sums.mean(0, look.periods)?,
                    middle(&after[..look.periods].iter().flatten().copied().fold(Vec::new(), insert))?,
                ];
                let rises = [0, 1].map(|of| rise(levels[of] - look.forecast, sign, look.units[way][of]));
                Some(rises[0].max(rises[1]))
            })
            .max_by(f64::total_cmp)
    }

    fn expected(&self, periods: usize) -> Option<f64> {
        self.looks.iter().rfind(|look| look.periods <= periods).map(|look| look.forecast)
    }
}

/// How rough the hour before each placebo time was, and the hour before the change, beside a typical one: 1 is typical.
/// Half a typical hour is mixed in, so that a quiet hour does not make a small change large.
fn relative_roughness(past: &Past, times: &[usize]) -> (Vec<f64>, f64) {
    let mut rough: Vec<f64> = times.iter().map(|time| past.roughness(*time)).collect();
    let typical = quantile(&mut rough.clone(), 0.5);
    let relative = |rough: f64| {
        if typical > 0.0 { ((2.0 * (rough / typical).powi(2) + 1.0) / 3.0).sqrt() } else { 1.0 }
    };
    for rough in &mut rough {
        *rough = relative(*rough);
    }
    (rough, relative(past.roughness(past.logs.len())))
}

/// For every look, the median of the window that begins at each placebo time, less the usual level.
fn medians(past: &Past, times: &[usize], looks: &[usize]) -> Vec<Vec<Option<f64>>> {
    let mut medians = vec![Vec::with_capacity(times.len()); looks.len()];
    let mut window = Vec::new();
    for time in times {
        window.clear();
        let mut from = *time;
        for (medians, look) in medians.iter_mut().zip(looks) {
            window = past.logs[from..time + look].iter().flatten().copied().fold(window, insert);
            from = time + look;
            let known = 2 * window.len() >= *look;
            medians.push(middle(&window).filter(|_| known).map(|middle| middle - past.usual));
        }
    }
    medians
}

/// Puts a value at its place among sorted ones.
fn insert(mut sorted: Vec<f64>, value: f64) -> Vec<f64> {
    sorted.insert(sorted.partition_point(|other| *other < value), value);
    sorted
}

/// The median of sorted values.
fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// What a rise is divided by: the 99 % point of the placebo times' rises, and at least their root mean square, which
/// holds where rises are rarer than one in a hundred. A millionth, should history never move.
fn unit(rises: &[Option<f64>]) -> f64 {
    let mut known: Vec<f64> = rises.iter().flatten().copied().collect();
    if known.is_empty() {
        return 1.0;
    }
    let square = known.iter().map(|rise| rise * rise).sum::<f64>() / known.len() as f64;
    quantile(&mut known, 0.99).max(square.sqrt()).max(1e-6)
}

/// A difference of logarithms, the right way up, in a unit.
fn rise(difference: f64, sign: f64, unit: f64) -> f64 {
    if difference.abs() < NOTHING { 0.0 } else { sign * difference / unit }
}

/// The level of the last hour, and what the other features add to it.
fn forecast_of(weights: &[f64; FEATURES], features: &[f64; FEATURES]) -> f64 {
    features[1] + weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f64>()
}

/// Weights of the features with the least squared error of the forecast, with a slight pull to 0 (ridge, a thousandth of
/// each feature's own square) that also settles features which are all zero.
fn least_squares(features: &[[f64; FEATURES]], levels: &[Option<f64>]) -> [f64; FEATURES] {
    let mut matrix = [[0.0; FEATURES]; FEATURES];
    let mut right = [0.0; FEATURES];
    for (features, level) in features.iter().zip(levels) {
        let Some(level) = level else { continue };
        for row in 0..FEATURES {
            right[row] += features[row] * (level - features[1]);
            for column in 0..FEATURES {
                matrix[row][column] += features[row] * features[column];
            }
        }
    }
    for (index, row) in matrix.iter_mut().enumerate() {
        row[index] = row[index] * (1.0 + PULL / features.len() as f64) + 1e-9;
    }
    // Gaussian elimination; positive definite, so without pivoting.
    for pivot in 0..FEATURES {
        let (above, below) = matrix.split_at_mut(pivot + 1);
        let pivot_row = above[pivot];
        for (row, values) in (pivot + 1..).zip(below) {
            let factor = values[pivot] / pivot_row[pivot];
            for (value, above) in values.iter_mut().zip(pivot_row) {
                *value -= factor * above;
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..FEATURES).rev() {
        for column in row + 1..FEATURES {
            right[row] -= matrix[row][column] * right[column];
        }
        right[row] /= matrix[row][row];
    }
    right
}

/// The law of the statistic at times without a change.
struct Law {
    /// The placebo times and their statistics, oldest first.
    all: Vec<(usize, f64)>,
    /// The statistics, largest first.
    falling: Vec<f64>,
    /// The point beyond which the tail begins, and how many placebo times are beyond.
    begin: f64,
    beyond: f64,
    /// Their mean excess; 0 where there is no tail to speak of.
    excess: f64,
    /// Runs of times beyond it that are further apart than a window.
    runs: f64,
    /// How many independent times all placebo times are worth.
    independent: f64,
}

impl Law {
    /// From the statistics at all placebo times, in their order, and the length of a window.
    fn new(times: &[usize], statistics: Vec<f64>, window: usize) -> Self {
        let mut falling = statistics.clone();
        falling.sort_unstable_by(|one, other| other.total_cmp(one));
        let begin = falling[(falling.len() as f64 * TAIL) as usize];
        let (mut sum, mut beyond, mut runs, mut last) = (0.0, 0.0, 0.0_f64, None);
        for (time, statistic) in times.iter().zip(&statistics).filter(|(_, statistic)| **statistic > begin) {
            sum += statistic - begin;
            beyond += 1.0;
            if last.is_none_or(|last| time - last > window) {
                runs += 1.0;
            }
            last = Some(*time);
        }
        let count = falling.len() as f64;
        let independent = if beyond > 0.0 { count * runs / beyond } else { count / window as f64 };
        let excess = if beyond > 0.0 { sum / beyond } else { 0.0 };
        let all = times.iter().copied().zip(statistics).collect();
        Self { all, falling, begin, beyond, excess, runs, independent }
    }

    /// Placebo times with a statistic at least as large.
    fn as_large(&self, statistic: f64) -> usize {
        self.falling.partition_point(|other| *other >= statistic)
    }

    /// The chance of a statistic at least as large.
    fn chance(&self, statistic: f64) -> f64 {
        let all = self.falling.len() as f64;
        let counted = (1.0 + self.as_large(statistic) as f64) / (1.0 + all);
        let tail = if statistic <= self.begin {
            0.0
        } else if self.excess > 0.0 {
            let excess = (statistic - self.begin) / self.excess;
            (self.beyond / all) * (1.0 + excess / self.runs).powf(-self.runs)
        } else {
            1.0 / (1.0 + self.independent)
        };
        counted.max(tail)
    }

    /// Whether at least two earlier days, and two thirds of all, show nearly as large a change within a few periods of
    /// the same time. Few placebo times are at the same time of the day, so the share of all of them says little
    /// about what happens by the clock.
    fn on_most_days(&self, statistic: f64, change_at: usize, day: usize) -> bool {
        let (mut days, mut as_large) = (0, 0);
        for time in (1..).map_while(|days| change_at.checked_sub(day.checked_mul(days)?)) {
            let from = self.all.partition_point(|(other, _)| other + BY_THE_CLOCK < time);
            let to = self.all.partition_point(|(other, _)| *other <= time + BY_THE_CLOCK);
            let near = &self.all[from..to];
            days += usize::from(!near.is_empty());
            as_large += usize::from(near.iter().any(|(_, other)| *other >= NEARLY * statistic));
        }
        as_large >= 2 && 3 * as_large >= 2 * days
    }

    /// The smallest chance that there can be.
    fn smallest(&self) -> f64 {
        if self.excess > 0.0 {
            1.0 / (1.0 + self.falling.len() as f64)
        } else {
            1.0 / (1.0 + self.independent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLANNED: usize = 10;

    /// Log-normal noise with memory, around 0.2: 800 periods of history and a window. The generator is splitmix64.
    fn noise(seed: u64, periods: usize) -> Vec<Option<f64>> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = state;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut level = 0.0;
        (0..periods)
            .map(|_| {
                let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                level = 0.7 * level + 0.15 * normal;
                Some(0.2 * level.exp())
            })
            .collect()
    }

    /// Noise with the window multiplied by a factor.
    fn changed(seed: u64, factor: f64) -> Vec<Option<f64>> {
        let mut values = noise(seed, 800 + PLANNED);
        for value in values[800..].iter_mut().flatten() {
            *value *= factor;
        }
        values
    }

    fn change(values: &[Option<f64>]) -> Change<'_> {
        Change {
            values,
            change_at: 800,
            planned: PLANNED,
            period_seconds: 60,
            direction: Direction::Up,
            tolerate: 1.0,
        }
    }

    fn check(values: &[Option<f64>], direction: Direction, tolerate: f64) -> f64 {
        placebo(&Change { direction, tolerate, ..change(values) }).unwrap().chance
    }

    #[test]
    fn a_large_change_is_found_in_its_direction() {
        let (up, down) = (changed(1, 4.0), changed(1, 0.25));
        assert!(check(&up, Direction::Up, 1.0) <= 0.005);
        assert!(check(&up, Direction::Any, 1.0) <= 0.005);
        assert!(check(&up, Direction::Down, 1.0) >= 0.2);
        assert!(check(&down, Direction::Down, 1.0) <= 0.005);
        assert!(check(&down, Direction::Any, 1.0) <= 0.005);
        assert!(check(&down, Direction::Up, 1.0) >= 0.2);
    }

    #[test]
    fn the_result_explains_itself() {
        let found = placebo(&change(&changed(1, 4.0))).unwrap();
        assert!((0.1..0.4).contains(&found.before), "{found:?}");
        assert!((0.1..0.4).contains(&found.expected), "{found:?}");
        assert!((0.4..1.6).contains(&found.after), "{found:?}");
        assert_eq!(found.times, 800 - LONG - PLANNED + 1);
        assert_eq!(found.as_large, 0);
        assert!(found.independent > 10.0 && found.independent < found.times as f64, "{found:?}");
        assert!(found.chance >= found.smallest);
    }

    #[test]
    fn a_change_that_is_tolerated_is_no_alarm() {
        for (direction, factor) in [(Direction::Up, 4.0), (Direction::Down, 0.25), (Direction::Any, 0.25)] {
            assert!(check(&changed(1, factor), direction, 5.0) > 0.01, "{direction:?}");
            assert!(check(&changed(1, factor), direction, 1.5) <= 0.005, "{direction:?}");
        }
    }

    /// The change may come at any of many moments of the same noise: 5 % of them look like 5 %.
    #[test]
    fn chances_are_as_often_as_they_say() {
        let (mut one, mut five) = (0, 0);
        for seed in 0..600 {
            let chance = check(&changed(1000 + seed * 77, 1.0), Direction::Up, 1.0);
            five += usize::from(chance <= 0.05);
            one += usize::from(chance <= 0.01);
        }
        assert!((18..=45).contains(&five), "{five} of 600 at 5 %");
        assert!(one <= 13, "{one} of 600 at 1 %");
    }

    #[test]
    fn a_daily_jump_is_no_change_and_the_same_jump_at_another_time_is() {
        let day = 480; // a short day, of periods of three minutes
        let jump = |at: usize| -> Vec<Option<f64>> {
            let mut values = noise(5, 5 * day);
            values.truncate(4 * day + 200 + PLANNED);
            for (index, value) in values.iter_mut().enumerate() {
                let night = (200..300).contains(&(index % day)) && index < 4 * day;
                let now = index >= 4 * day + at;
                *value = value.map(|value| value.powf(0.3) * if night || now { 2.5 } else { 1.0 });
            }
            values
        };
        let chance = |at: usize| {
            let mut values = jump(at);
            values.truncate(4 * day + at + PLANNED);
            let change = Change { change_at: 4 * day + at, period_seconds: 180, ..change(&values) };
            placebo(&change).unwrap().chance
        };
        assert!(chance(200) > 0.9, "{}", chance(200));
        assert!(chance(140) <= 0.005, "{}", chance(140));
    }

    #[test]
    fn the_first_errors_ever_are_a_change() {
        let mut values = vec![Some(0.0); 4320 + PLANNED];
        let at = |values: &[Option<f64>]| placebo(&Change { change_at: 4320, ..change(values) }).unwrap();
        assert!(at(&values).chance > 0.9);
        values[4325] = Some(3.0);
        let found = at(&values);
        // Never in 4,251 times, which are worth 425 windows of ten.
        assert!((found.chance * 426.1 - 1.0).abs() < 1e-9, "{found:?}");
        assert!((found.before, found.after).eq(&(0.0, 0.0)), "{found:?}");
    }

    #[test]
    fn a_metric_that_never_moves_and_does_not_move_now_is_no_change() {
        for value in [0.0, 0.1, 1.0 / 3.0, 1e9] {
            assert!(check(&vec![Some(value); 800 + PLANNED], Direction::Any, 1.0) > 0.9, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        let judge = |values: &[Option<f64>], change_at: usize| {
            placebo(&Change { change_at, ..change(values) }).map(|placebo| placebo.chance)
        };
        let values = changed(3, 9.0);
        let least = LONG + PLANNED + LEAST_TIMES;
        let few = Unjudged::TooLittleHistory { times: LEAST_TIMES - 1, least: LEAST_TIMES };
        assert_eq!(judge(&values, least - 2), Err(few));
        assert!(judge(&values, least - 1).is_ok());
        assert_eq!(judge(&[], 0), Err(Unjudged::TooLittleHistory { times: 0, least: LEAST_TIMES }));
        assert_eq!(judge(&values[..800], 800), Err(Unjudged::NoDataAfter));
        let mut gap = values.clone();
        gap[745..800].fill(None);
        assert_eq!(judge(&gap, 800), Err(Unjudged::NoDataBefore));
        let mut negative = values.clone();
        negative[3] = Some(-1.0);
        assert_eq!(judge(&negative, 800), Err(Unjudged::Negative));
    }

    #[test]
    fn what_comes_after_the_window_is_not_looked_at() {
        let mut values = changed(7, 1.3);
        let before = placebo(&change(&values));
        values.extend([Some(1e6); 5]);
        assert_eq!(placebo(&change(&values)), before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_unit_of_a_metric_does_not_matter(seed: u64, factor in 1.0..3.0, unit in -12.0..12.0_f64) {
            let values = changed(seed, factor);
            let other: Vec<Option<f64>> =
                values.iter().map(|value| value.map(|value| value * unit.exp())).collect();
            let (one, other) = (check(&values, Direction::Any, 1.2), check(&other, Direction::Any, 1.2));
            prop_assert!((one / other).ln().abs() < 0.02, "{one} {other}");
        }

        #[test]
        fn a_larger_change_never_gets_a_larger_chance(seed: u64, factor in 0.5..3.0, more in 1.0..3.0) {
            let chance = |factor: f64| check(&changed(seed, factor), Direction::Up, 1.1);
            prop_assert!(chance(factor * more) <= chance(factor));
        }

        #[test]
        fn a_larger_tolerance_never_gets_a_smaller_chance(seed: u64, factor in 1.0..3.0, more in 1.0..3.0) {
            let values = changed(seed, factor);
            let chance = |tolerate: f64| check(&values, Direction::Up, tolerate);
            prop_assert!(chance(more) >= chance(1.0));
        }

        #[test]
        fn a_look_more_never_takes_an_alarm_back(seed: u64, factor in 0.8..2.0) {
            let values = changed(seed, factor);
            let chances: Vec<f64> =
                (1..=PLANNED).map(|look| check(&values[..800 + look], Direction::Up, 1.0)).collect();
            prop_assert!(chances.is_sorted_by(|one, next| one >= next), "{chances:?}");
        }

        /// The window's values are those of the quietest minutes, so an alarm could come from missing data only.
        #[test]
        fn periods_without_data_never_make_an_alarm(seed: u64, missing in prop::collection::vec(any::<bool>(), PLANNED)) {
            let mut values = changed(seed, 1.0);
            let low = values[740..800].iter().flatten().copied().fold(f64::INFINITY, f64::min);
            for (value, missing) in values[800..].iter_mut().zip(&missing) {
                *value = (!missing).then_some(low);
            }
            let found = placebo(&change(&values));
            prop_assert!(found.is_err() || found.is_ok_and(|found| found.chance > 0.05), "{found:?}");
            values[800..].fill(None);
            prop_assert_eq!(placebo(&change(&values)), Err(Unjudged::NoDataAfter));
        }

        #[test]
        fn the_same_input_gives_the_same_bits_whatever_it_is(
            values in prop::collection::vec(prop::option::weighted(0.9, prop_oneof![Just(0.0), Just(f64::NAN), 0.0..1e300]), 0..500),
            change_at in 0_usize..600,
            planned in 0_usize..40,
            period_seconds in 0_u64..4000,
            tolerate in prop_oneof![Just(f64::NAN), 0.0..1e9],
        ) {
            for direction in [Direction::Up, Direction::Down, Direction::Any] {
                let change = Change { values: &values, change_at, planned, period_seconds, direction, tolerate };
                let found = placebo(&change);
                prop_assert_eq!(placebo(&change), found);
                if let Ok(found) = found {
                    prop_assert!(found.chance >= found.smallest && found.chance <= 1.0, "{:?}", found);
                    prop_assert!(found.before.is_finite() && found.expected.is_finite() && found.after.is_finite());
                }
            }
        }
    }
}
