//! The whole module through its API: `GetMetricData` over JSON, and all of it over CBOR with the AWS SDK.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    ComparisonOperator, Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat, StateValue, Statistic,
};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str = "AWS/ApplicationELB";
const GREEN: [(&str, &str); 2] = [("LoadBalancer", "app/shop/1"), ("TargetGroup", "targetgroup/green/2")];

/// A whole minute, half an hour ago, in epoch seconds.
fn start() -> i64 {
    let second = (now() - SignedDuration::from_mins(30)).as_second();
    second - second % 60
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Ten minutes of traffic since `start`: a request a second that takes as many milliseconds as the minute has
/// seconds, and an error at the end of every fifth minute.
fn busy(start: i64) -> CloudWatch {
    let cloudwatch = CloudWatch::new(Duration::ZERO);
    for offset in 0..600 {
        let record =
            |metric, value| cloudwatch.record(NAMESPACE, metric, &GREEN, second(start + offset), value);
        record("RequestCount", 1.0);
        record("TargetResponseTime", (offset % 60) as f64 / 1000.0);
        if offset % 300 == 299 {
            record("HTTPCode_Target_5XX_Count", 1.0);
        }
    }
    cloudwatch
}

fn query(id: &str, metric: &str, stat: &str) -> Value {
    let dimensions: Vec<_> =
        GREEN.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
    let metric = json!({"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions});
    json!({"Id": id, "MetricStat": {"Metric": metric, "Period": 60, "Stat": stat}})
}

/// A `GetMetricData` request for the ten busy minutes.
fn request(start: i64, queries: &[Value]) -> Value {
    json!({"MetricDataQueries": queries, "StartTime": start, "EndTime": start + 600, "ScanBy": "TimestampAscending"})
}

fn call(cloudwatch: &CloudWatch, operation: &str, input: &Value) -> Result<Value, ApiError> {
    let body = cloudwatch.handle(Protocol::Json, operation, input.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&body).unwrap())
}

fn get(cloudwatch: &CloudWatch, input: &Value) -> Value {
    call(cloudwatch, "GetMetricData", input).unwrap()
}

/// Timestamps (relative to `start`) and values by id.
fn points(answer: &Value, start: i64) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut points: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for result in answer["MetricDataResults"].as_array().unwrap() {
        let timestamps = result["Timestamps"].as_array().unwrap().iter();
        let pairs = timestamps.zip(result["Values"].as_array().unwrap());
        let pair =
            |(at, value): (&Value, &Value)| (at.as_f64().unwrap() as i64 - start, value.as_f64().unwrap());
        points.entry(result["Id"].as_str().unwrap().to_owned()).or_default().extend(pairs.map(pair));
    }
    points
}

#[test]
fn five_statistics_of_a_metric_are_billed_once() {
    let start = start();
    let billed =
        |queries: &[Value]| metrics_billed(Protocol::Json, request(start, queries).to_string().as_bytes());
    let of_times = |stats: &[&str]| -> Vec<Value> {
        let numbered = stats.iter().zip(1..);
        numbered.map(|(stat, number)| query(&format!("q{number}"), "TargetResponseTime", stat)).collect()
    };
    assert_eq!(billed(&of_times(&["p50"])), 1);
    assert_eq!(billed(&of_times(&["p50", "p90", "p99", "Sum", "SampleCount"])), 1);
    assert_eq!(billed(&of_times(&["p50", "p90", "p99", "Sum", "SampleCount", "Average", "Maximum"])), 3);
    // The same statistic twice is one.
    assert_eq!(billed(&of_times(&["p50", "p50", "p90", "p99", "Sum", "SampleCount"])), 1);
    assert_eq!(billed(&[query("a", "RequestCount", "Sum"), query("b", "TargetResponseTime", "p99")]), 2);
    assert_eq!(metrics_billed(Protocol::Json, b"{}"), 0);
}

#[test]
fn metrics_and_expressions_over_json() {
    let start = start();
    let rate = json!({"Id": "rate", "Expression": "100 * FILL(errors, 0) / requests", "Label": "error rate"});
    let mut errors = query("errors", "HTTPCode_Target_5XX_Count", "Sum");
    errors["ReturnData"] = json!(false);
    let queries = [
        rate,
        query("requests", "RequestCount", "Sum"),
        errors,
        query("slow", "TargetResponseTime", "TC(0.05:)"),
    ];
    let answer = get(&busy(start), &request(start, &queries));

    let points = points(&answer, start);
    assert_eq!(points.keys().collect::<Vec<_>>(), ["rate", "requests", "slow"]);
    assert_eq!(points["requests"], (0..10).map(|minute| (minute * 60, 60.0)).collect::<Vec<_>>());
    assert_eq!(points["slow"][9], (540, 9.0));
    assert_eq!(points["rate"][3], (180, 0.0));
    assert_eq!(points["rate"][4], (240, 100.0 / 60.0));
    assert_eq!(answer["MetricDataResults"][0]["Label"], "error rate");
    assert_eq!(answer["MetricDataResults"][1]["Label"], "RequestCount");
    assert_eq!(answer["MetricDataResults"][1]["StatusCode"], "Complete");
    assert_eq!(answer.get("NextToken"), None);
}

#[test]
fn sparse_series_have_only_the_points_that_were_seen_newest_first() {
    let start = start();
    let mut request = request(
        start,
        &[query("errors", "HTTPCode_Target_5XX_Count", "Sum"), query("other", "Other", "Sum")],
    );
    request.as_object_mut().unwrap().remove("ScanBy");
    let points = points(&get(&busy(start), &request), start);
    assert_eq!(points["errors"], [(540, 1.0), (240, 1.0)]);
    assert_eq!(points["other"], []);
}

#[test]
fn expressions_build_on_each_other_but_not_on_themselves() {
    let start = start();
    let cloudwatch = busy(start);
    let expression = |id: &str, text: &str| json!({"Id": id, "Expression": text});
    let chain = [expression("c", "b + 1"), expression("b", "a + 1"), query("a", "RequestCount", "Sum")];
    assert_eq!(points(&get(&cloudwatch, &request(start, &chain)), start)["c"][0], (0, 62.0));

    let circle = [expression("a", "b"), expression("b", "a")];
    let error = call(&cloudwatch, "GetMetricData", &request(start, &circle)).unwrap_err();
    assert!(error.message.contains("itself"), "{error}");
}

#[test]
fn requests_that_are_refused() {
    let start = start();
    let cloudwatch = busy(start);
    let valid = request(start, &[query("a", "RequestCount", "Sum")]);
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut wrong = valid.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let error = call(&cloudwatch, "GetMetricData", &wrong).unwrap_err();
        assert_eq!((error.status, &*error.code), (400, "ValidationError"));
        assert!(error.message.contains(expected), "{error}");
    };
    check("/MetricDataQueries", json!([]), "required");
    check(
        "/MetricDataQueries",
        json!([valid["MetricDataQueries"][0], valid["MetricDataQueries"][0]]),
        "not unique",
    );
    let many: Vec<_> = (0..501).map(|number| query(&format!("q{number}"), "RequestCount", "Sum")).collect();
    check("/MetricDataQueries", json!(many), "greater than 500");
    check("/MetricDataQueries/0/Id", json!("A"), "pattern");
    check("/MetricDataQueries/0/Id", json!(null), "MetricDataQueries[0].Id");
    check("/MetricDataQueries/0/MetricStat", json!(null), "either MetricStat or Expression");
    check(
        "/MetricDataQueries/0/MetricStat/Stat",
        json!("Median"),
        "member.1.MetricStat.Stat is not a valid statistic",
    );
    for period in [-60, 0, 2, 45, 90] {
        check("/MetricDataQueries/0/MetricStat/Period", json!(period), "MetricStat.Period");
    }
    check("/EndTime", json!(start), "must not equal");
    check("/EndTime", json!(start - 60), "must be less");

    let mut wrong = valid.clone();
    wrong["NextToken"] = json!("yesterday");
    assert_eq!(call(&cloudwatch, "GetMetricData", &wrong).unwrap_err().code, "InvalidNextToken");
    assert_eq!(
        cloudwatch.handle(Protocol::Json, "GetMetricData", b"{").unwrap_err().code,
        "SerializationException"
    );
    assert_eq!(
        cloudwatch.handle(Protocol::Cbor, "GetMetricData", b"\xff").unwrap_err().code,
        "SerializationException"
    );
    assert_eq!(call(&cloudwatch, "PutDashboard", &json!({})).unwrap_err().code, "UnknownOperationException");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pages_of_any_size_add_up_to_the_whole(size in 1_usize..40) {
        let start = start();
        let cloudwatch = busy(start);
        let names = [("a", "RequestCount"), ("b", "HTTPCode_Target_5XX_Count"), ("c", "Other"), ("d", "TargetResponseTime")];
        let queries = names.map(|(id, metric)| query(id, metric, "Average"));
        let whole = points(&get(&cloudwatch, &request(start, &queries)), start);

        let mut paged: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut input = request(start, &queries);
        input["MaxDatapoints"] = json!(size);
        loop {
            let answer = get(&cloudwatch, &input);
            let page = points(&answer, start);
            prop_assert!(page.values().map(Vec::len).sum::<usize>() <= size);
            for (id, points) in page {
                paged.entry(id).or_default().extend(points);
            }
            let Some(token) = answer.get("NextToken") else { break };
            input["NextToken"] = token.clone();
        }
        prop_assert_eq!(paged, whole);
    }
}

#[test]
fn a_query_that_goes_on_is_partial() {
    let start = start();
    let mut input = request(start, &[query("a", "RequestCount", "Sum")]);
    input["MaxDatapoints"] = json!(7);
    let cloudwatch = busy(start);
    let first = get(&cloudwatch, &input);
    assert_eq!(first["MetricDataResults"][0]["StatusCode"], "PartialData");
    input["NextToken"] = first["NextToken"].clone();
    assert_eq!(get(&cloudwatch, &input)["MetricDataResults"][0]["StatusCode"], "Complete");
}

#[test]
fn a_page_that_just_fits_is_the_last() {
    let start = start();
    let mut input = request(start, &[query("a", "RequestCount", "Sum")]);
    input["MaxDatapoints"] = json!(10);
    assert_eq!(get(&busy(start), &input).get("NextToken"), None);
}

#[test]
fn later_pages_show_what_the_first_one_could_see() {
    let start = start();
    let store = Store::new(Duration::from_mins(2));
    for minute in 0..10 {
        let sample = Sample { value: 1.0, count: 1.0 };
        store.record(MetricId::new(NAMESPACE, "RequestCount", GREEN), second(start + 60 * minute), sample);
    }
    let mut input = request(start, &[query("a", "RequestCount", "Sum")]);
    input["MaxDatapoints"] = json!(2);
    let mut page = |token: Option<&str>, now: i64| {
        input["NextToken"] = json!(token);
        let input = serde_json::from_value(input.clone()).unwrap();
        metric_data::get_metric_data(
            &store,
            crate::doubts::TrimmedCounts::Served,
            &input,
            second(start + now),
        )
        .unwrap()
    };
    let first = page(None, 300);
    let rest = page(first.next_token.as_deref(), 3000);
    assert_eq!((rest.metric_data_results[0].values.len(), rest.next_token), (2, None));
}

#[test]
fn what_becomes_of_trimmed_counts_is_a_switch() {
    let start = start();
    let input = request(
        start,
        &[
            query("all", "TargetResponseTime", "SampleCount"),
            query("slow", "TargetResponseTime", "TC(0.03:)"),
        ],
    );
    let seen = |trimmed_counts| {
        let doubts = Doubts { trimmed_counts, ..Doubts::default() };
        let cloudwatch = busy(start).doubted(doubts, Duration::from_mins(1));
        let answer = call(&cloudwatch, "GetMetricData", &input).map_err(|error| error.code)?;
        let points = points(&answer, start);
        Ok(["all", "slow"].map(|id| points[id].len()))
    };
    assert_eq!(seen(TrimmedCounts::Served), Ok([10, 10]));
    assert_eq!(seen(TrimmedCounts::Empty), Ok([10, 0]));
    assert_eq!(seen(TrimmedCounts::Refused), Err("ValidationError".to_owned()));
}

#[test]
fn put_metric_data_is_all_or_nothing() {
    let cloudwatch = CloudWatch::new(Duration::ZERO);
    let put =
        |data: Value| call(&cloudwatch, "PutMetricData", &json!({"Namespace": "Shop", "MetricData": data}));
    let check = |datum: Value, code: &str| {
        let error = put(json!([{"MetricName": "Good", "Value": 1}, datum])).unwrap_err();
        assert_eq!(error.code, code, "{error}");
    };
    check(json!({"MetricName": "M"}), "InvalidParameterCombination");
    check(json!({"MetricName": "M", "Value": 1, "Values": [1]}), "InvalidParameterCombination");
    check(json!({"MetricName": "M", "StatisticValues": {"Sum": 1}}), "InvalidParameterCombination");
    check(json!({"MetricName": "M", "Values": [1, 2], "Counts": [1]}), "InvalidParameterValue");
    check(json!({"MetricName": "M", "Values": [1], "Counts": [0]}), "InvalidParameterValue");
    check(json!({"Value": 1}), "ValidationError");
    assert_eq!(call(&cloudwatch, "ListMetrics", &json!({})).unwrap()["Metrics"], json!([]));

    put(json!([{"MetricName": "Good", "Value": 1, "Dimensions": [{"Name": "Version", "Value": "2"}]}]))
        .unwrap();
    let list = |filter: Value| {
        call(&cloudwatch, "ListMetrics", &filter).unwrap()["Metrics"].as_array().unwrap().len()
    };
    assert_eq!(
        list(json!({"Namespace": "Shop", "MetricName": "Good", "Dimensions": [{"Name": "Version"}]})),
        1
    );
    assert_eq!(list(json!({"Dimensions": [{"Name": "Version", "Value": "1"}]})), 0);
    assert_eq!(list(json!({"Namespace": "Other"})), 0);
}

#[test]
fn a_long_list_of_metrics_comes_in_pages() {
    let cloudwatch = CloudWatch::new(Duration::ZERO);
    for number in 0..501 {
        cloudwatch.record("Shop", &format!("M{number}"), &[], now(), 1.0);
    }
    let first = call(&cloudwatch, "ListMetrics", &json!({})).unwrap();
    assert_eq!(first["Metrics"].as_array().unwrap().len(), 500);
    let rest = call(&cloudwatch, "ListMetrics", &json!({"NextToken": first["NextToken"]})).unwrap();
    assert_eq!(rest["Metrics"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("NextToken"), None);
}

#[test]
fn a_timestamp_may_be_an_integer_in_cbor_as_botocore_sends_it() {
    let start = start();
    let mut input =
        ciborium::Value::serialized(&request(start, &[query("a", "RequestCount", "Sum")])).unwrap();
    for (name, value) in input.as_map_mut().unwrap() {
        if name.as_text().unwrap().ends_with("Time") {
            *value = ciborium::Value::Tag(1, Box::new(value.clone()));
        }
    }
    let mut body = Vec::new();
    ciborium::into_writer(&input, &mut body).unwrap();
    assert!(busy(start).handle(Protocol::Cbor, "GetMetricData", &body).is_ok());
}

/// A client of the AWS SDK for a server that knows nothing but this module.
async fn sdk(cloudwatch: CloudWatch) -> Client {
    let router = axum::Router::new()
        .route("/service/GraniteServiceVersion20100801/operation/{operation}", axum::routing::post(serve))
        .with_state(Arc::new(cloudwatch));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(crate::api::REGION))
        .credentials_provider(Credentials::new("lab", "lab", None, None, "lab"))
        .endpoint_url(endpoint)
        .http_client(shiftgate::aws::http_client())
        .build();
    Client::from_conf(config)
}

async fn serve(
    State(cloudwatch): State<Arc<CloudWatch>>,
    Path(operation): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    let (status, body) = match cloudwatch.handle(Protocol::Cbor, &operation, &body) {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::from_u16(error.status).unwrap(), error_body(Protocol::Cbor, &error)),
    };
    let headers = [(header::CONTENT_TYPE.as_str(), "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")];
    (status, headers, body).into_response()
}

fn orders() -> Metric {
    let version = Dimension::builder().name("Version").value("2").build();
    Metric::builder().namespace("Shop").metric_name("Latency").dimensions(version).build()
}

#[tokio::test]
async fn the_sdk_puts_and_reads_metrics() {
    let client = sdk(CloudWatch::new(Duration::ZERO)).await;
    let start = start();
    let values = (1..=100).map(f64::from);
    let datum = MetricDatum::builder()
        .metric_name("Latency")
        .dimensions(orders().dimensions()[0].clone())
        .timestamp(DateTime::from_secs(start + 5))
        .set_values(Some(values.collect()))
        .build();
    client.put_metric_data().namespace("Shop").metric_data(datum).send().await.unwrap();

    let query = |id: &str, statistic: &str| {
        let metric = MetricStat::builder().metric(orders()).period(60).stat(statistic).build();
        MetricDataQuery::builder().id(id).metric_stat(metric).build()
    };
    let request = |queries: Vec<_>| {
        let request = client.get_metric_data().set_metric_data_queries(Some(queries));
        request
            .start_time(DateTime::from_secs_f64(start as f64 + 0.5))
            .end_time(DateTime::from_secs(start + 60))
            .send()
    };
    let answer = request(vec![query("p", "p99"), query("n", "SampleCount")]).await.unwrap();
    let results = answer.metric_data_results();
    assert_eq!(results[0].timestamps(), [DateTime::from_secs(start)]);
    assert_eq!(results[0].values(), [99.0]);
    assert_eq!(results[1].values(), [100.0]);

    let refused = request(vec![query("p", "Median")]).await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationError"));
    assert!(refused.message().unwrap().contains("not a valid statistic"), "{refused:?}");

    let listed = client.list_metrics().namespace("Shop").send().await.unwrap();
    assert_eq!(listed.metrics(), [orders()]);

    let statistics = client.get_metric_statistics().namespace("Shop").metric_name("Latency");
    let statistics = statistics.set_dimensions(Some(orders().dimensions().to_vec())).period(60);
    let statistics =
        statistics.start_time(DateTime::from_secs(start)).end_time(DateTime::from_secs(start + 60));
    let plain = statistics
        .clone()
        .statistics(Statistic::Average)
        .statistics(Statistic::Maximum)
        .send()
        .await
        .unwrap();
    assert_eq!((plain.datapoints()[0].average(), plain.datapoints()[0].maximum()), (Some(50.5), Some(100.0)));
    let extended = statistics.extended_statistics("p90").send().await.unwrap();
    assert_eq!(extended.datapoints()[0].extended_statistics().unwrap().get("p90"), Some(&90.0));
}

#[tokio::test]
async fn the_sdk_reads_and_sets_alarms() {
    let client = sdk(CloudWatch::new(Duration::ZERO)).await;
    let alarm = client.put_metric_alarm().alarm_name("slow").namespace("Shop").metric_name("Latency");
    let alarm = alarm.extended_statistic("p99").period(60).evaluation_periods(1).threshold(0.5);
    alarm.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    let described = client.describe_alarms().send().await.unwrap();
    assert_eq!(described.metric_alarms()[0].state_value(), Some(&StateValue::InsufficientData));
    assert_eq!(described.metric_alarms()[0].threshold(), Some(0.5));

    let set = client.set_alarm_state().alarm_name("slow").state_value(StateValue::Alarm).state_reason("test");
    set.send().await.unwrap();
    let ringing = client.describe_alarms().state_value(StateValue::Alarm).send().await.unwrap();
    assert_eq!(ringing.metric_alarms()[0].state_reason(), Some("test"));

    client.delete_alarms().alarm_names("slow").send().await.unwrap();
    let unknown = client.delete_alarms().alarm_names("slow").send().await.unwrap_err();
    assert!(unknown.into_service_error().is_resource_not_found());
}
