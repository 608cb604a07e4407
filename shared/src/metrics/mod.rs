//! CloudWatch queries, and the series that come back.

mod counts;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub use counts::CountQueries;
pub use read::read;

use crate::policy::gates::{Measure, Metric, PLACEHOLDERS, Threshold};
use crate::policy::plan::Sampling;
use crate::rollout::Rollout;

/// Equal periods, one behind the other, aligned to multiples of the period since the epoch as CloudWatch aligns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start of the first period.
    pub start: Timestamp,
    /// Number of periods.
    pub periods: usize,
    /// Length of a period.
    pub period: Duration,
}

impl Window {
    /// All complete periods that begin at or after `from`, end at or before `until`, and are old enough to have been
    /// taken in by CloudWatch.
    pub fn complete(from: Timestamp, until: Timestamp, now: Timestamp, sampling: &Sampling) -> Self {
        let period_ms = sampling.period.as_millis() as i64;
        let old_enough = now.as_millisecond() - sampling.ingestion_delay.as_millis() as i64;
        let first = from.as_millisecond().div_euclid(period_ms)
            + i64::from(from.as_millisecond().rem_euclid(period_ms) != 0);
        let end = until.as_millisecond().min(old_enough).div_euclid(period_ms);
        Self {
            start: Timestamp::from_millisecond(first * period_ms).unwrap_or(from),
            periods: usize::try_from(end - first).unwrap_or(0),
            period: sampling.period,
        }
    }

    /// The same window with `more` periods in front.
    #[must_use]
    pub fn with_history(self, more: usize) -> Self {
        let back = self.period * more as u32;
        Self {
            start: self.start.saturating_sub(back).unwrap_or(self.start),
            periods: self.periods + more,
            period: self.period,
        }
    }

    /// The same window with so many periods.
    #[must_use]
    pub fn with_periods(self, periods: usize) -> Self {
        Self { periods, ..self }
    }

    /// The end of the last period.
    pub fn end(&self) -> Timestamp {
        self.start.saturating_add(self.period * self.periods as u32).unwrap_or(self.start)
    }

    /// How many periods are over at `at`, and how many begin before it. They differ by the one that `at` is within.
    pub fn parted_at(&self, at: Timestamp) -> (usize, usize) {
        let offset = at.as_millisecond() - self.start.as_millisecond();
        let period_ms = self.period.as_millis() as i64;
        let whole = |periods: i64| usize::try_from(periods).unwrap_or(0).min(self.periods);
        let over = offset.div_euclid(period_ms);
        (whole(over), whole(over + i64::from(offset.rem_euclid(period_ms) != 0)))
    }

    /// The period that begins at `at` (milliseconds since the epoch), if it is within the window.
    pub fn index_of(&self, at_ms: i64) -> Option<usize> {
        let offset = at_ms.checked_sub(self.start.as_millisecond())?;
        let index = usize::try_from(offset.div_euclid(self.period.as_millis() as i64)).ok()?;
        (index < self.periods).then_some(index)
    }
}

/// One statistic of one metric: what a CloudWatch query asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// Namespace.
    pub namespace: String,
    /// Metric name.
    pub metric: String,
    /// Dimensions with their values.
    pub dimensions: Vec<(String, String)>,
    /// Statistic.
    pub statistic: String,
}

impl Query {
    /// Whether it counts the samples above a limit.
    pub fn is_trimmed_count(&self) -> bool {
        self.statistic.starts_with("TC(")
    }
}

/// A value for each period of a window; `None` where CloudWatch has none.
pub type Series = Vec<Option<f64>>;

/// Series by their query, and what CloudWatch said beside them.
#[derive(Debug, Clone, Default)]
pub struct SeriesSet {
    series: BTreeMap<Query, Series>,
    /// Messages about partial or missing answers.
    pub messages: Vec<String>,
}

impl SeriesSet {
    /// The series of a query over the window that was read, or over the first periods of it; all `None` when there is no
    /// data.
    pub fn get(&self, query: &Query, window: &Window) -> Series {
        let mut series = self.series.get(query).cloned().unwrap_or_default();
        series.resize(window.periods, None);
        series
    }
}

/// The colour that a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old version.
    Blue,
    /// The new version.
    Green,
}

/// The queries of one limit for one colour: what is measured, and how many samples are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateQueries {
    /// The numerator of a ratio, or the statistic itself.
    pub value: Query,
    /// The denominator of a ratio, or the sample count; absent where the gate does not need one.
    pub samples: Option<Query>,
}

/// What to ask CloudWatch for a limit.
pub fn gate_queries(gate: &Threshold, rollout: &Rollout, side: Side) -> GateQueries {
    let query = |metric: &Metric, statistic: &str| query(metric, statistic, rollout, side);
    match &gate.measure {
        Measure::Share { bad, of } => {
            GateQueries { value: query(bad, "Sum"), samples: Some(query(of, "Sum")) }
        }
        Measure::Statistic { metric, statistic } => GateQueries {
            value: query(metric, statistic),
            samples: (gate.min_requests > 0).then(|| query(metric, "SampleCount")),
        },
    }
}

/// One statistic of a metric for one colour.
pub fn query(metric: &Metric, statistic: &str, rollout: &Rollout, side: Side) -> Query {
    Query {
        namespace: metric.namespace.clone(),
        metric: metric.name.clone(),
        dimensions: metric
            .dimensions
            .iter()
            .map(|(name, template)| (name.clone(), fill(template, rollout, side)))
            .collect(),
        statistic: statistic.to_owned(),
    }
}

/// Puts the rollout's names into a dimension's template. A placeholder that this rollout has no name for stays; see
/// [`unnamed`].
fn fill(template: &str, rollout: &Rollout, side: Side) -> String {
    PLACEHOLDERS.iter().fold(template.to_owned(), |text, placeholder| {
        match name(placeholder, rollout, side) {
            Some(name) => text.replace(&format!("{{{placeholder}}}"), name),
            None => text,
        }
    })
}

/// What a placeholder stands for.
fn name<'a>(placeholder: &str, rollout: &'a Rollout, side: Side) -> Option<&'a str> {
    let colour = |side| if side == Side::Blue { &rollout.blue } else { &rollout.green };
    let group = |side| colour(side).target_group.as_ref().map(|group| group.dimension.as_str());
    let version = |side| colour(side).version.as_deref();
    match placeholder {
        "target_group" => group(side),
        "green.target_group" => group(Side::Green),
        "blue.target_group" => group(Side::Blue),
        "load_balancer" => {
            rollout.entrance.as_ref().map(|entrance| entrance.load_balancer.dimension.as_str())
        }
        "cluster" if rollout.function.is_none() => Some(&rollout.cluster),
        "service" if rollout.function.is_none() => Some(&rollout.service),
        "function" => rollout.function.as_ref().map(|function| function.name.as_str()),
        "alias" => rollout.function.as_ref().map(|function| function.alias.as_str()),
        "version" => version(side),
        "green.version" => version(Side::Green),
        "blue.version" => version(Side::Blue),
        _ => None,
    }
}

/// The first placeholder of a metric's dimensions that this rollout has no name for, such as `target_group` where there is
/// no load balancer.
pub fn unnamed(metric: &Metric, rollout: &Rollout) -> Option<&'static str> {
    PLACEHOLDERS.into_iter().find(|placeholder| {
        let written = format!("{{{placeholder}}}");
        name(placeholder, rollout, Side::Green).is_none()
            && metric.dimensions.iter().any(|(_, value)| value.contains(&written))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    const MINUTES: Sampling = Sampling {
        period: Duration::from_mins(1),
        ingestion_delay: Duration::from_mins(2),
        look_every: Duration::from_mins(1),
    };

    #[test]
    fn a_window_holds_only_complete_periods_since_the_shift() {
        let minute = 60_000;
        // The shift began in the middle of minute 10; now is the middle of minute 15, so minute 12 is the last one.
        let window =
            Window::complete(at(10 * minute + 1), Timestamp::MAX, at(15 * minute + 30_000), &MINUTES);
        assert_eq!((window.start, window.periods), (at(11 * minute), 2));
        assert_eq!(window.index_of(12 * minute), Some(1));
        assert_eq!(window.index_of(13 * minute), None);
        assert_eq!(window.index_of(10 * minute), None);
        let before = window.with_history(3);
        assert_eq!((before.start, before.periods, before.end()), (at(8 * minute), 5, window.end()));
        // Minutes 8 and 9 are over, minute 10 is neither before the shift nor after it.
        assert_eq!(before.parted_at(at(10 * minute + 1)), (2, 3));
        assert_eq!(before.parted_at(at(10 * minute)), (2, 2));
        assert_eq!(before.parted_at(at(minute)), (0, 0));
        assert_eq!(before.parted_at(before.end()), (5, 5));
        assert_eq!(before.parted_at(Timestamp::MAX), (5, 5));
    }

    proptest! {
        #[test]
        fn no_period_is_judged_too_early(from in 0_i64..1_000_000, lasts in 0_i64..1_000_000, now in 0_i64..2_000_000) {
            let window = Window::complete(at(from), at(from + lasts), at(now), &MINUTES);
            prop_assert!(window.start >= at(from));
            prop_assert!(window.periods == 0 || window.end() <= at((from + lasts).min(now - 120_000)));
        }
    }
}
