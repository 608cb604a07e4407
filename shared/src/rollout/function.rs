//! Deployments of a Lambda function by CodeDeploy: from the deployment target to the alias and its two versions.

use aws_sdk_codedeploy::types as codedeploy;

use super::deployment::incomplete;
use super::discover::{self, TARGET, alarms, lifecycle_events};
use super::{Colour, Deployment, Function, Rollout, TaskSet, is_weight, schedule};
use crate::aws::Aws;
use crate::event::DeploymentId;
use crate::fault::Fault;

/// Finds out what the deployment deploys: two calls at once, and one before them where the `target_id` is not known.
pub(super) async fn discover(
    aws: &Aws,
    deployment: &Deployment,
    target_id: Option<&str>,
) -> Result<Rollout, Fault> {
    let asked = match target_id {
        Some(_) => None,
        None => super::target_id(aws, &deployment.id).await?,
    };
    // Nothing but the target tells the function's name, which is its id.
    let target_id = target_id.or(asked.as_deref()).unwrap_or_default();
    let (group, target) = tokio::try_join!(
        discover::deployment_group(aws, &deployment.application, &deployment.group),
        target(aws, &deployment.id, target_id),
    )?;
    let lacks = |field: &str| incomplete(TARGET, &deployment.id, field);
    let info = target.lambda_function_info.as_ref().ok_or_else(|| lacks("lambdaFunctionInfo"))?;
    let green = info.target_version.clone().ok_or_else(|| lacks("targetVersion"))?;
    let colour = |version: Option<String>| Colour { version, ..Colour::default() };
    let mut rollout = Rollout {
        cluster: String::new(),
        service: String::new(),
        function: Some(Function {
            name: info.function_name.clone().ok_or_else(|| lacks("functionName"))?,
            alias: info.function_alias.clone().ok_or_else(|| lacks("functionAlias"))?,
        }),
        schedule: schedule::of_configuration(&deployment.configuration),
        is_first: info.current_version.as_ref().is_none_or(|current| *current == green),
        blue: colour(info.current_version.clone()),
        green: colour(Some(green)),
        entrance: None,
        alarms: alarms(&group),
        events: Vec::new(),
        last_successful: group.last_successful_deployment().and_then(|last| last.deployment_id.clone()),
        served: None,
        test_header: None,
    };
    take_over(&target, &deployment.id, &mut rollout)?;
    Ok(rollout)
}

/// Reads the weights and lifecycle events again.
pub(super) async fn refresh(aws: &Aws, deployment: &Deployment, rollout: &mut Rollout) -> Result<(), Fault> {
    let name = rollout.function.as_ref().map_or("", |function| function.name.as_str()).to_owned();
    take_over(&target(aws, &deployment.id, &name).await?, &deployment.id, rollout)
}

fn take_over(
    target: &codedeploy::LambdaTarget,
    id: &DeploymentId,
    rollout: &mut Rollout,
) -> Result<(), Fault> {
    let green = percent(target.lambda_function_info.as_ref().map_or(0.0, |info| info.target_version_weight));
    if !is_weight(green) {
        return Err(incomplete(TARGET, id, "targetVersionWeight from 0 to 1"));
    }
    let share = |weight| Some(TaskSet { weight, ..TaskSet::default() });
    rollout.blue.tasks = share(100.0 - green);
    rollout.green.tasks = share(green);
    rollout.events = lifecycle_events(target.lifecycle_events())?;
    Ok(())
}

/// A fraction, unlike the weights of ECS; only the one of the whole was ever seen. What exceeds it is percent.
fn percent(weight: f64) -> f64 {
    if weight > 1.0 { weight } else { 100.0 * weight }
}

async fn target(aws: &Aws, id: &DeploymentId, target_id: &str) -> Result<codedeploy::LambdaTarget, Fault> {
    discover::deployment_target(aws, id, target_id)
        .await?
        .lambda_target
        .ok_or_else(|| incomplete(TARGET, id, "lambdaTarget"))
}
