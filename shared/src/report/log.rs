//! The log: one JSON line per verdict, one with the readable report, and a line per look.

use std::io::Write;

use serde_json::{Value, json};
use tracing::{error, info};

use super::{About, Evidence, Reported, counters, markdown};
use crate::event::{Caught, Stage};
use crate::fault::Fault;
use crate::hook::Release;
use crate::verdict::{Answer, Finding, Verdict};

/// CloudWatch Logs takes no event above 256 KiB from Lambda without breaking it up; a day of minutes is longer.
const LONGEST: usize = 250_000;

/// Writes the verdict: the evidence as one JSON line for queries, as Markdown for people, what the comparisons looked at as a
/// recording for `shiftgate replay`, and counters. Gives the evidence back.
pub fn verdict(about: &About, verdict: &Verdict, duration_ms: u64) -> Evidence {
    let now = crate::clock::now();
    let evidence = Evidence::new(about, verdict, now, duration_ms);
    recorded(&evidence);
    line(&told(&evidence));
    line(&json!({
        "level": "INFO",
        "message": "report",
        "deployment_id": about.deployment_id,
        "stage": about.stage.name(),
        "markdown": markdown(&evidence),
    }));
    line(&counters::verdict(about, verdict, now));
    evidence
}

/// The evidence as a line of the log. The recording has a line of its own, as long as that may be.
fn told(evidence: &Evidence) -> Value {
    let mut value = json!({
        "level": if evidence.answer == Answer::Failed { "ERROR" } else { "INFO" },
        "message": "verdict",
    });
    if let (Value::Object(line), Ok(Value::Object(evidence))) = (&mut value, serde_json::to_value(evidence)) {
        line.extend(evidence);
    }
    let too_long = |value: &Value| value.to_string().len() > LONGEST;
    if let Some(rollout) = value.get_mut("rollout").and_then(Value::as_object_mut) {
        rollout.remove("recording");
    }
    if too_long(&value) {
        // How the evidence of each gate grew, over days of minutes.
        value["rollout"]["comparisons"] = json!([]);
    }
    value
}

/// Logs a failure, once, where it is handled.
pub fn failure(stage: Stage, about: Option<&About>, fault: &Fault) {
    let deployment_id = about.map(|about| about.deployment_id.as_str());
    error!(stage = stage.name(), deployment_id, kind = ?fault.kind, what = fault.chain(), hint = fault.hint, "failed");
}

/// Logs what became of the report, with the counters of it: CodeDeploy waits one hour for an answer.
pub(super) fn reported(about: &About, reported: Result<&Reported, &Fault>) {
    let now = crate::clock::now();
    match reported {
        Ok(Reported::Taken) => {
            if let Some(began) = about.began {
                line(&counters::answered(about, began, now));
            }
        }
        Ok(Reported::AlreadyCompleted) => {}
        Err(fault) => {
            failure(about.stage, Some(about), fault);
            line(&counters::report_failed(about, now));
        }
    }
}

/// Logs that a look could not see all that it is for. The next one may.
pub fn look_failed(about: &About, fault: &Fault) {
    failure(about.stage, Some(about), fault);
    line(&counters::look_failed(about, crate::clock::now()));
}

/// Logs that looks before this one crashed or ran out of time, as the state machine caught it: they could not tell
/// themselves.
pub fn looks_crashed(about: &About, caught: &Caught) {
    let deployment_id = about.deployment_id.as_str();
    error!(
        stage = about.stage.name(),
        deployment_id,
        error = caught.error,
        cause = caught.cause,
        "looks crashed"
    );
    line(&counters::look_failed(about, crate::clock::now()));
}

/// Logs a look that changes nothing yet, with the values that it saw.
pub fn looked(about: &About, release: &Release, findings: &[Finding], periods: usize) {
    let readings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "outcome": finding.outcome,
                "value": finding.value.map(|value| value.to_string()),
                "limit": finding.limit.map(|limit| limit.to_string()),
                "by_chance": finding.by_chance,
                "blue": finding.blue.map(|blue| blue.to_string()),
            })
        })
        .collect();
    line(&json!({
        "level": "INFO",
        "message": "look",
        "deployment_id": about.deployment_id,
        "stage": about.stage.name(),
        "weight": release.rollout.green.tasks.map(|tasks| tasks.weight),
        "periods": periods,
        "readings": readings,
    }));
}

/// Logs what the comparisons looked at; the value of `recording` is a recording as it stands.
fn recorded(evidence: &Evidence) {
    let Some(recording) = evidence.rollout.as_ref().and_then(|rollout| rollout.recording.as_ref()) else {
        return;
    };
    let mut event = json!({
        "level": "INFO",
        "message": "recording",
        "deployment_id": evidence.deployment_id,
        "recording": recording,
    });
    if event.to_string().len() > LONGEST {
        event["recording"] = Value::Null;
        event["why"] = "too long for one event of CloudWatch Logs".into();
    }
    line(&event);
}

/// Logs that a hook of ECS holds green where it is for now, and why.
pub fn held(about: &About, why: &str, after_seconds: u64) {
    info!(
        stage = about.stage.name(),
        deployment_id = about.deployment_id.as_str(),
        why,
        after_seconds,
        "held"
    );
}

/// Logs an event that asks for nothing, and why.
pub fn ignored(why: &str) {
    info!(why, "ignored");
}

/// Logs that the watch has nothing to do any more.
pub fn watch_over(about: &About, why: &str) {
    info!(stage = about.stage.name(), deployment_id = about.deployment_id.as_str(), why, "watch over");
}

/// Logs that the state machine goes on; the value is the function's answer.
pub fn handed_over(about: &About, execution: &str) -> Value {
    info!(stage = about.stage.name(), deployment_id = about.deployment_id.as_str(), execution, "handed over");
    json!({"deployment_id": about.deployment_id, "stage": about.stage.name(), "handed_over_to": execution})
}

/// One line of JSON as it stands; the tracing formatter would turn nested values into quoted text.
fn line(value: &Value) {
    // A log that cannot be written must not stop the report.
    let _ = writeln!(std::io::stdout().lock(), "{value}");
}
