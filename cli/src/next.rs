//! The next release of a deployment group or a service, as far as it is known before it is made.

use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use aws_sdk_ecs::types::ServiceDeploymentStatus;
use shiftgate::aws::fault as aws_fault;
use shiftgate::budget::Budget;
use shiftgate::clock;
use shiftgate::environment::Environment;
use shiftgate::event::DeploymentId;
use shiftgate::fault::Fault;
use shiftgate::hook::Release;
use shiftgate::policy::plan::Plan;
use shiftgate::rollout::{self, Deployment, Rollout, Service, schedule};
use shiftgate::smoke::Secrets;
use shiftgate::watched::Watch;

use crate::account::Account;
use crate::target::is_of_lambda;

/// The next release of a deployment group; none without an earlier one.
pub async fn of_group(
    account: &Account,
    application: &str,
    group: &str,
    info: &DeploymentGroupInfo,
    plan: Plan,
) -> Result<Option<Release>, Fault> {
    let aws = &account.aws;
    let last = info.last_successful_deployment().and_then(|last| last.deployment_id());
    let Some(last) = last else { return Ok(None) };
    let deployment = rollout::deployment(aws, &DeploymentId::new(last)?).await?;
    let mut rollout = if is_of_lambda(info) {
        rollout::discover(aws, &deployment, None, None).await?
    } else {
        let service = rollout::service(aws, application, group).await?;
        let before = service.in_deployment(aws, &deployment).await?;
        next(&service, &before)
    };
    rollout.schedule = schedule::of_configuration(info.deployment_config_name().unwrap_or_default());
    Ok(Some(opened(account, deployment, rollout, plan)))
}

/// The same of a service that ECS deploys itself.
pub async fn of_service(
    account: &Account,
    cluster: &str,
    service: &str,
    plan: Plan,
) -> Result<Option<Release>, Fault> {
    let aws = &account.aws;
    let listed = aws
        .ecs
        .list_service_deployments()
        .cluster(cluster)
        .service(service)
        .status(ServiceDeploymentStatus::Successful)
        .send()
        .await
        .map_err(|error| {
            let purpose = format!("list the deployments of {cluster}/{service}");
            aws_fault("ecs:ListServiceDeployments", &purpose, error)
        })?;
    let last = listed.service_deployments().first().and_then(|last| last.service_deployment_arn());
    let Some(last) = last else { return Ok(None) };
    let deployment = rollout::deployment(aws, &DeploymentId::new(last)?).await?;
    let mut rollout = rollout::discover(aws, &deployment, None, None).await?;
    // What was green then serves now.
    std::mem::swap(&mut rollout.blue, &mut rollout.green);
    Ok(Some(opened(account, deployment, rollout, plan)))
}

fn opened(account: &Account, deployment: Deployment, rollout: Rollout, plan: Plan) -> Release {
    let plan = plan.fitted(rollout.front());
    Release {
        aws: account.aws.clone(),
        environment: Environment::default(),
        deployment,
        rollout,
        plan,
        budget: Budget::new(clock::now(), 0, None),
        secrets: Secrets::default(),
        watch: Watch::Unknown,
        usually_slow: Vec::new(),
        recording: None,
    }
}

/// What was green in the last deployment serves now, and is blue in the next.
fn next(service: &Service, before: &Rollout) -> Rollout {
    let green = before.green.target_group.as_ref();
    let serves = service.target_groups.iter().position(|group| Some(group) == green);
    service.with_blue(serves.unwrap_or(0))
}
