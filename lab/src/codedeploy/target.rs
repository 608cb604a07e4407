//! What a group deploys: the tasks of an ECS service, or the version behind an alias of a Lambda function. The engine
//! asks these, and knows nothing of balancers and aliases itself.

use std::sync::Arc;

use super::model::{DeploymentRecord, Versions};
use super::shift::Platform;
use crate::api::{ACCOUNT, ApiError, REGION};
use crate::application::Behaviour;
use crate::doubts::ListenerRules;
use crate::function_site::AliasedFunction;
use crate::lambda::function_arn;
use crate::load_balancer::ListenerKind;
use crate::service::{Label, Service, TaskSet};

/// What a group deploys.
#[derive(Debug, Clone)]
pub enum Target {
    /// An ECS service.
    Service(ServiceTarget),
    /// A Lambda function.
    Function(FunctionTarget),
}

/// An ECS service as a deployment group knows it.
#[derive(Debug, Clone)]
pub struct ServiceTarget {
    /// The service.
    pub service: Arc<Service>,
    /// The tasks that serve now.
    pub live: Arc<TaskSet>,
    /// Names of the two target groups; which one is blue changes with every deployment.
    pub target_groups: [String; 2],
    /// How the next version will behave.
    pub next_version: Behaviour,
    /// CodeDeploy's minutes until the old version is stopped.
    pub termination_wait_minutes: f64,
    /// What CodeDeploy rewrites of the production listener.
    pub listener_rules: ListenerRules,
}

/// A Lambda function as a deployment group knows it.
#[derive(Debug, Clone)]
pub struct FunctionTarget {
    /// The function; its alias knows which version is live.
    pub function: Arc<AliasedFunction>,
    /// How the version behaves that each deployment publishes. Without one, what is deployed is the version that the
    /// alias points to already, as when a function has just been made.
    pub next_version: Option<Behaviour>,
}

impl ServiceTarget {
    /// Starts as many tasks of the new version as the old one has.
    pub(super) async fn install(&self) -> Result<Arc<TaskSet>, ApiError> {
        let failed = |message: &str| ApiError::client("", message);
        let blue = &self.live.target_group;
        let mut others = self.target_groups.iter().filter(|name| *name != blue);
        let green_group = others.next().ok_or_else(|| failed("no second target group"))?;
        let started = self.service.start(Label::Green, green_group, self.live.desired(), &self.next_version);
        started.await.map_err(|error| failed(&error.to_string()))
    }

    fn set_weights(&self, listener: ListenerKind, weights: &[(&TaskSet, f64)]) -> Result<(), ApiError> {
        let weights: Vec<(String, u32)> =
            weights.iter().map(|(set, weight)| (set.target_group.clone(), weight.round() as u32)).collect();
        let balancer = self.service.balancer()?;
        if listener == ListenerKind::Production && self.listener_rules == ListenerRules::All {
            let of_ours = |name: &str| self.target_groups.iter().any(|group| group == name);
            let rules = &balancer.listener(listener)?.rules;
            for rule in
                rules.iter().filter(|rule| rule.forwards().iter().any(|(group, _)| of_ours(&group.name)))
            {
                balancer.set_rule_weights(&rule.arn, &weights)?;
            }
        }
        balancer.set_weights(listener, &weights)
    }

    fn has_test_listener(&self) -> bool {
        self.service.balancer.as_ref().is_some_and(|balancer| balancer.test_address().is_some())
    }
}

impl Target {
    /// Where it is deployed to.
    pub fn platform(&self) -> Platform {
        match self {
            Self::Service(_) => Platform::Ecs,
            Self::Function(_) => Platform::Lambda,
        }
    }

    /// Id of the deployment target: `<cluster>:<service>`, or the function's name.
    pub fn id(&self) -> String {
        match self {
            Self::Service(target) => format!("{}:{}", target.service.cluster, target.service.name),
            Self::Function(target) => target.function.name.clone(),
        }
    }

    /// ARN of the deployment target.
    pub fn arn(&self) -> String {
        match self {
            Self::Service(ServiceTarget { service, .. }) => {
                format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{}/{}", service.cluster, service.name)
            }
            Self::Function(target) => function_arn(&target.function.name),
        }
    }

    /// Code of what went wrong when the target refuses something.
    pub(super) fn error_code(&self) -> &'static str {
        match self {
            Self::Service(_) => "ECS_UPDATE_ERROR",
            Self::Function(_) => "INVALID_LAMBDA_CONFIGURATION",
        }
    }

    /// Writes down what a new deployment has to begin with. A function's new version is published before.
    pub(super) fn start(&self, record: &mut DeploymentRecord) {
        match self {
            Self::Service(target) => record.blue = Some(Arc::clone(&target.live)),
            Self::Function(FunctionTarget { function, next_version }) => {
                let current = function.live();
                let next = next_version.as_ref().map(|behaviour| function.publish(behaviour));
                let target = next.unwrap_or_else(|| current.clone());
                record.versions = Some(Versions { current, target });
            }
        }
    }

    /// Whether it can be deployed at all. A stop without a rollback leaves an alias between two versions, and CodeDeploy
    /// deploys no such alias.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self {
            Self::Function(target) if target.function.is_between_versions() => {
                let alias = target.function.resource();
                let what = format!("The alias {alias} points to more than one version of the function");
                Err(ApiError::client("", what))
            }
            Self::Service(_) | Self::Function(_) => Ok(()),
        }
    }

    /// Shows green to the test listener; without one nothing happens.
    pub(super) fn allow_test_traffic(&self, record: &DeploymentRecord) -> Result<(), ApiError> {
        match self {
            Self::Service(target) if target.has_test_listener() => {
                let green = record.green.as_ref().ok_or_else(|| ApiError::client("", "no green tasks"))?;
                target.set_weights(ListenerKind::Test, &[(green, 100.0)])
            }
            Self::Service(_) | Self::Function(_) => Ok(()),
        }
    }

    /// Shows blue to the test listener again.
    pub(super) fn give_test_traffic_back(&self, undone: &DeploymentRecord) {
        if let (Self::Service(target), Some(blue)) = (self, &undone.blue)
            && target.has_test_listener()
        {
            // A rollback goes on whatever the balancer says.
            let _ = target.set_weights(ListenerKind::Test, &[(blue, 100.0)]);
        }
    }

    /// Gives the new version so many percent of the users' traffic, and the old one the rest.
    pub(super) fn set_weight(&self, record: &DeploymentRecord, green_weight: f64) -> Result<(), ApiError> {
        match (self, &record.blue, &record.green, &record.versions) {
            (Self::Service(target), Some(blue), Some(green), _) => target.set_weights(
                ListenerKind::Production,
                &[(blue, 100.0 - green_weight), (green, green_weight)],
            ),
            (Self::Function(target), _, _, Some(versions)) => {
                target.function.shift(&versions.current, &versions.target, green_weight / 100.0)
            }
            _ => Err(ApiError::client("", "a colour has no tasks")),
        }
    }

    /// CodeDeploy's minutes until the old version is stopped. A function's stays for ever.
    pub fn termination_wait_minutes(&self) -> f64 {
        match self {
            Self::Service(target) => target.termination_wait_minutes,
            Self::Function(_) => 0.0,
        }
    }

    /// The deployment went through: nobody needs the old version.
    pub(super) fn stop_old(&self, record: &DeploymentRecord) {
        if let (Self::Service(target), Some(blue)) = (self, &record.blue) {
            target.service.stop(blue);
        }
    }

    /// The deployment was undone: nobody needs the new version.
    pub(super) fn stop_new(&self, undone: &DeploymentRecord) {
        if let (Self::Service(target), Some(green)) = (self, &undone.green) {
            target.service.stop(green);
        }
    }

    /// The next deployment begins with what this one brought. An alias knows that itself.
    pub(super) fn succeeded(&mut self, record: &DeploymentRecord) {
        if let (Self::Service(target), Some(green)) = (self, &record.green) {
            target.live = Arc::clone(green);
        }
    }
}
