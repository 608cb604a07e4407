//! Counters in CloudWatch's embedded metric format: verdicts by stage and outcome, and the seconds they took.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::About;
use crate::verdict::Verdict;

/// The line that makes CloudWatch Logs count a verdict.
pub fn verdict(about: &About, verdict: &Verdict, duration_ms: u64, now: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": "Shiftgate",
                "Dimensions": [["Stage", "Outcome"]],
                "Metrics": [{"Name": "Verdicts", "Unit": "Count"}, {"Name": "Duration", "Unit": "Seconds"}],
            }],
        },
        "Stage": about.stage.name(),
        "Outcome": verdict.outcome,
        "Verdicts": 1,
        "Duration": duration_ms as f64 / 1000.0,
        "DeploymentId": about.deployment_id,
    })
}
