//! An account with one service whose deployments wait at a hook, for tests that call the real binaries.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use shiftgate::clock;
use shiftgate::event::LifecycleStage;
use shiftgate_lab::account::{Account, AccountSpec};
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::{EventStatus, Hook, Pace, Shift};
use shiftgate_lab::doubts::Doubts;
use shiftgate_lab::ecs::{EcsService, ServiceDeploymentStatus, Strategy};
use shiftgate_lab::lambda::{FunctionError, Invocation};
use shiftgate_lab::service::{Label, Service};
use shiftgate_lab::site::{CLUSTER, Controller, PAST, Site, SiteSpec};

/// The five hooks: function and lifecycle event.
pub const HOOKS: [(&str, &str); 5] = [
    ("before-install", "BeforeInstall"),
    ("after-install", "AfterInstall"),
    ("after-allow-test-traffic", "AfterAllowTestTraffic"),
    ("before-allow-traffic", "BeforeAllowTraffic"),
    ("after-allow-traffic", "AfterAllowTraffic"),
];

/// The shortest waits that the policy allows, and a secret, so that every permission is needed.
pub const POLICY: &str = r"
metrics: {period: 1s, ingestion_delay: 2s, look_every: 1s}
readiness: {stable_for: 0s, within: 5s}
preflight: {alarms: [quiet]}
smoke: {checks: [{get: /, headers: {x-token: {ssm: /shiftgate/token}}}]}
bake: {for: 2s}
";

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder with the function binaries, built once per test run: `cargo test` alone does not build them.
pub fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .current_dir(project())
            .args(["build", "--quiet", "--workspace", "--bins"])
            .status()
            .unwrap();
        assert!(status.success(), "the functions do not build");
        // Tests stand in target/<profile>/deps, the functions beside that folder.
        let test = std::env::current_exe().unwrap();
        test.ancestors().find(|folder| folder.join("before-install").is_file()).unwrap().to_owned()
    })
}

/// A service, and the hook that its deployments wait at.
pub struct Waiting {
    pub account: Account,
    pub site: Site,
    pub event: &'static str,
    execution: String,
}

impl Waiting {
    /// Starts an account whose deployments wait at `event`.
    pub async fn at(event: &'static str) -> Self {
        Self::with(event, POLICY, Duration::from_mins(1)).await
    }

    /// The same with a policy and a hook timeout.
    pub async fn with(event: &'static str, policy: &str, hook_timeout: Duration) -> Self {
        let of = |hooks| Controller::CodeDeploy { shift: Shift::AllAtOnce, hooks };
        Self::of(event, of, policy, hook_timeout).await
    }

    /// The same with a Lambda function instead of a service.
    pub async fn function_at(event: &'static str, shift: Shift, policy: &str) -> Self {
        let of = |hooks| Controller::Lambda { shift, hooks };
        Self::of(event, of, policy, Duration::from_mins(1)).await
    }

    async fn of(
        event: &'static str,
        controller: impl FnOnce(BTreeMap<&'static str, Hook>) -> Controller,
        policy: &str,
        hook_timeout: Duration,
    ) -> Self {
        let account = account(hook_timeout).await;
        let execution = format!("{event}-execution");
        let controller = controller(BTreeMap::from([(event, Hook::Wait(execution.clone()))]));
        let spec = SiteSpec { policy: Some(policy.to_owned()), ..site_spec(controller) };
        let site = Site::start(&account, spec).await.unwrap();
        account.services.cloudwatch.set_alarm_state("group-alarm", false);
        Self { account, site, event, execution }
    }

    /// A service whose traffic shifts like this, without a hook.
    pub async fn shifting(shift: Shift, policy: &str) -> Self {
        let account = account(Duration::from_mins(1)).await;
        let controller = Controller::CodeDeploy { shift, hooks: BTreeMap::new() };
        let spec = SiteSpec { policy: Some(policy.to_owned()), ..site_spec(controller) };
        let site = Site::start(&account, spec).await.unwrap();
        account.services.cloudwatch.set_alarm_state("group-alarm", false);
        Self { account, site, event: "AllowTraffic", execution: String::new() }
    }

    /// Starts a deployment and waits until its traffic shifts; returns its id.
    pub async fn shifting_deployment(&self) -> String {
        let codedeploy = &self.account.services.codedeploy;
        let id = codedeploy.deploy(&self.site.application, &self.site.group, None, None).unwrap();
        wait_until("the traffic shifts", || self.status(&id) == Some(EventStatus::InProgress)).await;
        id
    }

    /// The same as [`Self::at`] with something else about the service; the deployments shift all traffic at once.
    pub async fn changed(event: &'static str, change: impl FnOnce(&mut SiteSpec)) -> Self {
        let account = account(Duration::from_mins(1)).await;
        let execution = format!("{event}-execution");
        let hooks = BTreeMap::from([(event, Hook::Wait(execution.clone()))]);
        let mut spec = site_spec(Controller::CodeDeploy { shift: Shift::AllAtOnce, hooks });
        change(&mut spec);
        let site = Site::start(&account, spec).await.unwrap();
        account.services.cloudwatch.set_alarm_state("group-alarm", false);
        Self { account, site, event, execution }
    }

    /// A release that the smoke checks end, in an account whose logs are handed over; returns once the topic was told of it.
    pub async fn told_to_all() -> Self {
        let account = account_with(Duration::from_mins(1), true).await;
        let (event, execution) = ("AfterAllowTestTraffic", "told-execution".to_owned());
        let hooks = BTreeMap::from([(event, Hook::Wait(execution.clone()))]);
        let mut spec = site_spec(Controller::CodeDeploy { shift: Shift::AllAtOnce, hooks });
        spec.green.errors = 1.0;
        let site = Site::start(&account, spec).await.unwrap();
        let told = Self { account, site, event, execution };
        let id = told.deploy().await;
        told.invoke("after-allow-test-traffic", &told.payload(&id)).await;
        let topics = &told.account.services.topics;
        wait_until("the topic is told", || !topics.published().is_empty()).await;
        told
    }

    /// Starts a deployment and waits until it waits at the hook; returns its id.
    pub async fn deploy(&self) -> String {
        let codedeploy = &self.account.services.codedeploy;
        let deploy = || codedeploy.deploy(&self.site.application, &self.site.group, None, None);
        // The rollback of the deployment before begins a moment after that has ended.
        let mut deployed = deploy();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while deployed.as_ref().is_err_and(|error| error.code == "DeploymentLimitExceededException")
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            deployed = deploy();
        }
        let id = deployed.unwrap();
        let there =
            || codedeploy.deployment(&id)?.event(self.event).map(|event| event.execution_id.is_some());
        wait_until("the deployment waits at its hook", || there() == Some(true)).await;
        id
    }

    /// Waits until a deployment and its rollback have ended.
    pub async fn ended(&self, id: &str) {
        let codedeploy = &self.account.services.codedeploy;
        wait_until("the deployment ends", || {
            let record = codedeploy.deployment(id).unwrap();
            let rollback = record.rolled_back_by.as_ref().map(|id| codedeploy.deployment(id).unwrap());
            record.status.is_over() && rollback.is_none_or(|rollback| rollback.status.is_over())
        })
        .await;
    }

    /// Waits until a bake as in [`POLICY`] is over and its data is in, if the deployment waits in its bake: the first look
    /// then reads all that there is, and no target that is slow on a busy machine ends it before.
    pub async fn baked(&self, id: &str) {
        let shifted = || {
            let record = self.account.services.codedeploy.deployment(id)?;
            record.event("AllowTraffic")?.ended
        };
        if let Some(shifted) = shifted() {
            let data_is_in = shifted + Duration::from_secs(5);
            wait_until("the data of the bake is in", || clock::now() > data_is_in).await;
        }
    }

    /// The hook's event for a deployment.
    pub fn payload(&self, deployment: &str) -> Value {
        json!({"DeploymentId": deployment, "LifecycleEventHookExecutionId": self.execution})
    }

    /// Calls a function and waits for its answer.
    pub async fn invoke(&self, binary: &str, payload: &Value) -> Invocation {
        let name = &self.account.template.function(binary).unwrap().name;
        self.account.services.lambda.invoke(name, payload.to_string().into_bytes()).await.unwrap()
    }

    /// The hook's report, if it was made.
    pub fn report(&self, deployment: &str) -> Option<bool> {
        self.account.services.codedeploy.deployment(deployment)?.event(self.event)?.report
    }

    /// Where the hook's event stands.
    pub fn status(&self, deployment: &str) -> Option<EventStatus> {
        Some(self.account.services.codedeploy.deployment(deployment)?.event(self.event)?.status)
    }

    /// Calls so far of a function to AWS, as (action, error).
    pub fn calls(&self, binary: &str) -> Vec<(String, Option<String>)> {
        let calls = self.account.services.calls.lock().unwrap();
        calls
            .iter()
            .filter(|call| call.caller == binary)
            .map(|call| (call.action.clone(), call.error.clone()))
            .collect()
    }
}

/// A service whose deployment by ECS stands at its first traffic step for hours, with no hook of its own: tests call the
/// function with the events that they make.
pub struct EcsWaiting {
    pub account: Account,
    pub deployment: String,
    /// Keeps balancer, tasks and users alive.
    _site: Option<Site>,
}

impl EcsWaiting {
    /// Starts the account and the deployment, and waits until green has traffic.
    pub async fn start(first_deployment: bool) -> Self {
        let strategy = Strategy::Canary { percent: 10.0, bake_minutes: 1440.0 };
        Self::with(first_deployment, strategy, 0.0).await
    }

    /// The same with any strategy, and with so many requests per second.
    pub async fn with(first_deployment: bool, strategy: Strategy, requests_per_second: f64) -> Self {
        let account = account(Duration::from_mins(1)).await;
        let bake_minutes = if matches!(strategy, Strategy::Rolling { .. }) { 300.0 } else { 0.0 };
        let controller = Controller::Ecs { strategy, hooks: Vec::new(), bake_minutes };
        let spec = SiteSpec { first_deployment, requests_per_second, ..site_spec(controller) };
        let site = Site::start(&account, spec).await.unwrap();
        account.services.cloudwatch.set_alarm_state("group-alarm", false);
        let ecs = &account.services.ecs;
        let deployment = ecs.deploy(&site.application, &site.group, None).unwrap();
        let waiting = Self { account, deployment, _site: Some(site) };
        wait_until("green has traffic", || waiting.is_waiting()).await;
        waiting
    }

    /// A service without a load balancer, in the bake of its blue/green deployment. `service_connect` is its configuration
    /// as the API writes it.
    pub async fn without_load_balancer(service_connect: Option<Value>, policy: &str) -> Self {
        let account = account(Duration::from_mins(1)).await;
        let service = Arc::new(Service::new(CLUSTER, "shop", None));
        let blue = service.start(Label::Blue, "none", 2, &Behaviour::default()).await.unwrap();
        let parameter = format!("/shiftgate/{CLUSTER}/shop");
        account.services.parameters.put(&parameter, policy, false);
        let configured =
            EcsService { service_connect, bake_minutes: 1440.0, ..EcsService::new(service, Some(blue), 2) };
        account.services.ecs.add_service(configured).unwrap();
        let deployment = account.services.ecs.deploy(CLUSTER, "shop", None).unwrap();
        let waiting = Self { account, deployment, _site: None };
        wait_until("green serves", || waiting.is_waiting()).await;
        waiting
    }

    /// Invokes the function of ECS's stages and returns its answer with the report that it logged.
    pub async fn told(&self, event: &Value) -> (Value, String) {
        let mut logs = self.account.services.lambda.logs();
        let answer = answer(&self.invoke("ecs-lifecycle", event).await);
        // The report is written before the answer, and may be read after it. Who is told to come back has none.
        let patience = Duration::from_secs(if answer["hookStatus"] == "IN_PROGRESS" { 0 } else { 10 });
        let report = async {
            while let Ok(line) = logs.recv().await {
                let line: Value = serde_json::from_str(&line.line).unwrap_or_default();
                if let Some(markdown) = line["markdown"].as_str() {
                    return markdown.to_owned();
                }
            }
            String::new()
        };
        let report = tokio::time::timeout(patience, report).await.unwrap_or_default();
        (answer, report)
    }

    /// Whether green has traffic, or, in a rolling update, tasks.
    pub fn is_waiting(&self) -> bool {
        let record = self.account.services.ecs.deployment(&self.deployment).unwrap();
        let rolling = matches!(record.service.strategy, Strategy::Rolling { .. });
        record.target.production_weight > 0.0 || (rolling && record.started.is_some())
    }

    /// The sample event of a stage, about this deployment.
    pub fn event(&self, stage: LifecycleStage) -> Value {
        let name = stage.as_str().to_lowercase().replace('_', "-");
        let path = project().join(format!("events/ecs-{name}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let record = self.account.services.ecs.deployment(&self.deployment).unwrap();
        let text = text.replace(
            "arn:aws:ecs:eu-west-1:123456789012:service-revision/lab/ecs-lifecycle/1793255058209869390",
            &record.target.revision,
        );
        let mut event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["lifecycleStage"], stage.as_str());
        event["resourceArn"] = self.deployment.clone().into();
        event
    }

    /// Calls a function and waits for its answer.
    pub async fn invoke(&self, binary: &str, payload: &Value) -> Invocation {
        let name = &self.account.template.function(binary).unwrap().name;
        self.account.services.lambda.invoke(name, payload.to_string().into_bytes()).await.unwrap()
    }

    /// Stops the deployment, and waits until it is rolled back.
    pub async fn stop(&self) {
        let body = json!({"serviceDeploymentArn": self.deployment}).to_string();
        self.account.services.ecs.handle("StopServiceDeployment", body.as_bytes()).unwrap();
        let status = || self.account.services.ecs.deployment(&self.deployment).unwrap().status;
        wait_until("the rollback", || status() == ServiceDeploymentStatus::RollbackSuccessful).await;
    }
}

/// Releases a Lambda function with the real hooks, from the start to the end of its bake.
pub async fn released_function() -> (Account, Site) {
    let account = account(Duration::from_mins(1)).await;
    let hook = |event, binary: &str| {
        (event, Hook::Function(account.template.function(binary).unwrap().name.clone()))
    };
    let controller = Controller::Lambda {
        shift: Shift::Canary { percent: 10.0, minutes: 25.0 },
        hooks: BTreeMap::from([
            hook("BeforeAllowTraffic", "before-allow-traffic"),
            hook("AfterAllowTraffic", "after-allow-traffic"),
        ]),
    };
    let checks = "{get: /, headers: {x-token: {ssm: /shiftgate/token}}}";
    assert!(POLICY.contains(checks));
    let policy = POLICY.replace(checks, "{invoke: {ping: true}}");
    let spec = SiteSpec { requests_per_second: 20.0, policy: Some(policy), ..site_spec(controller) };
    let site = Site::start(&account, spec).await.unwrap();
    account.services.cloudwatch.set_alarm_state("group-alarm", false);
    let codedeploy = &account.services.codedeploy;
    let id = codedeploy.deploy(&site.application, &site.group, None, None).unwrap();
    let over = || codedeploy.deployment(&id).is_some_and(|record| record.status.is_over());
    wait_until("the function is released", over).await;
    let record = codedeploy.deployment(&id).unwrap();
    assert_eq!(record.status.as_str(), "Succeeded", "{:?}", record.error);
    (account, site)
}

/// An account whose functions and controllers are quick.
async fn account(hook_timeout: Duration) -> Account {
    account_with(hook_timeout, false).await
}

async fn account_with(hook_timeout: Duration, subscriptions: bool) -> Account {
    let account = Account::start(&AccountSpec {
        project: project(),
        binaries: binaries().to_owned(),
        pace: Pace { minute: Duration::from_millis(200), hook_timeout },
        ingestion_delay: Duration::ZERO,
        retry_delays: [Duration::from_millis(100); 2],
        port: 0,
        doubts: Doubts::default(),
        subscriptions,
    })
    .await
    .unwrap();
    account.services.cloudwatch.set_alarm_state("quiet", false);
    account.services.parameters.put("/shiftgate/token", "secret", true);
    account
}

/// A service without users.
fn site_spec(controller: Controller) -> SiteSpec {
    SiteSpec {
        name: "shop".to_owned(),
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
        alarms: vec!["group-alarm".to_owned()],
        policy: Some(POLICY.to_owned()),
        doubts: Doubts::default(),
    }
}

/// The JSON that a function answered.
pub fn answer(invocation: &Invocation) -> Value {
    assert!(invocation.error.is_none(), "{:?}", invocation.error.as_ref().map(FunctionError::to_string));
    serde_json::from_slice(&invocation.payload).unwrap()
}

/// Waits for a condition, and panics with its name when it does not come true.
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
