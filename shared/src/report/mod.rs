//! What is told, and to whom: CodeDeploy gets one word, people get the reasons.

mod counters;
pub mod evidence;
mod log;
mod markdown;
pub mod verdict_event;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_codedeploy::types::LifecycleEventStatus;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

pub use evidence::{Background, Evidence};
pub use log::{failure, handed_over, held, ignored, look_failed, looked, looks_crashed, verdict, watch_over};
pub use markdown::markdown;

use crate::aws::{self, Aws};
use crate::budget::Budget;
use crate::clock;
use crate::environment::Environment;
use crate::event::{DeploymentId, HookEvent, Stage};
use crate::fault::{Fault, FaultKind};
use crate::hook;
use crate::policy::load::Source;
use crate::rollout::Deployment;
use crate::verdict::{Answer, Verdict};

/// What a report is about; grows as the function learns more.
#[derive(Debug, Clone)]
pub struct About {
    /// The function.
    pub stage: Stage,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// What CodeDeploy tells about it, once asked.
    pub deployment: Option<Deployment>,
    /// Where the policy came from, once found.
    pub source: Option<Source>,
    /// The stack of the function.
    pub stack: Option<String>,
    /// When the hook's lifecycle event began, once known.
    pub began: Option<Timestamp>,
    /// AWS region.
    pub region: Option<String>,
    /// Log group of the function.
    pub log_group: Option<String>,
    /// What is known of the rollout.
    pub background: Option<Background>,
}

impl About {
    /// Nothing but the ids.
    pub fn new(stage: Stage, deployment_id: DeploymentId, environment: &Environment) -> Self {
        Self {
            stage,
            deployment_id,
            deployment: None,
            source: None,
            stack: environment.stack.clone(),
            began: None,
            region: environment.region.clone(),
            log_group: environment.log_group.clone(),
            background: None,
        }
    }
}

/// What CodeDeploy made of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// It counts.
    Taken,
    /// The hook had been answered before, or the deployment stopped: the first report stands.
    AlreadyCompleted,
}

/// Attempts of the report; in practice the deadline ends them.
const ATTEMPTS: u32 = 100;

/// Logs the verdict and reports it to CodeDeploy, again and again until the time is up. The one way in which a hook
/// ends; its error means that CodeDeploy has heard nothing.
pub async fn make(
    aws: &Aws,
    about: &About,
    event: &HookEvent,
    verdict: &Verdict,
    started: Timestamp,
    budget: &Budget,
) -> Result<Value, Fault> {
    let evidence = log::verdict(about, verdict, hook::elapsed_ms(started));
    let status = match verdict.answer {
        Answer::Succeeded => LifecycleEventStatus::Succeeded,
        Answer::Failed => LifecycleEventStatus::Failed,
    };
    let left = budget.for_report(clock::now());
    let reported = match tokio::time::timeout(left, put(aws, event, status)).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(
            FaultKind::OutOfTime,
            format!("CodeDeploy did not take the report within {} s", left.as_secs()),
            "Lambda calls the function again; if that fails too, CodeDeploy ends the hook after an hour",
        )),
    };
    log::reported(about, reported.as_ref());
    let reported = reported?;
    Ok(json!({
        "deployment_id": about.deployment_id,
        "stage": about.stage.name(),
        "outcome": verdict.outcome,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "reported": reported,
        "report": markdown(&evidence),
    }))
}

/// The only call of `PutLifecycleEventHookExecutionStatus`. Throttling, server errors and broken connections are
/// tried again until the caller's time is up.
pub(crate) async fn put(
    aws: &Aws,
    event: &HookEvent,
    status: LifecycleEventStatus,
) -> Result<Reported, Fault> {
    let patient = aws_sdk_codedeploy::config::Builder::new()
        .retry_partition(aws::unshared_retries())
        .retry_config(
            RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(Duration::from_secs(2)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                // As of all calls: with another one there would be a second pool of connections, and a handshake more.
                .connect_timeout(aws::CONNECT)
                .operation_attempt_timeout(Duration::from_secs(5))
                .disable_operation_timeout()
                .build(),
        );
    let sent = aws
        .codedeploy
        .put_lifecycle_event_hook_execution_status()
        .deployment_id(event.deployment_id.as_str())
        .lifecycle_event_hook_execution_id(event.execution_id.expose())
        .status(status)
        .customize()
        .config_override(patient)
        .send()
        .await;
    match sent {
        Ok(_) => Ok(Reported::Taken),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(aws_sdk_codedeploy::operation::put_lifecycle_event_hook_execution_status::PutLifecycleEventHookExecutionStatusError::is_lifecycle_event_already_completed_exception) =>
        {
            Ok(Reported::AlreadyCompleted)
        }
        Err(error) => Err(aws::fault(
            "codedeploy:PutLifecycleEventHookExecutionStatus",
            &format!("report to deployment {}", event.deployment_id),
            error,
        )),
    }
}
