//! How the pure core's time grows with the window and with the gates: `cargo bench -p shiftgate`, then
//! `python3 .ci/growth.py`. Figures are in docs/measured/throughput.md.

#[path = "../examples/look/windows.rs"]
mod windows;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatch::config::http::{HttpRequest, HttpResponse};
use aws_sdk_cloudwatch::config::{
    Credentials, HttpClient, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::http::StatusCode;
use ciborium::{Value, cbor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use shiftgate::aws::Aws;
use shiftgate::environment::Environment;
use shiftgate::event::{DeploymentId, Stage};
use shiftgate::metrics::{self, Query, Window};
use shiftgate::policy;
use shiftgate::recording::{Bad, Recording, Traffic, replay};
use shiftgate::report::evidence::Comparison;
use shiftgate::report::{About, Background, Evidence, markdown};
use shiftgate::verdict::{Rules, conclude};
use windows::Look;

/// Minutes of a window.
const WINDOWS: [usize; 4] = [15, 120, 720, 2880];
/// Gates.
const GATES: [usize; 3] = [1, 10, 50];
/// Requests a minute.
const REQUESTS: f64 = 6000.0;
/// When the first minute begins.
const START: i64 = 1_800_000_000;

fn for_each(
    criterion: &mut Criterion,
    name: &str,
    mut measure: impl FnMut(usize, usize) -> Box<dyn FnMut()>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for minutes in WINDOWS {
        for gates in GATES {
            let mut work = measure(minutes, gates);
            group.bench_function(BenchmarkId::new(minutes.to_string(), gates), |bencher| {
                bencher.iter(&mut work);
            });
        }
    }
    group.finish();
}

fn judge(criterion: &mut Criterion) {
    for_each(criterion, "judge", |minutes, gates| {
        let look = Look::new(minutes, REQUESTS, Some(gates));
        Box::new(move || drop(black_box(look.judged())))
    });
}

/// An answer of GetMetricData to two queries for each gate, from its bytes to series.
fn answers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let runtime = &*Box::leak(Box::new(runtime));
    for_each(criterion, "answers", |minutes, gates| {
        let queries: Vec<Query> = (0..2 * gates)
            .map(|number| Query {
                namespace: "AWS/ApplicationELB".to_owned(),
                metric: format!("Metric{number:03}"),
                dimensions: vec![("TargetGroup".to_owned(), "targetgroup/green/0123456789abcdef".to_owned())],
                statistic: "Sum".to_owned(),
            })
            .collect();
        let start = Timestamp::from_second(START).unwrap_or_default();
        let window = Window { start, periods: minutes, period: Duration::from_mins(1) };
        let aws = aws(answer(minutes, queries.len()));
        Box::new(move || {
            let read = runtime.block_on(metrics::read(&aws, &queries, &window));
            drop(black_box(read.unwrap_or_else(|fault| panic!("{}", fault.chain()))));
        })
    });
}

fn answer(minutes: usize, queries: usize) -> Vec<u8> {
    let timestamps: Vec<Value> = (0..minutes)
        .map(|minute| Value::Tag(1, Box::new(Value::Integer((START + 60 * minute as i64).into()))))
        .collect();
    let values: Vec<f64> = (0..minutes).map(|minute| (minute % 60) as f64).collect();
    let results: Vec<Value> = (0..queries)
        .map(|number| {
            let result = cbor!({
                "Id" => format!("q{number}"),
                "StatusCode" => "Complete",
                "Timestamps" => timestamps,
                "Values" => values,
            });
            result.unwrap_or_else(|error| panic!("{error}"))
        })
        .collect();
    let mut bytes = Vec::new();
    let answer = cbor!({ "MetricDataResults" => results }).unwrap_or_else(|error| panic!("{error}"));
    ciborium::into_writer(&answer, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
    bytes
}

/// Clients that get one answer, again and again, without a network.
fn aws(answer: Vec<u8>) -> Aws {
    let credentials = Credentials::new("AKIDBENCH", "secret", None, None, "bench");
    Aws::new(
        &SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(SharedHttpClient::new(Same(answer)))
            .build(),
    )
}

#[derive(Debug, Clone)]
struct Same(Vec<u8>);

impl HttpConnector for Same {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = StatusCode::try_from(200).unwrap_or_else(|error| panic!("{error}"));
        let mut response = HttpResponse::new(status, self.0.clone().into());
        response.headers_mut().insert("content-type", "application/cbor");
        response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Same {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A policy's YAML with so many gates, as a plan.
fn policies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for gates in GATES {
        let mut text = "version: 1\ntraffic:\n".to_owned();
        for number in 0..gates {
            let _ = writeln!(
                text,
                "  - {{name: gate {number}, bad: Metric{number}, of: RequestCount, weight: 2}}"
            );
        }
        group.bench_function(BenchmarkId::from_parameter(gates), |bencher| {
            bencher.iter(|| policy::parse(black_box(&text)).unwrap_or_else(|faults| panic!("{faults:?}")));
        });
    }
    group.finish();
}

/// Makes one report of a verdict.
type Writes = fn(&Evidence) -> String;

/// A verdict on such a window, with its recording and how the evidence of each gate grew, as a line of the log, for people,
/// and as a page.
fn reports(criterion: &mut Criterion) {
    let log_line: Writes =
        |evidence| serde_json::to_string(evidence).unwrap_or_else(|error| panic!("{error}"));
    for (name, write) in [("log line", log_line), ("Markdown", markdown), ("page", shiftgate_report::page)] {
        for_each(criterion, name, |minutes, gates| {
            let evidence = evidence(minutes, gates);
            Box::new(move || drop(black_box(write(&evidence))))
        });
    }
}

fn evidence(minutes: usize, gates: usize) -> Evidence {
    let look = Look::new(minutes, REQUESTS, Some(gates));
    let recorded: Vec<_> = Bad::ALL.into_iter().zip(look.series.iter().cloned()).collect();
    let recording = Traffic::taken(look.plan.sampling.period, &recorded);
    let judged = recording.clone().map(|traffic| replay(&Recording::Traffic(traffic), &look.plan).gates);
    let comparisons = judged.unwrap_or_default().into_iter().map(|gate| Comparison {
        name: gate.name,
        limit: gate.limit,
        chances: gate.evidence,
    });
    let id = DeploymentId::new("d-0B7YUA91L").unwrap_or_else(|fault| panic!("{}", fault.chain()));
    let about = About {
        background: Some(Background {
            service: "shop".to_owned(),
            mode: "enforce".to_owned(),
            lifecycle: Vec::new(),
            weight: Some(10.0),
            steps: Vec::new(),
            plan: policy::explained::explained(&look.plan),
            comparisons: comparisons.collect(),
            recording,
        }),
        ..About::new(Stage::Watch, id, &Environment::default())
    };
    let at = Timestamp::from_second(START).unwrap_or_default();
    Evidence::new(&about, &conclude(look.judged(), Rules::default()), at, 40)
}

criterion_group!(benches, judge, answers, policies, reports);
criterion_main!(benches);
