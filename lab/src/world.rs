//! Plays a scenario: starts an account with one service, deploys its new version, lets happen what the file says, and
//! holds what came of it against what was expected.

mod bill;
mod happen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use shiftgate::report::Evidence;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use crate::account::{Account, AccountSpec};
use crate::codedeploy::{Hook, Pace, Platform};
use crate::doubts::HookNames;
use crate::ecs::{EcsHook, Stage};
use crate::lambda::{LogLine, function_arn};
use crate::recorded;
use crate::scenario::{self, Event, Expect, Scenario};
use crate::site::{self, Site, SiteSpec};
use crate::traffic::Stats;
use crate::underway::{Happening, Happenings, Moment, Underway};
pub use bill::{Bill, Used, bill};
use happen::{Happen, is_now};

/// Longest play; a scenario that is not over by then has hung.
const LONGEST: Duration = Duration::from_mins(6);
/// ECS's minutes in which it watches the alarms of a rolling update.
const ROLLING_BAKE: f64 = 10.0;
/// How often the users' experience is told.
const TICK: Duration = Duration::from_millis(500);

/// What a spectator is told while a scenario plays.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Something happened to the deployment.
    Happening(Happening),
    /// A function wrote a line of its log that tells of a verdict or a look.
    Log(Value),
    /// What the users have seen so far.
    Users(Stats),
}

/// A verdict, as the function's log has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictLine {
    /// The function.
    pub stage: String,
    /// `pass`, `inconclusive` or `fail`.
    pub outcome: String,
    /// `Succeeded` or `Failed`.
    pub answer: String,
    /// Why.
    pub reason: String,
    /// The whole line.
    #[serde(skip)]
    pub line: Value,
}

/// What came of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Played {
    /// Status of the deployment, as its controller names it.
    pub status: String,
    /// Code and message of what ended it.
    pub error: Option<(String, String)>,
    /// Whether the traffic was given back to blue.
    pub rolled_back: bool,
    /// Whether it went through.
    pub released: bool,
    /// Who carried it out.
    pub controller: scenario::Controller,
    /// Green's share of traffic when it was decided, in percent.
    pub weight: f64,
    /// The verdicts in order.
    pub verdicts: Vec<VerdictLine>,
    /// The Markdown reports in order, with the function that wrote them.
    pub reports: Vec<(String, String)>,
    /// Requests of the users, and how they were answered.
    pub requests: u64,
    /// Requests that were answered with an error or not at all.
    pub bad_requests: u64,
    /// What the functions recorded of the traffic, for a replay; the last recording if there are several.
    #[serde(skip)]
    pub recording: Option<Value>,
    /// How its replay differs from the verdict that it belongs to.
    pub replay_differs: Option<String>,
    /// Calls to AWS that the template's roles do not allow, as `function action`.
    pub denied: Vec<String>,
    /// Seconds that the deployment took.
    pub seconds: f64,
}

impl Played {
    /// The verdict that ended the release, if one did.
    pub fn decision(&self) -> Option<&VerdictLine> {
        self.verdicts.iter().find(|verdict| verdict.answer == "Failed")
    }

    /// The evidence of the verdict that tells how it went: the one that ended the release, or else the last. `None` when there is
    /// none, or when it cannot be read, which would be a bug.
    pub fn evidence(&self) -> Option<Evidence> {
        let verdict = self.decision().or(self.verdicts.last())?;
        Evidence::from_log(verdict.line.clone(), self.recording.as_ref()).ok()
    }

    fn differences_of_outcome(&self, expect: &Expect) -> Vec<String> {
        if self.released == expect.is_release() {
            return Vec::new();
        }
        let wanted = if expect.is_release() { "go through" } else { "be ended" };
        vec![format!("status is {}, and the release should {wanted}", self.status)]
    }

    fn differences_of_codedeploy(&self, expect: &Expect) -> Vec<String> {
        let mut differences = Vec::new();
        if self.status != expect.status {
            differences.push(format!("status is {}, not {}", self.status, expect.status));
        }
        if self.rolled_back != expect.rolled_back {
            let was = if self.rolled_back { "was" } else { "was not" };
            differences.push(format!("it {was} rolled back"));
        }
        let decision = self.decision();
        if decision.map(|verdict| &verdict.stage) != expect.by.as_ref() {
            let by = decision.map_or("nobody", |verdict| verdict.stage.as_str());
            let why = decision.map(|verdict| format!(" ({})", verdict.reason)).unwrap_or_default();
            differences
                .push(format!("decided by {by}{why}, not by {}", expect.by.as_deref().unwrap_or("nobody")));
        }
        differences
    }

    /// ECS rolls back whatever does not go through, and may do so itself before a hook is asked.
    fn differences_of_ecs(&self, expect: &Expect) -> Vec<String> {
        let wanted = if expect.is_release() { "SUCCESSFUL" } else { "ROLLBACK_SUCCESSFUL" };
        if self.status == wanted {
            return Vec::new();
        }
        let why = self.error.as_ref().map(|(_, why)| format!(" ({why})")).unwrap_or_default();
        vec![format!("status is {}{why}, not {wanted}", self.status)]
    }

    /// What is not as expected; empty when everything is.
    pub fn differences(&self, expect: &Expect) -> Vec<String> {
        if expect.only_the_outcome {
            return self.differences_of_outcome(expect);
        }
        let mut differences = match self.controller {
            scenario::Controller::CodeDeploy | scenario::Controller::Lambda => {
                self.differences_of_codedeploy(expect)
            }
            scenario::Controller::Ecs => self.differences_of_ecs(expect),
        };
        let decision = self.decision();
        if let Some(wanted) = &expect.reason
            && (self.controller != scenario::Controller::Ecs || decision.is_some())
            && !decision.is_some_and(|verdict| verdict.reason.contains(wanted))
        {
            let reason = decision.map_or("none", |verdict| verdict.reason.as_str());
            differences.push(format!("the reason does not contain `{wanted}`: {reason}"));
        }
        if let Some(wanted) = &expect.report
            && !self.reports.iter().any(|(_, report)| report.contains(wanted))
        {
            differences.push(format!("no report contains `{wanted}`"));
        }
        differences.extend(self.replay_differs.clone());
        differences.extend(self.denied.iter().map(|call| format!("the role does not allow {call}")));
        differences
    }
}

/// Plays a scenario with the functions in `binaries`; `project` has the template.
pub async fn play(
    scenario: &Scenario,
    project: &Path,
    binaries: &Path,
    progress: mpsc::UnboundedSender<Progress>,
) -> Result<Played> {
    let account = Account::start(&account_spec(scenario, project, binaries)).await?;
    play_in(&account, scenario, LONGEST, progress).await
}

/// Plays it in an account where nothing has happened yet.
async fn play_in(
    account: &Account,
    scenario: &Scenario,
    longest: Duration,
    progress: mpsc::UnboundedSender<Progress>,
) -> Result<Played> {
    for (name, ringing) in &scenario.alarms {
        account.services.cloudwatch.set_alarm_state(name, *ringing);
    }
    for (binary, after) in &scenario.kill {
        let function = account.template.function(binary).with_context(|| format!("no function {binary}"))?;
        account.services.lambda.kill_next(&function.name, after.0, 1)?;
    }
    let site = Site::start(account, site_spec(scenario, account)).await?;
    let result = tokio::time::timeout(longest, Play { scenario, account, site: &site, progress }.run()).await;
    result.unwrap_or_else(|_| bail!("not over after {} s", longest.as_secs()))
}

fn account_spec(scenario: &Scenario, project: &Path, binaries: &Path) -> AccountSpec {
    let minute = scenario.minute();
    AccountSpec {
        project: project.to_owned(),
        binaries: binaries.to_owned(),
        // An hour of the lab would still be minutes; a hook that is silent for three of them hangs.
        pace: Pace { minute, hook_timeout: Duration::from_mins(3) },
        ingestion_delay: Duration::from_secs(1),
        retry_delays: [Duration::from_secs(1), Duration::from_secs(2)],
        port: 0,
        doubts: scenario.doubts,
        subscriptions: false,
    }
}

/// The service with all hooks wired, and the watch behind them.
fn site_spec(scenario: &Scenario, account: &Account) -> SiteSpec {
    let controller = match scenario.controller {
        scenario::Controller::CodeDeploy => site::Controller::CodeDeploy {
            shift: scenario.shift.shift(),
            hooks: codedeploy_hooks(scenario, account),
        },
        scenario::Controller::Lambda => {
            let mut hooks = codedeploy_hooks(scenario, account);
            hooks.retain(|event, _| Platform::Lambda.events().contains(event));
            site::Controller::Lambda { shift: scenario.shift.shift(), hooks }
        }
        scenario::Controller::Ecs => site::Controller::Ecs {
            strategy: scenario.shift.strategy(),
            hooks: ecs_hooks(scenario, account),
            // A rolling update that ends at once is over before a metric of it is there.
            bake_minutes: if scenario.shift.rolling { ROLLING_BAKE } else { 0.0 },
        },
    };
    SiteSpec {
        name: "shop".to_owned(),
        tasks: scenario.service.tasks,
        requests_per_second: scenario.service.requests_per_second,
        test_listener: scenario.service.test_listener,
        rule: scenario.service.rule,
        first_deployment: scenario.service.first_deployment,
        past: scenario.service.past.0,
        blue: scenario.blue.clone(),
        green: scenario.green.clone(),
        controller,
        termination_wait_minutes: 0.0,
        alarms: Vec::new(),
        policy: scenario.policy.as_ref().map(ToString::to_string),
        doubts: scenario.doubts,
    }
}

fn codedeploy_hooks(scenario: &Scenario, account: &Account) -> BTreeMap<&'static str, Hook> {
    let hooks = [
        ("BeforeInstall", "before-install"),
        ("AfterInstall", "after-install"),
        ("AfterAllowTestTraffic", "after-allow-test-traffic"),
        ("BeforeAllowTraffic", "before-allow-traffic"),
        ("AfterAllowTraffic", "after-allow-traffic"),
    ];
    let hook = |(event, binary): (&'static str, &str)| {
        let function = account.template.function(binary)?;
        Some((event, Hook::Function(named(scenario, &function.name))))
    };
    hooks.into_iter().filter_map(hook).collect()
}

/// One function at every stage that can call one.
fn ecs_hooks(scenario: &Scenario, account: &Account) -> Vec<EcsHook> {
    let silent = [Stage::ScaleUp, Stage::BakeTime, Stage::CleanUp];
    let stages: Vec<Stage> = Stage::ALL.into_iter().filter(|stage| !silent.contains(stage)).collect();
    let function = account.template.function("ecs-lifecycle");
    function
        .map(|function| EcsHook::function(&named(scenario, &function.name), &stages))
        .into_iter()
        .collect()
}

/// A function as a hook names it.
fn named(scenario: &Scenario, function: &str) -> String {
    match scenario.doubts.hook_names {
        HookNames::Unqualified => function.to_owned(),
        HookNames::Qualified => format!("{}:live", function_arn(function)),
    }
}

struct Play<'a> {
    scenario: &'a Scenario,
    account: &'a Account,
    site: &'a Site,
    progress: mpsc::UnboundedSender<Progress>,
}

impl Play<'_> {
    async fn run(self) -> Result<Played> {
        let mut happenings = self.happenings();
        let mut logs = self.account.services.lambda.logs();
        let mut lines: Vec<Value> = Vec::new();
        let mut events = JoinSet::new();
        let mut waiting = self.scenario.events.clone();
        let mut tick = tokio::time::interval(TICK);
        let started = tokio::time::Instant::now();
        let underway = self.deploy()?;
        let mut decided_at = 0.0;
        let mut ending = false;
        loop {
            tokio::select! {
                happening = happenings.recv() => {
                    let Some(happening) = received(happening)? else { continue };
                    if let Some(moment) = underway.moment(&happening) {
                        let due = |event: &mut Event| is_now(event, moment);
                        for event in waiting.extract_if(.., due) {
                            events.spawn(self.happen(event, &underway).run());
                        }
                        if let Moment::Weight(green) = moment && green > 0.0 {
                            decided_at = green;
                        }
                    }
                    // A deployment that was stopped is over for the moment until its rollback begins.
                    ending = underway.is_over();
                    self.tell(Progress::Happening(happening));
                }
                line = logs.recv() => {
                    if let Some(line) = received(line)? && let Some(line) = told(&line) {
                        lines.push(line.clone());
                        self.tell(Progress::Log(line));
                    }
                }
                _ = tick.tick() => {
                    self.tell(Progress::Users(self.site.traffic.stats()));
                    // A last round for the log lines that are still on their way.
                    let told = lines.iter().filter(|line| line["message"] == "report").count();
                    if ending && told >= underway.reports() { break; }
                }
            }
        }
        self.played(&underway, decided_at, &lines, started.elapsed())
    }

    fn happenings(&self) -> Happenings {
        let services = &self.account.services;
        match self.scenario.controller {
            scenario::Controller::CodeDeploy | scenario::Controller::Lambda => {
                Happenings::CodeDeploy(services.codedeploy.happenings())
            }
            scenario::Controller::Ecs => Happenings::Ecs(services.ecs.happenings()),
        }
    }

    fn deploy(&self) -> Result<Underway> {
        let (services, site) = (&self.account.services, self.site);
        Ok(match self.scenario.controller {
            scenario::Controller::CodeDeploy | scenario::Controller::Lambda => {
                let id = services.codedeploy.deploy(&site.application, &site.group, None, None)?;
                Underway::CodeDeploy(Arc::clone(&services.codedeploy), id)
            }
            scenario::Controller::Ecs => {
                let arn = services.ecs.deploy(&site.application, &site.group, None)?;
                Underway::Ecs(Arc::clone(&services.ecs), arn)
            }
        })
    }

    fn happen(&self, event: Event, underway: &Underway) -> Happen {
        Happen {
            event,
            normal: [self.scenario.blue.clone(), self.scenario.green.clone()],
            blue: self.site.blue.clone(),
            green: underway.green(),
            services: Arc::clone(&self.account.services),
            deployment: underway.id().to_owned(),
        }
    }

    fn played(&self, underway: &Underway, weight: f64, lines: &[Value], took: Duration) -> Result<Played> {
        let id = underway.id();
        let ending = underway.ending().context("the deployment vanished")?;
        let of_kind = |kind: &'static str| {
            lines.iter().filter(move |line| line["message"] == kind && line["deployment_id"] == id)
        };
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let verdicts = of_kind("verdict").map(|line| VerdictLine {
            stage: text(line, "stage"),
            outcome: text(line, "outcome"),
            answer: text(line, "answer"),
            reason: text(line, "reason"),
            line: line.clone(),
        });
        // A function writes its verdict right after the recording that it came from.
        let is_recording = |line: &Value| line["message"] == "recording" && line["deployment_id"] == id;
        let told = lines.iter().rposition(is_recording).map_or(&[][..], |at| &lines[at..]);
        let recording = told.first().map(|line| line["recording"].clone());
        // A hook of the rollback may be quicker.
        let is_verdict = |line: &&Value| line["message"] == "verdict" && line["deployment_id"] == id;
        let verdict = told.iter().find(is_verdict);
        let replay_differs = recording.as_ref().zip(verdict).and_then(|(recording, verdict)| {
            recorded::difference(verdict, recording, self.scenario.policy.as_ref())
        });
        let stats = self.site.traffic.stats();
        Ok(Played {
            status: ending.status,
            error: ending.error,
            rolled_back: ending.rolled_back,
            released: ending.released,
            controller: self.scenario.controller,
            weight,
            verdicts: verdicts.collect(),
            reports: of_kind("report").map(|line| (text(line, "stage"), text(line, "markdown"))).collect(),
            requests: stats.sent,
            bad_requests: stats.errors + stats.failed,
            recording,
            replay_differs,
            denied: self.denied(),
            seconds: took.as_secs_f64(),
        })
    }

    /// Calls that the template's roles do not allow, leaving out those that the scenario denies on purpose.
    fn denied(&self) -> Vec<String> {
        let on_purpose = |action: &str| {
            self.scenario
                .events
                .iter()
                .filter_map(|event| event.aws.as_ref())
                .any(|fault| fault.action == action)
        };
        let calls = self.account.services.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let denied: BTreeSet<String> = calls
            .iter()
            .filter(|call| {
                call.error.as_deref() == Some("AccessDeniedException") && !on_purpose(&call.action)
            })
            .map(|call| format!("{} {}", call.caller, call.action))
            .collect();
        denied.into_iter().collect()
    }

    fn tell(&self, progress: Progress) {
        // The spectator may have left.
        let _ = self.progress.send(progress);
    }
}

/// A message from a channel; a spectator that lagged behind goes on with what comes next.
fn received<T>(result: Result<T, broadcast::error::RecvError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(broadcast::error::RecvError::Lagged(_)) => Ok(None),
        Err(broadcast::error::RecvError::Closed) => bail!("the lab ended too early"),
    }
}

/// A log line of a function that tells of a verdict, a report, a look or a recording.
fn told(line: &LogLine) -> Option<Value> {
    let value: Value = serde_json::from_str(&line.line).ok()?;
    matches!(value["message"].as_str(), Some("verdict" | "report" | "look" | "failed" | "recording" | "held"))
        .then_some(value)
}
