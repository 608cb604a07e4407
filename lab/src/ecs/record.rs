//! What ECS remembers: revisions of a service, and service deployments as they go on.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::model::{EcsService, Stage, TimeoutAction};
use crate::api::{ACCOUNT, REGION};
use crate::service::TaskSet;

/// Status of a service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceDeploymentStatus {
    /// Made, not begun.
    Pending,
    /// Going on.
    InProgress,
    /// Ended well.
    Successful,
    /// Asked to stop without a rollback.
    StopRequested,
    /// Stopped; traffic and tasks are as they were then.
    Stopped,
    /// Asked to roll back.
    RollbackRequested,
    /// Rolling back.
    RollbackInProgress,
    /// Blue serves again.
    RollbackSuccessful,
    /// The way back failed, or there was none.
    RollbackFailed,
}

impl ServiceDeploymentStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Successful => "SUCCESSFUL",
            Self::StopRequested => "STOP_REQUESTED",
            Self::Stopped => "STOPPED",
            Self::RollbackRequested => "ROLLBACK_REQUESTED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackSuccessful => "ROLLBACK_SUCCESSFUL",
            Self::RollbackFailed => "ROLLBACK_FAILED",
        }
    }

    /// Whether it has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Successful | Self::Stopped | Self::RollbackSuccessful | Self::RollbackFailed)
    }

    /// Whether it can still be stopped: nothing has asked for its end.
    pub fn is_going_on(self) -> bool {
        matches!(self, Self::Pending | Self::InProgress)
    }
}

/// A revision in a service deployment: its requested weights in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The revision's ARN.
    pub revision: String,
    /// Tasks that it should have.
    pub requested: usize,
    /// Its share of test traffic.
    pub test_weight: f64,
    /// Its share of production traffic.
    pub production_weight: f64,
}

/// State of a hook at the stage that it was last run at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookStatus {
    /// Waits for `ContinueServiceDeployment`.
    AwaitingAction,
    /// Is invoked again and again.
    InProgress,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Not done in time.
    TimedOut,
}

impl HookStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingAction => "AWAITING_ACTION",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// A hook in a service deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct HookRecord {
    /// Its id; `ecs-pause-…` for a pause.
    pub id: String,
    /// ARN of its function; a pause has none.
    pub target_arn: Option<String>,
    /// Where it stands.
    pub status: HookStatus,
    /// When it times out.
    pub expires: Timestamp,
    /// What happens then.
    pub on_timeout: TimeoutAction,
    /// Answer of `ContinueServiceDeployment`: whether to go on.
    pub(super) continued: Option<bool>,
}

/// A rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRecord {
    /// Why.
    pub reason: String,
    /// Since when.
    pub started: Timestamp,
    /// The revision that serves again.
    pub revision: String,
}

/// Where the watch over alarms, or the circuit breaker, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorStatus {
    /// Not configured.
    Disabled,
    /// Watching.
    Monitoring,
    /// The deployment ended without it.
    MonitoringComplete,
    /// It ended the deployment.
    Triggered,
}

impl MonitorStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Monitoring => "MONITORING",
            Self::MonitoringComplete => "MONITORING_COMPLETE",
            Self::Triggered => "TRIGGERED",
        }
    }
}

/// How a service deployment is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopType {
    /// Blue serves again.
    Rollback,
    /// Everything stays as it is.
    Abort,
}

/// A service deployment.
#[derive(Debug, Clone)]
pub struct ServiceDeploymentRecord {
    /// Its ARN.
    pub arn: String,
    /// The service as it was configured when the deployment was made.
    pub service: EcsService,
    /// When it was made.
    pub created: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// When it stopped without a rollback.
    pub stopped: Option<Timestamp>,
    /// When it last changed.
    pub updated: Timestamp,
    /// The revisions that served before; none of a first deployment.
    pub source: Vec<Side>,
    /// The revision that is to serve.
    pub target: Side,
    /// Status.
    pub status: ServiceDeploymentStatus,
    /// Why the status is what it is.
    pub status_reason: Option<String>,
    /// Stage that it is at, or ended at.
    pub stage: Option<Stage>,
    /// The hooks that have been run.
    pub hooks: Vec<HookRecord>,
    /// The rollback, once it has begun.
    pub rollback: Option<RollbackRecord>,
    /// The watch over the alarms.
    pub alarms: MonitorStatus,
    /// The alarms that ended it.
    pub triggered: Vec<String>,
    /// The circuit breaker.
    pub circuit_breaker: MonitorStatus,
    /// Tasks that failed so far.
    pub failures: u32,
    /// `hookDetails` that hooks returned, by the hook's place in the service's list.
    pub(super) returned_details: BTreeMap<usize, Map<String, Value>>,
    /// Tells the engine to stop, and of answers to pauses.
    pub(super) stop: watch::Sender<Option<StopType>>,
    pub(super) answers: watch::Sender<u64>,
}

impl ServiceDeploymentRecord {
    /// A deployment that has not begun, with this id, from these revisions to that one.
    pub fn new(id: &str, service: EcsService, source: Vec<String>, target: &str) -> Self {
        let now = Timestamp::now();
        let side = |revision: &str, weight: f64| Side {
            revision: revision.to_owned(),
            requested: service.desired,
            test_weight: 0.0,
            production_weight: weight,
        };
        let monitor = |on| if on { MonitorStatus::Monitoring } else { MonitorStatus::Disabled };
        let serving = source.len();
        Self {
            arn: deployment_arn(&service, id),
            created: now,
            started: None,
            finished: None,
            stopped: None,
            updated: now,
            // The newest of the source revisions serves.
            source: source
                .iter()
                .enumerate()
                .map(|(at, revision)| side(revision, if at + 1 == serving { 100.0 } else { 0.0 }))
                .collect(),
            target: side(target, 0.0),
            status: ServiceDeploymentStatus::Pending,
            status_reason: None,
            stage: None,
            hooks: Vec::new(),
            rollback: None,
            alarms: monitor(service.alarms.is_some()),
            triggered: Vec::new(),
            circuit_breaker: monitor(service.circuit_breaker.is_some()),
            failures: 0,
            returned_details: BTreeMap::new(),
            stop: watch::Sender::new(None),
            answers: watch::Sender::new(0),
            service,
        }
    }

    /// Task failures at which the circuit breaker opens: half of the desired tasks, at least 3 and at most 200.
    pub fn failure_threshold(&self) -> u32 {
        (self.service.desired.div_ceil(2) as u32).clamp(3, 200)
    }

    /// The revision to go back to.
    pub fn rollback_candidate(&self) -> Option<&str> {
        self.source.last().map(|side| side.revision.as_str())
    }
}

/// A revision of a service.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Its ARN.
    pub arn: String,
    /// The service as it was configured when the revision was made.
    pub service: EcsService,
    /// Counts the service's revisions; the task definition's revision too.
    pub count: usize,
    /// When it was made.
    pub created: Timestamp,
    /// Its tasks, as long as it is active.
    pub tasks: Option<Arc<TaskSet>>,
    /// Name of the target group that its tasks are in, if the service has any.
    pub target_group: Option<String>,
    /// Its tasks that failed.
    pub failed_tasks: u32,
}

impl Revision {
    /// Its id as the older parts of the API have it. That the numbers are the same is the lab's choice.
    pub fn deployment_id(&self) -> String {
        format!("ecs-svc/{}", self.arn.rsplit('/').next().unwrap_or_default())
    }

    /// Running and pending tasks.
    pub fn counts(&self) -> (usize, usize) {
        let Some(tasks) = &self.tasks else { return (0, 0) };
        let running = tasks.running();
        (running, tasks.desired().saturating_sub(running))
    }

    /// The task definition's ARN.
    pub fn task_definition(&self) -> String {
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{}:{}", self.service.service.name, self.count)
    }
}

fn arn(kind: &str, service: &EcsService, rest: &str) -> String {
    let (cluster, name) = (&service.service.cluster, &service.service.name);
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{cluster}/{name}{rest}")
}

/// ARN of a cluster.
pub(super) fn cluster_arn(cluster: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{cluster}")
}

/// ARN of a service.
pub(super) fn service_arn(service: &EcsService) -> String {
    arn("service", service, "")
}

/// ARN of a service deployment.
pub(super) fn deployment_arn(service: &EcsService, id: &str) -> String {
    arn("service-deployment", service, &format!("/{id}"))
}

/// ARN of a revision. Its number follows from what it was made for, so that samples can name it.
pub(super) fn revision_arn(service: &EcsService, made_for: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (&service.service.cluster, &service.service.name, made_for).hash(&mut hasher);
    let number = 1_000_000_000_000_000_000 + hasher.finish() % 8_000_000_000_000_000_000;
    arn("service-revision", service, &format!("/{number}"))
}

/// A new id of a service deployment, as `NCWGC2ZR-taawPAYrIaU5`.
pub(super) fn new_deployment_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    (0..21).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}
