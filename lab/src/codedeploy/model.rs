//! What CodeDeploy knows: groups, deployments, what became of their lifecycle events.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::shift::{Platform, Shift};
use super::target::Target;
use crate::doubts::{Doubts, RollbackHooks};
use crate::service::TaskSet;

/// What is called at a lifecycle event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// A Lambda function, by name or ARN.
    Function(String),
    /// Nobody: the engine waits for a report under this execution id.
    Wait(String),
}

/// Whether a failed or stopped deployment is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoRollback {
    /// `DEPLOYMENT_FAILURE`.
    pub on_failure: bool,
    /// `DEPLOYMENT_STOP_ON_ALARM`.
    pub on_alarm: bool,
}

/// A deployment group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Application.
    pub application: String,
    /// Name.
    pub name: String,
    /// What it deploys.
    pub target: Target,
    /// How traffic shifts.
    pub shift: Shift,
    /// What is called at which event.
    pub hooks: BTreeMap<&'static str, Hook>,
    /// Alarms that stop a deployment.
    pub alarms: Vec<String>,
    /// Rollback rules.
    pub auto_rollback: AutoRollback,
    /// What CodeDeploy does where nobody has looked.
    pub doubts: Doubts,
    /// The last deployment that succeeded.
    pub last_successful: Option<String>,
}

impl Group {
    /// Whether rollback deployments call the hooks' functions too. On the Lambda platform they do not: that was seen.
    pub(super) fn calls_hooks_in_rollback(&self) -> bool {
        self.target.platform() == Platform::Ecs && self.doubts.rollback_hooks == RollbackHooks::Called
    }
}

/// Status of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, not begun.
    Created,
    /// Going on.
    InProgress,
    /// Ended well.
    Succeeded,
    /// Ended by a failed hook or a time limit.
    Failed,
    /// Ended by an alarm or a person.
    Stopped,
}

impl Status {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::InProgress => "InProgress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        }
    }

    /// Whether it has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }
}

/// Who made a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creator {
    /// A person or a pipeline.
    User,
    /// CodeDeploy, to undo another one.
    Rollback,
}

impl Creator {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Rollback => "codeDeployRollback",
        }
    }
}

/// Status of a lifecycle event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStatus {
    /// Not begun.
    Pending,
    /// Going on.
    InProgress,
    /// Ended well; also an event without a hook.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Will never begin.
    Skipped,
}

impl EventStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }
}

/// A lifecycle event of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Name.
    pub name: &'static str,
    /// Where it stands.
    pub status: EventStatus,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Under which its hook reports, once called.
    pub execution_id: Option<String>,
    /// The hook's report.
    pub report: Option<bool>,
}

/// Why a deployment is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// `StopDeployment`.
    Asked {
        /// With `autoRollbackEnabled`.
        roll_back: bool,
    },
    /// Alarms of the group ring.
    Alarm(Vec<String>),
}

/// The versions of a function between which an alias shifts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The one that the alias pointed to before.
    pub current: String,
    /// The one that it shall point to.
    pub target: String,
}

impl Versions {
    /// The way back.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { current: self.target.clone(), target: self.current.clone() }
    }

    /// Whether the alias has pointed to no other version yet.
    pub fn is_first(&self) -> bool {
        self.current == self.target
    }
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct DeploymentRecord {
    /// Id.
    pub id: String,
    /// Application.
    pub application: String,
    /// Deployment group.
    pub group: String,
    /// Where it deploys to.
    pub platform: Platform,
    /// Configuration.
    pub shift: Shift,
    /// Status.
    pub status: Status,
    /// Who made it.
    pub creator: Creator,
    /// Error code and message.
    pub error: Option<(String, String)>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// The lifecycle events.
    pub events: Vec<EventRecord>,
    /// The old version's tasks.
    pub blue: Option<Arc<TaskSet>>,
    /// The new version's tasks, once installed.
    pub green: Option<Arc<TaskSet>>,
    /// The versions of the function, on the Lambda platform.
    pub versions: Option<Versions>,
    /// Green's share of production traffic in percent.
    pub green_weight: f64,
    /// The deployment that undid this one.
    pub rolled_back_by: Option<String>,
    /// The deployment that this one undoes.
    pub rollback_of: Option<String>,
    /// Tells the engine to stop, and of reports.
    pub(super) stop: watch::Sender<Option<Stop>>,
    pub(super) reports: watch::Sender<u64>,
}

impl DeploymentRecord {
    /// A deployment that has not begun.
    pub fn new(id: &str, application: &str, group: &str, shift: Shift, creator: Creator) -> Self {
        Self {
            id: id.to_owned(),
            application: application.to_owned(),
            group: group.to_owned(),
            platform: Platform::Ecs,
            shift,
            status: Status::Created,
            creator,
            error: None,
            created: Timestamp::now(),
            completed: None,
            events: Platform::Ecs.events().iter().copied().map(EventRecord::new).collect(),
            blue: None,
            green: None,
            versions: None,
            green_weight: 0.0,
            rolled_back_by: None,
            rollback_of: None,
            stop: watch::Sender::new(None),
            reports: watch::Sender::new(0),
        }
    }

    /// The same on another platform, with its lifecycle events.
    #[must_use]
    pub fn on(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self.events = platform.events().iter().copied().map(EventRecord::new).collect();
        self
    }

    /// Green's weight at each step, with the minutes until the next one. The first deployment of a function has nothing to
    /// shift from.
    pub(super) fn steps(&self) -> Vec<(f64, f64)> {
        match &self.versions {
            Some(versions) if versions.is_first() => Shift::AllAtOnce.steps(),
            _ => self.shift.steps(),
        }
    }

    /// Whether there is something that a rollback could give back. Before Install there is nothing to undo, and the
    /// first deployment of a function has no other version.
    pub(super) fn can_be_undone(&self) -> bool {
        self.green.is_some() || self.versions.as_ref().is_some_and(|versions| !versions.is_first())
    }

    /// The same with its lifecycle events as they stood at an instant.
    pub(super) fn seen_at(mut self, at: Timestamp) -> Self {
        for event in &mut self.events {
            if event.ended.is_some_and(|ended| ended > at) {
                (event.status, event.ended) = (EventStatus::InProgress, None);
            }
            if event.started.is_some_and(|started| started > at) {
                (event.status, event.started) = (EventStatus::Pending, None);
            }
        }
        self
    }

    /// Whether all lifecycle events have succeeded: what is left is to stop the old version.
    pub(super) fn waits_for_termination(&self) -> bool {
        self.events.iter().all(|event| event.status == EventStatus::Succeeded)
    }

    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&EventRecord> {
        self.events.iter().find(|event| event.name == name)
    }

    pub(super) fn event_mut(&mut self, name: &str) -> Option<&mut EventRecord> {
        self.events.iter_mut().find(|event| event.name == name)
    }
}

impl EventRecord {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            status: EventStatus::Pending,
            started: None,
            ended: None,
            execution_id: None,
            report: None,
        }
    }
}

/// Whether a text has the form of a deployment id.
pub(super) fn is_deployment_id(text: &str) -> bool {
    text.strip_prefix("d-").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    })
}

/// A new deployment id, as `d-0B7YUA91L`.
pub(super) fn new_deployment_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let tail = (0..9).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]));
    format!("d-{}", tail.collect::<String>())
}

/// A new execution id: opaque, and long as the real ones are.
pub(super) fn new_execution_id() -> String {
    let parts = (0..6).map(|_| uuid::Uuid::new_v4().simple().to_string());
    format!("eyJlbmNyeXB0ZWREYXRhIjoi{}", parts.collect::<String>())
}
