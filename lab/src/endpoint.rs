//! The one address under which all stand-ins answer, as the real services do under theirs: it recognises the protocol,
//! asks whether the caller may, remembers the call, and passes it on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use axum::serve::ListenerExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::api::ApiError;
use crate::cloudwatch::{self, CloudWatch, Protocol};
use crate::codedeploy::CodeDeploy;
use crate::ecs::Ecs;
use crate::elbv2;
use crate::eventbridge::EventBus;
use crate::fault::{self, Fault, Faults, Hit, Syntax};
use crate::iam::{self, Facts, Role};
use crate::lambda::Lambda;
use crate::load_balancer::LoadBalancer;
use crate::logs::Logs;
use crate::quota::Quotas;
use crate::s3::{self, Buckets};
use crate::sns::{self, Topics};
use crate::ssm::{self, ParameterStore};
use crate::stepfunctions::StateMachines;

/// The services behind the endpoint.
pub struct Services {
    /// Deployments.
    pub codedeploy: Arc<CodeDeploy>,
    /// Services that ECS deploys itself.
    pub ecs: Arc<Ecs>,
    /// Metrics and alarms.
    pub cloudwatch: Arc<CloudWatch>,
    /// Functions.
    pub lambda: Arc<Lambda>,
    /// What the functions have logged.
    pub logs: Arc<Logs>,
    /// State machines.
    pub stepfunctions: Arc<StateMachines>,
    /// Parameters.
    pub parameters: ParameterStore,
    /// Events that were sent.
    pub bus: EventBus,
    /// Messages that were published.
    pub topics: Topics,
    /// Objects that were stored.
    pub buckets: Buckets,
    /// Load balancers.
    pub balancers: Mutex<Vec<Arc<LoadBalancer>>>,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// How much an account may call.
    pub quotas: Arc<Quotas>,
    /// The role of each caller, by its access key. A key that is not listed may do everything.
    pub roles: BTreeMap<String, Role>,
    /// Every call so far.
    pub calls: Mutex<Vec<Call>>,
}

/// A call, as the endpoint saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// Access key of the caller; the functions' keys are their names.
    pub caller: String,
    /// IAM action, as `codedeploy:GetDeployment`.
    pub action: String,
    /// ARNs of the resources that it touches; `*` where the action knows none.
    pub resources: Vec<String>,
    /// What conditions look at.
    pub facts: Facts,
    /// Code of the error that it was answered with.
    pub error: Option<String>,
    /// Metrics that it is billed for: those of `GetMetricData` cost by their number, and nothing else has any.
    pub metrics: usize,
}

/// The running endpoint; it stops when dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Endpoint {
    /// Takes a port of 127.0.0.1; 0 stands for any free one. The functions need the address before they are made.
    pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
    }

    /// Starts to answer.
    pub fn start(services: Arc<Services>, listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(services);
        Ok(Self { address, _task: serve(listener, router) })
    }
}

/// Serves until the set is dropped. Only a listener that broke ends it before; whoever calls then runs into a time limit.
pub(crate) fn serve(listener: TcpListener, router: Router) -> JoinSet<()> {
    // Without TCP_NODELAY every answer would seem to take 40 ms.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let mut task = JoinSet::new();
    task.spawn(async move { drop(axum::serve(listener, router).await) });
    task
}

/// How a request and its answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// JSON with the operation in `X-Amz-Target`; the text is the content type's version.
    Json(&'static str),
    /// RPC v2 CBOR.
    Cbor,
    /// Form in, XML out.
    Query,
    /// REST with JSON (Lambda).
    Rest,
    /// REST with XML (S3).
    RestXml,
}

/// A recognised call.
struct Request {
    wire: Wire,
    service: Service,
    operation: String,
    /// The version or alias in the query of an invocation.
    qualifier: Option<String>,
    caller: String,
    /// What it touches, in the words of IAM; known once the services were asked.
    resources: Vec<String>,
    /// What conditions look at.
    facts: Facts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    CodeDeploy,
    Ecs,
    CloudWatch,
    Logs,
    ParameterStore,
    StepFunctions,
    LoadBalancing,
    Lambda,
    FunctionConfiguration,
    EventBus,
    Topics,
    Buckets,
}

impl Service {
    /// Prefix of its IAM actions.
    fn prefix(self) -> &'static str {
        match self {
            Self::CodeDeploy => "codedeploy",
            Self::Ecs => "ecs",
            Self::CloudWatch => "cloudwatch",
            Self::Logs => "logs",
            Self::ParameterStore => "ssm",
            Self::StepFunctions => "states",
            Self::LoadBalancing => "elasticloadbalancing",
            Self::Lambda | Self::FunctionConfiguration => "lambda",
            Self::EventBus => "events",
            Self::Topics => "sns",
            Self::Buckets => "s3",
        }
    }
}

impl Request {
    fn action(&self) -> String {
        // Of these the operation is the function's name.
        let operation = match self.service {
            Service::Lambda => "InvokeFunction",
            Service::FunctionConfiguration => "GetFunctionConfiguration",
            _ => self.operation.as_str(),
        };
        format!("{}:{operation}", self.service.prefix())
    }

    fn syntax(&self) -> Syntax {
        match self.wire {
            Wire::Json(_) | Wire::Rest => Syntax::Json,
            Wire::Cbor => Syntax::Cbor,
            Wire::Query | Wire::RestXml => Syntax::Xml,
        }
    }
}

/// Whose call it is (the access key), and the IAM action of it, as far as the lab knows such a request.
pub(crate) fn caller_and_action(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<(String, String)> {
    let request = recognise(method, uri, headers, body)?;
    Some((request.caller.clone(), request.action()))
}

/// Answers one request to any of the services.
pub(crate) async fn answer(
    State(services): State<Arc<Services>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let Some(mut request) = recognise(&method, &uri, &headers, &body) else {
        let text = format!("the lab does not know the request {method} {}\n", uri.path());
        return response(StatusCode::NOT_FOUND, "text/plain", text.into_bytes());
    };
    let action = request.action();
    let (operation, qualifier) = (&request.operation, request.qualifier.as_deref());
    let path = uri.path().trim_start_matches('/');
    request.resources = iam::of_call(&services.codedeploy, &action, operation, qualifier, path, &body);
    request.facts = iam::facts_of_call(&action, &body);
    let Hit { clock, other: fault } = services.faults.on(&request.caller, &action);
    if fault == Some(Fault::Hang) {
        remember(&services, &request, &action, Some("hang"), 0);
        return std::future::pending().await;
    }
    let (mut body, mut paged) = (body, false);
    for fault in [clock, fault].into_iter().flatten() {
        let (distorted, of_a_page) = fault::distort_request(fault, request.syntax(), &body);
        (body, paged) = (Bytes::from(distorted), paged || of_a_page);
    }
    let refusal = fault
        .and_then(|fault| fault.refusal(&request.caller, &action, &request.resources))
        .or_else(|| services.quotas.take(&action).err());
    let result = match refusal {
        Some(error) => Err(error),
        None if !may(&services, &request.caller, &action, &request.resources, &request.facts) => {
            Err(fault::denied(&request.caller, &action, &request.resources))
        }
        None => pass_on(&services, &request, path, &headers, &body).await,
    };
    let metrics = if request.wire == Wire::Cbor && request.operation == "GetMetricData" {
        cloudwatch::metrics_billed(Protocol::Cbor, &body)
    } else {
        0
    };
    remember(&services, &request, &action, result.as_ref().err().map(|error| error.code.as_str()), metrics);
    let mut response = result.unwrap_or_else(|error| error_response(&request, &error));
    for fault in [clock, fault].into_iter().flatten() {
        response = fault::distort_response(fault, request.syntax(), paged, response).await;
    }
    response
}

fn recognise(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<Request> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let caller = text("authorization").and_then(access_key).unwrap_or("anonymous").to_owned();
    let request = |wire, service, operation: &str| {
        let operation = operation.to_owned();
        let caller = caller.clone();
        let (resources, facts) = (Vec::new(), Facts::new());
        Some(Request { wire, service, operation, qualifier: None, caller, resources, facts })
    };
    if let Some(operation) = uri.path().strip_prefix("/service/GraniteServiceVersion20100801/operation/") {
        return request(Wire::Cbor, Service::CloudWatch, operation);
    }
    if let Some((target, operation)) = text("x-amz-target").and_then(|target| target.split_once('.')) {
        return match target {
            "CodeDeploy_20141006" => request(Wire::Json("1.1"), Service::CodeDeploy, operation),
            "AmazonEC2ContainerServiceV20141113" => request(Wire::Json("1.1"), Service::Ecs, operation),
            "Logs_20140328" => request(Wire::Json("1.1"), Service::Logs, operation),
            "AmazonSSM" => request(Wire::Json("1.1"), Service::ParameterStore, operation),
            "AWSEvents" => request(Wire::Json("1.1"), Service::EventBus, operation),
            "AWSStepFunctions" => request(Wire::Json("1.0"), Service::StepFunctions, operation),
            "GraniteServiceVersion20100801" => request(Wire::Json("1.0"), Service::CloudWatch, operation),
            _ => None,
        };
    }
    if let Some(name) = invoked_function(uri) {
        let found = (method == Method::POST).then(|| request(Wire::Rest, Service::Lambda, name)).flatten();
        return found.map(|request| Request { qualifier: qualifier(uri), ..request });
    }
    if let Some(name) = described_function(uri).filter(|_| method == Method::GET) {
        return request(Wire::Rest, Service::FunctionConfiguration, name);
    }
    if text("authorization").and_then(signed_service) == Some("s3") {
        return request(Wire::RestXml, Service::Buckets, s3::operation(method)?);
    }
    let form: BTreeMap<String, String> = serde_urlencoded::from_bytes(body).ok()?;
    let service = match form.get("Version")?.as_str() {
        "2015-12-01" => Service::LoadBalancing,
        sns::VERSION => Service::Topics,
        _ => return None,
    };
    request(Wire::Query, service, form.get("Action")?)
}

fn invoked_function(uri: &Uri) -> Option<&str> {
    uri.path().strip_prefix("/2015-03-31/functions/")?.strip_suffix("/invocations")
}

fn described_function(uri: &Uri) -> Option<&str> {
    uri.path().strip_prefix("/2015-03-31/functions/")?.strip_suffix("/configuration")
}

fn qualifier(uri: &Uri) -> Option<String> {
    let query: BTreeMap<String, String> = serde_urlencoded::from_str(uri.query()?).ok()?;
    query.get("Qualifier").cloned()
}

/// The service in a Signature Version 4 header: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
fn signed_service(authorization: &str) -> Option<&str> {
    authorization.split_once("Credential=")?.1.split('/').nth(3)
}

/// The access key in a Signature Version 4 header.
fn access_key(authorization: &str) -> Option<&str> {
    authorization.split_once("Credential=")?.1.split('/').next()
}

fn may(services: &Services, caller: &str, action: &str, resources: &[String], facts: &Facts) -> bool {
    let role = services.roles.get(caller);
    role.is_none_or(|role| role.refuses(action, resources, facts).is_none())
}

async fn pass_on(
    services: &Services,
    request: &Request,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Body>, ApiError> {
    let operation = request.operation.as_str();
    let content = match request.service {
        Service::CodeDeploy => services.codedeploy.handle(operation, body)?,
        Service::Ecs => services.ecs.handle(operation, body)?,
        Service::Logs => services.logs.handle(operation, body)?,
        Service::ParameterStore => {
            let secrets = ssm::secrets_read(body);
            if !secrets.is_empty()
                && !may(services, &request.caller, ssm::SECRET_ACTION, &secrets, &Facts::new())
            {
                let denied = fault::denied(&request.caller, ssm::SECRET_ACTION, &secrets);
                return Err(ssm::of_secrets_manager(denied));
            }
            services.parameters.handle(operation, body)?
        }
        Service::EventBus => services.bus.handle(operation, body)?,
        Service::Topics => services.topics.handle(operation, body)?,
        Service::Buckets => return services.buckets.handle(operation, path, headers, body),
        Service::StepFunctions => services.stepfunctions.handle(operation, body).await?,
        Service::CloudWatch => {
            let protocol = if request.wire == Wire::Cbor { Protocol::Cbor } else { Protocol::Json };
            let (cloudwatch, operation, body) =
                (Arc::clone(&services.cloudwatch), operation.to_owned(), body.to_vec());
            // Percentiles over an hour take a while; the balancers of all services share the threads of the runtime.
            let answer = tokio::task::spawn_blocking(move || cloudwatch.handle(protocol, &operation, &body));
            answer.await.map_err(|_| ApiError {
                status: 500,
                ..ApiError::client("InternalServiceFault", "a bug of the lab")
            })??
        }
        Service::LoadBalancing => {
            let balancers = services.balancers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            elbv2::handle(&balancers, body)?
        }
        Service::FunctionConfiguration => services.lambda.configuration(&operation.replace("%3A", ":"))?,
        Service::Lambda => {
            let kind =
                headers.get("x-amz-invocation-type").and_then(|value| value.to_str().ok()).unwrap_or("");
            let name = operation.replace("%3A", ":");
            let qualifier = request.qualifier.as_deref();
            let answer = services.lambda.handle_invoke(&name, qualifier, kind, body.to_vec()).await?;
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
            let mut response = response(status, "application/json", answer.body);
            if let Some(error) = answer.function_error {
                response
                    .headers_mut()
                    .insert("x-amz-function-error", header::HeaderValue::from_static(error));
            }
            let version = answer.executed_version.as_deref().map(header::HeaderValue::from_str);
            if let Some(Ok(version)) = version {
                response.headers_mut().insert("x-amz-executed-version", version);
            }
            return Ok(response);
        }
    };
    Ok(written(request.wire, StatusCode::OK, content))
}

fn written(wire: Wire, status: StatusCode, content: Vec<u8>) -> Response<Body> {
    let content_type = match wire {
        Wire::Json("1.0") => "application/x-amz-json-1.0",
        Wire::Json(_) => "application/x-amz-json-1.1",
        Wire::Cbor => "application/cbor",
        Wire::Query => "text/xml",
        Wire::RestXml => "application/xml",
        Wire::Rest => "application/json",
    };
    let mut response = response(status, content_type, content);
    if wire == Wire::Cbor {
        response.headers_mut().insert("smithy-protocol", header::HeaderValue::from_static("rpc-v2-cbor"));
    }
    response
}

fn error_response(request: &Request, error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    let content = match request.wire {
        Wire::Query => elbv2::error_response(error),
        Wire::RestXml => s3::error_response(error),
        Wire::Cbor => cloudwatch::error_body(Protocol::Cbor, error),
        Wire::Json(_) if request.service == Service::CloudWatch => {
            cloudwatch::error_body(Protocol::Json, error)
        }
        Wire::Json(_) | Wire::Rest => {
            json!({"__type": error.code, "message": error.message, "Message": error.message})
                .to_string()
                .into_bytes()
        }
    };
    let mut response = written(request.wire, status, content);
    if let Ok(code) = header::HeaderValue::from_str(&error.code) {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

fn response(status: StatusCode, content_type: &'static str, content: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    if let Ok(id) = header::HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

fn remember(services: &Services, request: &Request, action: &str, error: Option<&str>, metrics: usize) {
    services.calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call {
        at: Timestamp::now(),
        caller: request.caller.clone(),
        action: action.to_owned(),
        resources: request.resources.clone(),
        facts: request.facts.clone(),
        error: error.map(str::to_owned),
        metrics,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_may_name_a_version_in_its_path_or_its_query() {
        let recognised = |path: &str| {
            let uri = format!("/2015-03-31/functions/{path}").parse().unwrap();
            recognise(&Method::POST, &uri, &HeaderMap::new(), b"{}").unwrap()
        };
        for (path, name, qualifier) in [
            ("shop/invocations", "shop", None),
            ("shop/invocations?Qualifier=2", "shop", Some("2")),
            ("shop/invocations?Qualifier=%24LATEST", "shop", Some("$LATEST")),
            ("shop%3A2/invocations", "shop%3A2", None),
        ] {
            let request = recognised(path);
            assert_eq!((request.operation.as_str(), request.qualifier.as_deref()), (name, qualifier));
            assert_eq!(request.action(), "lambda:InvokeFunction");
        }
    }
}
