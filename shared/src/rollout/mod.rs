//! What is deployed: the colours, their target groups and tasks, the listeners, and how far traffic has shifted.

mod deployment;
mod discover;
pub mod schedule;

use jiff::Timestamp;

pub use deployment::{Deployment, deployment, ended};
pub use discover::{discover, refresh, service};

use crate::policy::values::Statuses;

/// What a deployment group deploys, whichever deployment it is.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name of the ECS cluster.
    pub cluster: String,
    /// Name of the ECS service.
    pub service: String,
    /// Its two target groups; which one is blue changes with every deployment.
    pub target_groups: [TargetGroup; 2],
    /// The balancer in front of both.
    pub load_balancer: LoadBalancer,
    /// Where users come in.
    pub production_listener: Listener,
    /// Where green can be reached before it takes traffic.
    pub test_listener: Option<Listener>,
    /// CloudWatch alarms of the deployment group.
    pub alarms: Vec<String>,
    /// The last deployment of the group that succeeded.
    pub last_successful: Option<String>,
}

/// A deployment of an ECS service, as found at one instant.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Name of the ECS cluster.
    pub cluster: String,
    /// Name of the ECS service.
    pub service: String,
    /// Name of the deployment configuration, such as `CodeDeployDefault.ECSCanary10Percent5Minutes`.
    pub configuration: String,
    /// The old version.
    pub blue: Colour,
    /// The new version.
    pub green: Colour,
    /// The balancer in front of both.
    pub load_balancer: LoadBalancer,
    /// Where users come in.
    pub production_listener: Listener,
    /// Where green can be reached before it takes traffic.
    pub test_listener: Option<Listener>,
    /// CloudWatch alarms of the deployment group.
    pub alarms: Vec<String>,
    /// The lifecycle events, in order.
    pub events: Vec<LifecycleEvent>,
    /// The last deployment of the group that succeeded.
    pub last_successful: Option<String>,
}

/// One of the two versions.
#[derive(Debug, Clone)]
pub struct Colour {
    /// Its target group in this deployment; the two swap with every deployment.
    pub target_group: TargetGroup,
    /// Its tasks; green has none before Install.
    pub tasks: Option<TaskSet>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetGroup {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Value of the CloudWatch dimension `TargetGroup`.
    pub dimension: String,
    /// Path of the health check; targets without HTTP have none.
    pub health_path: Option<String>,
    /// Good statuses of the health check.
    pub health_statuses: Option<Statuses>,
}

/// Tasks of a version. Counts are of tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskSet {
    /// Tasks that should run.
    pub desired: i64,
    /// Tasks that are starting.
    pub pending: i64,
    /// Tasks that run.
    pub running: i64,
    /// Share of production traffic in percent, 0 to 100.
    pub weight: f64,
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Host name.
    pub dns_name: String,
    /// Value of the CloudWatch dimension `LoadBalancer`.
    pub dimension: String,
    /// Names of its availability zones.
    pub zones: Vec<String>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// ARN.
    pub arn: String,
    /// TCP port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TCP` or `TLS`.
    pub protocol: String,
}

/// One of the eight events of an ECS deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// Name, such as `AllowTraffic`.
    pub name: String,
    /// Where it stands.
    pub status: Phase,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Where a lifecycle event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not begun.
    Pending,
    /// Going on.
    InProgress,
    /// Ended well.
    Succeeded,
    /// Ended badly, or will never begin.
    Over,
}

impl Rollout {
    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&LifecycleEvent> {
        self.events.iter().find(|event| event.name == name)
    }

    /// The one event that is going on.
    pub fn in_progress(&self) -> Option<&LifecycleEvent> {
        self.events.iter().find(|event| event.status == Phase::InProgress)
    }

    /// Where the shift of production traffic stands, and when it began.
    pub fn shift(&self) -> (Phase, Option<Timestamp>) {
        self.event("AllowTraffic").map_or((Phase::Pending, None), |event| (event.status, event.started))
    }
}
