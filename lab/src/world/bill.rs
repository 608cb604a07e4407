//! Plays a scenario and counts what AWS would bill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{LONGEST, Played, account_spec, play_in};
use crate::account::{Account, AccountSpec};
use crate::codedeploy::Pace;
use crate::endpoint::Call;
use crate::lambda::LogLine;
use crate::load_balancer::Listener;
use crate::scenario::Scenario;

/// Between two calls of an invocation that are so far apart, it waited. What a function itself does takes less, and the
/// shortest wait at AWS's pace is longer.
const WAITED: SignedDuration = SignedDuration::from_secs(1);
/// How long lines of the log are still taken when all is over: those that are handed over to `publish` come last.
const SETTLING: Duration = Duration::from_secs(3);
/// How often the last executions are looked at.
const TICK: Duration = Duration::from_millis(200);

/// What AWS would bill for one rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// What each function did, by the name of its binary.
    pub functions: BTreeMap<String, Used>,
    /// State transitions of the watch's loop.
    pub transitions: usize,
    /// Metrics that the logs made, as `NAME DIMENSION=VALUE ..`.
    pub custom_metrics: BTreeSet<String>,
}

/// What one function did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Invocations, questions about permissions among them.
    pub invocations: usize,
    /// Invocations that had to start a process.
    pub cold_starts: usize,
    /// Seconds in which an invocation waited, and did nothing.
    pub waited_seconds: f64,
    /// Calls to AWS by IAM action.
    pub calls: BTreeMap<String, usize>,
    /// Metrics that its calls of `GetMetricData` are billed for.
    pub metrics: usize,
    /// Requests of smoke checks through the test listener.
    pub smoke_requests: usize,
    /// Lines of its own in its log; Lambda's are not counted, since they are others on AWS.
    pub log_lines: usize,
    /// Bytes of these lines.
    pub log_bytes: usize,
}

impl Used {
    /// Calls to AWS of all actions.
    pub fn round_trips(&self) -> usize {
        self.calls.values().sum()
    }
}

/// Plays a scenario and counts. In minutes of 60 seconds and without a policy this takes as long as on AWS, and all is as there;
/// in shorter ones the seconds that functions wait are the lab's. Verdicts are handed over to `publish`, as by the template.
pub async fn bill(scenario: &Scenario, project: &Path, binaries: &Path) -> Result<(Played, Bill)> {
    let minute = scenario.minute();
    let account = Account::start(&AccountSpec {
        pace: Pace { minute, hook_timeout: minute * 60 },
        subscriptions: true,
        ..account_spec(scenario, project, binaries)
    })
    .await?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut listening = JoinSet::new();
    listening.spawn(listen(account.services.lambda.logs(), Arc::clone(&heard)));
    let (unheard, _) = mpsc::unbounded_channel();
    let played = play_in(&account, scenario, LONGEST.max(minute * 60), unheard).await?;
    // The watch's loop ends with the look that sees the end of the shift.
    while account.services.stepfunctions.executions().iter().any(|(_, is_running)| *is_running) {
        tokio::time::sleep(TICK).await;
    }
    tokio::time::sleep(SETTLING).await;
    let calls = account.services.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let arrivals: Vec<Timestamp> = {
        let balancers = account.services.balancers.lock().unwrap_or_else(PoisonError::into_inner);
        balancers.iter().flat_map(|balancer| balancer.listeners()).flat_map(Listener::arrivals).collect()
    };
    let transitions = account.services.stepfunctions.transitions();
    let names: BTreeMap<String, String> = account
        .template
        .functions
        .iter()
        .map(|function| (function.name.clone(), function.binary.clone()))
        .collect();
    let lines = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    let custom_metrics = lines.iter().flat_map(|(_, line)| custom_metrics(&line.line)).collect();
    let functions = names
        .iter()
        .map(|(name, binary)| {
            let lines: Vec<_> = lines.iter().filter(|(_, line)| line.function == *name).collect();
            let calls: Vec<&Call> = calls.iter().filter(|call| call.caller == *binary).collect();
            (binary.clone(), used(&lines, &calls, &arrivals))
        })
        .filter(|(_, used)| used.invocations > 0)
        .collect();
    Ok((played, Bill { functions, transitions, custom_metrics }))
}

/// Takes all lines with the time at which they came.
async fn listen(mut lines: Receiver<LogLine>, heard: Arc<Mutex<Vec<(Timestamp, LogLine)>>>) {
    loop {
        match lines.recv().await {
            Ok(line) => heard.lock().unwrap_or_else(PoisonError::into_inner).push((Timestamp::now(), line)),
            Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "lines of the log are not counted"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn used(lines: &[&(Timestamp, LogLine)], calls: &[&Call], arrivals: &[Timestamp]) -> Used {
    let begins = |(_, line): &&&(Timestamp, LogLine)| line.line.starts_with("START RequestId: ");
    let report = |line: &LogLine| line.line.starts_with("REPORT RequestId: ");
    let of_lambda = |line: &LogLine| {
        ["START", "END", "REPORT"].iter().any(|kind| line.line.starts_with(&format!("{kind} RequestId: ")))
    };
    let ends: Vec<Timestamp> = lines.iter().filter(|(_, line)| report(line)).map(|(at, _)| *at).collect();
    let own: Vec<&LogLine> = lines.iter().map(|(_, line)| line).filter(|line| !of_lambda(line)).collect();
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        *counted.entry(call.action.clone()).or_default() += 1;
    }
    Used {
        invocations: lines.iter().filter(begins).count(),
        cold_starts: lines
            .iter()
            .filter(|(_, line)| report(line) && line.line.contains("Init Duration"))
            .count(),
        waited_seconds: waited(calls, &ends).as_secs_f64().round(),
        calls: counted,
        metrics: calls.iter().map(|call| call.metrics).sum(),
        smoke_requests: arrivals.iter().filter(|at| is_within(**at, lines)).count(),
        log_lines: own.len(),
        log_bytes: own.iter().map(|line| line.line.len()).sum(),
    }
}

/// The time between calls of the same invocation that are far apart.
fn waited(calls: &[&Call], ends: &[Timestamp]) -> SignedDuration {
    let between = |pair: &[&Call]| {
        let (from, to) = (pair[0].at, pair[1].at);
        let same = !ends.iter().any(|end| (from..to).contains(end));
        Some(to.duration_since(from)).filter(|gap| same && *gap > WAITED)
    };
    calls.windows(2).filter_map(between).fold(SignedDuration::ZERO, SignedDuration::saturating_add)
}

/// Whether an invocation ran then.
fn is_within(at: Timestamp, lines: &[&(Timestamp, LogLine)]) -> bool {
    let before = lines.iter().rev().find(|(time, line)| {
        *time <= at
            && (line.line.starts_with("START RequestId: ") || line.line.starts_with("REPORT RequestId: "))
    });
    before.is_some_and(|(_, line)| line.line.starts_with("START"))
}

/// The metrics that a line in the embedded metric format makes; none of any other line.
fn custom_metrics(line: &str) -> Vec<String> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut metrics = Vec::new();
    for directive in each(&line["_aws"]["CloudWatchMetrics"]) {
        for dimensions in each(&directive["Dimensions"]) {
            let values: Vec<String> = each(&dimensions)
                .iter()
                .map(|name| format!(" {}={}", text(name), text(&line[text(name)])))
                .collect();
            let names = each(&directive["Metrics"]);
            metrics
                .extend(names.iter().map(|metric| format!("{}{}", text(&metric["Name"]), values.concat())));
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn call(milliseconds: i64, action: &str, metrics: usize) -> Call {
        Call {
            at: at(milliseconds),
            caller: "bake".to_owned(),
            action: action.to_owned(),
            resources: Vec::new(),
            facts: BTreeMap::new(),
            error: None,
            metrics,
        }
    }

    fn line(milliseconds: i64, line: &str) -> (Timestamp, LogLine) {
        let (function, request_id) = ("bake".to_owned(), "1".to_owned());
        (at(milliseconds), LogLine { function, request_id, line: line.to_owned() })
    }

    #[test]
    fn what_a_function_did_is_counted_from_its_log_and_its_calls() {
        let lines = [
            line(0, "START RequestId: 1 Version: $LATEST"),
            line(50, "{}"),
            line(60_100, "END RequestId: 1"),
            line(60_101, "REPORT RequestId: 1\tDuration: 60101 ms\tInit Duration: 20 ms"),
            line(120_000, "START RequestId: 2 Version: $LATEST"),
            line(120_900, "ten bytes."),
            line(120_990, "REPORT RequestId: 2\tDuration: 990 ms"),
        ];
        let calls = [
            call(10, "a:Get", 0),
            // Half a second of work is no waiting, a minute is.
            call(510, "cloudwatch:GetMetricData", 22),
            call(60_010, "cloudwatch:GetMetricData", 24),
            // Another invocation: nobody waited in between.
            call(120_010, "a:Get", 0),
        ];
        // One before, two within, one between two invocations.
        let arrivals = [at(-5), at(20), at(120_500), at(100_000)];
        let counted = used(&lines.iter().collect::<Vec<_>>(), &calls.iter().collect::<Vec<_>>(), &arrivals);
        let expected = Used {
            invocations: 2,
            cold_starts: 1,
            waited_seconds: 60.0,
            calls: [("a:Get".to_owned(), 2), ("cloudwatch:GetMetricData".to_owned(), 2)].into(),
            metrics: 46,
            smoke_requests: 2,
            log_lines: 2,
            log_bytes: 12,
        };
        // 59.5 s, in whole ones.
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_line_of_metrics_names_each_with_its_dimensions() {
        let line = r#"{"_aws": {"CloudWatchMetrics": [{"Namespace": "Shiftgate", "Dimensions": [["Stage", "Outcome"]],
            "Metrics": [{"Name": "Verdicts"}, {"Name": "Duration"}]}]}, "Stage": "watch", "Outcome": "pass", "Verdicts": 1}"#;
        assert_eq!(
            custom_metrics(line),
            ["Verdicts Stage=watch Outcome=pass", "Duration Stage=watch Outcome=pass"]
        );
        assert_eq!(custom_metrics(r#"{"message": "look"}"#), [""; 0]);
        assert_eq!(custom_metrics("START RequestId: 1"), [""; 0]);
    }
}
