//! How the API writes services, revisions and deployments; field names are those of the service model.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{EcsHook, EcsService, HookTarget, Route, Stage, Strategy};
use super::record::{
    Revision, ServiceDeploymentRecord, ServiceDeploymentStatus as Status, Side, cluster_arn, service_arn,
};
use super::{Known, State};
use crate::api::{ACCOUNT, REGION};
use crate::doubts::StageBeforeStep;
use crate::lambda::function_arn;

/// Name of the only container of the lab's tasks.
const CONTAINER: &str = "app";
/// Where ECS leaves the two limits if a service does not set them.
const DEFAULT_LIMITS: (u32, u32) = (100, 200);

pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Sets a field that the API leaves out when it has no value.
fn set(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

pub(super) fn deployment(record: &ServiceDeploymentRecord, revisions: &BTreeMap<String, Revision>) -> Value {
    let service = &record.service;
    let side = |side: &Side| summary(side, service, revisions.get(&side.revision));
    let alarms = service.alarms.as_ref();
    let mut about = brief(record);
    if let Some(map) = about.as_object_mut() {
        map.remove("targetServiceRevisionArn");
    }
    about["sourceServiceRevisions"] = record.source.iter().map(side).collect();
    about["targetServiceRevision"] = side(&record.target);
    about["updatedAt"] = json!(seconds(record.updated));
    about["deploymentConfiguration"] = configuration(service);
    about["deploymentCircuitBreaker"] = json!({
        "status": record.circuit_breaker.as_str(),
        "failureCount": record.failures,
        "threshold": record.failure_threshold(),
    });
    about["alarms"] = json!({
        "status": record.alarms.as_str(),
        "alarmNames": alarms.map(|alarms| alarms.names.clone()).unwrap_or_default(),
        "triggeredAlarmNames": record.triggered,
    });
    set(&mut about, "stoppedAt", record.stopped.map(seconds));
    set(&mut about, "lifecycleStage", record.stage.map(|stage| shown(stage, service)));
    if !record.hooks.is_empty() {
        about["lifecycleHookDetails"] = record.hooks.iter().map(hook_detail).collect();
    }
    set(
        &mut about,
        "rollback",
        record.rollback.as_ref().map(|rollback| {
            json!({
                "reason": rollback.reason,
                "startedAt": seconds(rollback.started),
                "serviceRevisionArn": rollback.revision,
            })
        }),
    );
    about
}

/// A deployment as `ListServiceDeployments` has it.
pub(super) fn brief(record: &ServiceDeploymentRecord) -> Value {
    let mut about = json!({
        "serviceDeploymentArn": record.arn,
        "serviceArn": service_arn(&record.service),
        "clusterArn": cluster_arn(&record.service.service.cluster),
        "createdAt": seconds(record.created),
        "targetServiceRevisionArn": record.target.revision,
        "status": record.status.as_str(),
    });
    set(&mut about, "startedAt", record.started.map(seconds));
    set(&mut about, "finishedAt", record.finished.map(seconds));
    set(&mut about, "statusReason", record.status_reason.clone());
    about
}

/// The stage's name as this service's ECS shows it.
fn shown(stage: Stage, service: &EcsService) -> &'static str {
    match stage {
        Stage::PreProductionTrafficShift if service.doubts.stage_before_step == StageBeforeStep::NotShown => {
            Stage::ProductionTrafficShift.as_str()
        }
        stage => stage.as_str(),
    }
}

fn summary(side: &Side, service: &EcsService, revision: Option<&Revision>) -> Value {
    let (running, pending) = revision.map(Revision::counts).unwrap_or_default();
    let mut about = json!({
        "arn": side.revision,
        "requestedTaskCount": side.requested,
        "runningTaskCount": running,
        "pendingTaskCount": pending,
    });
    // A rolling deployment shifts no weights.
    if !matches!(service.strategy, Strategy::Rolling { .. }) {
        about["requestedTestTrafficWeight"] = json!(side.test_weight);
        about["requestedProductionTrafficWeight"] = json!(side.production_weight);
    }
    about
}

fn hook_detail(hook: &super::HookRecord) -> Value {
    let mut detail = json!({
        "hookId": hook.id,
        "targetType": if hook.target_arn.is_some() { "AWS_LAMBDA" } else { "PAUSE" },
        "status": hook.status.as_str(),
        "expiresAt": seconds(hook.expires),
        "timeoutAction": hook.on_timeout.as_str(),
    });
    set(&mut detail, "targetArn", hook.target_arn.clone());
    detail
}

/// Minutes are whole numbers in the API; those of the lab may be fractions.
fn minutes(minutes: f64) -> u64 {
    minutes.round() as u64
}

fn configuration(service: &EcsService) -> Value {
    let (minimum, maximum) = match service.strategy {
        Strategy::Rolling { minimum_healthy_percent, maximum_percent } => {
            (minimum_healthy_percent, maximum_percent)
        }
        _ => DEFAULT_LIMITS,
    };
    let breaker = service.circuit_breaker;
    let mut about = json!({
        "strategy": service.strategy.as_str(),
        "minimumHealthyPercent": minimum,
        "maximumPercent": maximum,
        "bakeTimeInMinutes": minutes(service.bake_minutes),
        "deploymentCircuitBreaker": {
            "enable": breaker.is_some(),
            "rollback": breaker.is_some_and(|breaker| breaker.rollback),
        },
        "lifecycleHooks": service.hooks.iter().map(hook).collect::<Vec<_>>(),
    });
    let alarms = service.alarms.as_ref();
    set(
        &mut about,
        "alarms",
        alarms.map(|alarms| json!({"alarmNames": alarms.names, "rollback": alarms.rollback, "enable": true})),
    );
    match service.strategy {
        Strategy::Linear { step_percent, step_bake_minutes } => {
            about["linearConfiguration"] = json!({
                "stepPercent": step_percent, "stepBakeTimeInMinutes": minutes(step_bake_minutes),
            });
        }
        Strategy::Canary { percent, bake_minutes } => {
            about["canaryConfiguration"] =
                json!({"canaryPercent": percent, "canaryBakeTimeInMinutes": minutes(bake_minutes)});
        }
        Strategy::Rolling { .. } | Strategy::BlueGreen => {}
    }
    about
}

fn hook(hook: &EcsHook) -> Value {
    let stages: Vec<&str> = hook.stages.iter().map(|stage| stage.as_str()).collect();
    let mut about = match &hook.target {
        HookTarget::Function(name) => json!({
            "targetType": "AWS_LAMBDA",
            "hookTargetArn": if name.starts_with("arn:") { name.clone() } else { function_arn(name) },
        }),
        HookTarget::Wait(_) => json!({"targetType": "PAUSE"}),
    };
    about["lifecycleStages"] = json!(stages);
    set(&mut about, "roleArn", hook.has_role.then(|| role("ecs-lifecycle-hooks")));
    set(&mut about, "hookDetails", hook.details.clone());
    about["timeoutConfiguration"] = json!({
        "timeoutInMinutes": hook.timeout_minutes.map_or(1440, minutes),
        "action": hook.on_timeout.as_str(),
    });
    about
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

pub(super) fn revision(revision: &Revision) -> Value {
    let service = &revision.service;
    let name = &service.service.name;
    let mut about = json!({
        "serviceRevisionArn": revision.arn,
        "serviceArn": service_arn(service),
        "clusterArn": cluster_arn(&service.service.cluster),
        "taskDefinition": revision.task_definition(),
        "launchType": "FARGATE",
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
        "loadBalancers": load_balancers(service),
        "containerImages": [{
            "containerName": CONTAINER,
            "image": format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}:{}", revision.count),
            "imageDigest": digest(name, revision.count),
        }],
        "guardDutyEnabled": false,
        "createdAt": seconds(revision.created),
    });
    set(&mut about, "serviceConnectConfiguration", service.service_connect.clone());
    if revision.tasks.is_some() {
        set(&mut about, "resolvedConfiguration", resolved(revision));
    }
    about
}

/// Where an active revision's tasks really are.
fn resolved(revision: &Revision) -> Option<Value> {
    let service = &revision.service;
    let mut balancer = json!({"targetGroupArn": target_group_arn(service, revision.target_group.as_ref()?)?});
    if !matches!(service.strategy, Strategy::Rolling { .. }) {
        set(
            &mut balancer,
            "productionListenerRule",
            route_arn(service, &service.routing.as_ref()?.production),
        );
    }
    Some(json!({"loadBalancers": [balancer]}))
}

fn load_balancers(service: &EcsService) -> Vec<Value> {
    let Some(routing) = &service.routing else { return Vec::new() };
    let [primary, alternate] = &routing.target_groups;
    let mut about = json!({"containerName": CONTAINER, "containerPort": 8080});
    set(&mut about, "targetGroupArn", target_group_arn(service, primary));
    if !matches!(service.strategy, Strategy::Rolling { .. }) {
        let mut advanced = json!({"roleArn": role("ecs-load-balancers")});
        set(&mut advanced, "alternateTargetGroupArn", target_group_arn(service, alternate));
        set(&mut advanced, "productionListenerRule", route_arn(service, &routing.production));
        let test = routing.test.as_ref().and_then(|test| route_arn(service, test));
        set(&mut advanced, "testListenerRule", test);
        about["advancedConfiguration"] = advanced;
    }
    vec![about]
}

fn target_group_arn(service: &EcsService, name: &str) -> Option<String> {
    Some(service.service.balancer.as_ref()?.target_group(name).ok()?.arn.clone())
}

fn route_arn(service: &EcsService, route: &Route) -> Option<String> {
    match route {
        Route::Rule(arn) => Some(arn.clone()),
        Route::Listener(kind) => Some(service.service.balancer.as_ref()?.listener(*kind).ok()?.arn.clone()),
    }
}

/// 64 hexadecimal digits that are the same on every run.
fn digest(name: &str, count: usize) -> String {
    let part = |index: u8| {
        let mut hasher = DefaultHasher::new();
        (name, count, index).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    format!("sha256:{}", (0..4).map(part).collect::<String>())
}

pub(super) fn tags(service: &EcsService) -> Vec<Value> {
    service.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

pub(super) fn service(state: &State, known: &Known, with_tags: bool) -> Value {
    let service = &known.service;
    let current = known.current.as_ref().and_then(|arn| state.deployments.get(arn));
    let mut listed = state.active(known);
    // What is being deployed counts before its tasks are there.
    if let Some(current) = current
        && !current.status.is_over()
        && !listed.contains(&current.target.revision)
    {
        listed.push(current.target.revision.clone());
    }
    let revisions: Vec<&Revision> = listed.iter().filter_map(|arn| state.revisions.get(arn)).collect();
    let primary = primary(known, current);
    let counts: Vec<(usize, usize)> = revisions.iter().map(|revision| revision.counts()).collect();
    let mut about = json!({
        "serviceArn": service_arn(service),
        "serviceName": service.service.name,
        "clusterArn": cluster_arn(&service.service.cluster),
        "status": "ACTIVE",
        "desiredCount": service.desired,
        "runningCount": counts.iter().map(|(running, _)| running).sum::<usize>(),
        "pendingCount": counts.iter().map(|(_, pending)| pending).sum::<usize>(),
        "launchType": "FARGATE",
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "deploymentConfiguration": configuration(service),
        "loadBalancers": load_balancers(service),
        "serviceRegistries": [],
        "deployments": revisions
            .iter()
            .map(|revision| older_deployment(revision, current, primary))
            .collect::<Vec<_>>(),
        "currentServiceRevisions": revisions.iter().map(|revision| current_revision(revision)).collect::<Vec<_>>(),
        "events": [],
        "createdAt": seconds(known.created),
        "enableECSManagedTags": false,
        "enableExecuteCommand": false,
    });
    let going_on = current.filter(|current| !current.status.is_over());
    set(&mut about, "currentServiceDeployment", going_on.map(|current| current.arn.clone()));
    let definition = primary.and_then(|arn| state.revisions.get(arn)).map(Revision::task_definition);
    set(&mut about, "taskDefinition", definition);
    if with_tags {
        about["tags"] = json!(tags(service));
    }
    about
}

/// ARN of the revision that is to serve in the end.
fn primary<'a>(known: &'a Known, current: Option<&'a ServiceDeploymentRecord>) -> Option<&'a str> {
    let target = current.filter(|current| current.status.is_going_on());
    target.map(|current| current.target.revision.as_str()).or(known.live.as_deref())
}

fn current_revision(revision: &Revision) -> Value {
    let (running, pending) = revision.counts();
    json!({
        "arn": revision.arn,
        "requestedTaskCount": running + pending,
        "runningTaskCount": running,
        "pendingTaskCount": pending,
    })
}

/// A revision as `DescribeServices` has it: what was called a deployment before there were service deployments.
fn older_deployment(
    revision: &Revision,
    current: Option<&ServiceDeploymentRecord>,
    primary: Option<&str>,
) -> Value {
    let (running, pending) = revision.counts();
    let is_target = current.is_some_and(|current| current.target.revision == revision.arn);
    let rollout = match current.map(|current| current.status) {
        Some(Status::Pending | Status::InProgress) if is_target => "IN_PROGRESS",
        Some(Status::RollbackRequested | Status::RollbackInProgress) if !is_target => "IN_PROGRESS",
        Some(Status::Successful) | None => "COMPLETED",
        Some(_) if is_target => "FAILED",
        Some(_) => "COMPLETED",
    };
    let mut about = json!({
        "id": revision.deployment_id(),
        "status": if primary == Some(revision.arn.as_str()) { "PRIMARY" } else { "ACTIVE" },
        "taskDefinition": revision.task_definition(),
        "desiredCount": revision.service.desired,
        "pendingCount": pending,
        "runningCount": running,
        "failedTasks": revision.failed_tasks,
        "createdAt": seconds(revision.created),
        "updatedAt": seconds(current.map_or(revision.created, |current| current.updated)),
        "launchType": "FARGATE",
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
        "rolloutState": rollout,
        "rolloutStateReason": match rollout {
            "COMPLETED" => format!("ECS deployment {} completed.", revision.deployment_id()),
            "IN_PROGRESS" => format!("ECS deployment {} in progress.", revision.deployment_id()),
            _ => current.and_then(|current| current.status_reason.clone()).unwrap_or_default(),
        },
    });
    set(&mut about, "serviceConnectConfiguration", revision.service.service_connect.clone());
    about
}
