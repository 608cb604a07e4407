//! A function alone: what CloudWatch is told, which version answers, and the Invoke call in front of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::application::Behaviour;
use crate::cloudwatch::{CloudWatch, Protocol};
use crate::doubts::VersionMetrics;
use crate::lambda::{Lambda, function_arn};
use crate::load_balancer::http::testing::eventually;
use crate::traffic::Served;

const ALL: [(&str, &str); 3] =
    [("FunctionName", "shop"), ("Resource", "shop:live"), ("ExecutedVersion", "1")];

fn behaviour(latency_ms: f64, errors: f64) -> Behaviour {
    Behaviour { latency_ms, latency_spread: 0.0, errors, ..Behaviour::default() }
}

/// A function `shop` with an alias `live` on version 1, which works, and a version 2 that fails.
fn shop() -> (Arc<CloudWatch>, Arc<AliasedFunction>) {
    let cloudwatch = Arc::new(CloudWatch::new(Duration::ZERO));
    let meter = Meter::new("shop", "live", Arc::clone(&cloudwatch));
    let function = Arc::new(AliasedFunction::new("shop", "live", &behaviour(20.0, 0.0), meter));
    assert_eq!(function.publish(&behaviour(30.0, 1.0)), "2");
    (cloudwatch, function)
}

/// A statistic of a metric over the last hour.
fn read(cloudwatch: &CloudWatch, metric: &str, stat: &str, dimensions: &[(&str, &str)]) -> Option<f64> {
    // CloudWatch reads as of the last whole millisecond.
    std::thread::sleep(Duration::from_millis(2));
    let dimensions: Vec<_> =
        dimensions.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
    let metric = json!({"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions});
    let now = Timestamp::now().as_second();
    let input = json!({
        "MetricDataQueries": [{"Id": "m", "MetricStat": {"Metric": metric, "Period": 7200, "Stat": stat}}],
        "StartTime": now - 3600, "EndTime": now + 120,
    });
    let answer = cloudwatch.handle(Protocol::Json, "GetMetricData", input.to_string().as_bytes()).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["MetricDataResults"][0]["Values"][0].as_f64()
}

#[tokio::test(start_paused = true)]
async fn an_invocation_of_the_alias_counts_in_three_dimension_sets() {
    let (cloudwatch, function) = shop();
    for _ in 0..10 {
        function.invoke(Some("live"), b"{}").await.unwrap();
    }
    for dimensions in [&ALL[..1], &ALL[..2], &ALL] {
        let read = |metric, stat| read(&cloudwatch, metric, stat, dimensions);
        assert_eq!(read("Invocations", "Sum"), Some(10.0), "{dimensions:?}");
        // An invocation without an error is told as 0, so that the average is the share.
        assert_eq!((read("Errors", "Sum"), read("Errors", "SampleCount")), (Some(0.0), Some(10.0)));
        assert_eq!((read("Throttles", "Sum"), read("Throttles", "SampleCount")), (Some(0.0), Some(10.0)));
        // Milliseconds.
        assert_eq!(read("Duration", "Average"), Some(20.0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_of_a_version_does_not_count_for_the_alias() {
    let (cloudwatch, function) = shop();
    assert!(function.invoke(Some("2"), b"{}").await.unwrap().failed);
    let errors = |dimensions: &[(&str, &str)]| read(&cloudwatch, "Errors", "Average", dimensions);
    assert_eq!(errors(&ALL[..1]), Some(1.0));
    assert_eq!(errors(&[ALL[0], ("Resource", "shop:2")]), Some(1.0));
    assert_eq!(errors(&ALL[..2]), None);
    assert_eq!(errors(&[ALL[0], ALL[1], ("ExecutedVersion", "2")]), None);
}

#[tokio::test(start_paused = true)]
async fn whether_an_alias_with_one_version_has_metrics_of_it_is_a_switch() {
    for (version_metrics, alone, together) in
        [(VersionMetrics::Always, Some(1.0), Some(2.0)), (VersionMetrics::BetweenVersions, None, Some(1.0))]
    {
        let cloudwatch = Arc::new(CloudWatch::new(Duration::ZERO));
        let meter = Meter::new("shop", "live", Arc::clone(&cloudwatch)).doubted(version_metrics);
        let function = AliasedFunction::new("shop", "live", &behaviour(20.0, 0.0), meter);
        function.publish(&behaviour(20.0, 0.0));
        function.invoke(Some("live"), b"{}").await.unwrap();
        assert_eq!(read(&cloudwatch, "Invocations", "Sum", &ALL), alone, "{version_metrics:?}");
        // So small a share is never drawn.
        function.shift("1", "2", 1e-12).unwrap();
        function.invoke(Some("live"), b"{}").await.unwrap();
        assert_eq!(read(&cloudwatch, "Invocations", "Sum", &ALL), together, "{version_metrics:?}");
        assert_eq!(read(&cloudwatch, "Invocations", "Sum", &ALL[..2]), Some(2.0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_alias_chooses_by_weight() {
    let (_, function) = shop();
    function.shift("1", "2", 0.1).unwrap();
    assert_eq!((function.live(), function.additional()), ("1".to_owned(), Some(("2".to_owned(), 0.1))));
    let mut executed: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..2_000 {
        let answer = function.invoke(Some("live"), b"{}").await.unwrap();
        *executed.entry(answer.version).or_default() += 1;
    }
    // Five standard errors around 200.
    assert!((133..267).contains(&executed["2"]), "{executed:?}");

    function.shift("1", "2", 1.0).unwrap();
    assert_eq!((function.live(), function.additional()), ("2".to_owned(), None));
    function.shift("1", "2", 0.0).unwrap();
    assert_eq!((function.live(), function.additional()), ("1".to_owned(), None));
    assert_eq!(function.shift("1", "3", 0.5).unwrap_err().code, "ResourceNotFoundException");
}

#[tokio::test]
async fn users_invoke_the_alias_and_see_its_errors() {
    let (cloudwatch, function) = shop();
    let users = function.users(500.0);
    eventually("answers", async || users.stats().ok >= 20 && users.stats().blue.requests >= 20).await;
    let stats = users.stats();
    assert_eq!((stats.errors, stats.green, stats.blue.bad), (0, Served::default(), 0));
    function.shift("1", "2", 1.0).unwrap();
    eventually("errors", async || users.stats().errors >= 20 && users.stats().green.bad >= 20).await;
    drop(users);
    let of_two = [ALL[0], ALL[1], ("ExecutedVersion", "2")];
    assert!(read(&cloudwatch, "Errors", "Sum", &of_two) >= Some(20.0));
}

#[tokio::test]
async fn a_version_can_change_while_it_runs() {
    let (_, function) = shop();
    function.behave("2", &Behaviour { body: Some(r#"{"status":"ok"}"#.to_owned()), ..behaviour(0.0, 0.0) });
    let answer = function.invoke(Some("2"), b"{}").await.unwrap();
    assert_eq!((answer.failed, answer.payload), (false, json!({"status": "ok"})));
    function.behave("2", &Behaviour { accepting: false, ..behaviour(0.0, 0.0) });
    let answer = function.invoke(Some("2"), b"{}").await.unwrap();
    assert_eq!((answer.failed, &answer.payload["errorType"]), (true, &json!("Runtime.ExitError")));
}

#[test]
fn the_past_is_of_the_version_behind_the_alias() {
    let (cloudwatch, function) = shop();
    let old = behaviour(20.0, 0.1);
    let past =
        FunctionPast { meter: function.meter(), version: "1", requests_per_second: 50.0, behaviour: &old };
    past.record(Timestamp::now(), Duration::from_mins(2));
    for dimensions in [&ALL[..1], &ALL[..2], &ALL] {
        let read = |metric, stat| read(&cloudwatch, metric, stat, dimensions).unwrap();
        let invocations = read("Invocations", "Sum");
        // 6,000 with a standard error of 77; errors 10 % of them.
        assert!((5_600.0..6_400.0).contains(&invocations), "{invocations}");
        assert!((0.08..0.12).contains(&read("Errors", "Average")));
        for metric in ["Errors", "Throttles", "Duration"] {
            assert_eq!(read(metric, "SampleCount") as u64, invocations as u64, "{metric}");
        }
        assert!((19.9..20.1).contains(&read("Duration", "Average")));
    }
}

#[tokio::test]
async fn the_invoke_call_reaches_the_version_that_it_names() {
    let (_, function) = shop();
    let lambda = Lambda::new(Vec::new(), [Duration::ZERO; 2]);
    lambda.add(function);
    let body = || br#"{"ping": true}"#.to_vec();
    let arn = function_arn("shop");
    for (name, qualifier) in
        [("shop:1", None), ("shop", Some("1")), ("shop:live", Some("live")), (&format!("{arn}:1"), None)]
    {
        let answer = lambda.handle_invoke(name, qualifier, "RequestResponse", body()).await.unwrap();
        assert_eq!((answer.status, answer.function_error), (200, None), "{name} {qualifier:?}");
        let payload: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(payload, json!({"version": "1", "echo": {"ping": true}}));
        assert_eq!(answer.executed_version.as_deref(), Some("1"));
    }
    let failed = lambda.handle_invoke("shop:2", None, "", body()).await.unwrap();
    assert_eq!((failed.status, failed.function_error), (200, Some("Unhandled")));
    let payload: Value = serde_json::from_slice(&failed.body).unwrap();
    assert_eq!(payload["errorType"], "Error");
    assert_eq!(lambda.handle_invoke("shop", Some("2"), "Event", body()).await.unwrap().status, 202);
    assert_eq!(lambda.handle_invoke("shop", Some("live"), "DryRun", body()).await.unwrap().status, 204);

    for kind in ["RequestResponse", "Event", "DryRun"] {
        let unknown = lambda.handle_invoke("shop:3", None, kind, body()).await.unwrap_err();
        assert_eq!((unknown.status, unknown.code.as_str()), (404, "ResourceNotFoundException"), "{kind}");
        let torn = lambda.handle_invoke("shop:1", Some("2"), kind, body()).await.unwrap_err();
        assert_eq!((torn.status, torn.code.as_str()), (400, "InvalidParameterValueException"));
    }
}
