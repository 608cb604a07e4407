//! A plan in words, for `policy explain` and for reports. Pure.

use std::time::Duration;

use super::gates::{Bound, Changed, Compared, Direction, Events, Gate, Measure, Rule, SlowerThan, Threshold};
use super::plan::{Check, Choice, Mode, Plan, Rolling};
use crate::judge::compare::Comparison;
use crate::verdict::Quantity;

/// What a plan does, a line each; the gates are indented below the line that says when they hold.
pub fn explained(plan: &Plan) -> Vec<String> {
    let seconds = |duration: Duration| Quantity::seconds(duration.as_secs_f64());
    let choice = |choice| match (choice, plan.rules.mode) {
        (Choice::Fail, Mode::Enforce) => "stops the release",
        (Choice::Fail, Mode::Observe) => "counts as what would have stopped the release",
        (Choice::Proceed, _) => "lets the release go on, and says so",
    };
    let mut lines = vec![
        match plan.rules.mode {
            Mode::Enforce => "mode: enforce: what was found decides whether the release goes on".to_owned(),
            Mode::Observe => {
                "mode: observe: everything is judged and reported, and the release always goes on".to_owned()
            }
        },
        format!("a check that is inconclusive {}", choice(plan.rules.on_inconclusive)),
        format!("a check that could not be made {}", choice(plan.rules.on_fault)),
        format!(
            "metrics in periods of {}, judged when {} old; a look every {}",
            seconds(plan.sampling.period),
            seconds(plan.sampling.ingestion_delay),
            seconds(plan.sampling.look_every)
        ),
        format!(
            "readiness: {} of green's tasks and targets, for {}, within {}",
            Quantity::share(plan.readiness.healthy),
            seconds(plan.readiness.stable_for),
            seconds(plan.readiness.within)
        ),
        match &plan.smoke.checks {
            None => {
                "smoke: the target group's health check through the test listener, 5 times, each within 2 s"
                    .to_owned()
            }
            Some(checks) => {
                let checks: Vec<String> = checks.iter().map(explained_check).collect();
                format!("smoke: {}", checks.join("; "))
            }
        },
        format!(
            "outage: {} of green's requests bad in {} periods in a row while less than {} of blue's are",
            Quantity::share(plan.outage.share),
            plan.outage.periods,
            Quantity::share(plan.outage.blue_below)
        ),
        format!(
            "a release as good as blue is rolled back at most once in {} rollouts by the gates that compare",
            Quantity::plain(1.0 / plan.false_rollback_rate)
        ),
        "while traffic shifts, green fails when".to_owned(),
    ];
    lines.extend(plan.traffic.iter().map(explained_gate));
    lines.push(format!("at 100 %, for {}, green fails when", seconds(plan.bake_for)));
    lines.extend(plan.bake.iter().map(explained_gate));
    lines.push(format!(
        "where ECS itself shifts, each step is held for {} to {}, until every gate has passed",
        seconds(plan.steps.at_least.min(plan.steps.at_most)),
        seconds(plan.steps.at_most)
    ));
    lines.push(match plan.rolling {
        Rolling::Watch => "rolling updates are watched".to_owned(),
        Rolling::Ignore => {
            "rolling updates are watched if the service has the tag shiftgate: watch".to_owned()
        }
    });
    if !plan.alarms.is_empty() {
        lines.push(format!("alarms that must not ring: {}", plan.alarms.join(", ")));
    }
    lines
}

/// A smoke check: what is sent, and what must come back. Values of headers and bodies are not told, since they may be secret or long.
fn explained_check(check: &Check) -> String {
    let sent = match &check.invoke {
        Some(_) => "the new version is invoked".to_owned(),
        None => format!("{} {}", check.method, check.path),
    };
    let named = if check.name == sent { String::new() } else { format!("{}: ", check.name) };
    let headers: Vec<&str> = check.headers.iter().map(|(name, _)| name.as_str()).collect();
    let with = if headers.is_empty() { String::new() } else { format!(" with {}", headers.join(", ")) };
    let expect = &check.expect;
    let wanted: Vec<&str> = [
        (!expect.headers.is_empty(), "headers"),
        (expect.body.is_some(), "body"),
        (expect.json.is_some(), "JSON"),
        (expect.jmespath.is_some(), "JMESPath"),
        (expect.within.is_some() || !expect.percentiles.is_empty(), "time"),
    ]
    .into_iter()
    .filter_map(|(is_asked, what)| is_asked.then_some(what))
    .collect();
    let looked_at =
        if wanted.is_empty() { "its status".to_owned() } else { format!("status, {}", wanted.join(", ")) };
    format!("{named}{sent}{with}, {} times, by {looked_at}", check.times)
}

fn explained_gate(gate: &Gate) -> String {
    let rule = match &gate.rule {
        Rule::Threshold(threshold) => explained_threshold(threshold),
        Rule::Compared(compared) => explained_comparison(compared),
        Rule::Changed(changed) => explained_change(changed),
    };
    format!("  {}: {rule}", gate.name)
}

fn explained_threshold(gate: &Threshold) -> String {
    let bound = match gate.bound {
        Bound::AtMost { limit, tolerate: None } => format!("is above {limit}"),
        Bound::AtMost { limit, tolerate: Some(times) } if times > 1.0 => {
            format!("is above {limit} and above {times} times blue's")
        }
        Bound::AtMost { limit, tolerate: Some(_) } => format!("is above {limit} and above blue's"),
        Bound::AtLeast { limit } => format!("is below {limit}"),
    };
    let latest = gate.worst_of.map(|periods| format!(", the latest {periods}")).unwrap_or_default();
    let requests = match gate.min_requests {
        0 => String::new(),
        least => format!(" with {least} requests or more"),
    };
    format!("{} {bound} in a period{requests}{latest}", explained_measure(&gate.measure))
}

fn explained_comparison(gate: &Compared) -> String {
    let what = match &gate.events {
        Events::Counts { bad, of } => format!("{} / {}", bad.name, of.name),
        Events::Slow { metric, than: SlowerThan::Usual } => {
            format!("{} above the usual p99 before the shift", metric.name)
        }
        Events::Slow { metric, than: SlowerThan::Limit(limit) } => {
            format!("{} above {}", metric.name, Quantity::seconds(*limit))
        }
    };
    let Comparison { tolerate, ignore_below, pass_below } = gate.comparison;
    format!(
        "{what} is {}blue's and above {}, by more than chance (passes when less than {pass_below} times is shown; weight {})",
        if tolerate > 1.0 { format!("more than {tolerate} times ") } else { "above ".to_owned() },
        Quantity::share(ignore_below),
        gate.weight
    )
}

fn explained_change(gate: &Changed) -> String {
    let direction = match gate.direction {
        Direction::Up => "rises",
        Direction::Down => "falls",
        Direction::Any => "rises or falls",
    };
    format!(
        "{} {direction} to more than {} times (or less than {}) of its past, and by more than it does at other times (weight {})",
        explained_measure(&gate.measure),
        gate.tolerate,
        Quantity::share(1.0 / gate.tolerate),
        gate.weight
    )
}

fn explained_measure(measure: &Measure) -> String {
    match measure {
        Measure::Share { bad, of } => format!("{} / {}", bad.name, of.name),
        Measure::Statistic { metric, statistic } => format!("{statistic} of {}", metric.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_explain_themselves() {
        insta::assert_snapshot!(explained(&Plan::default()).join("\n"));
    }
}
