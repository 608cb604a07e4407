//! After the shift: has a metric changed by more than it does at other times? Reads three days of it, then asks the
//! placebo judge.

use jiff::Timestamp;

use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::placebo::{self, Change, Placebo, placebo};
use crate::metrics::{self, Query, Series, SeriesSet, Side, Window};
use crate::policy::chances::Chances;
use crate::policy::gates::{Changed, Gate, Measure, Metric, Rule};
use crate::policy::plan::Sampling;
use crate::traffic::Span;
use crate::verdict::{ByChance, Caveat, Finding, Outcome, Quantity, Unit};

/// Periods before the shift: three days of minutes.
const HISTORY: usize = 3 * 24 * 60;

/// With fewer days of history the hour of the day cannot be told from a change: a release at the steepest hour of a daily
/// pattern was rolled back in a tenth of the cases where one in twenty was allowed (docs/judging.md).
const FEWEST_DAYS: f64 = 2.0;

/// Judges the gates that compare a metric after the shift with what it was before; none of them, nothing read.
pub async fn look(
    release: &Release,
    gates: &[Gate],
    span: Span,
    now: Timestamp,
) -> Result<Vec<Finding>, Fault> {
    let changed: Vec<(&str, &Changed)> = gates
        .iter()
        .filter_map(|gate| match &gate.rule {
            Rule::Changed(changed) => Some((gate.name.as_str(), changed)),
            _ => None,
        })
        .collect();
    let sampling = &release.plan.sampling;
    let after = Window::complete(span.from, span.until, now, sampling);
    if changed.is_empty() || after.periods == 0 {
        return Ok(Vec::new());
    }
    let read = after.with_history(HISTORY);
    let sides: Vec<Sides> = changed.iter().map(|(_, changed)| Sides::new(changed, release)).collect();
    let queries: Vec<Query> = sides.iter().flat_map(Sides::all).cloned().collect();
    let set = metrics::read(&release.aws, &queries, &read).await?;
    let weights: f64 = changed.iter().map(|(_, changed)| changed.weight).sum();
    let all = Chances::of_changes(&release.plan);
    let shifting = read.index_of(span.shift.as_millisecond()).unwrap_or(HISTORY)..HISTORY;
    Ok(changed
        .iter()
        .zip(&sides)
        .map(|((name, changed), sides)| {
            let mut values = sides.values(&set, &read);
            // While traffic shifted, the metric was neither what it was before nor what it is now.
            values[shifting.clone()].fill(None);
            let change = Change {
                values: &values,
                change_at: HISTORY,
                // Those of the whole bake.
                planned: Window::complete(span.from, span.until, Timestamp::MAX, sampling).periods,
                period_seconds: sampling.period.as_secs(),
                direction: changed.direction,
                tolerate: changed.tolerate,
            };
            let finding = finding(name, changed, placebo(&change), all * changed.weight / weights);
            if days(&values[..HISTORY], sampling) < FEWEST_DAYS {
                finding.but(Caveat::FewDays)
            } else {
                finding
            }
        })
        .collect())
}

/// Days from the first value to the end.
fn days(history: &[Option<f64>], sampling: &Sampling) -> f64 {
    let known = history.iter().position(Option::is_some).map_or(0, |first| history.len() - first);
    known as f64 * sampling.period.as_secs_f64() / 86_400.0
}

/// The metric of both target groups: the colours swap with every deployment, so the past of one is not the past of the
/// service.
struct Sides {
    adds_up: AddsUp,
    /// Values and sample counts (of a share: all events); one pair where the metric knows no target group.
    pairs: Vec<(Query, Query)>,
}

/// How the values of two target groups become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AddsUp {
    /// Their sum.
    Sum,
    /// The share of all bad events among all events; no bad event is told where there is none.
    Share,
    /// That of the group with more samples.
    No,
}

impl Sides {
    fn new(changed: &Changed, release: &Release) -> Self {
        let query = |metric: &Metric, side, statistic: &str| {
            metrics::query(metric, statistic, &release.rollout, side)
        };
        let (adds_up, pair): (AddsUp, &dyn Fn(Side) -> (Query, Query)) = match &changed.measure {
            Measure::Statistic { metric, statistic } => (
                if matches!(statistic.as_str(), "Sum" | "SampleCount") { AddsUp::Sum } else { AddsUp::No },
                &|side| (query(metric, side, statistic), query(metric, side, "SampleCount")),
            ),
            Measure::Share { bad, of } => {
                (AddsUp::Share, &|side| (query(bad, side, "Sum"), query(of, side, "Sum")))
            }
        };
        let mut pairs: Vec<(Query, Query)> = [Side::Green, Side::Blue].map(pair).into();
        pairs.dedup();
        Self { adds_up, pairs }
    }

    fn all(&self) -> impl Iterator<Item = &Query> {
        self.pairs.iter().flat_map(|(value, samples)| [value, samples])
    }

    /// A value per period: the sum for what adds up, else that of the target group with more samples.
    fn values(&self, set: &SeriesSet, window: &Window) -> Series {
        let sides: Vec<(Series, Series)> = self
            .pairs
            .iter()
            .map(|(value, samples)| (set.get(value, window), set.get(samples, window)))
            .collect();
        let value = |period: usize| {
            let found = sides.iter().filter_map(|(values, samples)| {
                values[period].map(|value| (value, samples[period].unwrap_or(0.0)))
            });
            match self.adds_up {
                AddsUp::Sum => found.map(|(value, _)| value).reduce(|sum, value| sum + value),
                AddsUp::No => found.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(value, _)| value),
                AddsUp::Share => {
                    let sum = |values: &dyn Fn(&(Series, Series)) -> Option<f64>| -> f64 {
                        sides.iter().filter_map(values).sum()
                    };
                    let all = sum(&|(_, all)| all[period]);
                    (all > 0.0).then(|| sum(&|(bad, _)| bad[period]) / all)
                }
            }
        };
        (0..window.periods).map(value).collect()
    }
}

fn finding(
    gate: &str,
    changed: &Changed,
    judged: Result<Placebo, placebo::Unjudged>,
    allowed: f64,
) -> Finding {
    let seen = match judged {
        Ok(seen) => seen,
        Err(why) => return Finding::new(gate, Outcome::Inconclusive, why.to_string()).but(Caveat::NoData),
    };
    let unit = match &changed.measure {
        Measure::Statistic { metric, statistic }
            if metric.name == "TargetResponseTime" && !statistic.starts_with(['T', 'S']) =>
        {
            Unit::Seconds
        }
        Measure::Share { .. } => Unit::Share,
        Measure::Statistic { .. } => Unit::Plain,
    };
    let quantity = |value: f64| Quantity { value, unit };
    let by_chance = ByChance { chance: seen.chance, allowed };
    let change = format!(
        "{} after the shift, {} before it, where its past lets expect {}",
        quantity(seen.after),
        quantity(seen.before),
        quantity(seen.expected)
    );
    let (outcome, summary) = if seen.chance <= allowed {
        (Outcome::Fail, format!("{change}: {by_chance} at {} earlier times", seen.times))
    } else if seen.smallest > allowed {
        let least = ByChance { chance: seen.smallest, allowed };
        (Outcome::Inconclusive, format!("{change}: its history is too short to show more than {least}"))
    } else {
        (Outcome::Pass, format!("{change}: {by_chance}"))
    };
    Finding {
        value: Some(quantity(seen.after)),
        blue: Some(quantity(seen.before)),
        by_chance: Some(by_chance),
        ..Finding::new(gate, outcome, summary)
    }
}
