//! What is deployed: the colours, their target groups and tasks, the listeners, and how far traffic has shifted.

mod deployment;
mod discover;
mod function;
pub mod native;
pub mod schedule;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::schedule::Step;

pub use deployment::{Controller, Deployment, deployment, ended, target_id};
pub use discover::{discover, refresh, service};

use crate::policy::values::Statuses;

/// What a deployment group deploys, whichever deployment it is. Nothing of it changes during a deployment, so the watch
/// carries it from look to look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// CodeDeploy application.
    pub application: String,
    /// Deployment group.
    pub group: String,
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
    /// The Lambda function, if it is one that is deployed; then there is neither cluster nor service.
    pub function: Option<Function>,
    /// How traffic is to shift.
    pub schedule: Vec<Step>,
    /// The old version.
    pub blue: Colour,
    /// The new version.
    pub green: Colour,
    /// How requests come in; a service that no load balancer serves has none.
    pub entrance: Option<Entrance>,
    /// CloudWatch alarms of the deployment group, or of the service's deployment configuration.
    pub alarms: Vec<String>,
    /// The lifecycle events, in order.
    pub events: Vec<LifecycleEvent>,
    /// The last deployment of the group that succeeded.
    pub last_successful: Option<String>,
    /// Green's share of production traffic in percent as the listener's rule has it at this instant; known of ECS-native
    /// deployments behind a load balancer.
    pub served: Option<f64>,
    /// The header by which Service Connect sends requests to green, as name and value.
    pub test_header: Option<(String, String)>,
    /// Whether there is no old version: nothing to compare with, and nothing to roll back to.
    pub is_first: bool,
}

/// A Lambda function whose alias moves from one version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The alias.
    pub alias: String,
}

/// How requests reach the two versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrance {
    /// The balancer in front of both.
    pub load_balancer: LoadBalancer,
    /// Where users come in.
    pub production: Listener,
    /// Where green can be reached before it takes traffic.
    pub test: Option<Listener>,
}

/// What CloudWatch can tell about each of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// An Application Load Balancer with a target group for each: requests, errors and times of both.
    Application,
    /// A Network Load Balancer with a target group for each: health only.
    Network,
    /// One target group for both, as in a rolling update: what changes, but not by whom.
    Shared,
    /// A Lambda function: invocations, errors and durations of both versions.
    Function,
    /// No load balancer: nothing but the service's own metrics.
    None,
}

/// One of the two versions.
#[derive(Debug, Clone, Default)]
pub struct Colour {
    /// Its target group in this deployment; the two swap with every deployment. None without a load balancer.
    pub target_group: Option<TargetGroup>,
    /// Its version, of a Lambda function.
    pub version: Option<String>,
    /// Its tasks; green has none before Install. Of a Lambda function nothing but the weight.
    pub tasks: Option<TaskSet>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
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

/// Whether a number can be a share of traffic in percent; infinities and what is no number cannot.
fn is_weight(weight: f64) -> bool {
    (0.0..=100.0).contains(&weight)
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Host name.
    pub dns_name: String,
    /// Value of the CloudWatch dimension `LoadBalancer`.
    pub dimension: String,
    /// Names of its availability zones.
    pub zones: Vec<String>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// ARN.
    pub arn: String,
    /// TCP port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TCP` or `TLS`.
    pub protocol: String,
    /// What a request needs to be served by the rule that the deployment shifts; nothing for the default action.
    pub conditions: Vec<Condition>,
}

/// A condition of a listener's rule. Patterns know `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// One of these paths.
    Path(Vec<String>),
    /// One of these hosts.
    Host(Vec<String>),
    /// A header with one of these values.
    Header {
        /// Its name.
        name: String,
        /// Its values.
        values: Vec<String>,
    },
    /// One of these pairs in the query; a pair without a name means any name.
    Query(Vec<(Option<String>, String)>),
    /// One of these methods.
    Method(Vec<String>),
    /// Something else, by the name of its field.
    Other(String),
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
    /// What CloudWatch can tell about the two versions.
    pub fn front(&self) -> Front {
        if self.function.is_some() {
            return Front::Function;
        }
        let Some(entrance) = &self.entrance else { return Front::None };
        if self.blue.target_group == self.green.target_group {
            Front::Shared
        } else if entrance.load_balancer.dimension.starts_with("net/") {
            Front::Network
        } else {
            Front::Application
        }
    }

    /// Names of the balancer's availability zones.
    pub fn zones(&self) -> &[String] {
        self.entrance.as_ref().map_or(&[], |entrance| &entrance.load_balancer.zones)
    }

    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&LifecycleEvent> {
        self.events.iter().find(|event| event.name == name)
    }

    /// Whether one lifecycle event of the deployment comes before another.
    pub fn comes_before(&self, one: &str, other: &str) -> bool {
        let place = |name: &str| self.events.iter().position(|event| event.name == name);
        place(one) < place(other)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_told_apart_follows_from_the_load_balancer() {
        let group = |name: &str| TargetGroup {
            name: name.to_owned(),
            arn: name.to_owned(),
            dimension: name.to_owned(),
            health_path: None,
            health_statuses: None,
        };
        let front = |balancer: Option<&str>, blue: &str, green: &str| {
            let listener = Listener {
                arn: "listener".to_owned(),
                port: 80,
                protocol: "HTTP".to_owned(),
                conditions: Vec::new(),
            };
            let entrance = balancer.map(|dimension| Entrance {
                load_balancer: LoadBalancer {
                    dns_name: "shop.example".to_owned(),
                    dimension: dimension.to_owned(),
                    zones: Vec::new(),
                },
                production: listener.clone(),
                test: None,
            });
            let colour = |name| Colour { target_group: Some(group(name)), ..Colour::default() };
            let rollout = Rollout {
                cluster: "lab".to_owned(),
                service: "shop".to_owned(),
                function: None,
                schedule: Vec::new(),
                blue: colour(blue),
                green: colour(green),
                entrance,
                alarms: Vec::new(),
                events: Vec::new(),
                last_successful: None,
                served: None,
                test_header: None,
                is_first: false,
            };
            rollout.front()
        };
        assert_eq!(front(Some("app/shop/1"), "one", "two"), Front::Application);
        assert_eq!(front(Some("net/shop/1"), "one", "two"), Front::Network);
        assert_eq!(front(Some("app/shop/1"), "one", "one"), Front::Shared);
        assert_eq!(front(None, "one", "two"), Front::None);
    }
}
