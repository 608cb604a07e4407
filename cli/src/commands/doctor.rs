//! `doctor`: is a deployment group wired as Shiftgate needs it? Only calls that read.

mod appspec;
mod functions;
mod group;
mod release;
mod told;

use anyhow::{Context, Result};
use shiftgate::aws::fault;

use self::told::Level;
use crate::account::{Account, told as as_error};
use crate::show::{self, Spinner};

/// What is looked at.
#[derive(clap::Args)]
pub struct Arguments {
    /// The deployment group, as APPLICATION/GROUP
    #[arg(value_name = "APP/GROUP")]
    group: String,
    /// The stack of Shiftgate whose functions the AppSpec must name; any without it
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Checks, and tells; false when there is a problem.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let (application, name) = arguments
        .group
        .split_once('/')
        .with_context(|| format!("`{}` is not of the form APPLICATION/GROUP", arguments.group))?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    spinner.say("reading the deployment group");
    let output = account
        .aws
        .codedeploy
        .get_deployment_group()
        .application_name(application)
        .deployment_group_name(name)
        .send()
        .await
        .map_err(|error| {
            let purpose = format!("read deployment group {}", arguments.group);
            as_error(fault("codedeploy:GetDeploymentGroup", &purpose, error))
        })?;
    let info = output.deployment_group_info.context("CodeDeploy answered without a deployment group")?;
    let mut checks = group::checks(&info);
    checks.push(group::time_to_act(&account, &info).await);
    spinner.say("reading the latest revision");
    let hooks = appspec::hooks(&account, application, name).await;
    let is_internal = group::is_internal(&account, &info).await;
    match hooks {
        Ok(hooks) => {
            checks.extend(appspec::checks(&hooks, &info, arguments.stack.as_deref()));
            spinner.say("reading the functions");
            checks.extend(functions::checks(&account, &hooks, is_internal).await);
        }
        Err(unread) => checks.push(unread),
    }
    spinner.say("reading policy, alarms and metrics");
    checks.extend(release::checks(&account, application, name, &info).await);
    spinner.finish();
    let is_well = checks.iter().all(|check| check.level != Level::Problem);
    show::line(&if arguments.json {
        serde_json::to_string_pretty(&told::json(&arguments.group, &checks))?
    } else {
        told::text(&checks)
    });
    Ok(is_well)
}
