//! Before the shift: the smallest regression that this rollout can find, with the traffic that the service has, and the gates
//! for which it is not enough.

pub mod needs;

use std::time::Duration;

use jiff::Timestamp;

use self::needs::{Counted, Course, Need, Usual};
use crate::clock;
use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::power::{Findable, Traffic, smallest_found};
use crate::judge::series::Past;
use crate::metrics::{self, CountQueries, Query, Series, SeriesSet, Side, Window};
use crate::policy::chances::Chances;
use crate::policy::gates::{Compared, Events, Gate, Rule};
use crate::rollout::Rollout;
use crate::rollout::schedule::green_shares;
use crate::traffic::{self, HISTORY};
use crate::verdict::{Caveat, Finding, Outcome, Quantity};

/// A regression that is larger than this many times, and than this share of requests, should not escape; if it can, the
/// report says that there is too little traffic.
const LARGE: Findable = Findable { ratio: 10.0, share: 0.01 };

/// Says, for each comparison, what it will be able to see, and of whatever needs a number of requests in a period, where
/// there will be fewer. It always passes: what could not be seen is judged after the shift, by what was there.
pub async fn told(release: &Release) -> Result<Vec<Finding>, Fault> {
    let before = hour_before(release);
    let comparisons = comparisons(release);
    let needs = needs::needs(&release.plan, release.rollout.front());
    let of_comparisons = comparisons.iter().flat_map(|asked| asked.queries.all().cloned());
    let of_needs = needs.iter().flat_map(|need| counts(need, release));
    let queries: Vec<Query> = of_comparisons.chain(of_needs).collect();
    let set = traffic::read_counts(release, &queries, &before).await?;
    let of_comparisons = comparisons.iter().filter_map(|asked| asked.told(release, &set, &before));
    let of_needs = needs.iter().filter_map(|need| told_of(need, release, &set, &before));
    Ok(of_comparisons.chain(of_needs).collect())
}

/// The periods from which the judge would learn if traffic shifted now.
fn hour_before(release: &Release) -> Window {
    let (sampling, now) = (&release.plan.sampling, clock::now());
    let before = Window::complete(now, Timestamp::MAX, now, sampling).with_history(HISTORY);
    // The latest periods are not complete yet.
    let delay = sampling.ingestion_delay.div_duration_f64(sampling.period).ceil() as usize;
    Window { periods: HISTORY.saturating_sub(delay), ..before }
}

/// A comparison while traffic shifts, with what it would ask for.
struct Asked<'a> {
    gate: &'a Gate,
    compared: &'a Compared,
    queries: CountQueries,
}

/// Those of which it is known what they count: where the service says what is slow, it says so at the shift.
fn comparisons(release: &Release) -> Vec<Asked<'_>> {
    release.plan.traffic.iter().filter_map(|gate| Asked::new(gate, &release.rollout)).collect()
}

impl<'a> Asked<'a> {
    fn new(gate: &'a Gate, rollout: &Rollout) -> Option<Self> {
        let Rule::Compared(compared) = &gate.rule else { return None };
        let queries = CountQueries::new(&compared.events, None, rollout)?;
        Some(Self { gate, compared, queries })
    }

    /// Of slow requests only what is too little is told.
    fn told(&self, release: &Release, set: &SeriesSet, before: &Window) -> Option<Finding> {
        let Release { plan, rollout, .. } = release;
        if let Events::Slow { metric, .. } = &self.compared.events
            && !self.queries.are_counted(set, before)
        {
            return told_of(&needs::of_uncounted(self.gate, metric, plan), release, set, before);
        }
        let history = self.queries.series(set, before, before.end(), 0).history;
        let shares = green_shares(&rollout.schedule, plan.sampling.period, plan.bake_for);
        let (usual, found) = found(&history, &shares, self.compared, &Chances::new(plan));
        let told = finding(&self.gate.name, usual, shares.len(), plan.sampling.period, found);
        match self.compared.events {
            Events::Counts { .. } if is_too_little(found) => Some(told.but(Caveat::LowTraffic)),
            Events::Counts { .. } => Some(told),
            Events::Slow { .. } => {
                misses_slowness(found, self.compared).then(|| told.but(Caveat::LowTraffic))
            }
        }
    }
}

/// Whether a tenfold rise may escape of what is slow, or of what is ignored where that is more.
fn misses_slowness(found: Option<Findable>, compared: &Compared) -> bool {
    let large = LARGE.ratio * compared.comparison.ignore_below;
    found.is_none_or(|found| found.ratio > LARGE.ratio && found.share > large.max(LARGE.share))
}

/// What counts the requests of a gate, for either colour; once where the metric does not tell them apart.
fn counts(need: &Need, release: &Release) -> Vec<Query> {
    let Counted { metric, statistic } = need.counted();
    let mut queries: Vec<Query> = [Side::Green, Side::Blue]
        .map(|side| metrics::query(metric, statistic, &release.rollout, side))
        .into();
    queries.dedup();
    queries
}

fn told_of(need: &Need, release: &Release, set: &SeriesSet, before: &Window) -> Option<Finding> {
    let counts: Vec<Series> = counts(need, release).iter().map(|query| set.get(query, before)).collect();
    let course = Course {
        schedule: &release.rollout.schedule,
        period: release.plan.sampling.period,
        bake: release.plan.bake_for,
    };
    need.told(Usual::of(&counts), &course)
}

/// Requests of a period, and the smallest regression that a comparison finds in a rollout with so much traffic; `shares` are
/// green's of each of its periods, 0 to 1.
pub fn found(
    history: &[Past],
    shares: &[f64],
    compared: &Compared,
    chances: &Chances,
) -> (f64, Option<Findable>) {
    let counts = history.iter().map(|past| past.total.map_or(0.0, |total| total.of));
    let usual = counts.sum::<f64>() / history.len().max(1) as f64;
    let traffic: Vec<Traffic> =
        shares.iter().map(|green| Traffic { blue: usual * (1.0 - green), green: usual * green }).collect();
    (usual, smallest_found(history, &traffic, &compared.comparison, chances.of(compared)))
}

fn finding(gate: &str, usual: f64, periods: usize, period: Duration, found: Option<Findable>) -> Finding {
    let requests = Quantity::plain((usual * 60.0 / period.as_secs_f64()).round());
    let minutes = Quantity::plain(periods as f64 * period.as_secs_f64() / 60.0);
    let summary =
        format!("with {requests} requests a minute and {minutes} minutes, this rollout {}", sees(found));
    Finding::new(format!("{gate}, outlook"), Outcome::Pass, summary)
}

/// What a rollout that finds this finds, in words that follow on it.
pub fn sees(found: Option<Findable>) -> String {
    match found {
        Some(Findable { ratio, share }) => format!(
            "finds a regression that makes {} times as many ({} of all), 4 times in 5",
            Quantity::plain(ratio),
            Quantity::share(share)
        ),
        None => "finds no regression short of an outage".to_owned(),
    }
}

/// What a rollout with enough traffic finds at least, in words.
pub fn enough() -> String {
    format!("{} times as many, or {} of all", Quantity::plain(LARGE.ratio), Quantity::share(LARGE.share))
}

/// Whether so large a regression may escape that there is too little traffic.
pub fn is_too_little(found: Option<Findable>) -> bool {
    found.is_none_or(|found| found.ratio > LARGE.ratio && found.share > LARGE.share)
}
