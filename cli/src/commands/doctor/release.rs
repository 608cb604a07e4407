//! What the next release would meet: the policy, the alarms, and what its traffic is enough for.

use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use aws_sdk_ecs::types::ServiceDeploymentStatus;
use shiftgate::aws::fault as aws_fault;
use shiftgate::budget::Budget;
use shiftgate::environment::Environment;
use shiftgate::event::DeploymentId;
use shiftgate::fault::Fault;
use shiftgate::hook::Release;
use shiftgate::policy::load::{self, Source};
use shiftgate::policy::plan::Plan;
use shiftgate::rollout::{self, Deployment, Rollout, Service, schedule};
use shiftgate::smoke::Secrets;
use shiftgate::verdict::{Caveat, Finding, Outcome};
use shiftgate::watched::Watch;
use shiftgate::{clock, outlook, preflight};

use super::group::is_of_lambda;
use super::told::{Check, Level};
use crate::account::Account;

/// Policy, alarms and outlook of a deployment group, as the hooks would find them now.
pub async fn of_group(
    account: &Account,
    application: &str,
    group: &str,
    info: &DeploymentGroupInfo,
) -> Vec<Check> {
    match load::load(&account.aws, None, application, group).await {
        Ok((plan, source)) => {
            let release = next_of_group(account, application, group, info, plan).await;
            with_policy(source, release).await
        }
        Err(fault) => vec![Check::from_fault("policy", &fault)],
    }
}

/// The same of a service that ECS deploys; `given` is the policy of its hook, if that has one.
pub async fn of_service(account: &Account, cluster: &str, service: &str, given: Option<&str>) -> Vec<Check> {
    let policy = match given {
        Some(text) => load::plan_of(text, Source::HookDetails),
        None => load::load(&account.aws, None, cluster, service).await,
    };
    match policy {
        Ok((plan, source)) => {
            let release = next_of_service(account, cluster, service, plan).await;
            with_policy(source, release).await
        }
        Err(fault) => vec![Check::from_fault("policy", &fault)],
    }
}

async fn with_policy(source: Source, release: Result<Option<Release>, Fault>) -> Vec<Check> {
    let mut checks = vec![Check::ok("policy", format!("{source}; valid"))];
    match release {
        Ok(Some(release)) => {
            checks.extend(told("alarms", preflight::alarms(&release).await));
            checks.extend(told("outlook", outlook::told(&release).await));
        }
        Ok(None) => {
            let why = "nothing was deployed successfully yet, so that nobody knows which version serves";
            let unchecked = Check::warning("alarms and outlook", why, "ask again after the first deployment");
            checks.push(Check { level: Level::Unchecked, ..unchecked });
        }
        Err(fault) => checks.push(Check::from_fault("the service", &fault)),
    }
    checks
}

/// The findings of a check as checks.
fn told(name: &str, found: Result<Vec<Finding>, Fault>) -> Vec<Check> {
    let findings = match found {
        Ok(findings) => findings,
        Err(fault) => return vec![Check::from_fault(name, &fault)],
    };
    let check = |finding: Finding| {
        let (name, seen) = (&finding.check, finding.summary.clone());
        if finding.outcome == Outcome::Fail {
            return Check::problem(
                name,
                seen,
                "see to it before you deploy: before-install would fail for it",
            );
        }
        if finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::LowTraffic)) {
            let fix =
                "take a larger first step, a longer shift or a longer bake, or let smoke checks carry more";
            return Check::warning(name, seen, fix);
        }
        Check::ok(name, seen)
    };
    findings.into_iter().map(check).collect()
}

/// The next release, as far as it is known before it is made: none without an earlier one.
async fn next_of_group(
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
        rollout::discover(aws, &deployment, None).await?
    } else {
        let service = rollout::service(aws, application, group).await?;
        let before = service.in_deployment(aws, &deployment).await?;
        next(&service, &before)
    };
    rollout.schedule = schedule::of_configuration(info.deployment_config_name().unwrap_or_default());
    Ok(Some(opened(account, deployment, rollout, plan)))
}

/// The same of a service that ECS deploys.
async fn next_of_service(
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
    let mut rollout = rollout::discover(aws, &deployment, None).await?;
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
        recording: None,
    }
}

/// What was green in the last deployment serves now, and is blue in the next.
fn next(service: &Service, before: &Rollout) -> Rollout {
    let green = before.green.target_group.as_ref();
    let serves = service.target_groups.iter().position(|group| Some(group) == green);
    service.with_blue(serves.unwrap_or(0))
}
