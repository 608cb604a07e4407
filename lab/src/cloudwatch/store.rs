//! The samples of all metrics, binned per second, and what of them can be seen when.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::statistic::Statistic;

/// What makes a metric: two calls with the same dimensions in another order mean the same metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MetricId {
    pub namespace: String,
    pub name: String,
    pub dimensions: BTreeMap<String, String>,
}

impl MetricId {
    pub fn new<'a>(
        namespace: &str,
        name: &str,
        dimensions: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let dimensions =
            dimensions.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { namespace: namespace.to_owned(), name: name.to_owned(), dimensions }
    }
}

/// A value that was seen `count` times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub value: f64,
    pub count: f64,
}

/// The timestamps of a series: `start`, `start + period`, .. below `end`, in epoch seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub start: i64,
    pub end: i64,
    pub period: i64,
}

impl Grid {
    /// The grid that CloudWatch answers a request on: both ends are rounded down to whole minutes (five minutes or
    /// an hour when the start is 15 or 63 days ago, the period when that is shorter than a minute), and the periods
    /// count from the rounded start, not from the full hour.
    pub fn of_request(start: Timestamp, end: Timestamp, period: i64, now: Timestamp) -> Self {
        let age_days = now.duration_since(start).as_hours() / 24;
        let unit = match (period, age_days) {
            (..60, _) => period,
            (_, ..15) => 60,
            (_, ..63) => 300,
            _ => 3600,
        };
        Self { start: floor(start, unit), end: floor(end, unit), period }
    }

    /// The `count` latest periods that are complete at `until`.
    pub fn latest(count: u32, period: i64, until: Timestamp) -> Self {
        let end = floor(until, period);
        Self { start: end - i64::from(count) * period, end, period }
    }

    /// How many timestamps it has.
    pub fn len(self) -> i64 {
        ((self.end - self.start).max(0) + self.period - 1) / self.period
    }

    /// All timestamps, oldest first.
    pub fn timestamps(self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(move |index| self.start + index * self.period)
    }

    /// The timestamp of the period that `second` lies in.
    fn timestamp_of(self, second: i64) -> i64 {
        second - (second - self.start).rem_euclid(self.period)
    }
}

/// `at` in epoch seconds, rounded down to a multiple of `unit`.
fn floor(at: Timestamp, unit: i64) -> i64 {
    at.as_second().div_euclid(unit) * unit
}

/// The samples of one second.
struct Bin {
    /// Time of the latest sample.
    newest: Timestamp,
    samples: Vec<Sample>,
}

impl Bin {
    fn add(&mut self, at: Timestamp, sample: Sample) {
        self.newest = self.newest.max(at);
        match self.samples.last_mut() {
            // Metrics that count are long runs of 1.0; they need not take memory per request.
            Some(last) if last.value.to_bits() == sample.value.to_bits() => last.count += sample.count,
            _ => self.samples.push(sample),
        }
    }
}

/// Bins by epoch second.
type Bins = BTreeMap<i64, Bin>;

/// All samples that were ever recorded.
pub(super) struct Store {
    ingestion_delay: SignedDuration,
    /// How much later than that the last of a metric can be read.
    grows_for: SignedDuration,
    metrics: Mutex<BTreeMap<MetricId, Bins>>,
}

impl Store {
    pub fn new(ingestion_delay: Duration) -> Self {
        let ingestion_delay = SignedDuration::try_from(ingestion_delay).unwrap_or(SignedDuration::MAX);
        Self { ingestion_delay, grows_for: SignedDuration::ZERO, metrics: Mutex::default() }
    }

    /// The same in which a tenth of each metric's seconds comes later, by up to `longest`.
    pub fn growing(self, longest: Duration) -> Self {
        Self { grows_for: SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX), ..self }
    }

    pub fn record(&self, id: MetricId, at: Timestamp, sample: Sample) {
        let mut metrics = self.metrics();
        let bins = metrics.entry(id).or_default();
        let bin = bins.entry(at.as_second()).or_insert_with(|| Bin { newest: at, samples: Vec::new() });
        bin.add(at, sample);
    }

    /// Samples up to this instant can be read at `now`.
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.ingestion_delay).unwrap_or(Timestamp::MIN)
    }

    /// The datapoints that can be read at `now`, by timestamp in epoch seconds. Periods without a sample have none.
    ///
    /// A second shows when its last sample does, so nothing is ever seen too early.
    pub fn series(
        &self,
        id: &MetricId,
        statistic: &Statistic,
        grid: Grid,
        now: Timestamp,
    ) -> BTreeMap<i64, f64> {
        let horizon = self.horizon(now);
        let metrics = self.metrics();
        let Some(bins) = metrics.get(id) else { return BTreeMap::new() };
        let is_in = |second: i64, bin: &Bin| {
            bin.newest <= horizon.saturating_sub(self.lateness(id, second)).unwrap_or(Timestamp::MIN)
        };

        let seconds = grid.start..grid.start + grid.len() * grid.period;
        let mut periods: BTreeMap<i64, Vec<Sample>> = BTreeMap::new();
        for (second, bin) in bins.range(seconds).filter(|(second, bin)| is_in(**second, bin)) {
            periods.entry(grid.timestamp_of(*second)).or_default().extend(&bin.samples);
        }
        // Whoever records a request must not wait for a percentile.
        drop(metrics);
        let datapoint = |(at, samples)| Some((at, statistic.of(samples)?));
        periods.into_iter().filter_map(datapoint).collect()
    }

    /// How much later than others a second of a metric can be read. Metrics are late independently of each other, so that
    /// a share of two of them is wrong for a while.
    fn lateness(&self, id: &MetricId, second: i64) -> SignedDuration {
        if self.grows_for.is_zero() {
            return SignedDuration::ZERO;
        }
        let mut hasher = DefaultHasher::new();
        (id, second).hash(&mut hasher);
        let drawn = hasher.finish();
        if drawn.is_multiple_of(10) {
            self.grows_for * (drawn / 10 % 100) as i32 / 100
        } else {
            SignedDuration::ZERO
        }
    }

    /// Whether a metric has any sample that can be read at `now`.
    pub fn has_data(&self, id: &MetricId, now: Timestamp) -> bool {
        self.metrics().get(id).is_some_and(|bins| any_visible(bins, self.horizon(now)))
    }

    /// The metrics that have a sample that can be read at `now`, in a stable order.
    pub fn ids(&self, now: Timestamp) -> Vec<MetricId> {
        let horizon = self.horizon(now);
        let metrics = self.metrics();
        metrics.iter().filter(|(_, bins)| any_visible(bins, horizon)).map(|(id, _)| id.clone()).collect()
    }

    fn metrics(&self) -> MutexGuard<'_, BTreeMap<MetricId, Bins>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn any_visible(bins: &Bins, horizon: Timestamp) -> bool {
    bins.values().any(|bin| bin.newest <= horizon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    fn metric() -> MetricId {
        MetricId::new("AWS/ApplicationELB", "RequestCount", [("TargetGroup", "green")])
    }

    fn one(value: f64) -> Sample {
        Sample { value, count: 1.0 }
    }

    #[test]
    fn a_sample_shows_after_the_ingestion_delay() {
        let store = Store::new(Duration::from_mins(2));
        store.record(metric(), at("12:00:30.5"), one(7.0));
        let grid = Grid { start: at("12:00:00").as_second(), end: at("12:05:00").as_second(), period: 60 };
        let seen = |now| store.series(&metric(), &Statistic::Sum, grid, now);

        assert_eq!(seen(at("12:02:30.4")), BTreeMap::new());
        assert_eq!(store.ids(at("12:02:30.4")), []);
        assert_eq!(seen(at("12:02:30.5")), BTreeMap::from([(grid.start, 7.0)]));
        assert_eq!(store.ids(at("12:02:30.5")), [metric()]);
    }

    #[test]
    fn a_metric_that_grows_is_short_of_a_tenth_for_ten_minutes() {
        let start = at("12:00:00").as_second();
        let grid = Grid { start, end: start + 600, period: 600 };
        let seen = |growing: bool, now| {
            let store = Store::new(Duration::from_mins(2));
            let store = if growing { store.growing(Duration::from_mins(10)) } else { store };
            for second in start..start + 600 {
                store.record(metric(), Timestamp::from_second(second).unwrap(), one(1.0));
            }
            store.series(&metric(), &Statistic::Sum, grid, now)[&start]
        };
        assert_eq!(seen(false, at("12:12:00")).to_bits(), 600.0_f64.to_bits());
        // A tenth of 600 seconds, less those whose time has come; five standard errors are 37.
        let growing = seen(true, at("12:12:00"));
        assert!((530.0..600.0).contains(&growing), "{growing}");
        assert!(seen(true, at("12:16:00")) > growing);
        assert_eq!(seen(true, at("12:22:00")).to_bits(), 600.0_f64.to_bits());
    }

    #[test]
    fn periods_without_samples_have_no_datapoint() {
        let store = Store::new(Duration::ZERO);
        for time in ["11:59:59.9", "12:00:00", "12:00:59.9", "12:02:00", "12:03:00"] {
            store.record(metric(), at(time), one(1.0));
        }
        let grid = Grid { start: at("12:00:00").as_second(), end: at("12:03:00").as_second(), period: 60 };
        let counts = store.series(&metric(), &Statistic::SampleCount, grid, at("13:00:00"));
        assert_eq!(counts, BTreeMap::from([(grid.start, 2.0), (grid.start + 120, 1.0)]));
    }

    #[test]
    fn the_order_of_dimensions_does_not_matter() {
        let id = |dimensions: [(&str, &str); 2]| MetricId::new("Shop", "Orders", dimensions);
        assert_eq!(id([("a", "1"), ("b", "2")]), id([("b", "2"), ("a", "1")]));
    }

    #[test]
    fn a_grid_counts_from_the_start_rounded_down() {
        let check = |start, end, period, now, expected: (&str, &str)| {
            let expected =
                Grid { start: at(expected.0).as_second(), end: at(expected.1).as_second(), period };
            assert_eq!(Grid::of_request(at(start), at(end), period, now), expected);
        };
        let hours_later = at("18:00:00");
        check("12:02:59", "12:10:30", 60, hours_later, ("12:02:00", "12:10:00"));
        check("12:02:59", "12:10:30", 300, hours_later, ("12:02:00", "12:10:00"));
        check("12:02:59", "12:03:09", 5, hours_later, ("12:02:55", "12:03:05"));
        let weeks_later = at("12:00:00") + SignedDuration::from_hours(20 * 24);
        check("12:04:00", "12:31:00", 60, weeks_later, ("12:00:00", "12:30:00"));
        let months_later = at("12:00:00") + SignedDuration::from_hours(100 * 24);
        check("12:04:00", "14:31:00", 60, months_later, ("12:00:00", "14:00:00"));
    }

    #[test]
    fn a_grid_includes_its_start_and_excludes_its_end() {
        let timestamps = |start, end| Grid { start, end, period: 60 }.timestamps().collect::<Vec<_>>();
        assert_eq!(timestamps(0, 120), [0, 60]);
        assert_eq!(timestamps(0, 121), [0, 60, 120]);
        assert_eq!(timestamps(60, 0), [0; 0]);
    }
}
