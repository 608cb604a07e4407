//! `explain`: the whole story of a rollout, from its controller and from the log.

mod codedeploy;
mod ecs;
mod log;
mod story;
mod summary;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use shiftgate::event::DeploymentId;

#[cfg(test)]
pub(super) use self::story::Event;
pub(super) use self::story::{Moment, Story};
pub(super) use self::summary::summary;
use super::report;
use crate::account::{Account, told};
use crate::ledger;
use crate::show::{self, Spinner};

/// How much earlier than a deployment its first line may be: clocks differ.
const EARLIER: SignedDuration = SignedDuration::from_mins(5);
/// How far back the log is read for a deployment whose controller does not say when it was made.
const FAR: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Which rollout.
#[derive(clap::Args)]
pub struct Arguments {
    /// Id of a deployment of CodeDeploy (d-...), or ARN of a service deployment of ECS
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// Only the log of this stack of Shiftgate; of all that the account has without it
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Write the report of the verdict that ended it, or else of the last, as a page for the browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Reads and tells it.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let id = DeploymentId::new(&arguments.deployment).map_err(told)?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    spinner.say("reading the deployment");
    let story = read(&account, &id, arguments.stack.as_deref(), &mut spinner).await?;
    spinner.finish();
    if let Some(html) = &arguments.html {
        let none = || anyhow!("the log has no verdict of Shiftgate about {id} that this version can read");
        report::save(story.evidence.as_ref().ok_or_else(none)?, html)?;
    }
    show::line(&if arguments.json { serde_json::to_string_pretty(&story.json())? } else { story.text() });
    Ok(true)
}

/// The story of a rollout so far.
pub(super) async fn read(
    account: &Account,
    id: &DeploymentId,
    stack: Option<&str>,
    spinner: &mut Spinner,
) -> Result<Story> {
    let mut story = if id.service_deployment().is_some() {
        ecs::read(account, id).await?
    } else {
        codedeploy::read(account, id).await?
    };
    add_log(&mut story, account, id, stack, spinner).await?;
    Ok(story)
}

/// Adds what Shiftgate logged of it. A log that cannot be read is a note: the controller's half of the story is one, too.
async fn add_log(
    story: &mut Story,
    account: &Account,
    id: &DeploymentId,
    stack: Option<&str>,
    spinner: &mut Spinner,
) -> Result<()> {
    let since = match story.began {
        Some(began) => began.checked_sub(EARLIER),
        None => shiftgate::clock::now().checked_sub(FAR),
    };
    let since: Timestamp = since.context("the deployment is older than time")?;
    let pattern = format!(r#"{{ $.deployment_id = "{id}" }}"#);
    let read = async {
        let groups = ledger::groups(account, stack).await?;
        ledger::read(account, &groups, &pattern, since, spinner).await
    };
    match read.await {
        Ok(read) => {
            story.notes.extend(read.notes);
            log::add(story, &read.lines);
        }
        Err(error) => story.notes.push(format!("Shiftgate's log was not read: {error:#}")),
    }
    Ok(())
}
