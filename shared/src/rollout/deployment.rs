//! The deployment itself: the first thing that every hook asks for.

use std::sync::Arc;

use aws_sdk_codedeploy::primitives::DateTime;
use aws_sdk_codedeploy::types::{
    ComputePlatform, DeploymentCreator, DeploymentStatus, TargetGroupPairInfo, TimeRange,
};
use aws_sdk_ecs::types::ServiceDeployment;
use jiff::Timestamp;

use super::native;
use crate::aws::{self, Aws};
use crate::event::DeploymentId;
use crate::fault::{Fault, FaultKind};

/// IAM action, for faults.
const ACTION: &str = "codedeploy:GetDeployment";

/// Who carries a deployment out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// CodeDeploy, of an ECS service.
    CodeDeploy,
    /// CodeDeploy, of a Lambda function.
    CodeDeployForLambda,
    /// ECS itself.
    Ecs,
}

/// A deployment, before it is known what it deploys.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Who carries it out.
    pub controller: Controller,
    /// CodeDeploy application; the cluster of a deployment by ECS.
    pub application: String,
    /// Deployment group; the service of a deployment by ECS.
    pub group: String,
    /// Deployment configuration; the strategy of a deployment by ECS.
    pub configuration: String,
    /// Whether it undoes another one, or is itself being undone: nothing may hold that up.
    pub is_rollback: bool,
    /// Whether it has ended, well or badly.
    pub is_over: bool,
    /// When it was started, where that is told.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When ECS began to call the hooks that it calls now, where that is told.
    pub hooks_began: Option<Timestamp>,
    /// Status in AWS's words.
    pub status: String,
    /// What else was told in the same answer, so that nobody need ask for it.
    pub(super) told: Told,
}

/// What an answer about a deployment tells of what is deployed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// CodeDeploy: the target groups and listeners, where it tells them.
    CodeDeploy(Option<Arc<TargetGroupPairInfo>>),
    /// ECS: the colours.
    Ecs(Arc<ServiceDeployment>),
}

/// Asks CodeDeploy, or ECS, for the deployment. One of another platform than ECS and Lambda is a fault.
pub async fn deployment(aws: &Aws, id: &DeploymentId) -> Result<Deployment, Fault> {
    if id.service_deployment().is_some() {
        return native::deployment(aws, id).await;
    }
    let output = aws
        .codedeploy
        .get_deployment()
        .deployment_id(id.as_str())
        .send()
        .await
        .map_err(|error| aws::fault(ACTION, &format!("read deployment {id}"), error))?;
    let info = output.deployment_info.ok_or_else(|| incomplete(ACTION, id, "deploymentInfo"))?;
    let is_rollback = info.creator == Some(DeploymentCreator::CodeDeployRollback)
        || info
            .rollback_info
            .as_ref()
            .is_some_and(|rollback| rollback.rollback_triggering_deployment_id.is_some());
    let controller = match &info.compute_platform {
        None | Some(ComputePlatform::Ecs) => Controller::CodeDeploy,
        Some(ComputePlatform::Lambda) => Controller::CodeDeployForLambda,
        Some(platform) => {
            return Err(Fault::new(
                FaultKind::NotFound,
                format!("deployment {id} is on the {} platform", platform.as_str()),
                "Shiftgate gates deployments of ECS services and Lambda functions",
            ));
        }
    };
    Ok(Deployment {
        id: id.clone(),
        controller,
        application: info.application_name.ok_or_else(|| incomplete(ACTION, id, "applicationName"))?,
        group: info.deployment_group_name.ok_or_else(|| incomplete(ACTION, id, "deploymentGroupName"))?,
        configuration: info.deployment_config_name.unwrap_or_else(|| "unknown".to_owned()),
        is_rollback,
        is_over: matches!(
            info.status,
            Some(DeploymentStatus::Succeeded | DeploymentStatus::Failed | DeploymentStatus::Stopped)
        ),
        started: timestamp(info.start_time),
        completed: timestamp(info.complete_time),
        hooks_began: None,
        status: info.status.map_or_else(|| "Unknown".to_owned(), |status| status.as_str().to_owned()),
        told: Told::CodeDeploy(
            info.load_balancer_info
                .and_then(|info| info.target_group_pair_info_list?.into_iter().next())
                .map(Arc::new),
        ),
    })
}

/// IAM action, for faults.
const TARGETS: &str = "codedeploy:ListDeploymentTargets";

/// The id of what a deployment by CodeDeploy deploys: `cluster:service`, or a function's name. A deployment by ECS has none.
pub async fn target_id(aws: &Aws, id: &DeploymentId) -> Result<Option<String>, Fault> {
    if id.service_deployment().is_some() {
        return Ok(None);
    }
    let sent = aws.codedeploy.list_deployment_targets().deployment_id(id.as_str()).send().await;
    let output =
        sent.map_err(|error| aws::fault(TARGETS, &format!("list the targets of deployment {id}"), error))?;
    output.target_ids().first().cloned().map(Some).ok_or_else(|| incomplete(TARGETS, id, "target"))
}

/// The deployments of a group that were made since an instant and have ended, in no order.
pub async fn ended(
    aws: &Aws,
    application: &str,
    group: &str,
    since: Timestamp,
) -> Result<Vec<DeploymentId>, Fault> {
    let made = TimeRange::builder().start(DateTime::from_millis(since.as_millisecond())).build();
    let mut pages = aws
        .codedeploy
        .list_deployments()
        .application_name(application)
        .deployment_group_name(group)
        .include_only_statuses(DeploymentStatus::Succeeded)
        .include_only_statuses(DeploymentStatus::Failed)
        .include_only_statuses(DeploymentStatus::Stopped)
        .create_time_range(made)
        .into_paginator()
        .send();
    let mut ids = Vec::new();
    for number in 0.. {
        let Some(page) = pages.next().await else { break };
        aws::limit_pages("codedeploy:ListDeployments", number)?;
        let page = page.map_err(|error| {
            let purpose = format!("list the deployments of {application}/{group}");
            aws::fault("codedeploy:ListDeployments", &purpose, error)
        })?;
        for id in page.deployments() {
            ids.push(DeploymentId::new(id)?);
        }
    }
    Ok(ids)
}

/// An instant as CodeDeploy sends it.
pub(super) fn timestamp(time: Option<DateTime>) -> Option<Timestamp> {
    time.and_then(|time| time.to_millis().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok())
}

/// CodeDeploy left out what it always sends. `action` is the IAM action of the call.
pub(super) fn incomplete(action: &str, id: &DeploymentId, field: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("CodeDeploy's answer about deployment {id} has no {field} ({action})"),
        "this is not a deployment that Shiftgate understands; look at it with `aws deploy get-deployment`",
    )
}

/// AWS does not know what the deployment names. `action` is the IAM action of the call.
pub(super) fn not_found(action: &str, kind: &str, name: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("{kind} {name} was not found ({action})"),
        "what is deployed names it; check that it still exists",
    )
}
