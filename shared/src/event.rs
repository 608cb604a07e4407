//! Who calls, and about which deployment.

use std::fmt;

use aws_lambda_events::codedeploy::CodeDeployLifecycleEvent;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::fault::{Fault, FaultKind};
use crate::rollout::Service;
use crate::traffic::UsuallySlow;

/// The duty of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Stage {
    /// Before green is installed.
    BeforeInstall,
    /// Green's task set exists.
    AfterInstall,
    /// The test listener serves green.
    AfterAllowTestTraffic,
    /// Before production traffic shifts.
    BeforeAllowTraffic,
    /// Production traffic has shifted.
    AfterAllowTraffic,
    /// Called by the state machine while traffic shifts.
    Watch,
    /// Called by ECS itself, at one of its lifecycle stages.
    Ecs(LifecycleStage),
}

impl Stage {
    /// All stages of CodeDeploy, in the order of a deployment.
    pub const ALL: [Self; 6] = [
        Self::BeforeInstall,
        Self::AfterInstall,
        Self::AfterAllowTestTraffic,
        Self::BeforeAllowTraffic,
        Self::Watch,
        Self::AfterAllowTraffic,
    ];

    /// Name of the function, as `before-install`.
    pub fn function(self) -> &'static str {
        match self {
            Self::BeforeInstall => "before-install",
            Self::AfterInstall => "after-install",
            Self::AfterAllowTestTraffic => "after-allow-test-traffic",
            Self::BeforeAllowTraffic => "before-allow-traffic",
            Self::AfterAllowTraffic => "after-allow-traffic",
            Self::Watch => "watch",
            Self::Ecs(_) => "ecs-lifecycle",
        }
    }

    /// What reports call it: the function's name, or the lifecycle stage of ECS.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ecs(stage) => stage.as_str(),
            other => other.function(),
        }
    }

    /// Name of the lifecycle event, as CodeDeploy spells it; the watch works during `AllowTraffic`.
    pub fn lifecycle_event(self) -> &'static str {
        match self {
            Self::BeforeInstall => "BeforeInstall",
            Self::AfterInstall => "AfterInstall",
            Self::AfterAllowTestTraffic => "AfterAllowTestTraffic",
            Self::BeforeAllowTraffic => "BeforeAllowTraffic",
            Self::AfterAllowTraffic => "AfterAllowTraffic",
            Self::Watch => "AllowTraffic",
            Self::Ecs(stage) => stage.as_str(),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A stage of a deployment by ECS at which it calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LifecycleStage {
    /// More than one revision is active when the deployment begins.
    ReconcileService,
    /// Before green's tasks are started.
    PreScaleUp,
    /// Green's tasks run.
    PostScaleUp,
    /// Test traffic shifts; again, the other way, in a rollback.
    TestTrafficShift,
    /// Test traffic reaches green.
    PostTestTrafficShift,
    /// Before each step of production traffic.
    PreProductionTrafficShift,
    /// At each step of production traffic; again, the other way, in a rollback.
    ProductionTrafficShift,
    /// Green has all of the production traffic.
    PostProductionTrafficShift,
}

impl LifecycleStage {
    /// All of them, in the order of a deployment.
    pub const ALL: [Self; 8] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::PostScaleUp,
        Self::TestTrafficShift,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::ProductionTrafficShift,
        Self::PostProductionTrafficShift,
    ];

    /// As ECS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
        }
    }

    /// The stage of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// Whether ECS calls its hooks again while it rolls back.
    pub fn runs_in_rollback(self) -> bool {
        matches!(self, Self::TestTrafficShift | Self::ProductionTrafficShift)
    }
}

/// A deployment's id: CodeDeploy's, such as `d-0B7YUA91L`, or the ARN of a service deployment of ECS. Never empty, never
/// with white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct DeploymentId(String);

impl DeploymentId {
    /// Checks the form; whether the deployment exists is CodeDeploy's to say.
    pub fn new(text: &str) -> Result<Self, Fault> {
        if text.is_empty()
            || text.len() > LONGEST_ID
            || text.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(unusable(format!("`{}` is not a deployment id", text.escape_debug())));
        }
        Ok(Self(text.to_owned()))
    }

    /// Stands for a deployment that an event does not name.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it points to, if it is the ARN of a service deployment of ECS.
    pub fn service_deployment(&self) -> Option<ServiceDeployment<'_>> {
        let mut parts = self.0.splitn(6, ':');
        let (arn, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let mut names = resource.strip_prefix("service-deployment/")?.split('/');
        let found =
            ServiceDeployment { region, cluster: names.next()?, service: names.next()?, name: names.next()? };
        let complete = arn == "arn" && service == "ecs" && names.next().is_none();
        complete.then_some(found)
    }
}

/// The parts of a service deployment's ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceDeployment<'a> {
    /// Region.
    pub region: &'a str,
    /// Name of the cluster.
    pub cluster: &'a str,
    /// Name of the service.
    pub service: &'a str,
    /// The deployment's own name: 21 letters, digits, `-` and `_`.
    pub name: &'a str,
}

/// ARNs have at most 2048 characters.
const LONGEST_ID: usize = 2048;

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The opaque id under which a hook reports. It grants the right to answer, so it is never shown whole.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(String);

impl ExecutionId {
    /// The id, for the report only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}...", self.0.chars().take(8).collect::<String>())
    }
}

impl From<&str> for ExecutionId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A hook's event: the two ids that CodeDeploy sends, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEvent {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Under which to report.
    pub execution_id: ExecutionId,
}

impl HookEvent {
    /// Reads an event; further fields are ignored.
    pub fn parse(event: &Value) -> Result<Self, Fault> {
        let ids: CodeDeployLifecycleEvent = CodeDeployLifecycleEvent::deserialize(object(event)?)
            .map_err(|error| unusable(error.to_string()))?;
        if ids.lifecycle_event_hook_execution_id.trim().is_empty() {
            return Err(unusable("LifecycleEventHookExecutionId is empty"));
        }
        Ok(Self {
            deployment_id: DeploymentId::new(&ids.deployment_id)?,
            execution_id: ExecutionId(ids.lifecycle_event_hook_execution_id),
        })
    }
}

/// What a look of the watch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// Judge green while traffic shifts; roll back by stopping the deployment.
    Traffic,
    /// Finish a bake that is longer than one invocation; report for the hook.
    Bake,
    /// Judge a rolling update of ECS, which calls no hook; roll back by stopping the service deployment.
    Rolling,
}

/// The state machine's input, and with `next` filled in its output: the loop carries nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The deployment.
    pub deployment_id: String,
    /// What the look is for.
    pub duty: Duty,
    /// Bake only: under which to report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// Bake only: seconds since the epoch after which the hook must have its answer, whatever was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_by: Option<i64>,
    /// Seconds until the next look.
    pub after_seconds: u64,
    /// Seconds until the first look, so that rollouts which begin together do not look together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_after_seconds: Option<u64>,
    /// What is known of the service and does not change during a deployment. A look that cannot read it finds out anew:
    /// a loop outlives a new version of the function.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_understood")]
    pub service: Option<Service>,
    /// What was slow before the shift, once a look has found out; the same holds of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "if_understood")]
    pub usually_slow: UsuallySlow,
    /// Whether there is a next look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// Why the looks before this one told nothing; put there by the state machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Caught>,
}

/// An error that the state machine caught, in the words of Step Functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Caught {
    /// Its name, such as `Lambda.Unknown`.
    #[serde(default)]
    pub error: String,
    /// What is known of it.
    #[serde(default)]
    pub cause: String,
}

/// Whether the watch looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Look again after `after_seconds`.
    Again,
    /// The watch is over.
    Done,
}

fn if_understood<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

impl Look {
    /// The first look of a duty; nothing is known yet.
    pub fn new(deployment_id: impl Into<String>, duty: Duty, after_seconds: u64) -> Self {
        Self {
            deployment_id: deployment_id.into(),
            duty,
            execution_id: None,
            answer_by: None,
            after_seconds,
            begin_after_seconds: None,
            service: None,
            usually_slow: UsuallySlow::new(),
            next: None,
            error: None,
        }
    }

    /// Reads the state machine's input; further fields are ignored.
    pub fn parse(event: &Value) -> Result<Self, Fault> {
        let look = Self::deserialize(object(event)?).map_err(|error| unusable(error.to_string()))?;
        let id = DeploymentId::new(&look.deployment_id)?;
        if id.service_deployment().is_some() != (look.duty == Duty::Rolling) {
            return Err(unusable(format!(
                "the duty {:?} is not one for the deployment {id}: a service deployment of ECS is watched as rolling, and nothing else is",
                look.duty
            )));
        }
        if look.duty == Duty::Bake && look.execution_id.is_none() {
            return Err(unusable("a bake needs an execution_id to report under"));
        }
        Ok(look)
    }
}

/// The question of before-install to its siblings: may you do what your stage needs?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionQuestion {
    /// Set in this event only.
    pub permissions_for_deployment: String,
}

impl PermissionQuestion {
    /// The question, if the event is one.
    pub fn parse(event: &Value) -> Option<Self> {
        Self::deserialize(object(event).ok()?).ok()
    }
}

/// The event, if it is an object. Serde would also fill a structure from a list, in order.
fn object(event: &Value) -> Result<&Value, Fault> {
    if event.is_object() { Ok(event) } else { Err(unusable("it is not a JSON object")) }
}

fn unusable(what: impl fmt::Display) -> Fault {
    Fault::new(
        FaultKind::Event,
        format!("the event cannot be used: {what}"),
        "a hook is called by CodeDeploy with DeploymentId and LifecycleEventHookExecutionId; events/ has samples",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_two_ids_are_read_and_the_rest_ignored() {
        let event = json!({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "abcdefghijkl", "Extra": {"x": 1}});
        let event = HookEvent::parse(&event).unwrap();
        assert_eq!(event.deployment_id.as_str(), "d-1");
        assert_eq!(format!("{:?}", event.execution_id), "abcdefgh...");
    }

    #[test]
    fn a_list_is_no_event() {
        assert!(PermissionQuestion::parse(&json!(["d-1"])).is_none());
        assert!(HookEvent::parse(&json!(["d-1", "id"])).is_err());
        assert!(Look::parse(&json!(["d-1", "traffic", null, null, 60, null])).is_err());
    }

    #[test]
    fn the_arn_of_a_service_deployment_is_an_id() {
        let parts = |text: &str| {
            DeploymentId::new(text).unwrap().service_deployment().map(|parts| format!("{parts:?}"))
        };
        assert_eq!(
            parts("arn:aws-us-gov:ecs:us-gov-west-1:123456789012:service-deployment/shop/orders/NCWGC2ZR-taawPAYrIaU5"),
            Some("ServiceDeployment { region: \"us-gov-west-1\", cluster: \"shop\", service: \"orders\", name: \"NCWGC2ZR-taawPAYrIaU5\" }".to_owned())
        );
        for other in [
            "d-0B7YUA91L",
            "arn:aws:ecs:eu-west-1:123456789012:service/shop/orders",
            "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders",
            "arn:aws:sns:eu-west-1:123456789012:service-deployment/shop/orders/a",
            "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders/a/b",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_missing_or_empty_is_named() {
        for (event, part) in [
            (json!({}), "DeploymentId"),
            (json!({"DeploymentId": "d-1"}), "LifecycleEventHookExecutionId"),
            (json!({"DeploymentId": "", "LifecycleEventHookExecutionId": "e"}), "`` is not a deployment id"),
            (
                json!({"DeploymentId": "d 1", "LifecycleEventHookExecutionId": "e"}),
                "`d 1` is not a deployment id",
            ),
            (json!({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": " "}), "is empty"),
            (json!({"DeploymentId": 7, "LifecycleEventHookExecutionId": "e"}), "invalid type"),
            (json!(null), "not a JSON object"),
            (json!([]), "not a JSON object"),
            (json!("d-1"), "not a JSON object"),
        ] {
            let fault = HookEvent::parse(&event).unwrap_err();
            assert!(fault.to_string().contains(part), "{event}: {fault}");
        }
    }

    #[test]
    fn a_look_survives_its_way_through_the_state_machine() {
        let look = Look {
            execution_id: Some("e".into()),
            next: Some(Next::Again),
            ..Look::new("d-1", Duty::Bake, 60)
        };
        let mut value = serde_json::to_value(&look).unwrap();
        assert_eq!(
            value,
            json!({"deployment_id": "d-1", "duty": "bake", "execution_id": "e", "after_seconds": 60, "next": "again"})
        );
        value["service"] = json!({"written": "by another version"});
        assert_eq!(Look::parse(&value).unwrap(), look);
        value["error"] = json!({"Error": "Lambda.Unknown", "Cause": "killed"});
        let caught = Look::parse(&value).unwrap().error.unwrap();
        assert_eq!((caught.error.as_str(), caught.cause.as_str()), ("Lambda.Unknown", "killed"));
        assert!(Look::parse(&json!({"deployment_id": "d-1", "duty": "bake", "after_seconds": 1})).is_err());
    }
}
