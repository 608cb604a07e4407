//! YAML, and the policies that are written in it.

use std::collections::BTreeSet;

use serde_json::Value;
use shiftgate::policy::chances::Chances;
use shiftgate::policy::gates::{Gate, Rule};
use shiftgate::policy::plan::{Base, Plan};
use shiftgate::policy::{self, defaults};
use shiftgate::rollout::Front;
use shiftgate::yaml::{Document, Problem};

/// Reads a document. What was read is the same when it is written as JSON, which is YAML.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(problem) => return is_within(&problem, text),
    };
    if let Value::Object(map) = &document.value {
        for key in map.keys() {
            let line = document.line_of(key);
            assert!((1..=lines(text)).contains(&line), "line {line} of {} for {key}", lines(text));
        }
    }
    let written = document.value.to_string();
    match Document::parse(&written) {
        Ok(again) => assert_eq!(again.value, document.value, "{written}"),
        Err(problem) => panic!("{problem}: {written}"),
    }
}

/// Reads a policy: it is a plan that can be used as it is, or there are faults with their lines.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match policy::parse(text) {
        Ok(plan) => {
            holds(&plan);
            for front in [Front::Application, Front::Network, Front::Shared, Front::Function, Front::None] {
                holds(&plan.clone().fitted(front));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.is_sorted_by_key(|problem| problem.line));
            for problem in &problems {
                is_within(problem, text);
            }
        }
    }
}

fn lines(text: &str) -> usize {
    // YAML also ends lines with a carriage return alone.
    text.matches(['\n', '\r']).count() + 1
}

fn is_within(problem: &Problem, text: &str) {
    assert!(!problem.what.is_empty());
    assert!(problem.line <= lines(text), "line {} of {}: {problem}", problem.line, lines(text));
}

/// What the rest of Shiftgate takes for granted.
fn holds(plan: &Plan) {
    let sampling = plan.sampling;
    assert!(!sampling.period.is_zero() && sampling.ingestion_delay >= sampling.period * 2);
    assert!(plan.false_rollback_rate > 0.0 && plan.false_rollback_rate <= 0.5);
    assert!(plan.bake_for + sampling.ingestion_delay <= defaults::LONGEST_BAKE);
    assert!(plan.steps.at_most <= defaults::LONGEST_HOLD);
    assert!(plan.readiness.stable_for <= plan.readiness.within && plan.readiness.healthy > 0.0);
    if let Some(checks) = &plan.smoke.checks {
        assert!(!checks.is_empty(), "no check is a silent pass");
        for check in checks {
            assert!(check.path.starts_with('/') && !check.path.starts_with("//"));
            assert!((1..=1000).contains(&check.times) && (1..=50).contains(&check.concurrency));
        }
    }
    if let Base::Url(url) = &plan.smoke.base {
        assert_eq!(url.scheme(), "https");
    }
    for gates in [&plan.traffic, &plan.bake] {
        let names: BTreeSet<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        assert_eq!(names.len(), gates.len(), "two gates of one name");
        gates.iter().for_each(gate_holds);
    }
    spends_no_more_than_it_may(plan);
}

fn gate_holds(gate: &Gate) {
    match &gate.rule {
        Rule::Threshold(threshold) => assert!(threshold.bound.limit().value.is_finite()),
        Rule::Compared(compared) => {
            let comparison = compared.comparison;
            assert!(comparison.tolerate >= 1.0 && comparison.pass_below > comparison.tolerate);
            assert!(comparison.pass_below.is_finite() && (0.0..=1.0).contains(&comparison.ignore_below));
        }
        Rule::Changed(changed) => assert!(changed.tolerate >= 1.0 && changed.tolerate.is_finite()),
    }
}

fn spends_no_more_than_it_may(plan: &Plan) {
    let chances = Chances::new(plan);
    let mut spent = Chances::of_changes(plan);
    assert!(spent >= 0.0);
    for gate in &plan.traffic {
        if let Rule::Compared(compared) = &gate.rule {
            let chance = chances.of(compared);
            assert!(chance > 0.0 && chance <= plan.false_rollback_rate, "a chance of {chance}");
        }
    }
    let mut seen: Vec<&Rule> = Vec::new();
    for gate in plan.traffic.iter().chain(plan.bake.iter().filter(|_| !plan.bake_for.is_zero())) {
        if let Rule::Compared(compared) = &gate.rule
            && !seen.contains(&&gate.rule)
        {
            seen.push(&gate.rule);
            spent += chances.of(compared);
        }
    }
    assert!(spent <= plan.false_rollback_rate * (1.0 + 1e-9), "{spent} of {}", plan.false_rollback_rate);
}
