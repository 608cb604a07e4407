//! `serve`: keeps the lab up, with one deployment waiting at each hook under the ids of the sample events.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use shiftgate_lab::account::{Account, AccountSpec};
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::{EventStatus, Hook, Pace, Shift};
use shiftgate_lab::doubts::Doubts;
use shiftgate_lab::ecs::{EcsHook, HookStatus, Stage, Strategy};
use shiftgate_lab::site::{CLUSTER, Controller, PAST, Site, SiteSpec};

use crate::show;

/// The functions, with the event at which their deployment waits.
pub const WAITING: [(&str, &str); 6] = [
    ("before-install", "BeforeInstall"),
    ("after-install", "AfterInstall"),
    ("after-allow-test-traffic", "AfterAllowTestTraffic"),
    ("before-allow-traffic", "BeforeAllowTraffic"),
    ("watch", "AllowTraffic"),
    ("after-allow-traffic", "AfterAllowTraffic"),
];

/// The service that ECS deploys itself, and the id of its deployment.
const ECS_SERVICE: &str = "ecs-lifecycle";
const ECS_DEPLOYMENT: &str = "SampleDeployment00001";
/// The pause at which that waits.
pub const ECS_PAUSE: &str = "ecs-pause-sample";

/// Short periods, so that an invocation by hand is answered in seconds.
const POLICY: &str = "
metrics: {period: 5s, ingestion_delay: 10s}
readiness: {stable_for: 2s, within: 30s}
bake: {for: 10s}
";

/// How busy a service is, and how it is gated.
pub struct Load {
    /// Requests per second of its users.
    pub requests_per_second: f64,
    /// Median response time of both versions, in milliseconds.
    pub response_ms: f64,
    /// The policy's text.
    pub policy: &'static str,
}

impl Load {
    fn behaviour(&self) -> Behaviour {
        Behaviour { latency_ms: self.response_ms, ..Behaviour::default() }
    }
}

const LOAD: Load = Load { requests_per_second: 20.0, response_ms: 20.0, policy: POLICY };

/// An hour is a real hour here: a hook called by hand may take its time.
const PACE: Pace = Pace { minute: Duration::from_mins(1), hook_timeout: Duration::from_hours(1) };

/// An account in which deployments wait.
pub fn spec(project: &Path, binaries: &Path, port: u16) -> AccountSpec {
    AccountSpec {
        project: project.to_owned(),
        binaries: binaries.to_owned(),
        pace: PACE,
        ingestion_delay: Duration::from_secs(1),
        retry_delays: [Duration::from_mins(1), Duration::from_mins(2)],
        port,
        doubts: Doubts::default(),
        subscriptions: true,
    }
}

/// Serves until it is interrupted.
pub async fn run(project: &Path, binaries: &Path, port: u16) -> Result<bool> {
    let account = Account::start(&spec(project, binaries, port)).await?;
    let mut sites = Vec::new();
    for (function, event) in WAITING {
        sites.push(waiting(project, &account, function, event, &LOAD).await?);
    }
    let (ecs_deployment, _ecs_site) = waiting_ecs(&account, &LOAD).await?;
    show::line("# AWS on this machine. In another terminal:");
    for (name, value) in account.exports() {
        show::line(&format!("export {name}='{value}'"));
    }
    show::line("# Deployments that wait, each at the hook of its application's name:");
    for (id, site) in &sites {
        show::line(&format!("#   {id}  {}/{}", site.application, site.group));
    }
    show::line("# And one that ECS runs itself:");
    show::line(&format!("#   {ecs_deployment}"));
    show::line("# ready; Ctrl-C ends it");
    tokio::signal::ctrl_c().await.context("failed to wait for Ctrl-C")?;
    Ok(true)
}

/// A service of the function's name whose deployment waits at its hook.
pub async fn waiting(
    project: &Path,
    account: &Account,
    function: &str,
    event: &'static str,
    load: &Load,
) -> Result<(String, Site)> {
    let sample = sample(&project.join("events").join(format!("{function}.json")))?;
    let id = sample["DeploymentId"].as_str().or_else(|| sample["deployment_id"].as_str());
    let id = id.with_context(|| format!("events/{function}.json has no deployment id"))?.to_owned();
    let execution = sample["LifecycleEventHookExecutionId"].as_str().map(str::to_owned);
    let is_watch = function == "watch";
    let shift = if is_watch { Shift::Canary { percent: 10.0, minutes: 600.0 } } else { Shift::AllAtOnce };
    let site = Site::start(
        account,
        SiteSpec {
            name: function.to_owned(),
            // In three zones, so that its past has A/A windows for `backtest`.
            tasks: if is_watch { 3 } else { 1 },
            requests_per_second: load.requests_per_second,
            past: PAST,
            test_listener: true,
            rule: false,
            first_deployment: false,
            blue: load.behaviour(),
            green: load.behaviour(),
            controller: Controller::CodeDeploy {
                shift,
                hooks: execution.map(|execution| (event, Hook::Wait(execution))).into_iter().collect(),
            },
            termination_wait_minutes: 0.0,
            alarms: Vec::new(),
            policy: Some(load.policy.to_owned()),
            doubts: Doubts::default(),
        },
    )
    .await?;
    account.services.codedeploy.deploy(&site.application, &site.group, None, Some(&id))?;
    let there = || {
        let record = account.services.codedeploy.deployment(&id)?;
        record.event(event).map(|event| event.status == EventStatus::InProgress)
    };
    while there() != Some(true) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((id, site))
}

/// A canary of ECS's own that waits before production traffic shifts, until `ContinueServiceDeployment`.
pub async fn waiting_ecs(account: &Account, load: &Load) -> Result<(String, Site)> {
    let site = Site::start(
        account,
        SiteSpec {
            name: ECS_SERVICE.to_owned(),
            tasks: 2,
            requests_per_second: load.requests_per_second,
            past: PAST,
            test_listener: true,
            rule: false,
            first_deployment: false,
            blue: load.behaviour(),
            green: load.behaviour(),
            controller: Controller::Ecs {
                strategy: Strategy::Canary { percent: 10.0, bake_minutes: 600.0 },
                hooks: vec![EcsHook::wait(ECS_PAUSE, Stage::PostTestTrafficShift)],
                bake_minutes: 0.0,
            },
            termination_wait_minutes: 0.0,
            alarms: Vec::new(),
            policy: Some(load.policy.to_owned()),
            doubts: Doubts::default(),
        },
    )
    .await?;
    let ecs = &account.services.ecs;
    let arn = ecs.deploy(CLUSTER, ECS_SERVICE, Some(ECS_DEPLOYMENT))?;
    let waits = || {
        let record = ecs.deployment(&arn)?;
        record.hooks.first().map(|hook| hook.status == HookStatus::AwaitingAction)
    };
    while waits() != Some(true) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((arn, site))
}

/// The sample event in a file.
pub fn sample(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}
