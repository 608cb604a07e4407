//! How groups and targets are told in the CodeDeploy API.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{DeploymentRecord, EventRecord, Group, Hook, Status};
use super::shift::Shift;
use super::target::{FunctionTarget, ServiceTarget, Target};
use crate::doubts::FunctionWeights;
use crate::load_balancer::ListenerKind;
use crate::service::{Label, TaskSet};

/// As the API writes times.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Sets a field that the API leaves out when it has no value.
pub(super) fn set(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

/// A deployment group.
pub(super) fn group(group: &Group) -> Value {
    let rollback = group.auto_rollback;
    let events: Vec<&str> =
        [(rollback.on_failure, "DEPLOYMENT_FAILURE"), (rollback.on_alarm, "DEPLOYMENT_STOP_ON_ALARM")]
            .into_iter()
            .filter_map(|(on, event)| on.then_some(event))
            .collect();
    let platform = group.target.platform();
    let mut info = json!({
        "applicationName": group.application,
        "deploymentGroupName": group.name,
        "deploymentConfigName": group.shift.name(platform),
        "computePlatform": platform.as_str(),
        "alarmConfiguration": {
            "enabled": !group.alarms.is_empty(),
            "ignorePollAlarmFailure": false,
            "alarms": group.alarms.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        },
        "autoRollbackConfiguration": {"enabled": !events.is_empty(), "events": events},
        "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
    });
    // A group of the Lambda platform does not even name its function: that is in each revision.
    if let Target::Service(target) = &group.target {
        add_service(&mut info, target);
    }
    info
}

/// The AppSpec of a group's deployments, with the hooks that call functions.
pub(super) fn app_spec(group: &Group) -> Value {
    let hooks: Vec<Value> = group
        .hooks
        .iter()
        .filter_map(|(event, hook)| match hook {
            Hook::Function(function) => Some(json!({*event: function})),
            Hook::Wait(_) => None,
        })
        .collect();
    json!({"version": 0.0, "Resources": [], "Hooks": hooks})
}

/// How traffic shifts, as a deployment configuration has it.
pub(super) fn routing(shift: Shift) -> Value {
    match shift {
        Shift::AllAtOnce => json!({"type": "AllAtOnce"}),
        Shift::Canary { percent, minutes } => json!({
            "type": "TimeBasedCanary",
            "timeBasedCanary": {"canaryPercentage": percent as u64, "canaryInterval": minutes as u64},
        }),
        Shift::Linear { percent, minutes } => json!({
            "type": "TimeBasedLinear",
            "timeBasedLinear": {"linearPercentage": percent as u64, "linearInterval": minutes as u64},
        }),
    }
}

/// The target groups and listeners of a group, or of one of its deployments.
pub(super) fn load_balancer_info(target: &ServiceTarget) -> Value {
    let route = |kind| {
        let listener = target.service.balancer.as_ref()?.listener(kind).ok()?;
        Some(json!({"listenerArns": [listener.arn]}))
    };
    let mut pair = json!({
        "targetGroups": target.target_groups.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
    });
    set(&mut pair, "prodTrafficRoute", route(ListenerKind::Production));
    set(&mut pair, "testTrafficRoute", route(ListenerKind::Test));
    json!({"targetGroupPairInfoList": [pair]})
}

fn add_service(info: &mut Value, target: &ServiceTarget) {
    let service = &target.service;
    info["ecsServices"] = json!([{"serviceName": service.name, "clusterName": service.cluster}]);
    info["loadBalancerInfo"] = load_balancer_info(target);
    info["blueGreenDeploymentConfiguration"] = json!({
        "deploymentReadyOption": {"actionOnTimeout": "CONTINUE_DEPLOYMENT", "waitTimeInMinutes": 0},
        "terminateBlueInstancesOnDeploymentSuccess": {
            "action": "TERMINATE",
            "terminationWaitTimeInMinutes": target.termination_wait_minutes.round() as u64,
        },
    });
}

/// A deployment's target.
pub(super) fn target(record: &DeploymentRecord, group: &Group) -> Value {
    let target = &group.target;
    let status = match record.status {
        Status::Created => "Pending",
        Status::InProgress => "InProgress",
        Status::Succeeded => "Succeeded",
        Status::Failed | Status::Stopped => "Failed",
    };
    let mut info = json!({
        "deploymentId": record.id,
        "targetId": target.id(),
        "targetArn": target.arn(),
        "lastUpdatedAt": seconds(Timestamp::now()),
        "status": status,
        "lifecycleEvents": record.events.iter().map(event_info).collect::<Vec<_>>(),
    });
    match target {
        Target::Service(_) => {
            let sets = [(Label::Blue, &record.blue), (Label::Green, &record.green)];
            info["taskSetsInfo"] = sets
                .into_iter()
                .filter_map(|(label, set)| set.as_ref().map(|set| task_set_info(record, label, set)))
                .collect();
            json!({"deploymentTargetType": "ECSTarget", "ecsTarget": info})
        }
        Target::Function(target) => {
            info["lambdaFunctionInfo"] = function_info(record, target, group.doubts.function_weights);
            json!({"deploymentTargetType": "LambdaTarget", "lambdaTarget": info})
        }
    }
}

fn function_info(record: &DeploymentRecord, target: &FunctionTarget, written: FunctionWeights) -> Value {
    let weight = match written {
        // Where ECS has percent.
        FunctionWeights::Fraction => record.green_weight / 100.0,
        FunctionWeights::Percent => record.green_weight,
    };
    let mut info = json!({
        "functionName": target.function.name,
        "functionAlias": target.function.alias,
        "targetVersionWeight": weight,
    });
    let versions = record.versions.as_ref();
    set(&mut info, "currentVersion", versions.map(|versions| versions.current.clone()));
    set(&mut info, "targetVersion", versions.map(|versions| versions.target.clone()));
    info
}

fn event_info(event: &EventRecord) -> Value {
    let mut info = json!({"lifecycleEventName": event.name, "status": event.status.as_str()});
    set(&mut info, "startTime", event.started.map(seconds));
    set(&mut info, "endTime", event.ended.map(seconds));
    info
}

fn task_set_info(record: &DeploymentRecord, label: Label, set: &TaskSet) -> Value {
    let weight = match label {
        Label::Blue => 100.0 - record.green_weight,
        Label::Green => record.green_weight,
    };
    let primary = (label == Label::Green) == (record.green_weight >= 100.0);
    json!({
        // Misspelled in the API itself.
        "identifer": set.id,
        "desiredCount": set.desired(),
        "pendingCount": set.desired() - set.running(),
        "runningCount": set.running(),
        "status": if primary { "PRIMARY" } else { "ACTIVE" },
        "trafficWeight": weight,
        "targetGroup": {"name": set.target_group},
        "taskSetLabel": label.as_str(),
    })
}
