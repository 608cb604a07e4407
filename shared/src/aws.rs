//! Clients of AWS from one configuration, and the translation of their errors into faults.

mod clock;
mod complete;
mod configuration;
mod http;

use std::error::Error;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codedeploy::config::retry::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use self::clock::AwsClock;
use self::complete::CompleteXml;
pub use self::configuration::configuration;
pub use self::http::http_client;
use crate::fault::{Fault, FaultKind};

/// Longest wait for a connection.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for one answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Longest time for a call with its retries: what is not answered by then is a fault of its own.
const OPERATION: Duration = Duration::from_secs(45);
/// Attempts of a call, the first one included. Standard back-off: about half a minute of throttling is ridden out.
const ATTEMPTS: u32 = 8;
/// Longest pause between two attempts. Each is a random part of what exponential back-off allows.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Retries that all calls of a run share, so that an account which is throttled already is not asked eight times by each
/// of them. A retry that helped is given back, and so is one for each call that needed none.
const RETRIES: usize = 40;
/// Retries that come back with time, each second: a readiness check may run for a quarter of an hour.
const RETRIES_EACH_SECOND: f32 = 0.1;
/// Pages of one answer that are read: no answer that a look needs is nearly as long.
const MOST_PAGES: usize = 100;

/// A client that is made when it is first called: an invocation calls some of them only, and making one takes about as long as
/// a call that is answered at once.
pub type Lazy<Client> = Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>;

/// The clients that the functions use.
#[derive(Debug, Clone)]
pub struct Aws {
    /// Deployments, and the report to them.
    pub codedeploy: Lazy<aws_sdk_codedeploy::Client>,
    /// Metrics and alarms.
    pub cloudwatch: Lazy<aws_sdk_cloudwatch::Client>,
    /// Deployments that ECS carries out itself.
    pub ecs: Lazy<aws_sdk_ecs::Client>,
    /// Listeners, target groups and target health.
    pub elb: Lazy<aws_sdk_elasticloadbalancingv2::Client>,
    /// Policies and secrets.
    pub ssm: Lazy<aws_sdk_ssm::Client>,
    /// The watch's loop.
    pub states: Lazy<aws_sdk_sfn::Client>,
    /// The sibling functions.
    pub lambda: Lazy<aws_sdk_lambda::Client>,
    /// The region that the clients call.
    pub region: Option<String>,
    /// AWS's clock beside ours.
    pub(crate) clock: AwsClock,
    /// What the clients are made from.
    config: SdkConfig,
}

/// A client with the retries that it may make, and with what looks at its answers.
macro_rules! client {
    ($sdk:ident, $config:expr, $retries:expr, $clock:expr $(, $interceptor:expr)?) => {{
        let (config, retries, clock) = ($config.clone(), $retries.clone(), $clock.clone());
        let make = move || {
            $sdk::Client::from_conf(
                $sdk::config::Builder::from(&config)
                    .retry_partition(retries)
                    .interceptor(clock)
                    $(.interceptor($interceptor))?
                    .build(),
            )
        };
        Arc::new(LazyLock::new(Box::new(make)))
    }};
}

impl Aws {
    /// Clients from the process's environment, as Lambda sets it.
    pub fn from_environment() -> Self {
        Self::with(configuration())
    }

    /// Clients from any configuration, with our time limits and retries.
    pub fn new(config: &SdkConfig) -> Self {
        Self::with(limited(config))
    }

    /// The same clients with a retry budget of their own. A process serves one event after the other: what one of them
    /// spent, the next one must not lack.
    #[must_use]
    pub fn for_one_run(&self) -> Self {
        Self::with(self.config.clone())
    }

    fn with(config: SdkConfig) -> Self {
        let budget = TokenBucket::builder()
            .capacity(RETRIES)
            .refill_rate(RETRIES_EACH_SECOND)
            .retry_cost(1)
            .throttling_retry_cost(1)
            .timeout_retry_cost(1)
            .build();
        let retries = RetryPartition::custom("checks").token_bucket(budget).build();
        let clock = AwsClock::default();
        Self {
            codedeploy: client!(aws_sdk_codedeploy, config, retries, clock),
            cloudwatch: client!(aws_sdk_cloudwatch, config, retries, clock),
            ecs: client!(aws_sdk_ecs, config, retries, clock),
            elb: client!(aws_sdk_elasticloadbalancingv2, config, retries, clock, CompleteXml),
            ssm: client!(aws_sdk_ssm, config, retries, clock),
            states: client!(aws_sdk_sfn, config, retries, clock),
            lambda: client!(aws_sdk_lambda, config, retries, clock),
            region: config.region().map(ToString::to_string),
            clock,
            config,
        }
    }
}

/// With our time limits, retries and HTTP client.
fn limited(config: &SdkConfig) -> SdkConfig {
    let mut builder = config
        .to_builder()
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION)
                .build(),
        )
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_PAUSE));
    if config.http_client().is_none() {
        builder = builder.http_client(http_client());
    }
    builder.build()
}

/// The retries of the report: as many as its time allows, whatever the checks have spent.
pub(crate) fn unshared_retries() -> RetryPartition {
    RetryPartition::custom("report").token_bucket(TokenBucket::unlimited()).build()
}

/// A fault when an answer has more pages than any that makes sense; `page` is counted from 0.
pub(crate) fn limit_pages(action: &str, page: usize) -> Result<(), Fault> {
    if page < MOST_PAGES {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::Unavailable,
        format!("{action} answered with more than {MOST_PAGES} pages"),
        "AWS never ends its answer; the next attempt may be better",
    ))
}

/// Turns an SDK error into a fault. `action` is the IAM action, `purpose` completes "cannot ...".
pub fn fault<E>(action: &str, purpose: &str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let kind = match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => None,
        SdkError::ServiceError(refused) => {
            Some(kind(refused.raw().status().as_u16(), error.code().unwrap_or_default()))
        }
        _ => Some(FaultKind::Rejected),
    };
    let told = Told::from(&error);
    if kind == Some(FaultKind::Denied) {
        return Fault::new(
            FaultKind::Denied,
            format!("cannot {purpose}: AWS denies {action}"),
            format!("allow {action} in the function's role"),
        )
        .because(told);
    }
    let hint = match kind {
        None => "check that the function reaches AWS: in a VPC it needs a NAT gateway or interface endpoints",
        Some(FaultKind::Unavailable) if is_throttling(error.code().unwrap_or_default()) => {
            "the account's request rate is spent; it comes back by itself"
        }
        Some(FaultKind::Unavailable) => "AWS had a fault; the next attempt may succeed",
        Some(FaultKind::Expired) => {
            "the credentials are too old: sign in again, or let Lambda start the function anew"
        }
        Some(FaultKind::NotFound) => "check the name in the message",
        Some(_) => "AWS does not accept the request; its own words say why",
    };
    Fault::new(kind.unwrap_or(FaultKind::Unavailable), format!("cannot {purpose} ({action})"), hint)
        .because(told)
}

/// What an error of AWS is, by its HTTP status and its code. Services have codes of their own for the same fault
/// (`ServerException` of ECS, `ServiceException` of Lambda), so the status decides before the code does.
fn kind(status: u16, code: &str) -> FaultKind {
    // Some errors of the query protocol have no `Exception` at their end.
    let code = code.strip_suffix("Exception").unwrap_or(code);
    match code {
        "ExpiredToken" | "TokenRefreshRequired" => FaultKind::Expired,
        "AccessDenied" | "UnauthorizedOperation" => FaultKind::Denied,
        "RequestTimeout" | "SlowDown" | "" => FaultKind::Unavailable,
        _ if status >= 500 || status == 429 || status == 408 => FaultKind::Unavailable,
        _ if is_throttling(code) || code.contains("Internal") || code.contains("Unavailable") => {
            FaultKind::Unavailable
        }
        _ if code.starts_with("AccessDenied") => FaultKind::Denied,
        _ if code.contains("NotFound") || code.contains("DoesNotExist") => FaultKind::NotFound,
        _ => FaultKind::Rejected,
    }
}

fn is_throttling(code: &str) -> bool {
    code.contains("Throttl") || code.contains("TooManyRequests") || code.contains("LimitExceeded")
}

/// What AWS (or the connection to it) said, on one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

impl Told {
    fn from<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        match (error.code(), error.message()) {
            (Some(code), Some(message)) => Self(format!("{code}: {message}")),
            (Some(code), None) => Self(code.to_owned()),
            (None, Some(message)) => Self(message.to_owned()),
            (None, None) => Self(last_source(error)),
        }
    }
}

/// The innermost error says most: "connection refused" rather than "dispatch failure".
fn last_source(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_what_its_status_says_and_then_what_its_code_says() {
        for (status, code, expected) in [
            // Of AWS's own making, whatever it is called.
            (500, "ServerException", FaultKind::Unavailable),
            (500, "ServiceException", FaultKind::Unavailable),
            (502, "ResourceNotReadyException", FaultKind::Unavailable),
            (502, "ENINotReadyException", FaultKind::Unavailable),
            (503, "SlowDown", FaultKind::Unavailable),
            (400, "SlowDown", FaultKind::Unavailable),
            (400, "RequestTimeout", FaultKind::Unavailable),
            (408, "RequestTimeoutException", FaultKind::Unavailable),
            (429, "Anything", FaultKind::Unavailable),
            (400, "ThrottlingException", FaultKind::Unavailable),
            (400, "", FaultKind::Unavailable),
            (400, "InternalFailure", FaultKind::Unavailable),
            (403, "ExpiredToken", FaultKind::Expired),
            (403, "ExpiredTokenException", FaultKind::Expired),
            (400, "AccessDeniedException", FaultKind::Denied),
            (403, "AccessDenied", FaultKind::Denied),
            (403, "UnauthorizedOperation", FaultKind::Denied),
            (400, "DeploymentDoesNotExistException", FaultKind::NotFound),
            (400, "TargetGroupNotFound", FaultKind::NotFound),
            (400, "ParameterNotFound", FaultKind::NotFound),
            // Whatever is not known is AWS's to explain.
            (400, "InvalidParameterException", FaultKind::Rejected),
            (400, "ConflictException", FaultKind::Rejected),
            (400, "SomethingOfTomorrow", FaultKind::Rejected),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }
}
