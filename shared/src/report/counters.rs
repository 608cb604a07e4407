//! Counters in CloudWatch's embedded metric format: verdicts by stage and outcome, and the health of Shiftgate itself by
//! stack. template.yaml has an alarm for each of the latter.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::About;
use crate::verdict::Verdict;

/// The namespace of all of them.
const NAMESPACE: &str = "Shiftgate";

/// The line that makes CloudWatch Logs count a verdict. How long it took is in the verdict's own line: AWS bills each metric for
/// each hour in which it has a value.
pub fn verdict(about: &About, verdict: &Verdict, now: Timestamp) -> Value {
    let metrics = json!([{"Name": "Verdicts", "Unit": "Count"}]);
    let mut line = counted(about, &["Stage", "Outcome"], &metrics, now);
    line["Outcome"] = json!(verdict.outcome);
    line["Verdicts"] = 1.into();
    line
}

/// The seconds from the begin of a lifecycle event until its hook was answered.
pub fn answered(about: &About, began: Timestamp, now: Timestamp) -> Value {
    let age = now.duration_since(began).as_secs_f64().max(0.0);
    of_the_stack(about, "AnswerAge", "Seconds", age, now)
}

/// A report that CodeDeploy has not heard.
pub fn report_failed(about: &About, now: Timestamp) -> Value {
    of_the_stack(about, "ReportsFailed", "Count", 1.0, now)
}

/// A look that could not see.
pub fn look_failed(about: &About, now: Timestamp) -> Value {
    of_the_stack(about, "LooksFailed", "Count", 1.0, now)
}

fn of_the_stack(about: &About, name: &str, unit: &str, value: f64, now: Timestamp) -> Value {
    let mut line = counted(about, &["Stack"], &json!([{"Name": name, "Unit": unit}]), now);
    line["Stack"] = about.stack.as_deref().unwrap_or("none").into();
    line[name] = value.into();
    line
}

fn counted(about: &About, dimensions: &[&str], metrics: &Value, now: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": metrics}],
        },
        "Stage": about.stage.name(),
        "DeploymentId": about.deployment_id,
    })
}
