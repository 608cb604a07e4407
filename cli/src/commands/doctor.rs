//! `doctor`: is a deployment group, or a service that ECS deploys, wired as Shiftgate needs it? Only calls that read.

mod alarms;
pub(super) mod appspec;
mod data;
pub(super) mod ecs;
pub(super) mod functions;
mod group;
mod release;
pub(super) mod told;

use anyhow::Result;
use aws_sdk_codedeploy::types::DeploymentGroupInfo;

use self::told::{Check, Level};
use crate::account::Account;
use crate::show::{self, Spinner};
use crate::target::{self, Target};

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
    let (first, second) = target::parts(name)?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    spinner.say("looking for it");
    let checks = match target::find(&account, first, second).await? {
        Target::Group(info) => of_group(&account, first, second, &info, stack.as_deref(), &mut spinner).await,
        Target::Service(service) => {
            spinner.say("reading the service");
            ecs::checks(&account, first, second, &service, stack.as_deref()).await
        }
    };
    spinner.finish();
    show::line(&if *json {
        serde_json::to_string_pretty(&told::json(name, &checks))?
    } else {
        told::text(&checks)
    });
    Ok(checks.iter().all(|check| check.level != Level::Problem))
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
    let balancer = group::balancer(account, info).await;
    match appspec::hooks(account, application, name).await {
        Ok(hooks) => {
            checks.extend(appspec::checks(&hooks, info, stack));
            spinner.say("reading the functions");
            checks.extend(functions::checks(account, &hooks, balancer.as_ref()).await);
        }
        Err(unread) => checks.push(unread),
    }
    spinner.say("reading policy, alarms and metrics");
    checks.extend(release::of_group(account, application, name, info).await);
    checks
}
