//! An account with one service whose deployments wait at a hook, for tests that call the real binaries.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use shiftgate_lab::account::{Account, AccountSpec};
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::{EventStatus, Hook, Pace, Shift};
use shiftgate_lab::lambda::{FunctionError, Invocation};
use shiftgate_lab::site::{Controller, PAST, Site, SiteSpec};

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
        let account = Account::start(&AccountSpec {
            project: project(),
            binaries: binaries().to_owned(),
            pace: Pace { minute: Duration::from_millis(200), hook_timeout },
            ingestion_delay: Duration::ZERO,
            retry_delays: [Duration::from_millis(100); 2],
            port: 0,
        })
        .await
        .unwrap();
        account.services.cloudwatch.set_alarm_state("quiet", false);
        account.services.parameters.put("/shiftgate/token", "secret", true);
        let execution = format!("{event}-execution");
        let site = Site::start(
            &account,
            SiteSpec {
                name: "shop".to_owned(),
                tasks: 1,
                requests_per_second: 0.0,
                past: PAST,
                test_listener: true,
                first_deployment: false,
                blue: Behaviour::default(),
                green: Behaviour::default(),
                controller: Controller::CodeDeploy {
                    shift: Shift::AllAtOnce,
                    hooks: BTreeMap::from([(event, Hook::Wait(execution.clone()))]),
                },
                alarms: vec!["group-alarm".to_owned()],
                policy: Some(policy.to_owned()),
            },
        )
        .await
        .unwrap();
        account.services.cloudwatch.set_alarm_state("group-alarm", false);
        Self { account, site, event, execution }
    }

    /// Starts a deployment and waits until it waits at the hook; returns its id.
    pub async fn deploy(&self) -> String {
        let codedeploy = &self.account.services.codedeploy;
        let id = codedeploy.deploy(&self.site.application, &self.site.group, None, None).unwrap();
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
