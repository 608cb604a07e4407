//! `init`: a first policy for a service, by what CloudWatch knows of it, and what else to do. Only calls that read.

mod file;
mod hooks;
mod measured;
mod policy;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use aws_sdk_ecs::types::{DeploymentStrategy, Service};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use shiftgate::clock;
use shiftgate::fault::Fault;
use shiftgate::policy::load::{self, Source};
use shiftgate::policy::plan::Plan;
use shiftgate::rollout::{self, Rollout, schedule};

use self::hooks::{Hooks, Way};
use self::measured::Measured;
use super::backtest::since;
use super::doctor::told::{Check, Level};
use super::doctor::{appspec, ecs, functions};
use crate::account::{Account, told};
use crate::next;
use crate::past::ASKED;
use crate::show::{self, Spinner};
use crate::target::{self, Target, is_of_lambda};

/// The stack whose functions are named where nobody says, and no hook does.
const STACK: &str = "shiftgate";

/// What a policy is written for.
#[derive(clap::Args)]
pub struct Arguments {
    /// The deployment group, as APPLICATION/GROUP, or the service that ECS deploys, as CLUSTER/SERVICE
    #[arg(value_name = "APP/GROUP")]
    name: String,
    /// Where to write the policy
    #[arg(long, value_name = "FILE", default_value = "shiftgate.yaml")]
    out: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long)]
    force: bool,
    /// How far back the service is measured, such as 12h or 7d; CloudWatch keeps minutes for 15 days
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = since)]
    since: Duration,
    /// The stack of Shiftgate whose functions the hooks are to name; without it that of the hooks that are there, else shiftgate
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Print one JSON object: what was measured, the policy, the hooks and what comes next
    #[arg(long)]
    json: bool,
}

/// What an account says of a service.
struct Asked {
    way: Way,
    /// "the deployment group shop/orders".
    of: String,
    stack: String,
    /// The service's, where ECS deploys it.
    arn: String,
    /// None where nobody knows what is deployed.
    measured: Option<Measured>,
    /// What the reader should know of it.
    notes: Vec<String>,
}

impl Asked {
    /// Nothing is measured yet. The stack is the one that the user names, or else the one whose hooks are there.
    fn new(way: Way, of: String, stack: Option<&str>, wired: Option<String>, arn: &str) -> Self {
        let stack = stack.map(str::to_owned).or(wired).unwrap_or_else(|| STACK.to_owned());
        Self { way, of, stack, arn: arn.to_owned(), measured: None, notes: Vec::new() }
    }
}

/// Measures, writes the policy and tells what comes next.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let name = target::parts(&arguments.name)?;
    file::refuse_to_overwrite(&arguments.out, arguments.force)?;
    let now = clock::now();
    let mut spinner = Spinner::new();
    let asked = asked(arguments, name, now, &mut spinner).await?;
    let date = now.to_zoned(TimeZone::UTC).date();
    let text = policy::text(&asked.of, date, asked.measured.as_ref());
    let plan = checked(&text)?;
    file::write(&arguments.out, &text, arguments.force)?;
    spinner.finish();
    let written = Written { name, file: arguments.out.display().to_string(), text, plan, asked };
    show::line(&if arguments.json { serde_json::to_string_pretty(&written.json())? } else { written.text() });
    Ok(true)
}

/// Nothing is written that the functions would not take.
fn checked(text: &str) -> Result<Plan> {
    shiftgate::policy::parse(text).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!(
            "the policy that follows from the measurement is not valid, and was not written: {}; please report this",
            list.join("; ")
        )
    })
}

async fn asked(
    arguments: &Arguments,
    name: (&str, &str),
    now: Timestamp,
    spinner: &mut Spinner,
) -> Result<Asked> {
    let account = Account::from_environment().await;
    spinner.say("looking for it");
    let (first, second) = name;
    let stack = arguments.stack.as_deref();
    let (mut asked, rollout) = match target::find(&account, first, second).await? {
        Target::Group(info) => of_group(&account, name, &info, stack).await?,
        Target::Service(service) => of_service(&account, name, &service, stack).await?,
    };
    if let Some(rollout) = rollout {
        let from = now
            .checked_sub(arguments.since.min(ASKED))
            .context("--since is longer ago than there is time")?;
        let read = measured::read(&account.aws, &rollout, from, now, &mut |text| spinner.say(text)).await;
        let (measured, messages) = read.map_err(told)?;
        asked.measured = Some(measured);
        asked.notes.extend(messages);
    }
    spinner.say("reading policy and functions");
    asked.notes.extend(policy_in_force(load::load(&account.aws, None, first, second).await));
    let names = hooks::functions(asked.way, &asked.stack);
    let checks = functions::of(&account, names.iter().map(String::as_str).collect(), |_| false, None).await;
    asked.notes.extend(of_functions(&checks, names.len(), &asked.stack));
    Ok(asked)
}

async fn of_group(
    account: &Account,
    name: (&str, &str),
    info: &DeploymentGroupInfo,
    stack: Option<&str>,
) -> Result<(Asked, Option<Rollout>)> {
    let (application, group) = name;
    let wired = appspec::hooks(account, application, group).await.unwrap_or_default();
    let wired = wired.iter().find_map(|hook| Some(hook.of_shiftgate()?.0.to_owned()));
    let release = next::of_group(account, application, group, info, Plan::default()).await.map_err(told)?;
    let rollout = match release {
        Some(release) => Some(release.rollout),
        None if is_of_lambda(info) => None,
        // Its target groups are known without a release, and which of them serves does not matter here.
        None => {
            let service = rollout::service(&account.aws, application, group).await.map_err(told)?;
            let schedule = schedule::of_configuration(info.deployment_config_name().unwrap_or_default());
            Some(Rollout { schedule, ..service.with_blue(0) })
        }
    };
    let way = if is_of_lambda(info) { Way::Lambda } else { Way::CodeDeploy };
    let of = format!("the deployment group {application}/{group}");
    Ok((Asked::new(way, of, stack, wired, ""), rollout))
}

async fn of_service(
    account: &Account,
    name: (&str, &str),
    service: &Service,
    stack: Option<&str>,
) -> Result<(Asked, Option<Rollout>)> {
    let (cluster, name) = name;
    if let Some(other) = ecs::other_controller(service) {
        bail!(
            "{other} deploys {cluster}/{name}, not ECS itself: ask for its deployment group, `shiftgate init APPLICATION/GROUP`"
        );
    }
    let release = next::of_service(account, cluster, name, Plan::default()).await.map_err(told)?;
    let way = if *ecs::strategy(service) == DeploymentStrategy::Rolling { Way::Rolling } else { Way::Ecs };
    let of = format!("the ECS service {cluster}/{name}");
    let arn = service.service_arn().unwrap_or_default();
    let asked = Asked::new(way, of, stack, ecs::stack(service), arn);
    Ok((asked, release.map(|release| release.rollout)))
}

/// What the policy that holds now means for the new one.
fn policy_in_force(loaded: Result<(Plan, Source), Fault>) -> Option<String> {
    match loaded {
        Ok((_, Source::BuiltIn)) => None,
        Ok((_, source)) => Some(format!(
            "{source} has a policy for it now; the new one takes its place, and is not merged with it"
        )),
        Err(fault) => Some(format!("of the policy that holds now: {}", told(fault))),
    }
}

/// Which functions the hooks will not find; where that is all of them, once.
fn of_functions(checks: &[Check], number: usize, stack: &str) -> Vec<String> {
    let missing = checks.iter().filter(|check| check.level == Level::Problem).count();
    if missing == number {
        return vec![format!(
            "the stack {stack} has no function in this account and region; deploy Shiftgate here, or name another stack with --stack"
        )];
    }
    checks.iter().filter(|check| check.level != Level::Ok).map(note).collect()
}

fn note(check: &Check) -> String {
    let fix = check.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
    format!("{}: {}{fix}", check.name, check.seen)
}

/// What was written.
struct Written<'a> {
    name: (&'a str, &'a str),
    file: String,
    text: String,
    plan: Plan,
    asked: Asked,
}

impl Written<'_> {
    fn hooks(&self) -> Hooks {
        Hooks::of(self.asked.way, &self.asked.stack, &self.asked.arn)
    }

    fn next(&self) -> Vec<String> {
        hooks::next(self.name, &self.file, &self.text, &self.asked.stack)
    }

    fn text(&self) -> String {
        let Self { file, asked, .. } = self;
        let mut lines = vec![format!("{file}: written, a policy for {}", asked.of)];
        lines.extend(asked.measured.iter().flat_map(policy::numbers));
        lines.extend(asked.notes.iter().map(|note| format!("note: {note}")));
        let Hooks { sentence, block } = self.hooks();
        lines.extend([String::new(), sentence, String::new(), block, String::new()]);
        lines.extend(["Then:".to_owned(), String::new()]);
        lines.extend(self.next());
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let measured = self.asked.measured.as_ref().map(|measured| {
            let mut numbers = measured.json();
            numbers["finds"] = policy::found_json(&self.plan.clone().fitted(measured.front), measured);
            numbers
        });
        let Hooks { sentence, block } = self.hooks();
        json!({
            "of": format!("{}/{}", self.name.0, self.name.1),
            "file": self.file,
            "measured": measured,
            "policy": self.text,
            "hooks": {"where": sentence, "text": block},
            "next": self.next(),
            "notes": self.asked.notes,
        })
    }
}
