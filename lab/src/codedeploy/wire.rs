//! The CodeDeploy API over awsJson1.1.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CodeDeploy;
use super::model::{DeploymentRecord, EventStatus, Status, Stop};
use super::shift::{Platform, Shift};
use super::target::Target;
use super::told::{self, seconds, set};
use crate::api::ApiError;
use crate::doubts::{DeploymentBalancer, EventStates, FinishedEvents, StopInTerminationWait};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    deployment_id: Option<String>,
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    deployment_config_name: Option<String>,
    target_id: Option<String>,
    target_ids: Option<Vec<String>>,
    lifecycle_event_hook_execution_id: Option<String>,
    status: Option<String>,
    auto_rollback_enabled: Option<bool>,
    revision: Option<Value>,
}

/// Deployments that one answer lists.
const PAGE: usize = 100;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListDeployments {
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    include_only_statuses: Vec<String>,
    create_time_range: TimeRange,
    next_token: Option<String>,
}

/// In seconds since the epoch; either end may be open.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TimeRange {
    start: Option<f64>,
    end: Option<f64>,
}

impl CodeDeploy {
    /// Answers one call; `operation` as in `X-Amz-Target` behind the dot.
    pub fn handle(self: &Arc<Self>, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        // ListDeployments has an input of its own: it filters by status, which is a list there.
        let output = match operation {
            "GetDeployment" => self.get_deployment(&read(body)?),
            "GetApplicationRevision" => self.get_application_revision(&read(body)?),
            "GetDeploymentConfig" => self.get_deployment_config(&read(body)?),
            "GetDeploymentGroup" => self.get_deployment_group(&read(body)?),
            "GetDeploymentTarget" => self.get_deployment_target(&read(body)?),
            "BatchGetDeploymentTargets" => self.batch_get_deployment_targets(&read(body)?),
            "ListDeploymentTargets" => self.list_deployment_targets(&read(body)?),
            "ListDeployments" => self.list_deployments(&read(body)?),
            "PutLifecycleEventHookExecutionStatus" => self.put_hook_status(&read(body)?),
            "StopDeployment" => self.stop_deployment(&read(body)?),
            "CreateDeployment" => self.create_deployment(&read(body)?),
            _ => Err(ApiError::unknown_operation(operation)),
        }?;
        Ok(output.to_string().into_bytes())
    }

    fn get_deployment(&self, input: &Input) -> Result<Value, ApiError> {
        let mut state = self.lock();
        let record = state.deployment_mut(deployment_id(input)?)?.clone();
        let mut info = json!({
            "applicationName": record.application,
            "deploymentGroupName": record.group,
            "deploymentConfigName": record.shift.name(record.platform),
            "deploymentId": record.id,
            "status": record.status.as_str(),
            "createTime": seconds(record.created),
            "creator": record.creator.as_str(),
            "computePlatform": record.platform.as_str(),
            // As on AWS, its content is told by GetApplicationRevision only.
            "revision": revision(&record.group, None),
            "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        });
        set(&mut info, "startTime", record.events.iter().find_map(|event| event.started).map(seconds));
        set(&mut info, "completeTime", record.completed.map(seconds));
        set(
            &mut info,
            "errorInformation",
            record.error.map(|(code, message)| json!({"code": code, "message": message})),
        );
        let rollback = match (&record.rolled_back_by, &record.rollback_of) {
            (Some(by), _) => Some(json!({"rollbackDeploymentId": by})),
            (None, Some(of)) => Some(json!({"rollbackTriggeringDeploymentId": of})),
            (None, None) => None,
        };
        set(&mut info, "rollbackInfo", rollback);
        let group = state.group_mut(&record.application, &record.group)?;
        if let Target::Service(target) = &group.target
            && group.doubts.deployment_balancer == DeploymentBalancer::Told
        {
            info["loadBalancerInfo"] = told::load_balancer_info(target);
        }
        Ok(json!({"deploymentInfo": info}))
    }

    /// The AppSpec of a deployment's revision: all deployments of a group have the same one here.
    fn get_application_revision(&self, input: &Input) -> Result<Value, ApiError> {
        let application = required(
            input.application_name.as_ref(),
            "ApplicationNameRequiredException",
            "application name",
        )?;
        let revision_is = |name: &str| {
            let sha = input.revision.as_ref().map(|revision| &revision["appSpecContent"]["sha256"]);
            sha.is_some_and(|sha| *sha == revision_id(name))
        };
        let state = self.lock();
        let mut groups = state.groups.iter().filter(|group| group.application == *application);
        let group = groups.find(|group| revision_is(&group.name)).ok_or_else(|| {
            let message = "No application revision found for the given revision";
            ApiError::client("RevisionDoesNotExistException", message)
        })?;
        let content = told::app_spec(group).to_string();
        Ok(json!({"applicationName": application, "revision": revision(&group.name, Some(&content))}))
    }

    /// A deployment configuration that one of the groups has.
    fn get_deployment_config(&self, input: &Input) -> Result<Value, ApiError> {
        let name = required(
            input.deployment_config_name.as_ref(),
            "DeploymentConfigNameRequiredException",
            "deployment configuration name",
        )?;
        let state = self.lock();
        let named = |group: &&super::model::Group| group.shift.name(group.target.platform()) == *name;
        let group = state.groups.iter().find(named).ok_or_else(|| {
            ApiError::client(
                "DeploymentConfigDoesNotExistException",
                format!("No Deployment Configuration found for name: {name}"),
            )
        })?;
        Ok(json!({"deploymentConfigInfo": {
            "deploymentConfigName": name,
            "computePlatform": group.target.platform().as_str(),
            "trafficRoutingConfig": told::routing(group.shift),
        }}))
    }

    /// The deployments of a group, or of the account, the newest first.
    fn list_deployments(&self, input: &ListDeployments) -> Result<Value, ApiError> {
        const STATUSES: [&str; 8] =
            ["Created", "Queued", "InProgress", "Baking", "Succeeded", "Failed", "Stopped", "Ready"];
        let mut state = self.lock();
        match (&input.application_name, &input.deployment_group_name) {
            (None, None) => {}
            (application, group) => {
                let application =
                    required(application.as_ref(), "ApplicationNameRequiredException", "application name")?;
                let what = ("DeploymentGroupNameRequiredException", "deployment group name");
                state.group_mut(application, required(group.as_ref(), what.0, what.1)?)?;
            }
        }
        if let Some(status) =
            input.include_only_statuses.iter().find(|status| !STATUSES.contains(&status.as_str()))
        {
            let message = format!("The deployment status {status} is not valid");
            return Err(ApiError::client("InvalidDeploymentStatusException", message));
        }
        let TimeRange { start, end } = input.create_time_range;
        if start.zip(end).is_some_and(|(start, end)| start > end) {
            let message = "The start of the time range is later than its end";
            return Err(ApiError::client("InvalidTimeRangeException", message));
        }
        let is_wanted = |record: &&DeploymentRecord| {
            let created = seconds(record.created);
            let of_group =
                |wanted: &Option<String>, name: &String| wanted.as_ref().is_none_or(|it| it == name);
            of_group(&input.application_name, &record.application)
                && of_group(&input.deployment_group_name, &record.group)
                && (input.include_only_statuses.is_empty()
                    || input.include_only_statuses.iter().any(|status| status == record.status.as_str()))
                && start.is_none_or(|start| created >= start)
                && end.is_none_or(|end| created <= end)
        };
        let mut found: Vec<&DeploymentRecord> = state.deployments.values().filter(is_wanted).collect();
        found.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        let from = match &input.next_token {
            None => 0,
            Some(token) => found.iter().position(|record| record.id == *token).ok_or_else(|| {
                ApiError::client("InvalidNextTokenException", "The next token is not valid")
            })?,
        };
        let ids: Vec<&str> = found.iter().skip(from).take(PAGE).map(|record| record.id.as_str()).collect();
        let mut output = json!({"deployments": ids});
        set(&mut output, "nextToken", found.get(from + PAGE).map(|record| record.id.clone()));
        Ok(output)
    }

    fn get_deployment_group(&self, input: &Input) -> Result<Value, ApiError> {
        let application = required(
            input.application_name.as_ref(),
            "ApplicationNameRequiredException",
            "application name",
        )?;
        let name = required(
            input.deployment_group_name.as_ref(),
            "DeploymentGroupNameRequiredException",
            "deployment group name",
        )?;
        let mut state = self.lock();
        let group = state.group_mut(application, name)?.clone();
        let last =
            group.last_successful.as_ref().map(|id| json!({"deploymentId": id, "status": "Succeeded"}));
        let mut info = told::group(&group);
        set(&mut info, "lastSuccessfulDeployment", last);
        Ok(json!({"deploymentGroupInfo": info}))
    }

    fn get_deployment_target(&self, input: &Input) -> Result<Value, ApiError> {
        let wanted = required(
            input.target_id.as_ref(),
            "DeploymentTargetIdRequiredException",
            "deployment target ID",
        )?;
        let mut targets = self.targets(deployment_id(input)?)?;
        targets.retain(|(id, _)| id == wanted);
        match targets.pop() {
            Some((_, target)) => Ok(json!({"deploymentTarget": target})),
            None => Err(no_target(wanted)),
        }
    }

    fn batch_get_deployment_targets(&self, input: &Input) -> Result<Value, ApiError> {
        let mut targets = self.targets(deployment_id(input)?)?;
        if let Some(wanted) = &input.target_ids {
            if let Some(unknown) = wanted.iter().find(|id| !targets.iter().any(|(known, _)| known == *id)) {
                return Err(no_target(unknown));
            }
            targets.retain(|(id, _)| wanted.contains(id));
        }
        Ok(json!({"deploymentTargets": targets.into_iter().map(|(_, target)| target).collect::<Vec<_>>()}))
    }

    fn list_deployment_targets(&self, input: &Input) -> Result<Value, ApiError> {
        let targets = self.targets(deployment_id(input)?)?;
        Ok(json!({"targetIds": targets.into_iter().map(|(id, _)| id).collect::<Vec<_>>()}))
    }

    /// The targets of a deployment: one service or one function.
    fn targets(&self, id: &str) -> Result<Vec<(String, Value)>, ApiError> {
        let mut state = self.lock();
        let mut record = state.deployment_mut(id)?.clone();
        if record.status == Status::Created {
            return Err(ApiError::client(
                "DeploymentNotStartedException",
                format!("The deployment {id} has not started"),
            ));
        }
        let group = state.group_mut(&record.application, &record.group)?;
        if group.doubts.event_states == EventStates::Late {
            let at = Timestamp::now().saturating_sub(self.pace.minute / 3).unwrap_or(Timestamp::MIN);
            record = record.seen_at(at);
        }
        if group.doubts.finished_events == FinishedEvents::Gone && record.status.is_over() {
            record.events.clear();
        }
        Ok(vec![(group.target.id(), told::target(&record, group))])
    }

    /// The hook's report. The first one counts; all seven errors of the API are told apart.
    fn put_hook_status(&self, input: &Input) -> Result<Value, ApiError> {
        let id = deployment_id(input)?;
        let mut state = self.lock();
        let record = state.deployment_mut(id)?;
        if record.platform == Platform::Server {
            return Err(ApiError::client(
                "UnsupportedActionForDeploymentTypeException",
                "This action is not supported for the Server compute platform",
            ));
        }
        let succeeded = match input.status.as_deref() {
            Some("Succeeded") => true,
            Some("Failed") => false,
            _ => {
                return Err(ApiError::client(
                    "InvalidLifecycleEventHookExecutionStatusException",
                    "The lifecycle event hook status must be Succeeded or Failed",
                ));
            }
        };
        let over = record.status.is_over();
        let execution_id = input.lifecycle_event_hook_execution_id.as_deref().unwrap_or_default();
        let event =
            record.events.iter_mut().find(|event| event.execution_id.as_deref() == Some(execution_id));
        let Some(event) = event else {
            return Err(ApiError::client(
                "InvalidLifecycleEventHookExecutionIdException",
                "The lifecycle event hook execution ID is invalid",
            ));
        };
        if over || event.report.is_some() || event.status != EventStatus::InProgress {
            return Err(ApiError::client(
                "LifecycleEventAlreadyCompletedException",
                format!("The lifecycle event {} has already completed", event.name),
            ));
        }
        event.report = Some(succeeded);
        record.reports.send_modify(|count| *count += 1);
        Ok(json!({"lifecycleEventHookExecutionId": execution_id}))
    }

    fn stop_deployment(&self, input: &Input) -> Result<Value, ApiError> {
        let id = deployment_id(input)?;
        let mut state = self.lock();
        let record = state.deployment_mut(id)?.clone();
        let stop = state.group_mut(&record.application, &record.group)?.doubts.stop_in_termination_wait;
        let is_too_late = stop == StopInTerminationWait::Refused && record.waits_for_termination();
        if record.status.is_over() || is_too_late {
            return Err(ApiError::client(
                "DeploymentAlreadyCompletedException",
                format!("The deployment {id} has already completed"),
            ));
        }
        let roll_back = input.auto_rollback_enabled.unwrap_or(false);
        record.stop.send_replace(Some(Stop::Asked { roll_back }));
        Ok(json!({
            "status": "Pending",
            "statusMessage": "No more commands will be scheduled for execution in the deployment",
        }))
    }

    fn create_deployment(self: &Arc<Self>, input: &Input) -> Result<Value, ApiError> {
        let application = required(
            input.application_name.as_ref(),
            "ApplicationNameRequiredException",
            "application name",
        )?;
        let group = required(
            input.deployment_group_name.as_ref(),
            "DeploymentGroupNameRequiredException",
            "deployment group name",
        )?;
        let shift = match &input.deployment_config_name {
            None => None,
            Some(name) => {
                let (platform, shift) = Shift::predefined(name).ok_or_else(|| {
                    ApiError::client(
                        "DeploymentConfigDoesNotExistException",
                        format!("No Deployment Configuration found for name: {name}"),
                    )
                })?;
                if platform != self.lock().group_mut(application, group)?.target.platform() {
                    let message = format!("{name} is for another compute platform");
                    return Err(ApiError::client("InvalidComputePlatformException", message));
                }
                Some(shift)
            }
        };
        let id = self.deploy(application, group, shift, None)?;
        Ok(json!({"deploymentId": id}))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::client("SerializationException", error.to_string()))
}

/// Where a group's AppSpec is.
fn revision(group: &str, content: Option<&str>) -> Value {
    let mut spec = json!({"sha256": revision_id(group)});
    set(&mut spec, "content", content);
    json!({"revisionType": "AppSpecContent", "appSpecContent": spec})
}

/// Stands for the digest of a group's AppSpec.
fn revision_id(group: &str) -> String {
    let mut hasher = DefaultHasher::new();
    group.hash(&mut hasher);
    format!("{:064x}", hasher.finish())
}

fn deployment_id(input: &Input) -> Result<&str, ApiError> {
    required(input.deployment_id.as_ref(), "DeploymentIdRequiredException", "deployment ID")
        .map(String::as_str)
}

fn required<'a>(value: Option<&'a String>, code: &str, what: &str) -> Result<&'a String, ApiError> {
    value
        .filter(|text| !text.is_empty())
        .ok_or_else(|| ApiError::client(code, format!("At least one {what} must be specified")))
}

fn no_target(id: &str) -> ApiError {
    ApiError::client("DeploymentTargetDoesNotExistException", format!("The target {id} could not be found"))
}
