//! The metrics that the policy's own gates name: has CloudWatch any data of them?

use std::collections::BTreeSet;

use jiff::Timestamp;
use shiftgate::clock;
use shiftgate::hook::Release;
use shiftgate::metrics::{self, Query, Side, Window};
use shiftgate::policy::gates::{Changed, Compared, Events, Gate, Measure, Metric, Rule, Threshold};
use shiftgate::traffic::HISTORY;

use super::told::Check;

/// What the check is called.
const NAME: &str = "metric data";

/// Reads the latest periods of what each gate of the policy rests on. Built-in gates are left to the outlook.
pub async fn checks(release: &Release) -> Vec<Check> {
    let plan = &release.plan;
    let of_shift = plan.traffic.iter().filter(|_| !plan.built_in.traffic).map(|gate| ("traffic", gate));
    let of_bake = plan.bake.iter().filter(|_| !plan.built_in.bake).map(|gate| ("bake.gates", gate));
    let asked: Vec<(&str, &Gate, Query)> = of_shift
        .chain(of_bake)
        .map(|(key, gate)| {
            let (metric, statistic) = rests_on(gate);
            (key, gate, metrics::query(metric, statistic, &release.rollout, Side::Blue))
        })
        .collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let now = clock::now();
    let window = Window::complete(now, Timestamp::MAX, now, &plan.sampling).with_history(HISTORY);
    let queries: Vec<Query> = asked.iter().map(|(.., query)| query.clone()).collect();
    let set = match metrics::read(&release.aws, &queries, &window).await {
        Ok(set) => set,
        Err(fault) => return vec![Check::from_fault(NAME, &fault)],
    };
    let mut checks: Vec<Check> = asked
        .iter()
        .filter(|(.., query)| set.get(query, &window).iter().all(Option::is_none))
        .map(|(key, gate, query)| nothing(key, &gate.name, query))
        .collect();
    // A gate of the shift is one of the bake, too, where nothing else is said.
    let mut told = BTreeSet::new();
    checks.retain(|check| told.insert(check.seen.clone()));
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "there is some of each metric that the policy's gates name"));
    }
    checks
}

/// The metric without which a gate judges nothing, and a statistic of it. Counts of what is bad are missing where nothing
/// is.
fn rests_on(gate: &Gate) -> (&Metric, &str) {
    match &gate.rule {
        Rule::Compared(Compared { events: Events::Counts { of, .. }, .. })
        | Rule::Threshold(Threshold { measure: Measure::Share { of, .. }, .. })
        | Rule::Changed(Changed { measure: Measure::Share { of, .. }, .. }) => (of, "Sum"),
        Rule::Compared(Compared { events: Events::Slow { metric, .. }, .. }) => (metric, "SampleCount"),
        Rule::Threshold(Threshold { measure: Measure::Statistic { metric, statistic }, .. })
        | Rule::Changed(Changed { measure: Measure::Statistic { metric, statistic }, .. }) => {
            (metric, statistic)
        }
    }
}

fn nothing(key: &str, gate: &str, query: &Query) -> Check {
    let Query { namespace, metric, dimensions, .. } = query;
    let dimensions: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Check::warning(
        NAME,
        format!(
            "{gate}: CloudWatch has no data of {namespace} {metric} with {} in the last {HISTORY} periods, so that the gate judges nothing",
            if dimensions.is_empty() { "no dimensions".to_owned() } else { dimensions.join(", ") }
        ),
        format!(
            "write `dimensions` of the gate `{gate}` under `{key}` of the policy as the metric has them: aws cloudwatch list-metrics --namespace {namespace} --metric-name {metric} prints those"
        ),
    )
}
