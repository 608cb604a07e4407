//! From a deployment to its colours, listeners and metrics' dimensions.

use aws_sdk_codedeploy::types as codedeploy;
use aws_sdk_elasticloadbalancingv2::types as elb;
use jiff::Timestamp;

use super::deployment::incomplete;
use super::{
    Colour, Deployment, LifecycleEvent, Listener, LoadBalancer, Phase, Rollout, TargetGroup, TaskSet,
};
use crate::aws::{self, Aws};
use crate::fault::{Fault, FaultKind};

/// Finds out what the deployment deploys: five calls, no configuration.
pub async fn discover(aws: &Aws, deployment: &Deployment) -> Result<Rollout, Fault> {
    let group = deployment_group(aws, deployment).await?;
    let (cluster, service) = ecs_service(deployment, &group)?;
    let pair = target_group_pair(deployment, &group)?;
    let target = deployment_target(aws, deployment, &format!("{cluster}:{service}")).await?;
    let (blue_name, green_name) = colour_names(deployment, &pair, &target)?;
    let target_groups = target_groups(aws, &[&blue_name, &green_name]).await?;
    let production_arn = listener_arn(pair.prod_traffic_route.as_ref())
        .ok_or_else(|| group_lacks(deployment, "a production listener"))?;
    let test_arn = listener_arn(pair.test_traffic_route.as_ref());
    let listeners = listeners(aws, &[Some(&production_arn), test_arn.as_ref()]).await?;
    let find = |arn: &String| listeners.iter().find(|(listener, _)| listener.arn == *arn);
    let (production_listener, balancer_arn) =
        find(&production_arn).ok_or_else(|| not_found("listener", &production_arn))?.clone();
    let colour = |name: &str, label: codedeploy::TargetLabel| -> Result<Colour, Fault> {
        Ok(Colour {
            target_group: target_groups
                .iter()
                .find(|group| group.name == name)
                .cloned()
                .ok_or_else(|| not_found("target group", name))?,
            tasks: task_set(&target, &label).map(tasks),
        })
    };
    Ok(Rollout {
        blue: colour(&blue_name, codedeploy::TargetLabel::Blue)?,
        green: colour(&green_name, codedeploy::TargetLabel::Green)?,
        load_balancer: load_balancer(aws, &balancer_arn).await?,
        production_listener,
        test_listener: test_arn.as_ref().and_then(find).map(|(listener, _)| listener.clone()),
        alarms: alarms(&group),
        events: target.lifecycle_events().iter().map(lifecycle_event).collect(),
        last_successful: group.last_successful_deployment().and_then(|last| last.deployment_id.clone()),
        configuration: deployment.configuration.clone(),
        cluster,
        service,
    })
}

/// Reads the tasks and lifecycle events again; colours and listeners do not change during a deployment.
pub async fn refresh(aws: &Aws, deployment: &Deployment, rollout: &mut Rollout) -> Result<(), Fault> {
    let target =
        deployment_target(aws, deployment, &format!("{}:{}", rollout.cluster, rollout.service)).await?;
    rollout.blue.tasks = task_set(&target, &codedeploy::TargetLabel::Blue).map(tasks);
    rollout.green.tasks = task_set(&target, &codedeploy::TargetLabel::Green).map(tasks);
    rollout.events = target.lifecycle_events().iter().map(lifecycle_event).collect();
    Ok(())
}

async fn deployment_group(
    aws: &Aws,
    deployment: &Deployment,
) -> Result<codedeploy::DeploymentGroupInfo, Fault> {
    let Deployment { application, group, .. } = deployment;
    aws.codedeploy
        .get_deployment_group()
        .application_name(application)
        .deployment_group_name(group)
        .send()
        .await
        .map_err(|error| {
            aws::fault(
                "codedeploy:GetDeploymentGroup",
                &format!("read deployment group {application}/{group}"),
                error,
            )
        })?
        .deployment_group_info
        .ok_or_else(|| incomplete(&deployment.id, "deployment group"))
}

async fn deployment_target(
    aws: &Aws,
    deployment: &Deployment,
    target_id: &str,
) -> Result<codedeploy::EcsTarget, Fault> {
    aws.codedeploy
        .get_deployment_target()
        .deployment_id(deployment.id.as_str())
        .target_id(target_id)
        .send()
        .await
        .map_err(|error| {
            aws::fault(
                "codedeploy:GetDeploymentTarget",
                &format!("read target {target_id} of deployment {}", deployment.id),
                error,
            )
        })?
        .deployment_target
        .and_then(|target| target.ecs_target)
        .ok_or_else(|| incomplete(&deployment.id, "ecsTarget"))
}

async fn target_groups(aws: &Aws, names: &[&str]) -> Result<Vec<TargetGroup>, Fault> {
    let output = aws
        .elb
        .describe_target_groups()
        .set_names(Some(names.iter().map(|name| (*name).to_owned()).collect()))
        .send()
        .await
        .map_err(|error| {
            aws::fault(
                "elasticloadbalancing:DescribeTargetGroups",
                &format!("read target groups {}", names.join(", ")),
                error,
            )
        })?;
    Ok(output.target_groups().iter().filter_map(target_group).collect())
}

async fn listeners(aws: &Aws, arns: &[Option<&String>]) -> Result<Vec<(Listener, String)>, Fault> {
    let arns: Vec<String> = arns.iter().flatten().map(|arn| (*arn).clone()).collect();
    let purpose = format!("read listeners {}", arns.join(", "));
    let output = aws
        .elb
        .describe_listeners()
        .set_listener_arns(Some(arns))
        .send()
        .await
        .map_err(|error| aws::fault("elasticloadbalancing:DescribeListeners", &purpose, error))?;
    Ok(output.listeners().iter().filter_map(listener).collect())
}

async fn load_balancer(aws: &Aws, arn: &str) -> Result<LoadBalancer, Fault> {
    let output = aws.elb.describe_load_balancers().load_balancer_arns(arn).send().await.map_err(|error| {
        aws::fault("elasticloadbalancing:DescribeLoadBalancers", &format!("read load balancer {arn}"), error)
    })?;
    let missing = || not_found("load balancer", arn);
    let balancer = output.load_balancers().first().ok_or_else(missing)?;
    let zones = balancer.availability_zones().iter().filter_map(|zone| zone.zone_name.clone());
    Ok(LoadBalancer {
        dns_name: balancer.dns_name.clone().ok_or_else(missing)?,
        dimension: arn.split_once("loadbalancer/").ok_or_else(missing)?.1.to_owned(),
        zones: zones.collect(),
    })
}

fn ecs_service(
    deployment: &Deployment,
    group: &codedeploy::DeploymentGroupInfo,
) -> Result<(String, String), Fault> {
    match group.ecs_services() {
        [service] => service.cluster_name.clone().zip(service.service_name.clone()),
        _ => None,
    }
    .ok_or_else(|| group_lacks(deployment, "exactly one ECS service"))
}

fn target_group_pair(
    deployment: &Deployment,
    group: &codedeploy::DeploymentGroupInfo,
) -> Result<codedeploy::TargetGroupPairInfo, Fault> {
    group
        .load_balancer_info()
        .and_then(|info| info.target_group_pair_info_list().first())
        .filter(|pair| pair.target_groups().iter().filter(|group| group.name.is_some()).count() == 2)
        .cloned()
        .ok_or_else(|| group_lacks(deployment, "a pair of target groups"))
}

/// Blue's and green's target group names. Before Install only blue has a task set; green gets the other group.
fn colour_names(
    deployment: &Deployment,
    pair: &codedeploy::TargetGroupPairInfo,
    target: &codedeploy::EcsTarget,
) -> Result<(String, String), Fault> {
    let name_of = |label| task_set(target, &label).and_then(|set| set.target_group()?.name.clone());
    let other = |name: &String| {
        pair.target_groups().iter().filter_map(|group| group.name.clone()).find(|candidate| candidate != name)
    };
    let (blue, green) =
        match (name_of(codedeploy::TargetLabel::Blue), name_of(codedeploy::TargetLabel::Green)) {
            (Some(blue), Some(green)) => (Some(blue), Some(green)),
            (Some(blue), None) => (Some(blue.clone()), other(&blue)),
            (None, Some(green)) => (other(&green), Some(green)),
            (None, None) => (None, None),
        };
    blue.zip(green).ok_or_else(|| incomplete(&deployment.id, "task set with a target group"))
}

fn task_set<'a>(
    target: &'a codedeploy::EcsTarget,
    label: &codedeploy::TargetLabel,
) -> Option<&'a codedeploy::EcsTaskSet> {
    target.task_sets_info().iter().find(|set| set.task_set_label.as_ref() == Some(label))
}

fn tasks(set: &codedeploy::EcsTaskSet) -> TaskSet {
    TaskSet {
        desired: set.desired_count,
        pending: set.pending_count,
        running: set.running_count,
        weight: set.traffic_weight,
    }
}

fn target_group(group: &elb::TargetGroup) -> Option<TargetGroup> {
    let arn = group.target_group_arn.clone()?;
    Some(TargetGroup {
        name: group.target_group_name.clone()?,
        dimension: format!("targetgroup/{}", arn.split_once("targetgroup/")?.1),
        arn,
        health_path: group.health_check_path.clone(),
        health_statuses: group
            .matcher()
            .and_then(|matcher| matcher.http_code())
            .and_then(|codes| codes.parse().ok()),
    })
}

fn listener(listener: &elb::Listener) -> Option<(Listener, String)> {
    let found = Listener {
        arn: listener.listener_arn.clone()?,
        port: u16::try_from(listener.port?).ok()?,
        protocol: listener.protocol.as_ref()?.as_str().to_owned(),
    };
    Some((found, listener.load_balancer_arn.clone()?))
}

fn listener_arn(route: Option<&codedeploy::TrafficRoute>) -> Option<String> {
    route.and_then(|route| route.listener_arns().first().cloned())
}

fn alarms(group: &codedeploy::DeploymentGroupInfo) -> Vec<String> {
    group
        .alarm_configuration()
        .filter(|configuration| configuration.enabled)
        .map(|configuration| configuration.alarms().iter().filter_map(|alarm| alarm.name.clone()).collect())
        .unwrap_or_default()
}

fn lifecycle_event(event: &codedeploy::LifecycleEvent) -> LifecycleEvent {
    use codedeploy::LifecycleEventStatus as Status;
    let at = |time: &Option<aws_sdk_codedeploy::primitives::DateTime>| {
        time.and_then(|time| time.to_millis().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok())
    };
    LifecycleEvent {
        name: event.lifecycle_event_name.clone().unwrap_or_default(),
        status: match &event.status {
            Some(Status::InProgress) => Phase::InProgress,
            Some(Status::Succeeded) => Phase::Succeeded,
            Some(Status::Failed | Status::Skipped) => Phase::Over,
            _ => Phase::Pending,
        },
        started: at(&event.start_time),
        ended: at(&event.end_time),
    }
}

fn group_lacks(deployment: &Deployment, what: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("deployment group {}/{} does not have {what}", deployment.application, deployment.group),
        "Shiftgate needs an ECS blue/green deployment group with a load balancer",
    )
}

fn not_found(kind: &str, name: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("{kind} {name} was not found"),
        "the deployment group names it; check that it still exists",
    )
}
