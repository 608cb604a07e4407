//! Counts of both colours and of the time before, as CloudWatch queries and as what the judge compares.

use jiff::Timestamp;

use super::{Query, SeriesSet, Side, Window};
use crate::judge::series::{Count, Pair, Past, Series};
use crate::policy::defaults;
use crate::policy::gates::{Events, Metric, SlowerThan};
use crate::rollout::Rollout;

/// The queries behind one comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountQueries {
    green: Counted,
    blue: Counted,
    /// Blue's, per availability zone; empty where there are fewer than two, or the metric has no zones.
    zones: Vec<Counted>,
}

/// Bad events and all events of one colour, or of one zone of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    bad: Query,
    of: Query,
}

impl CountQueries {
    /// What to ask for a comparison. `usual` is the limit above which a sample is slow where the policy leaves it to the
    /// service, in the metric's unit. `None` when it is left to the service and not known.
    pub fn new(events: &Events, usual: Option<f64>, rollout: &Rollout) -> Option<Self> {
        let slow = match events {
            Events::Counts { .. } => 0.0,
            Events::Slow { than: SlowerThan::Limit(limit), .. } => *limit,
            Events::Slow { than: SlowerThan::Usual, .. } => usual?,
        };
        let counted = |side, zone| Counted::new(events, slow, rollout, side, zone);
        let (Events::Counts { bad: metric, .. } | Events::Slow { metric, .. }) = events;
        let zones = rollout.zones();
        let has_zones = metric.namespace == defaults::LOAD_BALANCER_NAMESPACE && zones.len() > 1;
        Some(Self {
            green: counted(Side::Green, None),
            blue: counted(Side::Blue, None),
            zones: zones
                .iter()
                .filter(|_| has_zones)
                .map(|zone| counted(Side::Blue, Some(zone.as_str())))
                .collect(),
        })
    }

    /// All queries.
    pub fn all(&self) -> impl Iterator<Item = &Query> {
        [&self.green, &self.blue]
            .into_iter()
            .chain(&self.zones)
            .flat_map(|counted| [&counted.bad, &counted.of])
    }

    /// Whether CloudWatch counts the bad events at all. It need not know trimmed counts of a metric; then there are samples,
    /// but never a count of slow ones, not even 0.
    pub fn are_counted(&self, set: &SeriesSet, window: &Window) -> bool {
        let any = |query: &Query| set.get(query, window).iter().any(Option::is_some);
        let sides = [&self.green, &self.blue];
        !self.blue.bad.is_trimmed_count()
            || sides.iter().any(|side| any(&side.bad))
            || !sides.iter().any(|side| any(&side.of))
    }

    /// What came back: as the rollout since the shift began, as history before. The period in which it began is
    /// neither. History is the sum over both target groups, since the colours swap with every deployment.
    pub fn series(&self, set: &SeriesSet, window: &Window, shift: Timestamp, planned: usize) -> Series {
        let (before, first) = window.parted_at(shift);
        let counts = |counted: &Counted| -> Vec<Option<Count>> {
            let (bad, of) = (set.get(&counted.bad, window), set.get(&counted.of, window));
            bad.iter().zip(of).map(|(bad, of)| count(*bad, of)).collect()
        };
        let (green, blue) = (counts(&self.green), counts(&self.blue));
        let zones: Vec<Vec<Option<Count>>> = self.zones.iter().map(counts).collect();
        let history = (0..before)
            .map(|period| {
                // With both target groups in use, blue's zones are not the whole service's.
                let alone = green[period].is_none();
                Past {
                    total: sum(green[period], blue[period]),
                    zones: zones.iter().filter(|_| alone).filter_map(|zone| zone[period]).collect(),
                }
            })
            .collect();
        let window =
            (first..green.len()).map(|period| Pair { blue: blue[period], green: green[period] }).collect();
        Series { history, window, planned }
    }
}

impl Counted {
    fn new(events: &Events, slow: f64, rollout: &Rollout, side: Side, zone: Option<&str>) -> Self {
        let query = |metric: &Metric, statistic: &str| {
            let mut query = super::query(metric, statistic, rollout, side);
            query.dimensions.extend(zone.map(|zone| ("AvailabilityZone".to_owned(), zone.to_owned())));
            query.dimensions.sort();
            query
        };
        match events {
            Events::Counts { bad, of } => Self { bad: query(bad, "Sum"), of: query(of, "Sum") },
            Events::Slow { metric, .. } => {
                Self { bad: query(metric, &format!("TC({slow}:)")), of: query(metric, "SampleCount") }
            }
        }
    }
}

/// More events than this in a period are a mistake of whoever counted: no data.
const MOST: f64 = 1e15;

/// A missing count of bad events is 0 only where there are events.
fn count(bad: Option<f64>, of: Option<f64>) -> Option<Count> {
    let count = Count { of: of.filter(|of| *of > 0.0)?, bad: bad.unwrap_or(0.0).max(0.0) };
    (count.of <= MOST && count.bad <= MOST).then_some(count)
}

fn sum(one: Option<Count>, other: Option<Count>) -> Option<Count> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Count { of: one.of + other.of, bad: one.bad + other.bad }),
        (one, other) => one.or(other),
    }
}
