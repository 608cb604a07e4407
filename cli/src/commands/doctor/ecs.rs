//! A service that ECS deploys itself.

use aws_sdk_ecs::types::{
    DeploymentConfiguration, DeploymentController, DeploymentControllerType, DeploymentLifecycleHook,
    DeploymentStrategy, Service,
};
use shiftgate::event::LifecycleStage;

use super::told::Check;
use super::{functions, group, release};
use crate::account::Account;

/// End of the name of the function that ECS calls; the beginning is `shiftgate-<stack>`.
const FUNCTION: &str = "-ecs-lifecycle";
/// What the check of the hooks is called.
const NAME: &str = "lifecycle hook";
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
    let is_internal = match rule.and_then(|rule| rule.production_listener_rule()) {
        Some(rule) => group::of_listener(account, rule).await,
        None => None,
    };
    let names = ours.iter().filter_map(|hook| hook.hook_target_arn()).map(bare).collect();
    checks.extend(functions::of(account, names, |_| true, is_internal).await);
    let details = ours.iter().find_map(|hook| hook.hook_details()?.as_object()?.get("policy")?.as_string());
    checks.extend(release::of_service(account, cluster, name, details).await);
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
    if *strategy == DeploymentStrategy::Rolling {
        checks.push(rolling(service));
        return checks;
    }
    let ours: Vec<&DeploymentLifecycleHook> = hooks(service).iter().filter(|hook| is_ours(hook)).collect();
    checks.extend(hooked(&ours, stack));
    let rule = service.load_balancers().first().and_then(|balancer| balancer.advanced_configuration());
    if let Some(rule) = rule {
        checks.push(match rule.test_listener_rule() {
            Some(_) => Check::ok("test listener", "green can be reached before it takes traffic"),
            None => Check::warning(
                "test listener",
                "there is no test listener rule: green is not tested before users meet it",
                "give the service's load balancer a testListenerRule",
            ),
        });
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
        "aws ecs tag-resource --resource-arn ... --tags key=shiftgate,value=watch",
    )
}

fn hooked(ours: &[&DeploymentLifecycleHook], stack: Option<&str>) -> Vec<Check> {
    if ours.is_empty() {
        let fix = "add the stack's ecs-lifecycle to the service's lifecycleHooks; docs/ecs.md shows how";
        return vec![Check::problem(NAME, "none of the service's hooks is Shiftgate's", fix)];
    }
    let mut checks = Vec::new();
    for hook in ours {
        let function = bare(hook.hook_target_arn().unwrap_or_default());
        let of = stack.map(self::function);
        checks.push(match of.filter(|of| of != function) {
            Some(of) => Check::problem(NAME, format!("it names {function}"), format!("name {of}")),
            None if hook.role_arn().is_none() => Check::problem(
                NAME,
                format!("{function} has no role under which ECS may call it"),
                "give the hook the stack's output EcsHookRole as roleArn",
            ),
            None => Check::ok(NAME, format!("it names {function}")),
        });
    }
    let called = |stage: LifecycleStage| {
        ours.iter().flat_map(|hook| hook.lifecycle_stages()).any(|called| called.as_str() == stage.as_str())
    };
    for (stage, lacks) in STAGES.into_iter().filter(|(stage, _)| !called(*stage)) {
        let (seen, fix) = (format!("not called at {}: {lacks}", stage.as_str()), "add the stage to the hook");
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
    use aws_sdk_ecs::types::{DeploymentLifecycleHookStage, Tag};

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
        assert!(text(&wiring(&service, Some("prod"))).contains("fix: name shiftgate-prod-ecs-lifecycle"));
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
