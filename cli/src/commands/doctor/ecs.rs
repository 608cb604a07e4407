//! A service that ECS deploys itself.

use std::time::Duration;

use aws_sdk_ecs::types::{
    DeploymentConfiguration, DeploymentController, DeploymentControllerType, DeploymentLifecycleHook,
    DeploymentLifecycleHookAction, DeploymentLifecycleHookStage, DeploymentLifecycleHookTargetType,
    DeploymentLifecycleHookTimeoutConfiguration, DeploymentStrategy, Service,
};
use shiftgate::event::LifecycleStage;
use shiftgate::policy::plan::Plan;

use super::told::Check;
use super::{functions, group, release};
use crate::account::Account;

/// End of the name of the function that ECS calls; the beginning is `shiftgate-<stack>`.
const FUNCTION: &str = "-ecs-lifecycle";
/// What the check of the hooks is called.
const NAME: &str = "lifecycle hook";
/// Minutes that ECS lets a pause last if nothing else is said.
const LONGEST_PAUSE: i32 = 24 * 60;
/// What to do where CodeDeploy deploys a service.
const ITS_GROUP: &str = "ask for its deployment group: `shiftgate doctor APPLICATION/GROUP`";

/// The stages without whose hook something is left out, and what. Of the first, nothing is held at all.
pub const STAGES: [(LifecycleStage, &str); 6] = [
    (
        LifecycleStage::ProductionTrafficShift,
        "green is held at no step, and judged by nobody while traffic shifts",
    ),
    (LifecycleStage::PostProductionTrafficShift, "the bake at 100 % is not judged"),
    (LifecycleStage::PreProductionTrafficShift, "no last look at alarms and smoke checks before each step"),
    (LifecycleStage::PostTestTrafficShift, "no smoke checks through the test listener"),
    (LifecycleStage::PostScaleUp, "nobody waits until green's targets are healthy"),
    (LifecycleStage::PreScaleUp, "alarms and permissions are not checked first"),
];

/// All checks of it.
pub async fn checks(
    account: &Account,
    cluster: &str,
    name: &str,
    service: &Service,
    stack: Option<&str>,
) -> Vec<Check> {
    let mut checks = wiring(service, stack);
    let ours: Vec<&DeploymentLifecycleHook> = hooks(service).iter().filter(|hook| is_ours(hook)).collect();
    let rule = service.load_balancers().first().and_then(|balancer| balancer.advanced_configuration());
    let balancer = match rule.and_then(|rule| rule.production_listener_rule()) {
        Some(rule) => group::of_listener(account, rule).await,
        None => None,
    };
    let names = ours.iter().filter_map(|hook| hook.hook_target_arn()).map(bare).collect();
    checks.extend(functions::of(account, names, |_| true, balancer.as_ref()).await);
    let details = ours.iter().find_map(|hook| hook.hook_details()?.as_object()?.get("policy")?.as_string());
    checks.extend(release::of_service(account, cluster, name, service, details).await);
    checks
}

/// What deploys the service, if it is not ECS itself.
pub fn other_controller(service: &Service) -> Option<&DeploymentControllerType> {
    let controller = service.deployment_controller().map(DeploymentController::r#type);
    controller.filter(|controller| **controller != DeploymentControllerType::Ecs)
}

/// How ECS replaces the old version.
pub fn strategy(service: &Service) -> &DeploymentStrategy {
    let configuration = service.deployment_configuration();
    configuration.and_then(|one| one.strategy()).unwrap_or(&DeploymentStrategy::Rolling)
}

/// Name of the function that a stack has for it.
pub fn function(stack: &str) -> String {
    format!("shiftgate-{stack}{FUNCTION}")
}

/// The stack whose function a hook of the service names; none without such a hook.
pub fn stack(service: &Service) -> Option<String> {
    let ours = hooks(service).iter().find(|hook| is_ours(hook))?;
    let function = bare(ours.hook_target_arn()?);
    Some(function.strip_prefix("shiftgate-")?.strip_suffix(FUNCTION)?.to_owned())
}

/// What the service says of itself.
fn wiring(service: &Service, stack: Option<&str>) -> Vec<Check> {
    if let Some(other) = other_controller(service) {
        let seen = format!("{other} deploys the service, not ECS itself");
        return vec![Check::problem("controller", seen, ITS_GROUP)];
    }
    let strategy = strategy(service);
    let mut checks = vec![Check::ok("controller", format!("ECS itself, strategy {strategy}"))];
    checks.extend(rolls_back(service));
    if *strategy == DeploymentStrategy::Rolling {
        checks.push(rolling(service));
        return checks;
    }
    let ours: Vec<&DeploymentLifecycleHook> = hooks(service).iter().filter(|hook| is_ours(hook)).collect();
    checks.extend(hooked(&ours, stack));
    checks.extend(hooks(service).iter().filter_map(pause));
    let rule = service.load_balancers().first().and_then(|balancer| balancer.advanced_configuration());
    if let Some(rule) = rule {
        checks.push(match rule.test_listener_rule() {
            Some(_) => Check::ok("test listener", "green can be reached before it takes traffic"),
            None => Check::warning(
                "test listener",
                "there is no test listener rule: green is not tested before users meet it",
                "give the service's load balancer a testListenerRule (loadBalancers[0].advancedConfiguration; TestListenerRule in a template)",
            ),
        });
    }
    checks
}

/// Whether what ECS notices itself gives the traffic back.
fn rolls_back(service: &Service) -> Vec<Check> {
    let configuration = service.deployment_configuration();
    let breaker = configuration.and_then(|one| one.deployment_circuit_breaker());
    let property = "deploymentConfiguration of the service (DeploymentConfiguration in a template)";
    let mut checks = Vec::new();
    if !breaker.is_some_and(|breaker| breaker.enable && breaker.rollback) {
        checks.push(Check::warning(
            "circuit breaker",
            "tasks of a new version that do not start are tried again for hours, and nothing is rolled back",
            format!("set deploymentCircuitBreaker: {{enable: true, rollback: true}} in {property}"),
        ));
    }
    let alarms = configuration.and_then(|one| one.alarms()).filter(|alarms| alarms.enable);
    if alarms.is_some_and(|alarms| !alarms.rollback && !alarms.alarm_names().is_empty()) {
        checks.push(Check::warning(
            "automatic rollback",
            "an alarm that rings ends the deployment, and traffic stays where it is",
            format!("set alarms.rollback: true in {property}"),
        ));
    }
    checks
}

/// Names of the alarms by which ECS itself stops a deployment.
pub fn alarms(service: &Service) -> Vec<String> {
    let alarms = service.deployment_configuration().and_then(|one| one.alarms());
    alarms.filter(|alarms| alarms.enable).map(|alarms| alarms.alarm_names().to_vec()).unwrap_or_default()
}

/// A hook that waits for somebody, for as long as ECS lets it.
fn pause(hook: &DeploymentLifecycleHook) -> Option<Check> {
    if hook.target_type() != Some(&DeploymentLifecycleHookTargetType::Pause) {
        return None;
    }
    let timeout = hook.timeout_configuration();
    let minutes = timeout
        .and_then(DeploymentLifecycleHookTimeoutConfiguration::timeout_in_minutes)
        .unwrap_or(LONGEST_PAUSE);
    if minutes < LONGEST_PAUSE {
        return None;
    }
    let stages: Vec<&str> =
        hook.lifecycle_stages().iter().map(DeploymentLifecycleHookStage::as_str).collect();
    Some(Check::warning(
        "pause",
        format!(
            "each release waits at {} until somebody continues it, for up to {minutes} minutes",
            stages.join(", ")
        ),
        "give the PAUSE hook the end that you want (timeoutConfiguration: timeoutInMinutes and action), or take it out; aws ecs continue-service-deployment ends one that waits",
    ))
}

/// Whether ECS waits for the hook as long as the policy lets it hold green.
pub fn in_time(service: &Service, plan: &Plan) -> Vec<Check> {
    let mut checks = Vec::new();
    for hook in hooks(service).iter().filter(|hook| is_ours(hook)) {
        let Some(timeout) = hook.timeout_configuration() else { continue };
        let Some(minutes) = timeout.timeout_in_minutes() else { continue };
        let has = Duration::from_mins(u64::try_from(minutes).unwrap_or_default());
        let holds = [
            (LifecycleStage::ProductionTrafficShift, "steps.at_least", plan.steps.at_least),
            (LifecycleStage::PostProductionTrafficShift, "bake.for", plan.bake_for),
        ];
        for (stage, key, holds) in holds {
            let needs = holds + plan.sampling.ingestion_delay;
            let called = hook.lifecycle_stages().iter().any(|called| called.as_str() == stage.as_str());
            if !called || holds.is_zero() || has >= needs {
                continue;
            }
            let then = timeout.action().map_or("ROLLBACK", DeploymentLifecycleHookAction::as_str);
            checks.push(Check::problem(
                NAME,
                format!("ECS gives {} up after {minutes} minutes ({then}), and `{key}` of the policy holds it for longer", stage.as_str()),
                format!(
                    "set timeoutConfiguration.timeoutInMinutes of the hook to {} or more, or shorten `{key}`",
                    needs.as_secs().div_ceil(60)
                ),
            ));
        }
    }
    checks
}

fn rolling(service: &Service) -> Check {
    let tagged =
        service.tags().iter().any(|tag| tag.key() == Some("shiftgate") && tag.value() == Some("watch"));
    if tagged {
        return Check::ok("rolling updates", "watched, by the tag shiftgate: watch");
    }
    Check::warning(
        "rolling updates",
        "the service has no tag shiftgate: watch, so that they are watched only if its policy says rolling: watch",
        format!(
            "aws ecs tag-resource --resource-arn {} --tags key=shiftgate,value=watch",
            service.service_arn().unwrap_or("<service>")
        ),
    )
}

fn hooked(ours: &[&DeploymentLifecycleHook], stack: Option<&str>) -> Vec<Check> {
    if ours.is_empty() {
        let fix = format!(
            "add {} to deploymentConfiguration.lifecycleHooks of the service (hookTargetArn, roleArn, lifecycleStages); docs/ecs.md shows how",
            function(stack.unwrap_or("<stack>"))
        );
        return vec![Check::problem(NAME, "none of the service's hooks is Shiftgate's", fix)];
    }
    let mut checks = Vec::new();
    for hook in ours {
        let function = bare(hook.hook_target_arn().unwrap_or_default());
        let of = stack.map(self::function);
        checks.push(match of.filter(|of| of != function) {
            Some(of) => Check::problem(
                NAME,
                format!("it names {function}, of another stack"),
                format!("write the ARN of {of} as hookTargetArn of the hook"),
            ),
            None if hook.role_arn().is_none() => Check::problem(
                NAME,
                format!("{function} has no role under which ECS may call it"),
                "give the hook the ARN of the stack's output EcsHookRole as roleArn",
            ),
            None => Check::ok(NAME, format!("it names {function}")),
        });
    }
    let called = |stage: LifecycleStage| {
        ours.iter().flat_map(|hook| hook.lifecycle_stages()).any(|called| called.as_str() == stage.as_str())
    };
    for (stage, lacks) in STAGES.into_iter().filter(|(stage, _)| !called(*stage)) {
        let seen = format!("not called at {}: {lacks}", stage.as_str());
        let fix = format!("add {} to lifecycleStages of the hook", stage.as_str());
        checks.push(if stage == LifecycleStage::ProductionTrafficShift {
            Check::problem(NAME, seen, fix)
        } else {
            Check::warning(NAME, seen, fix)
        });
    }
    checks
}

fn hooks(service: &Service) -> &[DeploymentLifecycleHook] {
    service.deployment_configuration().map(DeploymentConfiguration::lifecycle_hooks).unwrap_or_default()
}

fn is_ours(hook: &DeploymentLifecycleHook) -> bool {
    let function = bare(hook.hook_target_arn().unwrap_or_default());
    function.starts_with("shiftgate-") && function.ends_with(FUNCTION)
}

/// A function's name in its ARN, without version or alias.
fn bare(arn: &str) -> &str {
    let name = arn.rsplit_once(":function:").map_or(arn, |(_, name)| name);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Tag;

    use super::super::told::text;
    use super::*;

    #[test]
    fn what_a_canary_lacks_is_told_stage_by_stage() {
        let hook = DeploymentLifecycleHook::builder()
            .hook_target_arn("arn:aws:lambda:eu-west-1:123456789012:function:shiftgate-dev-ecs-lifecycle")
            .role_arn("arn:aws:iam::123456789012:role/hooks")
            .lifecycle_stages(DeploymentLifecycleHookStage::PreScaleUp)
            .build();
        let configuration = DeploymentConfiguration::builder()
            .strategy(DeploymentStrategy::Canary)
            .lifecycle_hooks(hook)
            .build();
        let service = Service::builder().deployment_configuration(configuration).build();
        insta::assert_snapshot!(text(&wiring(&service, Some("dev"))));
        assert!(
            text(&wiring(&service, Some("prod")))
                .contains("fix: write the ARN of shiftgate-prod-ecs-lifecycle")
        );
    }

    #[test]
    fn a_rolling_update_is_watched_by_its_tag() {
        let service = |tags: Vec<Tag>| Service::builder().set_tags(Some(tags)).build();
        let told = |tags| text(&wiring(&service(tags), None));
        assert!(told(Vec::new()).contains("warning      rolling updates"), "{}", told(Vec::new()));
        let tag = Tag::builder().key("shiftgate").value("watch").build();
        assert!(told(vec![tag.clone()]).contains("ok           rolling updates"), "{}", told(vec![tag]));
    }
}
