//! From a deployment to its colours, listeners and metrics' dimensions.

use aws_sdk_codedeploy::types::{self as codedeploy, EcsTarget};
use aws_sdk_elasticloadbalancingv2::types as elb;

use super::deployment::{Told, incomplete, not_found, timestamp};
use super::{
    Colour, Controller, Deployment, Entrance, LifecycleEvent, Listener, LoadBalancer, Phase, Rollout,
    Service, TargetGroup, TaskSet, function, is_weight, native, schedule,
};
use crate::aws::{self, Aws};
use crate::event::DeploymentId;
use crate::fault::{Fault, FaultKind};

// IAM actions, for faults.
const GROUP: &str = "codedeploy:GetDeploymentGroup";
pub(super) const TARGET: &str = "codedeploy:GetDeploymentTarget";
pub(super) const TARGET_GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";
pub(super) const LISTENERS: &str = "elasticloadbalancing:DescribeListeners";
const LOAD_BALANCERS: &str = "elasticloadbalancing:DescribeLoadBalancers";

/// Finds out what the deployment deploys, without configuration: six calls, all at once where the `target_id` is known and
/// CodeDeploy tells the target groups with the deployment; one call where the service is `known`.
pub async fn discover(
    aws: &Aws,
    deployment: &Deployment,
    known: Option<&Service>,
    target_id: Option<&str>,
) -> Result<Rollout, Fault> {
    match (deployment.controller, known) {
        (Controller::Ecs, _) => native::discover(aws, deployment).await,
        (Controller::CodeDeployForLambda, _) => function::discover(aws, deployment, target_id).await,
        (Controller::CodeDeploy, Some(service)) => service.in_deployment(aws, deployment).await,
        (Controller::CodeDeploy, None) => {
            let pair = match &deployment.told {
                Told::CodeDeploy(pair) => pair.as_deref().and_then(Pair::of),
                Told::Ecs(_) => None,
            };
            let service = named_service(aws, &deployment.application, &deployment.group, pair);
            let Some(target_id) = target_id else {
                return service.await?.in_deployment(aws, deployment).await;
            };
            let (service, target) = tokio::try_join!(service, ecs_target(aws, &deployment.id, target_id))?;
            service.rollout(deployment, &target)
        }
    }
}

/// Finds out what a deployment group deploys, whichever deployment it is: four calls.
pub async fn service(aws: &Aws, application: &str, group: &str) -> Result<Service, Fault> {
    named_service(aws, application, group, None).await
}

/// The same; the target groups and listeners need not be asked for first if they are known.
async fn named_service(
    aws: &Aws,
    application: &str,
    group: &str,
    pair: Option<Pair>,
) -> Result<Service, Fault> {
    let name = format!("{application}/{group}");
    let asked = deployment_group(aws, application, group);
    let (info, balanced) = if let Some(pair) = pair {
        tokio::try_join!(asked, balanced(aws, &pair))?
    } else {
        let info = asked.await?;
        let balanced = balanced(aws, &pair_of_group(&name, &info)?).await?;
        (info, balanced)
    };
    let (cluster, service) = ecs_service(&name, &info)?;
    Ok(Service {
        application: application.to_owned(),
        group: group.to_owned(),
        cluster,
        service,
        target_groups: balanced.target_groups,
        load_balancer: balanced.load_balancer,
        production_listener: balanced.production,
        test_listener: balanced.test,
        alarms: alarms(&info),
        last_successful: info.last_successful_deployment().and_then(|last| last.deployment_id.clone()),
    })
}

/// What CodeDeploy names of the load balancer: the target groups by name, the listeners by ARN.
struct Pair {
    target_groups: [String; 2],
    production: String,
    test: Option<String>,
}

impl Pair {
    /// `None` when it is not told in full.
    fn of(pair: &codedeploy::TargetGroupPairInfo) -> Option<Self> {
        Some(Self {
            target_groups: target_group_names(pair)?,
            production: listener_arn(pair.prod_traffic_route.as_ref())?,
            test: listener_arn(pair.test_traffic_route.as_ref()),
        })
    }
}

fn pair_of_group(name: &str, group: &codedeploy::DeploymentGroupInfo) -> Result<Pair, Fault> {
    let pair = group.load_balancer_info().and_then(|info| info.target_group_pair_info_list().first());
    let pair = pair.filter(|pair| target_group_names(pair).is_some());
    let pair = pair.ok_or_else(|| group_lacks(name, "a pair of target groups"))?;
    Pair::of(pair).ok_or_else(|| group_lacks(name, "a production listener"))
}

fn target_group_names(pair: &codedeploy::TargetGroupPairInfo) -> Option<[String; 2]> {
    let names: Vec<String> = pair.target_groups().iter().filter_map(|group| group.name.clone()).collect();
    names.try_into().ok()
}

/// What the load balancing API knows of a pair.
struct Balanced {
    target_groups: [TargetGroup; 2],
    production: Listener,
    test: Option<Listener>,
    load_balancer: LoadBalancer,
}

async fn balanced(aws: &Aws, pair: &Pair) -> Result<Balanced, Fault> {
    let arn = balancer_of(&pair.production);
    let named = [Some(&pair.production), pair.test.as_ref()];
    let (target_groups, listeners, guessed) = tokio::try_join!(
        target_groups(aws, &pair.target_groups),
        listeners(aws, &named),
        load_balancer_if(aws, arn.as_ref()),
    )?;
    let find = |arn: &String| {
        let found = listeners.iter().find(|(listener, _)| listener.arn == *arn).cloned();
        found.ok_or_else(|| not_found(LISTENERS, "listener", arn))
    };
    let (production, balancer_arn) = find(&pair.production)?;
    let test = pair.test.as_ref().map(find).transpose()?.map(|(listener, _)| listener);
    let [one, other] = pair.target_groups.each_ref().map(|name| {
        let found = target_groups.iter().find(|group| group.name == *name).cloned();
        found.ok_or_else(|| not_found(TARGET_GROUPS, "target group", name))
    });
    Ok(Balanced {
        target_groups: [one?, other?],
        production,
        test,
        load_balancer: load_balancer_of(aws, &balancer_arn, arn.zip(guessed)).await?,
    })
}

/// The balancer's ARN, which its listeners' and their rules' ARNs hold: `.../listener/app/name/id/listener`.
pub(super) fn balancer_of(listener_or_rule: &str) -> Option<String> {
    let (prefix, rest) = listener_or_rule
        .split_once(":listener/")
        .or_else(|| listener_or_rule.split_once(":listener-rule/"))?;
    let mut parts = rest.split('/');
    let (kind, name, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{prefix}:loadbalancer/{kind}/{name}/{id}"))
}

/// The balancer of this ARN, if there is one.
pub(super) async fn load_balancer_if(aws: &Aws, arn: Option<&String>) -> Result<Option<LoadBalancer>, Fault> {
    match arn {
        Some(arn) => load_balancer(aws, arn).await.map(Some),
        None => Ok(None),
    }
}

/// The balancer of this ARN. What was asked for before it was known counts if it is the right one, as it always was.
pub(super) async fn load_balancer_of(
    aws: &Aws,
    arn: &str,
    guessed: Option<(String, LoadBalancer)>,
) -> Result<LoadBalancer, Fault> {
    match guessed {
        Some((guess, balancer)) if guess == arn => Ok(balancer),
        _ => load_balancer(aws, arn).await,
    }
}

impl Service {
    /// The service that a rollout by CodeDeploy deploys; none without a load balancer.
    pub fn of(deployment: &Deployment, rollout: &Rollout) -> Option<Self> {
        let entrance = rollout.entrance.as_ref()?;
        Some(Self {
            application: deployment.application.clone(),
            group: deployment.group.clone(),
            cluster: rollout.cluster.clone(),
            service: rollout.service.clone(),
            target_groups: [rollout.blue.target_group.clone()?, rollout.green.target_group.clone()?],
            load_balancer: entrance.load_balancer.clone(),
            production_listener: entrance.production.clone(),
            test_listener: entrance.test.clone(),
            alarms: rollout.alarms.clone(),
            last_successful: rollout.last_successful.clone(),
        })
    }

    /// What one of its deployments deploys: one call.
    pub async fn in_deployment(&self, aws: &Aws, deployment: &Deployment) -> Result<Rollout, Fault> {
        self.rollout(deployment, &self.target(aws, &deployment.id).await?)
    }

    /// Where one of its deployments stands: one call, which needs no answer about the deployment.
    pub(crate) async fn target(&self, aws: &Aws, id: &DeploymentId) -> Result<EcsTarget, Fault> {
        ecs_target(aws, id, &format!("{}:{}", self.cluster, self.service)).await
    }

    /// What a deployment deploys, by what was told of its target.
    pub(crate) fn rollout(&self, deployment: &Deployment, target: &EcsTarget) -> Result<Rollout, Fault> {
        let mut rollout = self.with_blue(self.blue(deployment, target)?);
        stand(&mut rollout, deployment, target)?;
        rollout.schedule = schedule::of_configuration(&deployment.configuration);
        Ok(rollout)
    }

    /// The service with one of its target groups (0 or 1) as blue and the other as green, and no deployment: no tasks, no
    /// lifecycle events.
    pub fn with_blue(&self, blue: usize) -> Rollout {
        let [one, other] = &self.target_groups;
        let (blue, green) = if blue == 0 { (one, other) } else { (other, one) };
        let colour = |target_group: &TargetGroup| Colour {
            target_group: Some(target_group.clone()),
            ..Colour::default()
        };
        Rollout {
            cluster: self.cluster.clone(),
            service: self.service.clone(),
            function: None,
            schedule: Vec::new(),
            blue: colour(blue),
            green: colour(green),
            entrance: Some(Entrance {
                load_balancer: self.load_balancer.clone(),
                production: self.production_listener.clone(),
                test: self.test_listener.clone(),
            }),
            alarms: self.alarms.clone(),
            events: Vec::new(),
            last_successful: self.last_successful.clone(),
            test_header: None,
            served: None,
            // CodeDeploy's deployments take over a service that runs.
            is_first: false,
        }
    }

    /// Which target group is blue's. Before Install only blue has a task set, and after a while only green; the other
    /// colour gets the other group.
    fn blue(&self, deployment: &Deployment, target: &EcsTarget) -> Result<usize, Fault> {
        let group_of = |label| {
            let name = task_set(target, &label)?.target_group()?.name()?;
            Some(self.target_groups.iter().position(|group| group.name == name).ok_or_else(|| {
                group_lacks(
                    &format!("{}/{}", deployment.application, deployment.group),
                    &format!("the target group {name}"),
                )
            }))
        };
        match (group_of(codedeploy::TargetLabel::Blue), group_of(codedeploy::TargetLabel::Green)) {
            (Some(blue), _) => blue,
            (None, Some(green)) => Ok(1 - green?),
            (None, None) => Err(incomplete(TARGET, &deployment.id, "task set with a target group")),
        }
    }
}

/// Reads the tasks and lifecycle events again; colours and listeners do not change during a deployment.
pub async fn refresh(aws: &Aws, deployment: &Deployment, rollout: &mut Rollout) -> Result<(), Fault> {
    match deployment.controller {
        Controller::Ecs => return native::refresh(aws, deployment, rollout).await,
        Controller::CodeDeployForLambda => return function::refresh(aws, deployment, rollout).await,
        Controller::CodeDeploy => {}
    }
    let target = ecs_target(aws, &deployment.id, &format!("{}:{}", rollout.cluster, rollout.service)).await?;
    stand(rollout, deployment, &target)
}

/// Takes over where the tasks and the lifecycle events stand.
fn stand(rollout: &mut Rollout, deployment: &Deployment, target: &EcsTarget) -> Result<(), Fault> {
    let of = |label| task_set(target, &label).map(|set| tasks(set, deployment)).transpose();
    rollout.blue.tasks = of(codedeploy::TargetLabel::Blue)?;
    rollout.green.tasks = of(codedeploy::TargetLabel::Green)?;
    rollout.events = lifecycle_events(target.lifecycle_events())?;
    Ok(())
}

pub(super) async fn deployment_group(
    aws: &Aws,
    application: &str,
    group: &str,
) -> Result<codedeploy::DeploymentGroupInfo, Fault> {
    aws.codedeploy
        .get_deployment_group()
        .application_name(application)
        .deployment_group_name(group)
        .send()
        .await
        .map_err(|error| aws::fault(GROUP, &format!("read deployment group {application}/{group}"), error))?
        .deployment_group_info
        .ok_or_else(|| not_found(GROUP, "deployment group", &format!("{application}/{group}")))
}

async fn ecs_target(aws: &Aws, id: &DeploymentId, target_id: &str) -> Result<EcsTarget, Fault> {
    let target = deployment_target(aws, id, target_id).await?;
    target.ecs_target.ok_or_else(|| incomplete(TARGET, id, "ecsTarget"))
}

pub(super) async fn deployment_target(
    aws: &Aws,
    id: &DeploymentId,
    target_id: &str,
) -> Result<codedeploy::DeploymentTarget, Fault> {
    aws.codedeploy
        .get_deployment_target()
        .deployment_id(id.as_str())
        .target_id(target_id)
        .send()
        .await
        .map_err(|error| aws::fault(TARGET, &format!("read target {target_id} of deployment {id}"), error))?
        .deployment_target
        .ok_or_else(|| incomplete(TARGET, id, "target"))
}

async fn target_groups(aws: &Aws, names: &[String; 2]) -> Result<Vec<TargetGroup>, Fault> {
    let output =
        aws.elb.describe_target_groups().set_names(Some(names.to_vec())).send().await.map_err(|error| {
            aws::fault(TARGET_GROUPS, &format!("read target groups {}", names.join(", ")), error)
        })?;
    Ok(output.target_groups().iter().filter_map(target_group).collect())
}

pub(super) async fn listeners(aws: &Aws, arns: &[Option<&String>]) -> Result<Vec<(Listener, String)>, Fault> {
    let arns: Vec<String> = arns.iter().flatten().map(|arn| (*arn).clone()).collect();
    let purpose = format!("read listeners {}", arns.join(", "));
    let output = aws
        .elb
        .describe_listeners()
        .set_listener_arns(Some(arns))
        .send()
        .await
        .map_err(|error| aws::fault(LISTENERS, &purpose, error))?;
    Ok(output.listeners().iter().filter_map(listener).collect())
}

pub(super) async fn load_balancer(aws: &Aws, arn: &str) -> Result<LoadBalancer, Fault> {
    let output = aws
        .elb
        .describe_load_balancers()
        .load_balancer_arns(arn)
        .send()
        .await
        .map_err(|error| aws::fault(LOAD_BALANCERS, &format!("read load balancer {arn}"), error))?;
    let missing = || not_found(LOAD_BALANCERS, "load balancer", arn);
    let balancer = output.load_balancers().first().ok_or_else(missing)?;
    let zones = balancer.availability_zones().iter().filter_map(|zone| zone.zone_name.clone());
    Ok(LoadBalancer {
        dns_name: balancer.dns_name.clone().ok_or_else(missing)?,
        dimension: arn.split_once("loadbalancer/").ok_or_else(missing)?.1.to_owned(),
        zones: zones.collect(),
    })
}

fn ecs_service(name: &str, group: &codedeploy::DeploymentGroupInfo) -> Result<(String, String), Fault> {
    match group.ecs_services() {
        [service] => service.cluster_name.clone().zip(service.service_name.clone()),
        _ => None,
    }
    .ok_or_else(|| group_lacks(name, "exactly one ECS service"))
}

fn task_set<'a>(
    target: &'a EcsTarget,
    label: &codedeploy::TargetLabel,
) -> Option<&'a codedeploy::EcsTaskSet> {
    target.task_sets_info().iter().find(|set| set.task_set_label.as_ref() == Some(label))
}

fn tasks(set: &codedeploy::EcsTaskSet, deployment: &Deployment) -> Result<TaskSet, Fault> {
    if !is_weight(set.traffic_weight) {
        return Err(incomplete(TARGET, &deployment.id, "trafficWeight from 0 to 100"));
    }
    Ok(TaskSet {
        desired: set.desired_count,
        pending: set.pending_count,
        running: set.running_count,
        weight: set.traffic_weight,
    })
}

pub(super) fn target_group(group: &elb::TargetGroup) -> Option<TargetGroup> {
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

pub(super) fn listener(listener: &elb::Listener) -> Option<(Listener, String)> {
    let found = Listener {
        arn: listener.listener_arn.clone()?,
        port: u16::try_from(listener.port?).ok()?,
        protocol: listener.protocol.as_ref()?.as_str().to_owned(),
        conditions: Vec::new(),
    };
    Some((found, listener.load_balancer_arn.clone()?))
}

fn listener_arn(route: Option<&codedeploy::TrafficRoute>) -> Option<String> {
    route.and_then(|route| route.listener_arns().first().cloned())
}

pub(super) fn alarms(group: &codedeploy::DeploymentGroupInfo) -> Vec<String> {
    group
        .alarm_configuration()
        .filter(|configuration| configuration.enabled)
        .map(|configuration| configuration.alarms().iter().filter_map(|alarm| alarm.name.clone()).collect())
        .unwrap_or_default()
}

/// The events of a deployment, in order. A status that is not one of CodeDeploy's words is a fault: whoever took it for one
/// of them would wait for ever, or stop to watch.
pub(super) fn lifecycle_events(events: &[codedeploy::LifecycleEvent]) -> Result<Vec<LifecycleEvent>, Fault> {
    events.iter().map(lifecycle_event).collect()
}

fn lifecycle_event(event: &codedeploy::LifecycleEvent) -> Result<LifecycleEvent, Fault> {
    use codedeploy::LifecycleEventStatus as Status;
    let name = event.lifecycle_event_name.clone().unwrap_or_default();
    let status = match &event.status {
        Some(Status::InProgress) => Phase::InProgress,
        Some(Status::Succeeded) => Phase::Succeeded,
        Some(Status::Failed | Status::Skipped) => Phase::Over,
        None | Some(Status::Pending | Status::UnknownValue) => Phase::Pending,
        Some(other) => {
            return Err(Fault::new(
                FaultKind::Unavailable,
                format!("CodeDeploy says {} of {name} ({TARGET}), which nobody knows here", other.as_str()),
                "look at the deployment in the console; a newer Shiftgate may know the status",
            ));
        }
    };
    Ok(LifecycleEvent {
        name,
        status,
        started: timestamp(event.start_time),
        ended: timestamp(event.end_time),
    })
}

fn group_lacks(name: &str, what: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("deployment group {name} does not have {what} ({GROUP})"),
        "Shiftgate needs an ECS blue/green deployment group with a load balancer",
    )
}
