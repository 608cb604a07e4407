//! An alarm that looks at a metric that nobody publishes never rings: each alarm of the template beside what is published.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test file")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::Waiting;
use serde_json::{Value, json};
use shiftgate_lab::account::parameters;
use shiftgate_lab::fault::{Fault, Rule};
use shiftgate_lab::template::{AlarmMetric, Template};

/// A metric with its dimensions.
type Metric = (String, String, BTreeMap<String, String>);

/// The metrics of AWS that alarms look at, as `CloudWatch` has them: namespace, name, the dimension.
const OF_AWS: [(&str, &str, &str); 6] = [
    ("AWS/Lambda", "Errors", "FunctionName"),
    ("AWS/Lambda", "Throttles", "FunctionName"),
    ("AWS/Lambda", "AsyncEventsDropped", "FunctionName"),
    ("AWS/States", "ExecutionsFailed", "StateMachineArn"),
    ("AWS/States", "ExecutionsTimedOut", "StateMachineArn"),
    ("AWS/States", "ExecutionsAborted", "StateMachineArn"),
];

fn template() -> Template {
    let text = std::fs::read_to_string(common::project().join("template.yaml")).unwrap();
    Template::read(&text, &parameters()).unwrap()
}

fn metric(alarm: &AlarmMetric) -> Metric {
    (alarm.namespace.clone(), alarm.metric.clone(), alarm.dimensions.clone())
}

/// The metrics that a line in the embedded format publishes.
fn published(line: &Value) -> Vec<Metric> {
    let directives = line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten();
    directives
        .flat_map(|directive| {
            let namespace = directive["Namespace"].as_str().unwrap();
            let names = directive["Metrics"].as_array().unwrap().iter();
            names.flat_map(move |metric| {
                let name = metric["Name"].as_str().unwrap();
                assert!(line[name].is_number(), "{name} has no value in {line}");
                directive["Dimensions"].as_array().unwrap().iter().map(move |set| {
                    let value = |key: &Value| {
                        let key = key.as_str().unwrap();
                        (key.to_owned(), line[key].as_str().unwrap().to_owned())
                    };
                    let dimensions = set.as_array().unwrap().iter().map(value).collect();
                    (namespace.to_owned(), name.to_owned(), dimensions)
                })
            })
        })
        .collect()
}

/// Waits until the functions have published these: one cannot report, then answers, and a look of the watch tells of a crash.
async fn all_are_published(wanted: &BTreeSet<Metric>) {
    let waiting = Waiting::at("AfterInstall").await;
    let mut logs = waiting.account.services.lambda.logs();
    let id = waiting.deploy().await;
    let report = "codedeploy:PutLifecycleEventHookExecutionStatus";
    let denied = Rule::lasting(report, Some("after-install"), Fault::Deny);
    waiting.account.services.faults.add(denied.clone());
    assert!(waiting.invoke("after-install", &waiting.payload(&id)).await.error.is_some());
    waiting.account.services.faults.remove(&denied);
    common::answer(&waiting.invoke("after-install", &waiting.payload(&id)).await);
    let crashed = json!({
        "deployment_id": id,
        "duty": "traffic",
        "after_seconds": 1,
        "error": {"Error": "Runtime.ExitError", "Cause": "killed"},
    });
    let looked = common::answer(&waiting.invoke("watch", &crashed).await);
    assert!(looked.get("error").is_none(), "what was told once is not told again: {looked}");
    let mut seen = BTreeSet::new();
    let all = async {
        while !wanted.is_subset(&seen) {
            let line = logs.recv().await.unwrap();
            seen.extend(published(&serde_json::from_str(&line.line).unwrap_or_default()));
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), all).await;
    assert!(found.is_ok(), "of {wanted:#?} only {seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alarm_of_our_own_looks_at_a_metric_that_is_published() {
    let alarms = template().alarms;
    let own = alarms.iter().filter(|alarm| alarm.namespace == "Shiftgate").map(metric);
    let own: BTreeSet<Metric> = own.collect();
    assert_eq!(own.len(), 3, "{own:?}");
    all_are_published(&own).await;
}

#[test]
fn each_alarm_of_aws_s_metrics_names_one_that_there_is() {
    let template = template();
    let functions: BTreeSet<&str> =
        template.functions.iter().map(|function| function.name.as_str()).collect();
    let machine = format!("arn:aws:states:eu-west-1:123456789012:stateMachine:{}", template.state_machine);
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for alarm in template.alarms.iter().filter(|alarm| alarm.namespace != "Shiftgate") {
        let known = OF_AWS.iter().find(|(space, name, _)| *space == alarm.namespace && *name == alarm.metric);
        let (_, name, dimension) = known.unwrap_or_else(|| panic!("{alarm:?}"));
        assert_eq!(alarm.dimensions.keys().collect::<Vec<_>>(), [dimension]);
        seen.entry(name).or_default().insert(&alarm.dimensions[*dimension]);
    }
    assert_eq!((&seen["Errors"], &seen["Throttles"]), (&functions, &functions));
    // Nothing calls the watch without waiting for its answer.
    let asynchronous = template.functions.iter().filter(|function| function.failures.is_some());
    let asynchronous: BTreeSet<&str> = asynchronous.map(|function| function.name.as_str()).collect();
    assert_eq!(asynchronous.len(), functions.len() - 1);
    assert_eq!(seen["AsyncEventsDropped"], asynchronous);
    for metric in ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] {
        assert_eq!(seen[metric], BTreeSet::from([machine.as_str()]));
    }
}
