//! A deployment as CodeDeploy tells it.

use anyhow::{Context, Result, anyhow};
use aws_sdk_codedeploy::types::{
    DeploymentInfo, DeploymentStatus, DeploymentTarget, LifecycleEvent, TargetLabel,
};
use shiftgate::aws::fault;
use shiftgate::event::DeploymentId;

use super::story::{Event, Story};
use crate::account::{Account, instant, told};

/// Reads the deployment and its lifecycle events.
pub async fn read(account: &Account, id: &DeploymentId) -> Result<Story> {
    let output = account.aws.codedeploy.get_deployment().deployment_id(id.as_str()).send().await;
    let output = output
        .map_err(|error| told(fault("codedeploy:GetDeployment", &format!("read deployment {id}"), error)))?;
    let info = output.deployment_info.context("CodeDeploy answered without a deployment")?;
    let mut story = of(id, &info);
    match target(account, id).await {
        Ok(target) => {
            story.events = of_target(&target).iter().map(event).collect();
            story.weight = weight(&target);
        }
        Err(error) => story.notes.push(format!("the lifecycle events were not read: {error:#}")),
    }
    Ok(story)
}

fn of(id: &DeploymentId, info: &DeploymentInfo) -> Story {
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
    let rollback = info.rollback_info();
    let by = rollback.and_then(|rollback| rollback.rollback_deployment_id());
    let status = info.status.as_ref();
    Story {
        deployment: id.to_string(),
        controller: "CodeDeploy",
        of: format!("{}/{}", name(&info.application_name), name(&info.deployment_group_name)),
        configuration: name(&info.deployment_config_name),
        status: status.map_or_else(|| "?".to_owned(), |status| status.as_str().to_owned()),
        is_over: matches!(
            status,
            Some(DeploymentStatus::Succeeded | DeploymentStatus::Failed | DeploymentStatus::Stopped)
        ),
        began: instant(info.create_time.as_ref()),
        ended: instant(info.complete_time.as_ref()),
        error: info.error_information().map(|error| {
            let code = error.code().map_or("?", |code| code.as_str());
            (code.to_owned(), error.message().unwrap_or_default().to_owned())
        }),
        undone: by.map(|by| format!("CodeDeploy rolled back with deployment {by}")),
        undoes: rollback.and_then(|rollback| rollback.rollback_triggering_deployment_id().map(str::to_owned)),
        ..Story::default()
    }
}

/// The one target: an ECS service or a function.
async fn target(account: &Account, id: &DeploymentId) -> Result<DeploymentTarget> {
    let client = &account.aws.codedeploy;
    let targets = client.list_deployment_targets().deployment_id(id.as_str()).send().await;
    let purpose = format!("read the targets of deployment {id}");
    let targets =
        targets.map_err(|error| told(fault("codedeploy:ListDeploymentTargets", &purpose, error)))?;
    let target = targets.target_ids().first().ok_or_else(|| anyhow!("CodeDeploy tells of no target"))?;
    let read = client.get_deployment_target().deployment_id(id.as_str()).target_id(target).send().await;
    let read = read.map_err(|error| told(fault("codedeploy:GetDeploymentTarget", &purpose, error)))?;
    read.deployment_target.context("CodeDeploy answered without a target")
}

/// Green's share of an ECS service's traffic. What CodeDeploy says of a function is a share or percent: nobody knows.
fn weight(target: &DeploymentTarget) -> Option<f64> {
    let sets = target.ecs_target.as_ref()?.task_sets_info();
    sets.iter().find(|set| set.task_set_label == Some(TargetLabel::Green)).map(|set| set.traffic_weight)
}

fn of_target(target: &DeploymentTarget) -> &[LifecycleEvent] {
    match (&target.ecs_target, &target.lambda_target) {
        (Some(target), _) => target.lifecycle_events(),
        (None, Some(target)) => target.lifecycle_events(),
        (None, None) => &[],
    }
}

fn event(event: &LifecycleEvent) -> Event {
    let message = event.diagnostics().and_then(|diagnostics| diagnostics.message());
    Event {
        name: event.lifecycle_event_name.clone().unwrap_or_default(),
        status: event.status().map_or("?", |status| status.as_str()).to_owned(),
        began: instant(event.start_time.as_ref()),
        ended: instant(event.end_time.as_ref()),
        message: message.filter(|message| !message.is_empty()).map(str::to_owned),
    }
}
