//! A second address for the account, at which every call takes the same time and is remembered with its begin and end. What would
//! change the account is answered here: one deployment can wait at its hook for hundreds of invocations.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::endpoint::{self, Endpoint, Services};

/// The report of a hook.
const REPORT: &str = "codedeploy:PutLifecycleEventHookExecutionStatus";
/// The start of the watch.
const START: &str = "states:StartExecution";

/// A call, as the meter saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// Access key of the caller.
    pub caller: String,
    /// IAM action, as `codedeploy:GetDeployment`.
    pub action: String,
    /// When the whole request was there.
    pub begin: Instant,
    /// When its answer was handed to the connection.
    pub end: Instant,
    /// What a report says, such as `Succeeded`; nothing of any other call.
    pub reported: Option<String>,
}

/// The running meter; it stops when dropped.
pub struct Meter {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    services: Arc<Services>,
    latency: Mutex<Duration>,
    calls: Mutex<Vec<Metered>>,
}

impl Meter {
    /// Starts to answer for an account, at first without delay.
    pub async fn start(services: Arc<Services>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { services, latency: Mutex::default(), calls: Mutex::default() });
        let listener = Endpoint::bind(0).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        Ok(Self { address, shared, _task: endpoint::serve(listener, router) })
    }

    /// From now on a call takes so long, or as long as the stand-in needs where that is longer.
    pub fn set_latency(&self, latency: Duration) {
        *lock(&self.shared.latency) = latency;
    }

    /// The calls that have ended since this was last asked, in the order in which they ended.
    pub fn take(&self) -> Vec<Metered> {
        std::mem::take(&mut *lock(&self.shared.calls))
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let begin = Instant::now();
    let (caller, action) = endpoint::caller_and_action(&method, &uri, &headers, &body).unwrap_or_default();
    let (response, reported) = match action.as_str() {
        REPORT => taken(&body),
        START => (json_1("1.0", &started(&body)), None),
        _ => {
            let services = State(Arc::clone(&shared.services));
            (endpoint::answer(services, method, uri, headers, body).await, None)
        }
    };
    let latency = *lock(&shared.latency);
    wait(latency.saturating_sub(begin.elapsed())).await;
    lock(&shared.calls).push(Metered { caller, action, begin, end: Instant::now(), reported });
    response
}

/// Waits to a fraction of a millisecond, where the runtime's own timer would round up to the next one.
async fn wait(time: Duration) {
    if !time.is_zero() {
        // A sleep that panics is none; the call is then recorded as short as it was.
        drop(tokio::task::spawn_blocking(move || std::thread::sleep(time)).await);
    }
}

/// The answer to a report, and what it says.
fn taken(body: &[u8]) -> (Response<Body>, Option<String>) {
    let report: Value = serde_json::from_slice(body).unwrap_or_default();
    let answer = json!({ "lifecycleEventHookExecutionId": report["lifecycleEventHookExecutionId"] });
    (json_1("1.1", &answer), report["status"].as_str().map(str::to_owned))
}

/// The answer to the start of an execution.
fn started(body: &[u8]) -> Value {
    let start: Value = serde_json::from_slice(body).unwrap_or_default();
    let machine = start["stateMachineArn"].as_str().unwrap_or_default();
    let arn = machine.replacen(":stateMachine:", ":execution:", 1);
    let name = start["name"].as_str().unwrap_or_default();
    json!({ "executionArn": format!("{arn}:{name}"), "startDate": Timestamp::now().as_second() })
}

fn json_1(version: &str, answer: &Value) -> Response<Body> {
    ([(header::CONTENT_TYPE, format!("application/x-amz-json-{version}"))], answer.to_string())
        .into_response()
}

/// Nothing here leaves shared data half changed, so a lock that a panic poisoned is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::Request;
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::account::{Account, AccountSpec};
    use crate::codedeploy::Pace;
    use crate::doubts::Doubts;

    const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:watch";

    /// An account that is never asked to run a function.
    async fn account() -> Account {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let binaries = tempfile::tempdir().unwrap();
        for function in std::fs::read_dir(project.join("functions")).unwrap() {
            std::fs::write(binaries.path().join(function.unwrap().file_name()), "").unwrap();
        }
        let spec = AccountSpec {
            project,
            binaries: binaries.path().to_owned(),
            pace: Pace { minute: Duration::from_mins(1), hook_timeout: Duration::from_hours(1) },
            ingestion_delay: Duration::ZERO,
            retry_delays: [Duration::ZERO; 2],
            port: 0,
            doubts: Doubts::default(),
            subscriptions: false,
        };
        Account::start(&spec).await.unwrap()
    }

    async fn call(meter: &Meter, target: &str, body: Value) -> Value {
        let request = Request::post(format!("http://{}/", meter.address))
            .header("x-amz-target", target)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=me/20261129/eu-west-1/any/aws4_request")
            .body(Full::<Bytes>::from(body.to_string()))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.unwrap();
        assert!(answer.status().is_success(), "{target}: {}", answer.status());
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_call_is_passed_on_takes_its_time_and_is_remembered() {
        let account = account().await;
        account.services.parameters.put("/shop", "{}", false);
        let meter = Meter::start(Arc::clone(&account.services)).await.unwrap();
        for latency in [Duration::ZERO, Duration::from_millis(60)] {
            meter.set_latency(latency);
            let before = Instant::now();
            let answer = call(&meter, "AmazonSSM.GetParameters", json!({"Names": ["/shop"]})).await;
            let took = before.elapsed();
            assert_eq!(answer["Parameters"][0]["Name"], "/shop");
            let calls = meter.take();
            let [Metered { caller, action, begin, end, reported: None }] = calls.as_slice() else {
                panic!("not one call: {calls:?}");
            };
            assert_eq!((caller.as_str(), action.as_str()), ("me", "ssm:GetParameters"));
            let metered = *end - *begin;
            assert!(latency <= metered && metered <= took, "{latency:?}, {metered:?}, {took:?}");
            // So much more only where the machine is busy: without a delay it is no 60 ms.
            assert!(metered < latency + Duration::from_millis(50), "{metered:?}");
        }
        assert_eq!(meter.take(), [], "a call is told once");
    }

    #[tokio::test]
    async fn what_would_change_the_account_is_answered_by_the_meter() {
        let account = account().await;
        let meter = Meter::start(Arc::clone(&account.services)).await.unwrap();
        // Of a deployment that does not exist: the account would refuse it.
        let report = json!({"deploymentId": "d-NOWHERE00", "lifecycleEventHookExecutionId": "execution", "status": "Failed"});
        let answer = call(&meter, "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus", report).await;
        assert_eq!(answer, json!({"lifecycleEventHookExecutionId": "execution"}));
        let start = json!({"stateMachineArn": MACHINE, "name": "d-NOWHERE00", "input": "{}"});
        let answer = call(&meter, "AWSStepFunctions.StartExecution", start).await;
        let arn = "arn:aws:states:eu-west-1:123456789012:execution:watch:d-NOWHERE00";
        assert_eq!(answer["executionArn"], arn);
        assert!(answer["startDate"].is_number(), "{answer}");

        assert_eq!(*lock(&account.services.calls), [], "the account has heard of none");
        let calls = meter.take();
        let told: Vec<_> =
            calls.iter().map(|call| (call.action.as_str(), call.reported.as_deref())).collect();
        assert_eq!(told, [(REPORT, Some("Failed")), (START, None)]);
    }
}
