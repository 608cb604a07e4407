//! A service in the account: balancer, tasks, deployment group, policy and users.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use shiftgate::policy::load::parameter_names;

use crate::account::Account;
use crate::application::Behaviour;
use crate::codedeploy::{AutoRollback, Creator, DeploymentRecord, EventStatus, Group, Hook, Shift, Status};
use crate::load_balancer::{
    HealthCheck, ListenerKind, LoadBalancer, LoadBalancerSpec, Recorder, RuleSpec, TargetGroupSpec,
    TargetState,
};
use crate::past::Past;
use crate::service::{Label, Service, TaskSet};
use crate::traffic::Traffic;

/// What a service is to be like.
#[derive(Debug, Clone)]
pub struct SiteSpec {
    /// Name of the CodeDeploy application; the service, balancer and group are named after it.
    pub name: String,
    /// Tasks of each version.
    pub tasks: usize,
    /// Requests per second of its users.
    pub requests_per_second: f64,
    /// Whether green can be reached before it takes traffic.
    pub test_listener: bool,
    /// Whether no deployment has been before: the balancer then does not know the second target group.
    pub first_deployment: bool,
    /// How far back CloudWatch knows it.
    pub past: Duration,
    /// The old version.
    pub blue: Behaviour,
    /// The new version.
    pub green: Behaviour,
    /// How traffic shifts.
    pub shift: Shift,
    /// What is called at which event.
    pub hooks: BTreeMap<&'static str, Hook>,
    /// Alarms of the deployment group.
    pub alarms: Vec<String>,
    /// The policy's text, if the service has one.
    pub policy: Option<String>,
}

/// A running service. Its users stop when it is dropped.
pub struct Site {
    /// CodeDeploy application.
    pub application: String,
    /// Deployment group.
    pub group: String,
    /// The ECS service.
    pub service: Arc<Service>,
    /// The old version's tasks.
    pub blue: Arc<TaskSet>,
    /// Its users.
    pub traffic: Traffic,
}

/// An hour of the lab's minutes: how far back CloudWatch knows a service, if nothing else is said.
pub const PAST: Duration = Duration::from_mins(6);
/// Longest wait for the old version to become healthy.
const PATIENCE: Duration = Duration::from_secs(20);

impl Site {
    /// Starts a service with its old version healthy.
    pub async fn start(account: &Account, spec: SiteSpec) -> Result<Self> {
        let names = group_names(&spec.name);
        let balancer = balancer(account, &spec.name, &spec.blue, spec.test_listener, Vec::new()).await?;
        let service = Arc::new(Service::new("lab", &spec.name, Some(Arc::clone(&balancer))));
        let blue = service.start(Label::Blue, &names[0], spec.tasks, &spec.blue).await?;
        if !spec.first_deployment {
            // Every earlier deployment left both groups in the forward action.
            let weights = [(names[0].clone(), 100), (names[1].clone(), 0)];
            balancer.set_weights(ListenerKind::Production, &weights)?;
        }
        healthy(&balancer, &names[0]).await?;
        if !spec.first_deployment {
            let before = Past {
                load_balancer: &balancer.dimension,
                target_group: &balancer.target_group(&names[0])?.dimension,
                tasks: spec.tasks,
                requests_per_second: spec.requests_per_second,
                behaviour: &spec.blue,
            };
            before.record(&account.services.cloudwatch, Timestamp::now(), spec.past);
        }
        let traffic = Traffic::start(balancer.production_address(), spec.requests_per_second);
        let group = format!("{}-group", spec.name);
        if let Some(policy) = &spec.policy {
            let [name, _] = parameter_names(&spec.name, &group);
            account.services.parameters.put(&name, policy, false);
        }
        let codedeploy = &account.services.codedeploy;
        codedeploy.add_group(Group {
            application: spec.name.clone(),
            name: group.clone(),
            service: Arc::clone(&service),
            live: Arc::clone(&blue),
            target_groups: names,
            shift: spec.shift,
            hooks: spec.hooks,
            alarms: spec.alarms,
            auto_rollback: AutoRollback { on_failure: true, on_alarm: true },
            next_version: spec.green,
            termination_wait_minutes: 0.0,
            hooks_in_rollback: true,
            last_successful: None,
        });
        if !spec.first_deployment {
            codedeploy.add_past(past(&spec.name, &group, spec.shift, Arc::clone(&blue)));
        }
        Ok(Self { application: spec.name, group, service, blue, traffic })
    }
}

/// The deployment that brought the old version, before anything that CloudWatch knows.
fn past(application: &str, group: &str, shift: Shift, brought: Arc<TaskSet>) -> DeploymentRecord {
    let mut past = DeploymentRecord::new(&past_id(application), application, group, shift, Creator::User);
    past.created = Timestamp::now().saturating_sub(2 * PAST).unwrap_or(Timestamp::MIN);
    past.completed = Some(past.created);
    past.status = Status::Succeeded;
    for event in &mut past.events {
        event.status = EventStatus::Succeeded;
        (event.started, event.ended) = (Some(past.created), Some(past.created));
    }
    past.green = Some(brought);
    past.green_weight = 100.0;
    past
}

/// Id of the deployment that brought the old version; the same on every run, so that samples can name it.
fn past_id(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("d-PAST{}", letters.to_ascii_uppercase())
}

/// Names of the two target groups of a service.
pub(crate) fn group_names(service: &str) -> [String; 2] {
    [format!("{service}-one"), format!("{service}-two")]
}

/// A balancer that the account's API knows, with the target groups of [`group_names`].
pub(crate) async fn balancer(
    account: &Account,
    name: &str,
    version: &Behaviour,
    test_listener: bool,
    rules: Vec<RuleSpec>,
) -> Result<Arc<LoadBalancer>> {
    let health_check = HealthCheck {
        path: version.health_path.clone(),
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..HealthCheck::default()
    };
    let target_groups = group_names(name).map(|name| TargetGroupSpec {
        name,
        health_check: health_check.clone(),
        deregistration_delay: Duration::from_secs(2),
    });
    let cloudwatch = Arc::clone(&account.services.cloudwatch);
    let recorder: Recorder = Arc::new(move |namespace, metric, dimensions, at, value| {
        cloudwatch.record(namespace, metric, dimensions, at, value);
    });
    let balancer_spec = LoadBalancerSpec { name: name.to_owned(), target_groups, test_listener, rules };
    let balancer =
        LoadBalancer::start(balancer_spec, recorder).await.context("failed to start a load balancer")?;
    account.add_balancer(Arc::clone(&balancer));
    Ok(balancer)
}

/// Waits until all targets of a group are healthy.
pub(crate) async fn healthy(balancer: &LoadBalancer, group: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = balancer.health(group)?;
        if health.iter().all(|target| target.state == TargetState::Healthy) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("the old version did not become healthy: {health:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
