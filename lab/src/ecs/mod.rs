//! Amazon ECS as its own deployment controller: services, revisions and service deployments behind the real API.
//!
//! What a stage does is in `engine`, `tasks` and `rollback`, how hooks are called in `hooks`, and what goes over the wire
//! in `wire` and `describe`. Where nobody has seen what ECS does, [`crate::doubts`] has a switch.

mod describe;
mod engine;
mod hooks;
mod model;
mod record;
mod rollback;
mod tasks;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast;

pub use model::{
    CircuitBreaker, EcsAlarms, EcsHook, EcsService, HookTarget, Route, Routing, Stage, Strategy,
    TimeoutAction,
};
pub use record::{
    HookRecord, HookStatus, MonitorStatus, Revision, RollbackRecord, ServiceDeploymentRecord,
    ServiceDeploymentStatus, Side, StopType,
};

use crate::api::{ACCOUNT, ApiError, REGION};
use crate::cloudwatch::CloudWatch;
use crate::codedeploy::Pace;
use crate::stepfunctions::Invoke;

/// How fast the lab's time passes where ECS counts in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcsPace {
    /// Length of ECS's minute.
    pub minute: Duration,
    /// Time until a hook that said `IN_PROGRESS` without a `callBackDelay` is invoked again; 30 s on AWS. A delay that
    /// it names is in real seconds.
    pub default_delay: Duration,
    /// How long the hooks of a stage may take if they have no limit of their own; 24 hours on AWS.
    pub hook_timeout: Duration,
    /// How long tasks may take to become ready.
    pub stage_timeout: Duration,
}

impl From<Pace> for EcsPace {
    /// Both controllers with the same minute. A silent hook is given up as early as CodeDeploy's.
    fn from(pace: Pace) -> Self {
        Self {
            minute: pace.minute,
            default_delay: pace.minute / 2,
            hook_timeout: pace.hook_timeout,
            stage_timeout: pace.minute * 60,
        }
    }
}

/// Something that happened to a service deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum EcsHappening {
    /// A deployment began.
    Started {
        /// Its ARN.
        deployment: String,
    },
    /// A stage began or ended.
    Stage {
        /// ARN of the deployment.
        deployment: String,
        /// Which stage.
        stage: Stage,
        /// Whether it ended; else it began.
        ended: bool,
    },
    /// A hook's function answered, or failed to.
    HookAnswered {
        /// ARN of the deployment.
        deployment: String,
        /// At which stage.
        stage: Stage,
        /// The function, as the hook names it.
        function: String,
        /// SUCCEEDED, FAILED or `IN_PROGRESS`; or why that cannot be told.
        answer: String,
    },
    /// Traffic shifted.
    Weight {
        /// ARN of the deployment.
        deployment: String,
        /// Whether it is test traffic; else the users'.
        test: bool,
        /// Green's share in percent.
        green: f64,
    },
    /// The rollback began.
    RollingBack {
        /// ARN of the deployment.
        deployment: String,
        /// Why.
        reason: String,
    },
    /// A deployment ended.
    Ended {
        /// Its ARN.
        deployment: String,
        /// How.
        status: ServiceDeploymentStatus,
        /// The status's reason.
        reason: Option<String>,
    },
}

/// Takes an event for `EventBridge`.
pub type OnEvent = Box<dyn Fn(&Value) + Send + Sync>;

/// The services of all clusters, with their revisions and deployments.
pub struct Ecs {
    pace: EcsPace,
    cloudwatch: Arc<CloudWatch>,
    invoke: Invoke,
    on_event: OnceLock<OnEvent>,
    state: Mutex<State>,
    happenings: broadcast::Sender<EcsHappening>,
}

#[derive(Default)]
struct State {
    services: Vec<Known>,
    /// By ARN.
    revisions: BTreeMap<String, Revision>,
    /// By ARN.
    deployments: BTreeMap<String, ServiceDeploymentRecord>,
}

/// A service with what ECS knows of it.
struct Known {
    service: EcsService,
    created: Timestamp,
    /// ARN of the revision that serves.
    live: Option<String>,
    /// ARN of the latest deployment.
    current: Option<String>,
}

impl Ecs {
    /// No services yet. Hooks are called by `invoke`, such as [`crate::stepfunctions::invoke_by`].
    pub fn new(pace: EcsPace, cloudwatch: Arc<CloudWatch>, invoke: Invoke) -> Arc<Self> {
        let (happenings, _) = broadcast::channel(1024);
        Arc::new(Self {
            pace,
            cloudwatch,
            invoke,
            on_event: OnceLock::new(),
            state: Mutex::default(),
            happenings,
        })
    }

    /// Hands over the events that ECS sends to `EventBridge` from now on. Only the first call counts.
    pub fn on_event(&self, take: OnEvent) {
        let _ = self.on_event.set(take);
    }

    /// Adds a service. Its rules are made to name both target groups, as ECS demands before the first deployment.
    pub fn add_service(&self, service: EcsService) -> Result<(), ApiError> {
        let live = service.live.clone();
        if let Some(routing) = &service.routing {
            let serving = live.as_ref().map_or(&routing.target_groups[0], |tasks| &tasks.target_group);
            // A rolling deployment has no alternate group.
            if !matches!(service.strategy, Strategy::Rolling { .. }) {
                let weights = routing
                    .target_groups
                    .clone()
                    .map(|name| if name == *serving { (name, 100) } else { (name, 0) });
                for route in std::iter::once(&routing.production).chain(&routing.test) {
                    engine::set_weights(&service, route, &weights)?;
                }
            }
        }
        let mut state = self.lock();
        let revision = live.map(|tasks| {
            let arn = record::revision_arn(&service, "first");
            let group = service.routing.is_some().then(|| tasks.target_group.clone());
            state.add_revision(&arn, &service, group).tasks = Some(tasks);
            arn
        });
        state.services.push(Known { service, created: Timestamp::now(), live: revision, current: None });
        Ok(())
    }

    /// Changes a service, as `UpdateService` and `TagResource` do, without deploying it.
    pub fn change_service(
        &self,
        cluster: &str,
        name: &str,
        change: impl FnOnce(&mut EcsService),
    ) -> Result<(), ApiError> {
        let mut state = self.lock();
        let known = state.known_mut(cluster, name).ok_or_else(wire::no_service)?;
        change(&mut known.service);
        Ok(())
    }

    /// Adds a deployment as it is, without running it: one that ended long ago.
    pub fn add_past(&self, record: ServiceDeploymentRecord) {
        self.lock().deployments.insert(record.arn.clone(), record);
    }

    /// A deployment that brought the revision that serves now, for [`Self::add_past`]; without one if none serves.
    pub fn past(
        &self,
        cluster: &str,
        service: &str,
        id: &str,
        at: Timestamp,
    ) -> Option<ServiceDeploymentRecord> {
        let state = self.lock();
        let known = state.known(cluster, service)?;
        let revision = known.live.as_ref()?;
        let mut past = ServiceDeploymentRecord::new(id, known.service.clone(), Vec::new(), revision);
        past.created = at;
        past.updated = at;
        past.started = Some(at);
        past.finished = Some(at);
        past.status = ServiceDeploymentStatus::Successful;
        past.target.production_weight = 100.0;
        Some(past)
    }

    /// What happens from now on, to all deployments.
    pub fn happenings(&self) -> broadcast::Receiver<EcsHappening> {
        self.happenings.subscribe()
    }

    /// A deployment as it stands.
    pub fn deployment(&self, arn: &str) -> Option<ServiceDeploymentRecord> {
        self.lock().deployments.get(arn).cloned()
    }

    /// A revision as it stands.
    pub fn revision(&self, arn: &str) -> Option<Revision> {
        self.lock().revisions.get(arn).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, happening: EcsHappening) {
        // Nobody may be listening.
        let _ = self.happenings.send(happening);
    }

    /// Sends `ECS Deployment State Change` about a revision, which these events call a deployment.
    fn send_event(&self, revision: &Revision, name: &str, reason: &str) {
        let Some(take) = self.on_event.get() else { return };
        let now = Timestamp::now().to_string();
        take(&json!({
            "version": "0",
            "id": uuid::Uuid::new_v4().to_string(),
            "detail-type": "ECS Deployment State Change",
            "source": "aws.ecs",
            "account": ACCOUNT,
            "time": now,
            "region": REGION,
            "resources": [record::service_arn(&revision.service)],
            "detail": {
                "eventType": if name == "SERVICE_DEPLOYMENT_FAILED" { "ERROR" } else { "INFO" },
                "eventName": name,
                "clusterArn": record::cluster_arn(&revision.service.service.cluster),
                "deploymentId": revision.deployment_id(),
                "updatedAt": now,
                "reason": reason,
            },
        }));
    }
}

impl State {
    fn known(&self, cluster: &str, name: &str) -> Option<&Known> {
        self.services.iter().find(|known| known.is(cluster, name))
    }

    fn known_mut(&mut self, cluster: &str, name: &str) -> Option<&mut Known> {
        self.services.iter_mut().find(|known| known.is(cluster, name))
    }

    fn add_revision(
        &mut self,
        arn: &str,
        service: &EcsService,
        target_group: Option<String>,
    ) -> &mut Revision {
        let of_service = |revision: &&Revision| Arc::ptr_eq(&revision.service.service, &service.service);
        let revision = Revision {
            arn: arn.to_owned(),
            service: service.clone(),
            count: 1 + self.revisions.values().filter(of_service).count(),
            created: Timestamp::now(),
            tasks: None,
            target_group,
            failed_tasks: 0,
        };
        self.revisions.entry(arn.to_owned()).insert_entry(revision).into_mut()
    }

    /// ARNs of the service's active revisions, the one that serves last.
    fn active(&self, known: &Known) -> Vec<String> {
        let mut active: Vec<String> = self
            .revisions
            .values()
            .filter(|it| Arc::ptr_eq(&it.service.service, &known.service.service) && it.tasks.is_some())
            .map(|it| it.arn.clone())
            .collect();
        active.sort_by_key(|arn| Some(arn) == known.live.as_ref());
        active
    }
}

impl Known {
    fn is(&self, cluster: &str, name: &str) -> bool {
        self.service.service.cluster == cluster && self.service.service.name == name
    }
}
