//! Before the shift: the smallest regression that this rollout can find, with the traffic that the service has.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::power::{Findable, Traffic, smallest_found};
use crate::metrics::{self, CountQueries, Query, Window};
use crate::policy::chances::Chances;
use crate::policy::gates::{Compared, Events, Rule};
use crate::traffic::HISTORY;
use crate::verdict::{Caveat, Finding, Outcome, Quantity};

/// A regression that is larger than this many times, and than this share of requests, should not escape; if it can, the
/// report says that there is too little traffic.
const LARGE: Findable = Findable { ratio: 10.0, share: 0.01 };
/// A custom deployment configuration is taken to be a canary of 10 % for a quarter of an hour.
const UNKNOWN: (f64, usize) = (0.1, 15);

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
    let shares = shares(&release.rollout.configuration, plan.sampling.period, plan.bake_for);
    let chances = Chances::new(&plan.traffic, plan.false_rollback_rate);
    Ok(gates
        .iter()
        .map(|(name, compared, queries)| {
            let history = queries.series(&set, &before, before.end(), 0).history;
            let counts: Vec<f64> =
                history.iter().map(|past| past.total.map_or(0.0, |total| total.of)).collect();
            let usual = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
            let traffic: Vec<Traffic> = shares
                .iter()
                .map(|green| Traffic { blue: usual * (1.0 - green), green: usual * green })
                .collect();
            let found = smallest_found(&history, &traffic, &compared.comparison, chances.of(compared));
            finding(name, usual, shares.len(), plan.sampling.period, found)
        })
        .collect())
}

fn finding(gate: &str, usual: f64, periods: usize, period: Duration, found: Option<Findable>) -> Finding {
    let requests = Quantity::plain((usual * 60.0 / period.as_secs_f64()).round());
    let minutes = Quantity::plain(periods as f64 * period.as_secs_f64() / 60.0);
    let sees = match found {
        Some(Findable { ratio, share }) => format!(
            "finds one that makes {} times as many ({} of all), 4 times in 5",
            Quantity::plain(ratio),
            Quantity::share(share)
        ),
        None => "finds no regression that is not an outage".to_owned(),
    };
    let told = Finding::new(
        format!("{gate}, outlook"),
        Outcome::Pass,
        format!("with {requests} requests a minute and {minutes} minutes, this rollout {sees}"),
    );
    if found.is_none_or(|found| found.ratio > LARGE.ratio && found.share > LARGE.share) {
        told.but(Caveat::LowTraffic)
    } else {
        told
    }
}

/// Green's share of the traffic in each period, by the name of a configuration of CodeDeploy, with the bake at the end.
fn shares(configuration: &str, period: Duration, bake: Duration) -> Vec<f64> {
    let periods = |minutes: f64| ((minutes * 60.0 / period.as_secs_f64()).round() as usize).max(1);
    let name = configuration.trim_start_matches("CodeDeployDefault.ECS");
    let numbers: Vec<f64> = name
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let mut shares = match numbers.as_slice() {
        [percent, minutes] if name.starts_with("Canary") => vec![percent / 100.0; periods(*minutes)],
        [percent, minutes] if name.starts_with("Linear") && *percent > 0.0 => {
            let steps = (100.0 / percent).ceil() as usize;
            let step = |step: usize| vec![(percent / 100.0 * step as f64).min(1.0); periods(*minutes)];
            (1..steps).flat_map(step).collect()
        }
        _ if name == "AllAtOnce" => Vec::new(),
        _ => vec![UNKNOWN.0; UNKNOWN.1],
    };
    shares.extend(vec![1.0; periods(bake.as_secs_f64() / 60.0)]);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_by_their_names() {
        let minutes = |name: &str| shares(name, Duration::from_mins(1), Duration::from_mins(2));
        assert_eq!(
            minutes("CodeDeployDefault.ECSCanary10Percent5Minutes"),
            [0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0]
        );
        let linear = minutes("CodeDeployDefault.ECSLinear10PercentEvery3Minutes");
        assert_eq!((linear.len(), linear[0], linear[26]), (9 * 3 + 2, 0.1, 0.9));
        assert_eq!(minutes("CodeDeployDefault.ECSAllAtOnce"), [1.0, 1.0]);
        assert_eq!(minutes("our-own").len(), 17);
    }
}
