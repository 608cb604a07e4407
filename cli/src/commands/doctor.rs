//! `doctor`: is a deployment group, or a service that ECS deploys, wired as Shiftgate needs it? Only calls that read.

mod appspec;
mod ecs;
mod functions;
mod group;
mod release;
mod told;

use anyhow::{Context, Result, bail};
use aws_sdk_codedeploy::error::ProvideErrorMetadata;
use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use shiftgate::aws::fault;

use self::told::{Check, Level};
use crate::account::{Account, told as as_error};
use crate::show::{self, Spinner};

/// What CodeDeploy answers where there is no such group.
const UNKNOWN: [&str; 2] = ["ApplicationDoesNotExistException", "DeploymentGroupDoesNotExistException"];

/// What is looked at.
#[derive(clap::Args)]
pub struct Arguments {
    /// The deployment group, as APPLICATION/GROUP, or the service that ECS deploys, as CLUSTER/SERVICE
    #[arg(value_name = "APP/GROUP")]
    name: String,
    /// The stack of Shiftgate whose functions the hooks must name; any without it
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Checks, and tells; false when there is a problem.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let Arguments { name, stack, json } = arguments;
    let names = name.split_once('/');
    let (first, second) = names.with_context(|| {
        format!("`{name}` is neither of the form APPLICATION/GROUP nor of the form CLUSTER/SERVICE")
    })?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    spinner.say("looking for it");
    let checks = if let Some(info) = group(&account, first, second).await? {
        of_group(&account, first, second, &info, stack.as_deref(), &mut spinner).await
    } else if let Some(service) = ecs::service(&account, first, second).await.map_err(as_error)? {
        spinner.say("reading the service");
        ecs::checks(&account, first, second, &service, stack.as_deref()).await
    } else {
        bail!(
            "{name} is neither a deployment group nor an ECS service in this account and region: check the names, and AWS_REGION"
        );
    };
    spinner.finish();
    show::line(&if *json {
        serde_json::to_string_pretty(&told::json(name, &checks))?
    } else {
        told::text(&checks)
    });
    Ok(checks.iter().all(|check| check.level != Level::Problem))
}

/// The deployment group of this name; none if there is none.
async fn group(account: &Account, application: &str, name: &str) -> Result<Option<DeploymentGroupInfo>> {
    let read = account
        .aws
        .codedeploy
        .get_deployment_group()
        .application_name(application)
        .deployment_group_name(name)
        .send()
        .await;
    match read {
        Ok(output) => Ok(output.deployment_group_info),
        Err(error) if error.code().is_some_and(|code| UNKNOWN.contains(&code)) => Ok(None),
        Err(error) => {
            let purpose = format!("read deployment group {application}/{name}");
            Err(as_error(fault("codedeploy:GetDeploymentGroup", &purpose, error)))
        }
    }
}

async fn of_group(
    account: &Account,
    application: &str,
    name: &str,
    info: &DeploymentGroupInfo,
    stack: Option<&str>,
    spinner: &mut Spinner,
) -> Vec<Check> {
    let mut checks = group::checks(info);
    checks.push(group::time_to_act(account, info).await);
    spinner.say("reading the latest revision");
    let is_internal = group::is_internal(account, info).await;
    match appspec::hooks(account, application, name).await {
        Ok(hooks) => {
            checks.extend(appspec::checks(&hooks, info, stack));
            spinner.say("reading the functions");
            checks.extend(functions::checks(account, &hooks, is_internal).await);
        }
        Err(unread) => checks.push(unread),
    }
    spinner.say("reading policy, alarms and metrics");
    checks.extend(release::of_group(account, application, name, info).await);
    checks
}
