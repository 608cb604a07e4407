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
//! Times that overlap are alike. 4,260 placebo times of three days are worth several hundred independent ones, and
//! [`Placebo::independent`] says how many (one for each run of times above the 95 % point, by the method of Leadbetter's
//! extremal index). Beyond the 95 % point `u` the chance is that of an exponential tail whose mean excess `m` is known
//! from `c` runs only: `share * (1 + (S - u) / (c m))^-c`, the predictive law of an exponential variable. A chance
//! below a tenth of what independent times could count is not told; see [`Placebo::smallest`].
//!
//! What was tried, and figures, are in docs/judging.md.

/// Lengths of the windows before the change whose means the forecast knows, in periods; the last is also that of the
/// window over which roughness is measured.
const BEFORE: [usize; 3] = [3, 15, 60];
/// The longest of them.
const LONG: usize = BEFORE[2];
/// The clock time on other days is taken with so many periods on either side.
const AROUND: usize = 15;
/// Looks of a window; a longer window is looked at after fewer, ever longer stretches.
const LOOKS: usize = 10;
/// Fewer placebo times than this are too little to judge by.
const LEAST_TIMES: usize = 180;
/// The share of placebo times whose statistics make the tail.
const TAIL: f64 = 0.05;
/// How far beyond what can be counted the tail is believed.
const BEYOND: f64 = 10.0;
/// How much less sure one must be that a change is larger than tolerated, than that there is one; as in `compare`.
const LENIENCE: f64 = 20.0;
/// What the forecast is made of: a constant, the means of three windows, the same clock time on other days.
const FEATURES: usize = 5;
const DAY_SECONDS: u64 = 86_400;

/// Which way a metric is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Higher is worse.
    Up,
    /// Lower is worse.
    Down,
    /// Any change is.
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
    /// The smallest chance that this history can show. Who asks for a smaller one must not read a larger `chance` as
    /// "no change", and never gets an alarm.
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
    let chance = learned.law.chance(changed).max(learned.law.chance(beyond) / LENIENCE);
    let seen = after_logs(1.0);
    let expected = learned.expected(seen.len());
    Ok(Placebo {
        chance: chance.max(learned.law.smallest()).min(1.0),
        smallest: learned.law.smallest(),
        before: median(past.logs[change_at - LONG..].iter().flatten().copied()).map_or(0.0, unlog),
        expected: expected.map_or(0.0, unlog),
        after: median(seen.iter().flatten().copied()).map_or(0.0, unlog),
        times: times.len(),
        as_large: learned.law.as_large(changed),
        independent: learned.law.independent,
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
        [1.0, level - self.usual, short, middle, self.other_days(time, window)]
    }

    /// How far the level rose at the same clock time on other days, earlier and later, on average; 0 without any.
    fn other_days(&self, time: usize, window: usize) -> f64 {
        let end = self.logs.len();
        let rise = |time: usize| -> Option<f64> {
            let from = time.checked_sub(LONG)?;
            let to = time.checked_add(window + AROUND).filter(|to| *to <= end)?;
            Some(self.sums.mean(time - AROUND, to)? - self.sums.mean(from, time)?)
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
                                .map(|index| Some(sign * (levels[index]? - forecast[index]) / rough[index]))
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
                let rises = [0, 1].map(|of| sign * (levels[of] - look.forecast) / look.units[way][of]);
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
        row[index] = row[index] * 1.001 + 1e-9;
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
    /// The statistics of the placebo times, largest first.
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
        let all = falling.len() as f64;
        let independent = if beyond > 0.0 { all * runs / beyond } else { all / window as f64 };
        let excess = if beyond > 0.0 { sum / beyond } else { 0.0 };
        Self { falling, begin, beyond, excess, runs, independent }
    }

    /// Placebo times with a statistic at least as large.
    fn as_large(&self, statistic: f64) -> usize {
        self.falling.partition_point(|other| *other >= statistic)
    }

    /// The chance of a statistic at least as large.
    fn chance(&self, statistic: f64) -> f64 {
        let all = self.falling.len() as f64;
        if statistic <= self.begin {
            (1.0 + self.as_large(statistic) as f64) / (1.0 + all)
        } else if self.excess > 0.0 {
            let excess = (statistic - self.begin) / self.excess;
            (self.beyond / all) * (1.0 + excess / self.runs).powf(-self.runs)
        } else {
            1.0 / (1.0 + self.independent)
        }
    }

    /// The smallest chance that is told: that of one in so many independent times, and a tail's reach beyond.
    fn smallest(&self) -> f64 {
        let reach = if self.excess > 0.0 { BEYOND } else { 1.0 };
        1.0 / (reach * (1.0 + self.independent))
    }
}
