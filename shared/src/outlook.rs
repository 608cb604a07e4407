//! Before the shift: the smallest regression that this rollout can find, with the traffic that the service has.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::power::{Findable, Traffic, smallest_found};
use crate::judge::series::Past;
use crate::metrics::{self, CountQueries, Query, Window};
use crate::policy::chances::Chances;
use crate::policy::gates::{Compared, Events, Rule};
use crate::rollout::schedule::green_shares;
use crate::traffic::HISTORY;
use crate::verdict::{Caveat, Finding, Outcome, Quantity};

/// A regression that is larger than this many times, and than this share of requests, should not escape; if it can, the
/// report says that there is too little traffic.
const LARGE: Findable = Findable { ratio: 10.0, share: 0.01 };

/// Says, for each comparison of counts, what it will be able to see. It always passes: what could not be seen is judged
/// after the shift, by what was there.
pub async fn told(release: &Release) -> Result<Vec<Finding>, Fault> {
    let (plan, now) = (&release.plan, clock::now());
    let before = Window::complete(now, Timestamp::MAX, now, &plan.sampling).with_history(HISTORY);
    // The latest periods are not complete yet.
    let delay = plan.sampling.ingestion_delay.div_duration_f64(plan.sampling.period).ceil() as usize;
    let before = Window { periods: HISTORY.saturating_sub(delay), ..before };
    let gates: Vec<(&str, &Compared, CountQueries)> = plan
        .traffic
        .iter()
        .filter_map(|gate| match &gate.rule {
            Rule::Compared(compared) if matches!(compared.events, Events::Counts { .. }) => {
                let queries = CountQueries::new(&compared.events, None, &release.rollout)?;
                Some((gate.name.as_str(), compared, queries))
            }
            _ => None,
        })
        .collect();
    let queries: Vec<Query> = gates.iter().flat_map(|(_, _, queries)| queries.all().cloned()).collect();
    let set = metrics::read(&release.aws, &queries, &before).await?;
    let shares = green_shares(&release.rollout.schedule, plan.sampling.period, plan.bake_for);
    let chances = Chances::new(plan);
    Ok(gates
        .iter()
        .map(|(name, compared, queries)| {
            let history = queries.series(&set, &before, before.end(), 0).history;
            let (usual, found) = found(&history, &shares, compared, &chances);
            finding(name, usual, shares.len(), plan.sampling.period, found)
        })
        .collect())
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
    let told = Finding::new(
        format!("{gate}, outlook"),
        Outcome::Pass,
        format!("with {requests} requests a minute and {minutes} minutes, this rollout {}", sees(found)),
    );
    if is_too_little(found) { told.but(Caveat::LowTraffic) } else { told }
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

/// Whether so large a regression may escape that there is too little traffic.
pub fn is_too_little(found: Option<Findable>) -> bool {
    found.is_none_or(|found| found.ratio > LARGE.ratio && found.share > LARGE.share)
}
