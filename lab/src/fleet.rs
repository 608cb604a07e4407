//! Many rollouts at once in one account: deployments that CodeDeploy, the balancers and CloudWatch know of, without a task
//! or a socket behind them. The functions are the real binaries, the loop is the real state machine, and the account has
//! the quotas that it is given. Traffic is counts in CloudWatch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use shiftgate::carry::first_pause;
use shiftgate::event::{DeploymentId, Duty, Look};
use shiftgate::rollout;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account::{Account, AccountSpec};
use crate::api::{ACCOUNT, REGION};
use crate::application::Behaviour;
use crate::codedeploy::{
    AutoRollback, DeploymentRecord, Group, Hook, Pace, ServiceTarget, Shift, Status, Target,
};
use crate::doubts::Doubts;
use crate::lambda::{Executions, LogLine};
use crate::load_balancer::{HealthCheck, ListenerKind, LoadBalancer, LoadBalancerSpec, TargetGroupSpec};
use crate::quota::Quota;
use crate::service::{Label, Service};
use crate::site::CLUSTER;

/// What a fleet is to be like.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// The project's folder.
    pub project: PathBuf,
    /// The folder with the function binaries.
    pub binaries: PathBuf,
    /// Rollouts that begin in the same second.
    pub rollouts: usize,
    /// How many of them bring a regression.
    pub regressions: usize,
    /// How many times as fast as on AWS minutes pass. Quotas are faster by as much.
    pub speed: u32,
    /// The account's quotas.
    pub quotas: Vec<Quota>,
    /// Executions of Lambda functions that the account may have at once.
    pub executions: usize,
}

/// Minutes of the only step of the shift.
pub const SHIFT_MINUTES: u32 = 5;
/// Minutes of the bake: the built-in policy's.
pub const BAKE_MINUTES: u32 = 5;
/// Minutes until metrics can be read.
pub const INGESTION_MINUTES: u32 = 2;
/// Minutes that CloudWatch knows from before the shift.
const PAST_MINUTES: i64 = 62;
/// Green's share of the traffic during the shift.
const GREEN: f64 = 0.1;
/// Requests of a service in a minute.
const REQUESTS: f64 = 6000.0;
/// Shares of requests that end in an error: usually, and with a regression.
const ERRORS: [f64; 2] = [0.001, 0.1];
/// Times of the answers in seconds, with their shares.
const TIMES: [(f64, f64); 3] = [(0.05, 0.97), (0.15, 0.025), (0.4, 0.005)];
/// Time after which a fleet that is not over has hung, beside the minutes of its rollouts.
const PATIENCE: Duration = Duration::from_mins(12);
/// How often the deployments are looked at.
const TICK: Duration = Duration::from_millis(100);

/// The verdict on one rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether the rollout brought a regression.
    pub regression: bool,
    /// From when the data for the verdict could be read until it was told, in seconds.
    pub delay: f64,
}

/// What was answered to calls of one action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that were throttled.
    pub throttled: usize,
}

/// What came of a fleet.
#[derive(Debug, Clone, Default)]
pub struct Played {
    /// The verdicts that were right.
    pub verdicts: Vec<Verdict>,
    /// Rollouts without a verdict or with a wrong one, and what became of them.
    pub lost: Vec<String>,
    /// Looks of the watch that judged metrics.
    pub looks: usize,
    /// Looks of the watch that ended in a fault, and the faults.
    pub missed: BTreeMap<String, usize>,
    /// Calls by function and action.
    pub calls: BTreeMap<(String, String), Calls>,
    /// Executions of all functions.
    pub executions: Executions,
    /// How much later than asked for this program's timers went off, in seconds, sorted.
    pub lateness: Vec<f64>,
    /// Seconds that everything took.
    pub seconds: f64,
}

/// A rollout of the fleet.
struct Rollout {
    deployment: String,
    regression: bool,
    balancer: Arc<LoadBalancer>,
    /// Whether CloudWatch has the counts of its shift.
    is_told: bool,
}

/// Plays a fleet; `tell` hears now and then how far it is.
pub async fn play(spec: &FleetSpec, tell: impl Fn(&str)) -> Result<Played> {
    let minute = Duration::from_mins(1) / spec.speed;
    let pace = Pace { minute, hook_timeout: minute * 60 };
    let account = Account::start(&AccountSpec {
        project: spec.project.clone(),
        binaries: spec.binaries.clone(),
        pace,
        ingestion_delay: minute * INGESTION_MINUTES,
        retry_delays: [minute, 2 * minute],
        port: 0,
        doubts: Doubts::default(),
        subscriptions: false,
    })
    .await?;
    let faster = spec.quotas.iter().map(|quota| quota.faster(f64::from(spec.speed)));
    account.services.quotas.hold(faster.collect());
    account.services.lambda.limit_concurrency(spec.executions);
    if spec.speed > 1 {
        account.services.parameters.put("/shiftgate/default", &policy(minute), false);
    }
    let first_minute = Timestamp::now().as_second().div_euclid(minute.as_secs() as i64);
    let fleet = Fleet { account, minute, first_minute, began: Instant::now() };
    fleet.play(spec, tell).await
}

/// The built-in policy in faster minutes.
fn policy(minute: Duration) -> String {
    let seconds = minute.as_secs();
    format!(
        "version: 1\nmetrics: {{period: {seconds}s, ingestion_delay: {}s, look_every: {seconds}s}}\nbake: {{for: {}s}}\n",
        seconds * u64::from(INGESTION_MINUTES),
        seconds * u64::from(BAKE_MINUTES)
    )
}

struct Fleet {
    account: Account,
    minute: Duration,
    /// The minute in which the fleet began, counted from the epoch.
    first_minute: i64,
    began: Instant,
}

impl Fleet {
    async fn play(&self, spec: &FleetSpec, tell: impl Fn(&str)) -> Result<Played> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut helpers = JoinSet::new();
        helpers.spawn(listen(self.account.services.lambda.logs(), Arc::clone(&heard)));
        helpers.spawn(measure_lateness(Arc::clone(&heard)));
        let mut rollouts = Vec::with_capacity(spec.rollouts);
        for number in 0..spec.rollouts {
            rollouts.push(self.prepare(number, number < spec.regressions).await?);
        }
        tell(&format!("{} services stand, {} of them get a regression", spec.rollouts, spec.regressions));
        for (number, rollout) in rollouts.iter_mut().enumerate() {
            let application = application(number);
            rollout.deployment = self.account.services.codedeploy.deploy(&application, GROUP, None, None)?;
        }
        for (number, rollout) in rollouts.iter().enumerate() {
            self.start_watch(number, rollout).await?;
        }
        tell("all watches have been started");
        self.wait(&mut rollouts, tell).await;
        Ok(self.played(&rollouts, &heard))
    }

    /// A service in the account: balancer, deployment group, and an hour of counts.
    async fn prepare(&self, number: usize, regression: bool) -> Result<Rollout> {
        let application = application(number);
        let names = [format!("{application}-one"), format!("{application}-two")];
        let balancer = LoadBalancer::described(LoadBalancerSpec {
            name: application.clone(),
            target_groups: names.clone().map(|name| TargetGroupSpec {
                name,
                health_check: HealthCheck::default(),
                deregistration_delay: Duration::ZERO,
            }),
            test_listener: false,
            rules: Vec::new(),
        });
        balancer.set_weights(ListenerKind::Production, &[(names[0].clone(), 100), (names[1].clone(), 0)])?;
        self.account.add_balancer(Arc::clone(&balancer));
        let service = Arc::new(Service::new(CLUSTER, &application, Some(Arc::clone(&balancer))));
        let live = service.start(Label::Blue, &names[0], 0, &Behaviour::default()).await?;
        let after = Hook::Function(self.function("after-allow-traffic")?);
        self.account.services.codedeploy.add_group(Group {
            application,
            name: GROUP.to_owned(),
            target: Target::Service(ServiceTarget {
                service,
                live,
                target_groups: names,
                next_version: Behaviour::default(),
                termination_wait_minutes: 0.0,
                listener_rules: Doubts::default().listener_rules,
            }),
            shift: Shift::Canary { percent: GREEN * 100.0, minutes: f64::from(SHIFT_MINUTES) },
            hooks: [("AfterAllowTraffic", after)].into(),
            alarms: Vec::new(),
            auto_rollback: AutoRollback { on_failure: true, on_alarm: true },
            doubts: Doubts::default(),
            last_successful: None,
        });
        let rollout = Rollout { deployment: String::new(), regression, balancer, is_told: false };
        self.record(&rollout, -PAST_MINUTES..0, |_| 0.0)?;
        Ok(rollout)
    }

    fn function(&self, binary: &str) -> Result<String> {
        let function = self.account.template.function(binary);
        Ok(function.with_context(|| format!("template.yaml has no {binary}"))?.name.clone())
    }

    /// Starts the watch as before-allow-traffic does, with what that hook has found out of the service.
    async fn start_watch(&self, number: usize, rollout: &Rollout) -> Result<()> {
        let services = &self.account.services;
        let id = DeploymentId::new(&rollout.deployment)?;
        let look = Look {
            deployment_id: rollout.deployment.clone(),
            duty: Duty::Traffic,
            execution_id: None,
            answer_by: None,
            after_seconds: self.minute.as_secs().max(1),
            begin_after_seconds: first_pause(&id, self.minute),
            service: known(&application(number), &rollout.balancer),
            usually_slow: Vec::new(),
            next: None,
            error: None,
        };
        services.quotas.wait("states:StartExecution").await;
        let machine = &self.account.template.state_machine;
        let start = json!({
            "stateMachineArn": format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{machine}"),
            "name": rollout.deployment,
            "input": serde_json::to_string(&look)?,
        });
        services.stepfunctions.handle("StartExecution", start.to_string().as_bytes()).await?;
        Ok(())
    }

    /// Waits until every deployment is over; CloudWatch gets the counts of a shift when it begins.
    async fn wait(&self, rollouts: &mut [Rollout], tell: impl Fn(&str)) {
        let minutes = self.minute * (SHIFT_MINUTES + BAKE_MINUTES + INGESTION_MINUTES);
        let deadline = self.began + minutes + PATIENCE;
        let mut told = self.began;
        loop {
            let mut over = 0;
            for rollout in &mut *rollouts {
                let Some(record) = self.record_of(rollout) else { continue };
                over += usize::from(record.status.is_over());
                if let Some(began) = begin_of(&record, "AllowTraffic").filter(|_| !rollout.is_told) {
                    rollout.is_told = self.tell_shift(rollout, began).is_ok();
                }
            }
            if told.elapsed() > self.minute.max(Duration::from_secs(10)) {
                told = Instant::now();
                let running = self.account.services.lambda.executions().begun;
                tell(&format!(
                    "{} s: {over} of {} are over, {running} executions so far",
                    self.began.elapsed().as_secs(),
                    rollouts.len()
                ));
            }
            if over == rollouts.len() || Instant::now() > deadline {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn record_of(&self, rollout: &Rollout) -> Option<DeploymentRecord> {
        self.account.services.codedeploy.deployment(&rollout.deployment)
    }

    /// The counts of the shift, and of as long a time after it as the fleet may take. CloudWatch shows them when their time
    /// has come.
    fn tell_shift(&self, rollout: &Rollout, began: Timestamp) -> Result<()> {
        let ends = began + self.minute * SHIFT_MINUTES;
        let share = |at: Timestamp| match at {
            at if at < began => 0.0,
            at if at < ends => GREEN,
            _ => 1.0,
        };
        self.record(rollout, 0..60, share)
    }

    /// Puts minutes of counts into CloudWatch, from the minute `minutes.start` of the fleet on. `share` is green's.
    fn record(
        &self,
        rollout: &Rollout,
        minutes: std::ops::Range<i64>,
        share: impl Fn(Timestamp) -> f64,
    ) -> Result<()> {
        let minute = self.minute.as_secs() as i64;
        for number in minutes {
            let at = Timestamp::from_second((self.first_minute + number) * minute)? + self.minute / 2;
            let green = share(at);
            let [blue_group, green_group] = rollout.balancer.target_groups();
            let errors = ERRORS[usize::from(rollout.regression)];
            self.count(rollout, &blue_group.dimension, at, (1.0 - green) * REQUESTS, ERRORS[0]);
            self.count(rollout, &green_group.dimension, at, green * REQUESTS, errors);
        }
        Ok(())
    }

    /// What the balancer would tell of one target group's minute.
    fn count(&self, rollout: &Rollout, target_group: &str, at: Timestamp, requests: f64, errors: f64) {
        let dimensions =
            [("LoadBalancer", rollout.balancer.dimension.as_str()), ("TargetGroup", target_group)];
        let record = |metric: &str, value: f64, count: f64| {
            let cloudwatch = &self.account.services.cloudwatch;
            cloudwatch.record_many("AWS/ApplicationELB", metric, &dimensions, at, value, count.round());
        };
        record("UnHealthyHostCount", 0.0, 1.0);
        if requests > 0.0 {
            record("RequestCount", 1.0, requests);
            record("HTTPCode_Target_5XX_Count", 1.0, requests * errors);
            for (time, part) in TIMES {
                record("TargetResponseTime", time, requests * part);
            }
        }
    }

    fn played(&self, rollouts: &[Rollout], heard: &Mutex<Heard>) -> Played {
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        // The counts of all regressions are the same, so what was enough for one was enough for all.
        let enough = heard.periods_of_verdicts.iter().min().copied().unwrap_or(1);
        let mut played = Played {
            looks: heard.looks,
            missed: heard.missed.clone(),
            calls: self.calls(),
            executions: self.account.services.lambda.executions(),
            lateness: heard.lateness.clone(),
            seconds: self.began.elapsed().as_secs_f64(),
            ..Played::default()
        };
        played.lateness.sort_by(f64::total_cmp);
        for rollout in rollouts {
            let Some(record) = self.record_of(rollout) else { continue };
            match self.verdict(rollout, &record, enough) {
                Some(verdict) => played.verdicts.push(verdict),
                None => played.lost.push(format!(
                    "{} {}, {}: {:?}",
                    record.id,
                    if rollout.regression { "with a regression" } else { "without" },
                    record.status.as_str(),
                    record.error
                )),
            }
        }
        played
    }

    /// The verdict, if there is one and it is right.
    fn verdict(&self, rollout: &Rollout, record: &DeploymentRecord, enough: u64) -> Option<Verdict> {
        let (readable, told) = if rollout.regression {
            let began = begin_of(record, "AllowTraffic")?.as_millisecond();
            let period = self.minute.as_millis() as i64;
            let first = (began + period - 1).div_euclid(period) * period;
            let complete = first + period * enough as i64;
            let stopped = matches!(record.status, Status::Stopped | Status::Failed);
            (Timestamp::from_millisecond(complete).ok()?, record.completed.filter(|_| stopped)?)
        } else {
            let shift = record.event("AllowTraffic")?.ended?;
            let hook = record.event("AfterAllowTraffic")?;
            (shift + self.minute * BAKE_MINUTES, hook.ended.filter(|_| hook.report == Some(true))?)
        };
        let readable = readable + self.minute * INGESTION_MINUTES;
        Some(Verdict { regression: rollout.regression, delay: told.duration_since(readable).as_secs_f64() })
    }

    fn calls(&self) -> BTreeMap<(String, String), Calls> {
        let mut all: BTreeMap<_, Calls> = BTreeMap::new();
        for call in self.account.services.calls.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let calls = all.entry((call.caller.clone(), call.action.clone())).or_default();
            match call.error.as_deref() {
                Some("Throttling" | "ThrottlingException") => calls.throttled += 1,
                _ => calls.answered += 1,
            }
        }
        all
    }
}

const GROUP: &str = "blue-green";

fn application(number: usize) -> String {
    format!("shop-{number:05}")
}

fn begin_of(record: &DeploymentRecord, event: &str) -> Option<Timestamp> {
    record.event(event)?.started
}

/// What the API tells of a service, as the functions carry it from look to look.
fn known(service: &str, balancer: &LoadBalancer) -> Option<rollout::Service> {
    let listener = balancer.listener(ListenerKind::Production).ok()?;
    let target_group = |group: &Arc<crate::load_balancer::TargetGroup>| rollout::TargetGroup {
        name: group.name.clone(),
        arn: group.arn.clone(),
        dimension: group.dimension.clone(),
        health_path: Some(group.health_check.path.clone()),
        health_statuses: None,
    };
    Some(rollout::Service {
        application: service.to_owned(),
        group: GROUP.to_owned(),
        cluster: CLUSTER.to_owned(),
        service: service.to_owned(),
        target_groups: balancer.target_groups().each_ref().map(target_group),
        load_balancer: rollout::LoadBalancer {
            dns_name: listener.address.ip().to_string(),
            dimension: balancer.dimension.clone(),
            zones: Vec::new(),
        },
        production_listener: rollout::Listener {
            arn: listener.arn.clone(),
            port: listener.address.port(),
            protocol: "HTTP".to_owned(),
            conditions: Vec::new(),
        },
        test_listener: None,
        alarms: Vec::new(),
        last_successful: None,
    })
}

/// What the functions' logs and this program's own timers told.
#[derive(Debug, Default)]
struct Heard {
    looks: usize,
    missed: BTreeMap<String, usize>,
    /// Periods that the watch had judged when it stopped a deployment.
    periods_of_verdicts: Vec<u64>,
    lateness: Vec<f64>,
}

impl Heard {
    fn take(&mut self, line: &LogLine) {
        let Ok(line) = serde_json::from_str::<Value>(&line.line) else { return };
        if line["stage"] != "watch" {
            return;
        }
        match line["message"].as_str() {
            Some("look") => self.looks += 1,
            Some("verdict") => {
                let findings = line["findings"].as_array().into_iter().flatten();
                let failed = findings.filter(|finding| finding["outcome"] == "fail");
                self.periods_of_verdicts.extend(failed.filter_map(|finding| finding["periods"].as_u64()));
            }
            Some("failed") => {
                let what = line["what"].as_str().unwrap_or("no reason");
                // Each names its deployment or service; the action is what they have in common.
                let action = what.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
                *self.missed.entry(action.map_or(what, |(action, _)| action).to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
}

async fn listen(mut logs: tokio::sync::broadcast::Receiver<LogLine>, heard: Arc<Mutex<Heard>>) {
    loop {
        match logs.recv().await {
            Ok(line) => heard.lock().unwrap_or_else(PoisonError::into_inner).take(&line),
            Err(RecvError::Lagged(lines)) => {
                tracing::warn!(lines, "failed to count all lines of the functions' logs");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// A machine that cannot keep up shows in timers that go off late.
async fn measure_lateness(heard: Arc<Mutex<Heard>>) {
    loop {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due).await;
        let late = due.elapsed().as_secs_f64();
        heard.lock().unwrap_or_else(PoisonError::into_inner).lateness.push(late);
    }
}
