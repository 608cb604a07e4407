//! The deployment group itself.

use std::time::Duration;

use aws_sdk_codedeploy::types::{
    AlarmConfiguration, AutoRollbackEvent, DeploymentGroupInfo, DeploymentOption, DeploymentType,
    InstanceAction, TargetGroupPairInfo,
};
use shiftgate::aws::fault;
use shiftgate::rollout::schedule::{self, Step};

use super::told::Check;
use crate::account::Account;
use crate::target::is_of_lambda;

/// Minutes of a shift below which the first reading comes too late, and from which on it comes early enough: a minute of
/// metrics is complete two minutes after it ends, so the first is there after three to five.
const TOO_SHORT: f64 = 5.0;
const ENOUGH: f64 = 6.0;

/// What the group says of itself.
pub fn checks(info: &DeploymentGroupInfo) -> Vec<Check> {
    let mut checks = vec![rollback(info)];
    if is_of_lambda(info) {
        return checks;
    }
    checks.push(style(info));
    let pair = pair(info);
    let groups = pair.map_or(0, |pair| pair.target_groups().len());
    checks.push(if groups == 2 {
        Check::ok("target groups", "two, one for each version")
    } else {
        Check::problem(
            "target groups",
            format!("there are {groups}, and each version needs its own"),
            "give the group a pair of target groups (loadBalancerInfo.targetGroupPairInfoList)",
        )
    });
    let test = pair.and_then(|pair| pair.test_traffic_route()).map_or(0, |route| route.listener_arns().len());
    checks.push(if test > 0 {
        Check::ok("test listener", "green can be reached before it takes traffic")
    } else {
        Check::warning(
            "test listener",
            "there is none: green is not tested before users meet it",
            "give the deployment group a testTrafficRoute with a listener of its own (loadBalancerInfo.targetGroupPairInfoList; TestTrafficRoute in a template)",
        )
    });
    checks.extend(termination(info));
    checks
}

/// Whether the old version outlives the last hook.
fn termination(info: &DeploymentGroupInfo) -> Option<Check> {
    let name = "termination wait";
    let of_blue =
        info.blue_green_deployment_configuration()?.terminate_blue_instances_on_deployment_success()?;
    if of_blue.action() == Some(&InstanceAction::KeepAlive) {
        return Some(Check::ok(name, "blue is kept"));
    }
    let minutes = of_blue.termination_wait_time_in_minutes();
    if minutes > 0 {
        return Some(Check::ok(name, format!("blue stays for {minutes} minutes after the last hook")));
    }
    Some(Check::warning(
        name,
        "blue ends with the last hook: what is noticed after that can be undone by a new deployment only",
        "set terminationWaitTimeInMinutes of terminateBlueInstancesOnDeploymentSuccess to 5 or more (blueGreenDeploymentConfiguration)",
    ))
}

fn pair(info: &DeploymentGroupInfo) -> Option<&TargetGroupPairInfo> {
    info.load_balancer_info().and_then(|info| info.target_group_pair_info_list().first())
}

fn style(info: &DeploymentGroupInfo) -> Check {
    let style = info.deployment_style();
    let is_blue_green = style.is_some_and(|style| {
        style.deployment_type == Some(DeploymentType::BlueGreen)
            && style.deployment_option == Some(DeploymentOption::WithTrafficControl)
    });
    if is_blue_green {
        Check::ok("deployment style", "blue/green with traffic control")
    } else {
        Check::problem(
            "deployment style",
            "it is not blue/green with traffic control",
            "make a new deployment group whose deploymentStyle is deploymentType BLUE_GREEN with deploymentOption WITH_TRAFFIC_CONTROL",
        )
    }
}

fn rollback(info: &DeploymentGroupInfo) -> Check {
    let name = "automatic rollback";
    let on = |event| {
        let configured = info.auto_rollback_configuration();
        configured.is_some_and(|one| one.enabled && one.events().contains(&event))
    };
    let has_alarms = !alarms(info).is_empty();
    let fix = format!(
        "aws deploy update-deployment-group --application-name {} --current-deployment-group-name {} --auto-rollback-configuration enabled=true,events=DEPLOYMENT_FAILURE{}",
        info.application_name().unwrap_or("<application>"),
        info.deployment_group_name().unwrap_or("<group>"),
        if has_alarms { ",DEPLOYMENT_STOP_ON_ALARM" } else { "" }
    );
    if !on(AutoRollbackEvent::DeploymentFailure) {
        let seen = "it is off for DEPLOYMENT_FAILURE: a hook that answers Failed ends the deployment, and traffic stays where it is";
        return Check::problem(name, seen, fix);
    }
    if has_alarms && !on(AutoRollbackEvent::DeploymentStopOnAlarm) {
        let seen = "it is off for DEPLOYMENT_STOP_ON_ALARM: an alarm of the group ends the deployment, and traffic stays where it is";
        return Check::warning(name, seen, fix);
    }
    Check::ok(name, "traffic goes back when a hook answers Failed")
}

/// Names of the alarms by which CodeDeploy itself stops a deployment.
pub fn alarms(info: &DeploymentGroupInfo) -> Vec<&str> {
    let configured = info.alarm_configuration().filter(|configured| configured.enabled);
    let alarms = configured.map(AlarmConfiguration::alarms).unwrap_or_default();
    alarms.iter().filter_map(|alarm| alarm.name()).collect()
}

/// Whether the shift lasts long enough for the watch to see something and act.
pub async fn time_to_act(account: &Account, info: &DeploymentGroupInfo) -> Check {
    let Some(name) = info.deployment_config_name() else {
        let fix = format!("give it one (deploymentConfigName), such as {}", longer(is_of_lambda(info)));
        return Check::problem("time to act", "the group names no deployment configuration", fix);
    };
    let steps = if name.starts_with("CodeDeployDefault.") {
        schedule::of_configuration(name)
    } else {
        match custom(account, name).await {
            Ok(steps) => steps,
            Err(unread) => return unread,
        }
    };
    acts(name, &steps, is_of_lambda(info))
}

/// A configuration that lasts long enough.
fn longer(of_lambda: bool) -> &'static str {
    if of_lambda {
        "CodeDeployDefault.LambdaCanary10Percent15Minutes"
    } else {
        "CodeDeployDefault.ECSCanary10Percent15Minutes"
    }
}

fn acts(name: &str, steps: &[Step], of_lambda: bool) -> Check {
    let minutes = steps.iter().map(|step| step.lasts).sum::<Duration>().as_secs_f64() / 60.0;
    let fix = format!("set deploymentConfigName to one that lasts longer, such as {}", longer(of_lambda));
    if steps.is_empty() {
        let seen = format!("{name} shifts all traffic at once: only the bake judges");
        return Check::warning("time to act", seen, fix);
    }
    let seen = format!(
        "{name} shifts for {minutes} minutes, and the first reading comes three to five minutes after it begins"
    );
    if minutes <= TOO_SHORT || minutes < ENOUGH {
        return Check::warning("time to act", seen, fix);
    }
    Check::ok("time to act", seen)
}

/// The steps of a configuration that the account has made.
async fn custom(account: &Account, name: &str) -> Result<Vec<Step>, Check> {
    let read = account.aws.codedeploy.get_deployment_config().deployment_config_name(name).send().await;
    let read = read.map_err(|error| {
        let purpose = format!("read the deployment configuration {name}");
        Check::from_fault("time to act", &fault("codedeploy:GetDeploymentConfig", &purpose, error))
    })?;
    let minutes = |minutes: i32| Duration::from_mins(u64::try_from(minutes).unwrap_or(0));
    let routing = read.deployment_config_info().and_then(|info| info.traffic_routing_config());
    let canary = routing.and_then(|routing| routing.time_based_canary());
    let linear = routing.and_then(|routing| routing.time_based_linear());
    Ok(match (canary, linear) {
        (Some(canary), _) => {
            schedule::canary(canary.canary_percentage.into(), minutes(canary.canary_interval))
        }
        (None, Some(linear)) => {
            schedule::linear(linear.linear_percentage.into(), minutes(linear.linear_interval))
        }
        (None, None) => Vec::new(),
    })
}

/// A load balancer, as far as the functions' way to it goes.
pub struct Balancer {
    /// Whether it is reached from within its VPC only.
    pub is_internal: bool,
    /// Its VPC.
    pub vpc: Option<String>,
}

/// The balancer of the group; none where nobody can tell.
pub async fn balancer(account: &Account, info: &DeploymentGroupInfo) -> Option<Balancer> {
    of_listener(account, pair(info)?.prod_traffic_route()?.listener_arns().first()?).await
}

/// The same by the ARN of a listener, or of a rule of it.
pub async fn of_listener(account: &Account, arn: &str) -> Option<Balancer> {
    // arn:aws:elasticloadbalancing:REGION:ACCOUNT:listener/app/NAME/ID/LISTENER
    let name = arn.split('/').nth(2)?;
    let read = account.aws.elb.describe_load_balancers().names(name).send().await.ok()?;
    let found = read.load_balancers().first()?;
    Some(Balancer {
        is_internal: found.scheme()?.as_str() == "internal",
        vpc: found.vpc_id().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_codedeploy::types::{AutoRollbackConfiguration, DeploymentStyle};

    use super::super::told::Level;
    use super::*;

    fn levels(info: &DeploymentGroupInfo) -> Vec<(String, Level)> {
        checks(info).into_iter().map(|check| (check.name, check.level)).collect()
    }

    #[test]
    fn a_bare_group_lacks_everything_and_each_is_told() {
        let told = levels(&DeploymentGroupInfo::builder().build());
        let expect = [
            ("automatic rollback", Level::Problem),
            ("deployment style", Level::Problem),
            ("target groups", Level::Problem),
            ("test listener", Level::Warning),
        ];
        assert_eq!(told, expect.map(|(name, level)| (name.to_owned(), level)));
    }

    #[test]
    fn rollback_on_other_events_does_not_help() {
        let group = |event| {
            let rollback = AutoRollbackConfiguration::builder().enabled(true).events(event).build();
            DeploymentGroupInfo::builder().auto_rollback_configuration(rollback).build()
        };
        let level = |event| rollback(&group(event)).level;
        assert_eq!(level(AutoRollbackEvent::DeploymentStopOnAlarm), Level::Problem);
        assert_eq!(level(AutoRollbackEvent::DeploymentFailure), Level::Ok);
        let style = DeploymentStyle::builder().deployment_type(DeploymentType::InPlace).build();
        let info = DeploymentGroupInfo::builder().deployment_style(style).build();
        assert_eq!(super::style(&info).level, Level::Problem);
    }

    #[test]
    fn a_shift_must_last_longer_than_the_metrics_need() {
        let level = |name: &str| acts(name, &schedule::of_configuration(name), false).level;
        assert_eq!(level("CodeDeployDefault.ECSAllAtOnce"), Level::Warning);
        assert_eq!(level("CodeDeployDefault.ECSCanary10Percent5Minutes"), Level::Warning);
        assert_eq!(level("CodeDeployDefault.ECSCanary10Percent15Minutes"), Level::Ok);
        assert_eq!(level("CodeDeployDefault.ECSLinear10PercentEvery1Minutes"), Level::Ok);
    }
}
