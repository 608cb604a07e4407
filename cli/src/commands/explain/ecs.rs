//! A service deployment as ECS tells it. It names the stage that is going on, and none that is over.

use anyhow::{Context, Result};
use aws_sdk_ecs::types::{ServiceDeployment, ServiceDeploymentStatus as Status};
use shiftgate::aws::fault;
use shiftgate::event::DeploymentId;

use super::story::{Event, Story};
use crate::account::{Account, instant, told};

/// Reads the deployment.
pub async fn read(account: &Account, id: &DeploymentId) -> Result<Story> {
    let client = &account.aws.ecs;
    let output = client.describe_service_deployments().service_deployment_arns(id.as_str()).send().await;
    let output = output.map_err(|error| {
        let purpose = format!("read service deployment {id}");
        told(fault("ecs:DescribeServiceDeployments", &purpose, error))
    })?;
    let found = output.service_deployments().first();
    Ok(of(id, found.with_context(|| {
        format!("ECS knows no service deployment {id}: it keeps them for 90 days; check AWS_REGION and the account")
    })?))
}

fn of(id: &DeploymentId, found: &ServiceDeployment) -> Story {
    let parts = id.service_deployment();
    let configuration = found.deployment_configuration();
    let strategy =
        configuration.and_then(|one| one.strategy()).map_or("ROLLING", |strategy| strategy.as_str());
    let status = found.status();
    let ended_badly = status.is_some_and(|status| *status != Status::Successful) && is_over(status);
    let reason = found.rollback().and_then(|rollback| rollback.reason()).or(found.status_reason());
    Story {
        deployment: id.to_string(),
        controller: "ECS",
        of: parts.map(|parts| format!("{}/{}", parts.cluster, parts.service)).unwrap_or_default(),
        configuration: strategy.to_owned(),
        status: status.map_or("?", |status| status.as_str()).to_owned(),
        is_over: is_over(status),
        began: instant(found.created_at.as_ref().or(found.started_at.as_ref())),
        ended: instant(found.finished_at.as_ref().or(found.stopped_at.as_ref())),
        error: reason
            .filter(|_| ended_badly)
            .map(|reason| (status.map_or("?", |status| status.as_str()).to_owned(), reason.to_owned())),
        undone: found.rollback().map(|rollback| match rollback.service_revision_arn() {
            Some(revision) => format!("ECS gave the traffic back to revision {revision}"),
            None => "ECS gave the traffic back".to_owned(),
        }),
        weight: found.target_service_revision().and_then(|green| green.requested_production_traffic_weight),
        events: found.lifecycle_stage().filter(|_| !is_over(status)).map(going_on).into_iter().collect(),
        ..Story::default()
    }
}

fn going_on(stage: &aws_sdk_ecs::types::ServiceDeploymentLifecycleStage) -> Event {
    Event {
        name: stage.as_str().to_owned(),
        status: "going on".to_owned(),
        began: None,
        ended: None,
        message: None,
    }
}

fn is_over(status: Option<&Status>) -> bool {
    matches!(
        status,
        Some(Status::Successful | Status::Stopped | Status::RollbackSuccessful | Status::RollbackFailed)
    )
}
