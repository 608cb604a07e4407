//! An account with a service for each function, in which one case after the other is played.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shiftgate::event::Stage;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::case::{Case, Mishap, Quality};
use super::oracle::Observed;
use crate::account::{Account, AccountSpec, SECRET_ACCESS_KEY};
use crate::application::Behaviour;
use crate::cloudwatch::CloudWatch;
use crate::codedeploy::{DeploymentRecord, Hook, Pace, Shift, Status};
use crate::doubts::Doubts;
use crate::ecs::Strategy;
use crate::fault::Rule;
use crate::lambda::{Invocation, LogLine, Process};
use crate::load_balancer::{LoadBalancer, TargetState};
use crate::past::Past;
use crate::site::{CLUSTER, Controller, PAST, Site, SiteSpec, put_policy};

/// The alarm of every policy here.
const ALARM: &str = "injected";
/// The value of the header that smoke checks send.
const SECRET: &str = "hush-3f9a1c7e55d24b08";
/// Length of CodeDeploy's minute.
const MINUTE: Duration = Duration::from_millis(200);
/// The new version in the sample events of ECS.
const SAMPLE_REVISION: &str =
    "arn:aws:ecs:eu-west-1:123456789012:service-revision/lab/ecs-lifecycle/1793255058209869390";
/// Requests per second that CloudWatch is told of.
const REQUESTS: f64 = 200.0;
/// How a bad version serves.
const BROKEN: f64 = 0.6;
/// Longer than any shift.
const SHIFT: Duration = Duration::from_secs(70);
/// Longest wait for anything but a function.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time from the first answer of ECS's function to the last.
const HELD: Duration = Duration::from_secs(90);

/// A running account; each case leaves it as it was.
pub struct Arena {
    account: Account,
    sites: BTreeMap<&'static str, Site>,
    /// The deployment by ECS that stands at its first step.
    native: String,
    project: PathBuf,
}

impl Arena {
    /// Starts an account with the functions of the template and their services.
    pub async fn start(project: &Path, binaries: &Path) -> Result<Self> {
        let account = Account::start(&AccountSpec {
            project: project.to_owned(),
            binaries: binaries.to_owned(),
            pace: Pace { minute: MINUTE, hook_timeout: Duration::from_mins(2) },
            ingestion_delay: Duration::ZERO,
            retry_delays: [Duration::from_millis(50); 2],
            port: 0,
            doubts: Doubts::default(),
            subscriptions: false,
        })
        .await?;
        account.services.parameters.put("/shiftgate/token", SECRET, true);
        account.services.cloudwatch.set_alarm_state(ALARM, false);
        for function in &account.template.functions {
            account
                .services
                .lambda
                .update(&function.name, |spec| spec.timeout = timeout(&function.binary))?;
        }
        let mut sites = BTreeMap::new();
        for stage in Stage::ALL {
            sites.insert(stage.function(), Site::start(&account, site(stage)).await?);
        }
        let strategy = Strategy::Canary { percent: 10.0, bake_minutes: 1e6 };
        let controller = Controller::Ecs { strategy, hooks: Vec::new(), bake_minutes: 0.0 };
        sites.insert("ecs-lifecycle", Site::start(&account, spec("native", controller)).await?);
        let native = account.services.ecs.deploy(CLUSTER, "native", None)?;
        let arena = Self { account, sites, native, project: project.to_owned() };
        let stands = || {
            let record = arena.account.services.ecs.deployment(&arena.native)?;
            (record.target.production_weight > 0.0).then_some(())
        };
        until("ECS shifts traffic", stands).await?;
        Ok(arena)
    }

    /// The function processes that wait for work.
    pub fn processes(&self) -> Vec<Process> {
        self.account.services.lambda.processes()
    }

    /// Plays one case. An error is one of the lab, not of what is played.
    pub async fn play(&self, case: &Case) -> Result<Observed> {
        let mut logs = self.account.services.lambda.logs();
        self.account.services.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let on_fault = if case.proceeds_on_fault { "proceed" } else { "fail" };
        let site =
            self.sites.get(case.subject.function()).context("there is no service for this function")?;
        put_policy(&self.account, &site.application, &site.group, Some(&policy(on_fault)));
        let mut seen = match case.subject.0 {
            Stage::Ecs(_) => self.play_native(case).await,
            Stage::Watch => self.play_watch(case, site).await,
            _ => self.play_hook(case, site).await,
        }?;
        self.account.services.faults.clear();
        self.account.services.lambda.end_trouble();
        self.account.services.cloudwatch.set_alarm_state(ALARM, false);
        read_logs(&mut logs, &mut seen);
        seen.secrets.extend([SECRET, SECRET_ACCESS_KEY].map(str::to_owned));
        Ok(seen)
    }

    async fn play_hook(&self, case: &Case, site: &Site) -> Result<Observed> {
        let event = case.subject.0.lifecycle_event();
        let payload =
            |id: &str| json!({"DeploymentId": id, "LifecycleEventHookExecutionId": execution(event)});
        let older = match case.mishap {
            Some(Mishap::OutOfOrder) => Some(self.stopped_deployment(site, event).await?),
            _ => None,
        };
        let id = self.deploy(site)?;
        until("the deployment waits at its hook", || {
            self.deployment(&id)?.event(event)?.execution_id.as_ref().map(|_| ())
        })
        .await?;
        let _users = self.behave(case, site, &id).await?;
        if case.mishap == Some(Mishap::Over) {
            self.stop(&id)?;
            self.ended(&id).await?;
        }
        self.begin_trouble(case)?;
        let mut invocations = Vec::new();
        for payload in older.iter().map(|older| payload(older)).chain([payload(&id)]) {
            invocations.extend(self.deliver(case, &payload).await?);
        }
        let reported = || self.deployment(&id)?.event(event)?.report;
        let handed_over =
            invocations.iter().any(|invocation| answer(invocation)["handed_over_to"].is_string());
        if handed_over {
            // The loop answers in the function's place.
            let _ = within(PATIENCE, reported).await;
        }
        let mut seen = self.observed(&id, &invocations);
        seen.passed = reported();
        seen.secrets.push(execution(event));
        self.account.services.faults.clear();
        self.end(&id, &mut seen).await?;
        Ok(seen)
    }

    async fn play_watch(&self, case: &Case, site: &Site) -> Result<Observed> {
        let older = match case.mishap {
            Some(Mishap::OutOfOrder) => Some(self.stopped_deployment(site, "AllowTraffic").await?),
            _ => None,
        };
        // A watch that is hindered takes its time, and finds the regression all the same.
        let minutes = if case.quality == Quality::Bad { 300.0 } else { 40.0 };
        let shift = Shift::Canary { percent: 10.0, minutes };
        let codedeploy = &self.account.services.codedeploy;
        let id = codedeploy.deploy(&site.application, &site.group, Some(shift), None)?;
        until("traffic shifts", || (self.deployment(&id)?.green_weight > 0.0).then_some(())).await?;
        let _users = self.behave(case, site, &id).await?;
        if case.mishap == Some(Mishap::Over) {
            self.stop(&id)?;
            self.ended(&id).await?;
        }
        self.begin_trouble(case)?;
        for id in older.iter().chain([&id]) {
            self.start_watch(id, id).await?;
            if matches!(case.mishap, Some(Mishap::Twice | Mishap::TwiceAtOnce)) {
                self.start_watch(id, &format!("{id}-again")).await?;
            }
        }
        // Until the watch has stopped the deployment, or the shift is over.
        let _ = within(SHIFT, || self.deployment(&id)?.status.is_over().then_some(())).await;
        self.ended(&id).await?;
        let _ = within(Duration::from_secs(3), || self.executions_ended().then_some(())).await;
        // Whatever still fails is mended; with that the watch must end.
        self.account.services.faults.clear();
        let mut seen = self.observed(&id, &[]);
        seen.executions = usize::from(seen.executions > 0);
        seen.stopped = self.is_stopped_by_a_function(case, &id);
        seen.passed = (case.mishap != Some(Mishap::Over)).then_some(!seen.stopped);
        self.end(&id, &mut seen).await?;
        Ok(seen)
    }

    async fn play_native(&self, case: &Case) -> Result<Observed> {
        let Stage::Ecs(stage) = case.subject.0 else {
            bail!("{} is no stage of ECS", case.subject.function())
        };
        let name = stage.as_str().to_lowercase().replace('_', "-");
        let path = self.project.join(format!("events/ecs-{name}.json"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let record = self.account.services.ecs.deployment(&self.native).context("no deployment by ECS")?;
        let mut event: Value = serde_json::from_str(&text.replace(SAMPLE_REVISION, &record.target.revision))?;
        event["resourceArn"] = self.native.clone().into();
        self.account.services.cloudwatch.set_alarm_state(ALARM, case.quality == Quality::Bad);
        self.begin_trouble(case)?;
        let mut seen = Observed { executions_ended: true, ..Observed::default() };
        let deadline = Instant::now() + HELD;
        while Instant::now() < deadline {
            let invocations = self.deliver(case, &event).await?;
            seen.invocations.extend(invocations.iter().map(error));
            seen.reasons.extend(invocations.iter().map(reason_of));
            let Some(last) = invocations.last() else { break };
            let answer = answer(last);
            match answer["hookStatus"].as_str() {
                Some("IN_PROGRESS") => {
                    event["hookDetails"] = answer["hookDetails"].clone();
                    sleep(Duration::from_secs(answer["callBackDelay"].as_u64().unwrap_or(1).min(2))).await;
                }
                Some(status) => {
                    seen.passed = Some(status == "SUCCEEDED");
                    break;
                }
                None => break,
            }
        }
        // What no function finds at a stage that does not look at alarms is not wrong there.
        if case.quality == Quality::Bad && seen.passed == Some(true) && !stage_sees_alarms(stage) {
            seen.passed = Some(false);
        }
        Ok(seen)
    }

    /// Invokes the function as its caller does; once more, or twice at once, where the case says so.
    async fn deliver(&self, case: &Case, event: &Value) -> Result<Vec<Invocation>> {
        let lambda = &self.account.services.lambda;
        let name = &self.function(case)?.name;
        let payload = event.to_string().into_bytes();
        let once = async || {
            if matches!(case.subject.0, Stage::Ecs(_)) {
                return anyhow::Ok(vec![lambda.invoke(name, payload.clone()).await?]);
            }
            Ok(lambda.deliver(name, payload.clone()).await?)
        };
        let mut invocations = once().await?;
        match case.mishap {
            Some(Mishap::Twice) => invocations.extend(once().await?),
            Some(Mishap::TwiceAtOnce) => {
                let (left, right) = tokio::join!(once(), once());
                invocations.extend(left?.into_iter().chain(right?));
            }
            _ => {}
        }
        Ok(invocations)
    }

    /// From now on calls fail, and processes die, as the case says.
    fn begin_trouble(&self, case: &Case) -> Result<()> {
        let function = self.function(case)?;
        for fault in &case.faults {
            self.account.services.faults.add(Rule {
                action: fault.action.clone(),
                caller: Some(function.binary.clone()),
                fault: fault.fault,
                calls: fault.calls.clone(),
            });
        }
        let lambda = &self.account.services.lambda;
        match case.mishap {
            Some(Mishap::Killed { after_ms, times }) => {
                lambda.kill_next(&function.name, Duration::from_millis(after_ms), times)?;
            }
            Some(Mishap::OutOfMemory) => lambda.starve_next(&function.name)?,
            Some(Mishap::SlowStart { ms }) => {
                lambda.start_slowly(&function.name, Duration::from_millis(ms))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn function(&self, case: &Case) -> Result<&crate::template::Function> {
        self.account.template.function(case.subject.function()).context("template.yaml has no such function")
    }

    /// Makes the new version good or bad, and lets CloudWatch know of users. They leave when the value is dropped.
    async fn behave(&self, case: &Case, site: &Site, id: &str) -> Result<JoinSet<()>> {
        let record = self.deployment(id).context("the deployment vanished")?;
        let is_bad = case.quality == Quality::Bad;
        let mut users = JoinSet::new();
        let by_alarm = matches!(case.subject.0, Stage::BeforeInstall | Stage::BeforeAllowTraffic);
        self.account.services.cloudwatch.set_alarm_state(ALARM, is_bad && by_alarm);
        let Some(green) = &record.green else { return Ok(users) };
        let errors = match case.subject.0 {
            _ if !is_bad => 0.0,
            Stage::AfterInstall => 0.0,
            // A few requests must show it, though each is made twice.
            Stage::AfterAllowTestTraffic => 1.0,
            _ => BROKEN,
        };
        let healthy = !(is_bad && case.subject.0 == Stage::AfterInstall);
        let behaviour = Behaviour { errors, healthy, ..Behaviour::default() };
        green.behave(&behaviour);
        let balancer = self.balancer(site)?;
        let noticed = if healthy { TargetState::Healthy } else { TargetState::Unhealthy };
        until("the balancer notices", || {
            let targets = balancer.health(&green.target_group).ok()?;
            targets.iter().all(|target| target.state == noticed).then_some(())
        })
        .await?;
        if matches!(case.subject.0, Stage::Watch | Stage::AfterAllowTraffic) {
            for (set, behaviour) in [(Some(green), behaviour), (record.blue.as_ref(), Behaviour::default())] {
                let Some(set) = set else { continue };
                let group = balancer.target_group(&set.target_group)?.dimension.clone();
                let cloudwatch = Arc::clone(&self.account.services.cloudwatch);
                let since = record.event("AllowTraffic").and_then(|event| event.started);
                users.spawn(pretend(cloudwatch, balancer.dimension.clone(), group, behaviour, since));
            }
        }
        Ok(users)
    }

    fn balancer(&self, site: &Site) -> Result<Arc<LoadBalancer>> {
        let balancers = self.account.services.balancers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = balancers.iter().find(|balancer| balancer.name == site.application);
        found.cloned().context("the service has no balancer")
    }

    fn deploy(&self, site: &Site) -> Result<String> {
        Ok(self.account.services.codedeploy.deploy(&site.application, &site.group, None, None)?)
    }

    /// A deployment that was stopped at `event`.
    async fn stopped_deployment(&self, site: &Site, event: &'static str) -> Result<String> {
        let id = self.deploy(site)?;
        until("the older deployment gets there", || self.deployment(&id)?.event(event)?.started.map(|_| ()))
            .await?;
        self.stop(&id)?;
        self.ended(&id).await?;
        Ok(id)
    }

    fn deployment(&self, id: &str) -> Option<DeploymentRecord> {
        self.account.services.codedeploy.deployment(id)
    }

    fn stop(&self, id: &str) -> Result<()> {
        let body = json!({"deploymentId": id, "autoRollbackEnabled": true}).to_string();
        self.account.services.codedeploy.handle("StopDeployment", body.as_bytes())?;
        Ok(())
    }

    /// Waits until a deployment and its rollback have ended.
    async fn ended(&self, id: &str) -> Result<()> {
        until("the deployment ends", || {
            let record = self.deployment(id)?;
            let rollback = record.rolled_back_by.as_ref().map(|id| self.deployment(id));
            let undone =
                rollback.is_none_or(|rollback| rollback.is_some_and(|rollback| rollback.status.is_over()));
            (record.status.is_over() && undone).then_some(())
        })
        .await
    }

    /// Brings the service back to a good version, and waits until the loop has nothing to do any more.
    async fn end(&self, id: &str, seen: &mut Observed) -> Result<()> {
        let record = self.deployment(id).context("the deployment vanished")?;
        if !record.status.is_over() {
            // What was answered well goes on by itself; what was not waits for somebody.
            let _ =
                within(Duration::from_secs(2), || self.deployment(id)?.status.is_over().then_some(())).await;
            if !self.deployment(id).is_some_and(|record| record.status.is_over()) {
                self.stop(id)?;
            }
        }
        self.ended(id).await?;
        if let Some(green) = self.deployment(id).and_then(|record| record.green) {
            green.behave(&Behaviour::default());
        }
        seen.executions_ended = within(PATIENCE, || self.executions_ended().then_some(())).await.is_some();
        Ok(())
    }

    fn observed(&self, id: &str, invocations: &[Invocation]) -> Observed {
        let taken = self.account.services.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = taken.iter().filter(|call| {
            call.action.ends_with("PutLifecycleEventHookExecutionStatus") && call.error.is_none()
        });
        Observed {
            invocations: invocations.iter().map(error).collect(),
            reports_taken: reports.count(),
            executions: self.executions().iter().filter(|(name, _)| name.starts_with(id)).count(),
            log: invocations.iter().map(|invocation| String::from_utf8_lossy(&invocation.payload)).collect(),
            reasons: invocations.iter().map(reason_of).collect(),
            ..Observed::default()
        }
    }

    fn is_stopped_by_a_function(&self, case: &Case, id: &str) -> bool {
        case.mishap != Some(Mishap::Over)
            && self.deployment(id).is_some_and(|record| record.status == Status::Stopped)
    }

    async fn start_watch(&self, id: &str, name: &str) -> Result<()> {
        let machine = &self.account.template.state_machine;
        let input = json!({"deployment_id": id, "duty": "traffic", "after_seconds": 1}).to_string();
        let arn =
            format!("arn:aws:states:{}:{}:stateMachine:{machine}", crate::api::REGION, crate::api::ACCOUNT);
        let body = json!({"stateMachineArn": arn, "name": name, "input": input}).to_string();
        self.account.services.stepfunctions.handle("StartExecution", body.as_bytes()).await?;
        Ok(())
    }

    /// Executions by name, with whether they run.
    fn executions(&self) -> Vec<(String, bool)> {
        self.account.services.stepfunctions.executions()
    }

    fn executions_ended(&self) -> bool {
        self.executions().iter().all(|(_, is_running)| !is_running)
    }
}

/// Short, so that a call which hangs does not take its minutes; the bake needs the time of its periods.
fn timeout(function: &str) -> Duration {
    Duration::from_secs(if function == "after-allow-traffic" { 14 } else { 9 })
}

/// The service of a stage: its deployments wait at the stage's hook, or shift for the watch.
fn site(stage: Stage) -> SiteSpec {
    let (shift, hooks) = if stage == Stage::Watch {
        (Shift::Canary { percent: 10.0, minutes: 50.0 }, BTreeMap::new())
    } else {
        let event = stage.lifecycle_event();
        (Shift::AllAtOnce, BTreeMap::from([(event, Hook::Wait(execution(event)))]))
    };
    let controller = Controller::CodeDeploy { shift, hooks };
    spec(stage.function(), controller)
}

fn spec(name: &str, controller: Controller) -> SiteSpec {
    SiteSpec {
        name: name.to_owned(),
        tasks: 1,
        requests_per_second: 0.0,
        past: PAST,
        test_listener: true,
        rule: false,
        first_deployment: false,
        blue: Behaviour::default(),
        green: Behaviour::default(),
        controller,
        termination_wait_minutes: 0.0,
        alarms: Vec::new(),
        policy: None,
        doubts: Doubts::default(),
    }
}

/// Long enough to be recognised in a log.
fn execution(event: &str) -> String {
    format!("execution-0d4c9b7a1e6f-{event}")
}

/// The shortest waits that a policy may have, and gates that need few requests.
fn policy(on_fault: &str) -> String {
    format!(
        "metrics: {{period: 1s, ingestion_delay: 2s, look_every: 1s}}
readiness: {{stable_for: 0s, within: 4s}}
preflight: {{alarms: [{ALARM}]}}
steps: {{at_most: 4s}}
on_fault: {on_fault}
smoke: {{checks: [{{get: /, times: 3, retries: 1, headers: {{x-token: {{ssm: /shiftgate/token}}}}}}]}}
traffic:
  - {{name: errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount, limit: 20%}}
bake:
  for: 2s
  gates:
    - {{name: errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount, limit: 20%}}
"
    )
}

/// Tells CloudWatch every second of users that are not there, from a second before the shift on.
async fn pretend(
    cloudwatch: Arc<CloudWatch>,
    load_balancer: String,
    target_group: String,
    behaviour: Behaviour,
    shift: Option<Timestamp>,
) {
    let users = Past {
        load_balancer: &load_balancer,
        target_group: &target_group,
        tasks: 1,
        requests_per_second: REQUESTS,
        behaviour: &behaviour,
    };
    // They were there before anybody looked. On a busy machine the shift may be long ago, and a second take two.
    let now = Timestamp::now();
    let shift = shift.map_or(0, |shift| now.duration_since(shift).as_secs().unsigned_abs());
    users.record(&cloudwatch, now, Duration::from_secs(3.max(shift + 1)));
    let mut told = now;
    loop {
        sleep(Duration::from_secs(1)).await;
        let passed = Timestamp::now().duration_since(told).as_secs();
        told += SignedDuration::from_secs(passed);
        users.record(&cloudwatch, told, Duration::from_secs(passed.unsigned_abs()));
    }
}

fn stage_sees_alarms(stage: shiftgate::event::LifecycleStage) -> bool {
    use shiftgate::event::LifecycleStage as At;
    matches!(
        stage,
        At::PreScaleUp
            | At::PreProductionTrafficShift
            | At::ProductionTrafficShift
            | At::PostProductionTrafficShift
    )
}

fn answer(invocation: &Invocation) -> Value {
    serde_json::from_slice(&invocation.payload).unwrap_or_default()
}

fn error(invocation: &Invocation) -> Option<String> {
    invocation.error.as_ref().map(ToString::to_string)
}

/// What an answer says of why.
fn reason_of(invocation: &Invocation) -> String {
    let answer = answer(invocation);
    let texts = [&answer["reason"], &answer["reported"], &answer["errorMessage"]];
    texts.into_iter().filter_map(Value::as_str).flat_map(|text| [text, "\n"]).collect()
}

/// Adds what the functions logged meanwhile.
fn read_logs(logs: &mut broadcast::Receiver<LogLine>, seen: &mut Observed) {
    loop {
        let line = match logs.try_recv() {
            Ok(line) => line.line,
            Err(broadcast::error::TryRecvError::Lagged(_)) => continue,
            Err(_) => break,
        };
        seen.log.push_str(&line);
        seen.log.push('\n');
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        let findings = told["findings"].as_array().into_iter().flatten();
        let telling = findings.filter(|finding| {
            finding["outcome"] != "pass" || finding.get("fault").is_some() || finding.get("caveats").is_some()
        });
        for finding in telling {
            seen.reasons.push_str(&finding.to_string());
            seen.reasons.push('\n');
        }
        if told["level"] == "ERROR" || told["message"] == "watch over" || told["message"] == "held" {
            seen.reasons.push_str(&line);
        }
        if line.contains("signal: killed") {
            seen.reasons.push_str("signal: killed\n");
        }
    }
}

/// Waits for something of the lab; its absence is a fault of the lab.
async fn until<T>(what: &str, seen: impl Fn() -> Option<T>) -> Result<T> {
    within(PATIENCE, seen).await.with_context(|| format!("in vain: {what}"))
}

/// Waits for something that need not come.
async fn within<T>(time: Duration, seen: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = seen() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
