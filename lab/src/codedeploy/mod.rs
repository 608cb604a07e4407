//! AWS CodeDeploy for blue/green deployments of ECS services and of Lambda functions: a real lifecycle engine behind the
//! real API.

mod engine;
mod model;
mod shift;
mod target;
#[cfg(test)]
mod tests;
mod told;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

pub use model::{AutoRollback, Creator, DeploymentRecord, EventStatus, Group, Hook, Status, Stop, Versions};
pub use shift::{Platform, Shift};
pub use target::{FunctionTarget, ServiceTarget, Target};

use crate::api::ApiError;
use crate::cloudwatch::CloudWatch;
use crate::lambda::Lambda;
use crate::underway::Version;

/// How fast the lab's time passes where CodeDeploy counts in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Length of CodeDeploy's minute.
    pub minute: Duration,
    /// How long a hook may take; CodeDeploy gives it one hour.
    pub hook_timeout: Duration,
}

/// Something that happened to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A lifecycle event began or ended.
    Event {
        /// Deployment id.
        deployment: String,
        /// Name of the event.
        event: &'static str,
        /// Where it stands.
        status: EventStatus,
    },
    /// Production traffic shifted.
    Weight {
        /// Deployment id.
        deployment: String,
        /// Green's share in percent.
        green: f64,
    },
    /// A deployment began.
    Started {
        /// Deployment id.
        deployment: String,
        /// Who made it.
        creator: Creator,
    },
    /// A deployment ended.
    Ended {
        /// Deployment id.
        deployment: String,
        /// How.
        status: Status,
        /// Error code and message.
        error: Option<(String, String)>,
    },
}

/// Deployment groups and their deployments.
pub struct CodeDeploy {
    pace: Pace,
    cloudwatch: Arc<CloudWatch>,
    lambda: Arc<Lambda>,
    state: Mutex<State>,
    happenings: broadcast::Sender<Happening>,
}

#[derive(Default)]
struct State {
    groups: Vec<Group>,
    deployments: BTreeMap<String, DeploymentRecord>,
}

impl CodeDeploy {
    /// No groups and no deployments yet.
    pub fn new(pace: Pace, cloudwatch: Arc<CloudWatch>, lambda: Arc<Lambda>) -> Arc<Self> {
        let (happenings, _) = broadcast::channel(1024);
        Arc::new(Self { pace, cloudwatch, lambda, state: Mutex::default(), happenings })
    }

    /// Adds a deployment group.
    pub fn add_group(&self, group: Group) {
        self.lock().groups.push(group);
    }

    /// Changes a deployment group, as `UpdateDeploymentGroup` does: deployments that are going on keep what they began with.
    pub fn change_group(
        &self,
        application: &str,
        name: &str,
        change: impl FnOnce(&mut Group),
    ) -> Result<(), ApiError> {
        self.lock().group_mut(application, name).map(change)
    }

    /// Adds a deployment as it is, without running it: one that ended long ago, or of another platform.
    pub fn add_past(&self, record: DeploymentRecord) {
        let mut state = self.lock();
        if record.status == Status::Succeeded
            && let Ok(group) = state.group_mut(&record.application, &record.group)
        {
            group.last_successful = Some(record.id.clone());
        }
        state.deployments.insert(record.id.clone(), record);
    }

    /// What happens from now on, to all deployments.
    pub fn happenings(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// A deployment as it stands.
    pub fn deployment(&self, id: &str) -> Option<DeploymentRecord> {
        self.lock().deployments.get(id).cloned()
    }

    /// The new version of a deployment, once it is there.
    pub(crate) fn green(&self, id: &str) -> Option<Version> {
        let mut state = self.lock();
        let record = state.deployments.get(id)?.clone();
        match &state.group_mut(&record.application, &record.group).ok()?.target {
            Target::Service(_) => record.green.map(Version::Tasks),
            Target::Function(target) => {
                Some(Version::Function(Arc::clone(&target.function), record.versions?.target))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, happening: Happening) {
        // Nobody may be listening.
        let _ = self.happenings.send(happening);
    }
}

impl State {
    fn group_mut(&mut self, application: &str, name: &str) -> Result<&mut Group, ApiError> {
        if !self.groups.iter().any(|group| group.application == application) {
            return Err(ApiError::client(
                "ApplicationDoesNotExistException",
                format!("No application found for name: {application}"),
            ));
        }
        self.groups
            .iter_mut()
            .find(|group| group.application == application && group.name == name)
            .ok_or_else(|| {
                ApiError::client(
                    "DeploymentGroupDoesNotExistException",
                    format!("No Deployment Group found for name: {name}"),
                )
            })
    }

    fn deployment_mut(&mut self, id: &str) -> Result<&mut DeploymentRecord, ApiError> {
        if !model::is_deployment_id(id) {
            return Err(ApiError::client(
                "InvalidDeploymentIdException",
                format!("The deployment ID {id} is not in a valid format"),
            ));
        }
        self.deployments.get_mut(id).ok_or_else(|| {
            ApiError::client(
                "DeploymentDoesNotExistException",
                format!("The deployment {id} could not be found"),
            )
        })
    }
}
