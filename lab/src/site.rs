//! A service in the account: balancer, tasks, deployment group, policy and users. A function is one too, without balancer
//! and tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use shiftgate::policy::load::parameter_names;

use crate::account::Account;
use crate::application::Behaviour;
use crate::codedeploy::{
    AutoRollback, Creator, DeploymentRecord, EventStatus, Group, Hook, ServiceTarget, Shift, Status, Target,
};
use crate::doubts::Doubts;
use crate::ecs::{CircuitBreaker, EcsAlarms, EcsHook, EcsService, Route, Routing, Strategy};
use crate::function_site;
use crate::load_balancer::{
    Condition, HealthCheck, ListenerKind, LoadBalancer, LoadBalancerSpec, Recorder, RuleSpec,
    TargetGroupSpec, TargetState,
};
use crate::past::Past;
use crate::service::{Label, Service};
use crate::traffic::Traffic;
use crate::underway::Version;

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
    /// Whether a rule of the production listener takes all requests, and the default action none. Where ECS carries
    /// deployments out there always is one.
    pub rule: bool,
    /// Whether no deployment has been before: the balancer then does not know the second target group.
    pub first_deployment: bool,
    /// How far back CloudWatch knows it.
    pub past: Duration,
    /// The old version.
    pub blue: Behaviour,
    /// The new version.
    pub green: Behaviour,
    /// Who carries its deployments out, and how.
    pub controller: Controller,
    /// CodeDeploy's minutes between the shift and the end of the old version.
    pub termination_wait_minutes: f64,
    /// Alarms of its deployments.
    pub alarms: Vec<String>,
    /// The policy's text, if the service has one.
    pub policy: Option<String>,
    /// What AWS does where nobody has looked.
    pub doubts: Doubts,
}

/// Who carries the deployments of a service out.
#[derive(Debug, Clone)]
pub enum Controller {
    /// CodeDeploy.
    CodeDeploy {
        /// How traffic shifts.
        shift: Shift,
        /// What is called at which event.
        hooks: BTreeMap<&'static str, Hook>,
    },
    /// CodeDeploy, and what it deploys is a Lambda function: there are no tasks and no test listener.
    Lambda {
        /// How traffic shifts.
        shift: Shift,
        /// What is called at which event.
        hooks: BTreeMap<&'static str, Hook>,
    },
    /// ECS itself.
    Ecs {
        /// How green takes over.
        strategy: Strategy,
        /// What is called at which stage.
        hooks: Vec<EcsHook>,
        /// ECS's minutes that it watches the alarms after the last step.
        bake_minutes: f64,
    },
}

/// Cluster of all services.
pub const CLUSTER: &str = "lab";

/// A running service. Its users stop when it is dropped.
pub struct Site {
    /// CodeDeploy application; the cluster where ECS carries deployments out.
    pub application: String,
    /// Deployment group; the service where ECS carries deployments out.
    pub group: String,
    /// The old version.
    pub blue: Version,
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
        if let Controller::Lambda { .. } = spec.controller {
            return function_site::start(account, spec);
        }
        let balancer = balancer(account, &spec).await?;
        let names = spec_names(&spec);
        let service = Arc::new(Service::new(CLUSTER, &spec.name, Some(Arc::clone(&balancer))));
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
        let [application, group] = match &spec.controller {
            Controller::CodeDeploy { .. } | Controller::Lambda { .. } => {
                [spec.name.clone(), format!("{}-group", spec.name)]
            }
            Controller::Ecs { .. } => [CLUSTER.to_owned(), spec.name.clone()],
        };
        put_policy(account, &application, &group, spec.policy.as_deref());
        let site = Self { application, group, blue: Version::Tasks(Arc::clone(&blue)), traffic };
        match spec.controller {
            // A function has gone its own way above.
            Controller::CodeDeploy { shift, hooks } | Controller::Lambda { shift, hooks } => {
                account.services.codedeploy.add_group(Group {
                    application: site.application.clone(),
                    name: site.group.clone(),
                    target: Target::Service(ServiceTarget {
                        service,
                        live: Arc::clone(&blue),
                        target_groups: names,
                        next_version: spec.green,
                        termination_wait_minutes: spec.termination_wait_minutes,
                        listener_rules: spec.doubts.listener_rules,
                    }),
                    shift,
                    hooks,
                    alarms: spec.alarms,
                    auto_rollback: AutoRollback { on_failure: true, on_alarm: true },
                    doubts: spec.doubts,
                    last_successful: None,
                });
                if !spec.first_deployment {
                    let mut past = past(&spec.name, &site.group, shift);
                    past.green = Some(blue);
                    account.services.codedeploy.add_past(past);
                }
            }
            Controller::Ecs { strategy, hooks, bake_minutes } => {
                let ecs = &account.services.ecs;
                ecs.add_service(EcsService {
                    tags: vec![("shiftgate".to_owned(), "watch".to_owned())],
                    routing: Some(routing(&balancer, names)?),
                    strategy,
                    hooks,
                    doubts: spec.doubts,
                    alarms: (!spec.alarms.is_empty())
                        .then_some(EcsAlarms { names: spec.alarms, rollback: true }),
                    circuit_breaker: Some(CircuitBreaker { rollback: true }),
                    bake_minutes,
                    next_version: spec.green,
                    live: (!spec.first_deployment).then_some(blue),
                    ..EcsService::new(service, None, spec.tasks)
                })?;
                let at = Timestamp::now().saturating_sub(2 * PAST).unwrap_or(Timestamp::MIN);
                if let Some(past) = ecs.past(CLUSTER, &spec.name, &ecs_past_id(&spec.name), at) {
                    ecs.add_past(past);
                }
            }
        }
        Ok(site)
    }
}

/// The rules by which ECS shifts traffic: the first of each listener.
fn routing(balancer: &LoadBalancer, target_groups: [String; 2]) -> Result<Routing> {
    let rule = |kind| {
        let rule = balancer.listeners().find(|listener| listener.kind == kind)?.rules.first()?;
        Some(Route::Rule(rule.arn.clone()))
    };
    let production = rule(ListenerKind::Production).context("the production listener has no rule")?;
    Ok(Routing { target_groups, production, test: rule(ListenerKind::Test) })
}

/// Puts the policy where the functions look for it.
pub(crate) fn put_policy(account: &Account, application: &str, group: &str, policy: Option<&str>) {
    if let Some(policy) = policy {
        let [name, _] = parameter_names(application, group);
        account.services.parameters.put(&name, policy, false);
    }
}

/// The deployment that brought the old version, before anything that CloudWatch knows.
pub(crate) fn past(application: &str, group: &str, shift: Shift) -> DeploymentRecord {
    let mut past = DeploymentRecord::new(&past_id(application), application, group, shift, Creator::User);
    past.created = Timestamp::now().saturating_sub(2 * PAST).unwrap_or(Timestamp::MIN);
    past.completed = Some(past.created);
    past.status = Status::Succeeded;
    for event in &mut past.events {
        event.status = EventStatus::Succeeded;
        (event.started, event.ended) = (Some(past.created), Some(past.created));
    }
    past.green_weight = 100.0;
    past
}

/// Id of the deployment that brought the old version; the same on every run, so that samples can name it.
fn past_id(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("d-PAST{}", letters.to_ascii_uppercase())
}

/// The same for a service deployment of ECS; as long as the real ones.
fn ecs_past_id(name: &str) -> String {
    let letters = "PAST".chars().chain(name.chars().filter(char::is_ascii_alphanumeric));
    letters.chain(std::iter::repeat('0')).take(21).collect()
}

fn spec_names(spec: &SiteSpec) -> [String; 2] {
    [format!("{}-one", spec.name), format!("{}-two", spec.name)]
}

/// CodeDeploy shifts the default action of a listener, ECS a rule of it; the one for tests asks for a header.
fn rules(spec: &SiteSpec) -> Vec<RuleSpec> {
    let rule = |listener, condition| RuleSpec { listener, priority: 1, conditions: vec![condition] };
    let of_production = rule(ListenerKind::Production, Condition::Path(vec!["/*".to_owned()]));
    match &spec.controller {
        Controller::CodeDeploy { .. } if spec.rule => vec![of_production],
        Controller::CodeDeploy { .. } | Controller::Lambda { .. } => Vec::new(),
        Controller::Ecs { .. } => vec![
            of_production,
            rule(
                ListenerKind::Test,
                Condition::Header { name: "x-release".to_owned(), values: vec!["green".to_owned()] },
            ),
        ],
    }
}

async fn balancer(account: &Account, spec: &SiteSpec) -> Result<Arc<LoadBalancer>> {
    let health_check = HealthCheck {
        path: spec.blue.health_path.clone(),
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..HealthCheck::default()
    };
    let target_groups = spec_names(spec).map(|name| TargetGroupSpec {
        name,
        health_check: health_check.clone(),
        deregistration_delay: Duration::from_secs(2),
    });
    let cloudwatch = Arc::clone(&account.services.cloudwatch);
    let recorder: Recorder = Arc::new(move |namespace, metric, dimensions, at, value| {
        cloudwatch.record(namespace, metric, dimensions, at, value);
    });
    let balancer_spec = LoadBalancerSpec {
        name: spec.name.clone(),
        target_groups,
        test_listener: spec.test_listener,
        rules: rules(spec),
    };
    let balancer =
        LoadBalancer::start(balancer_spec, recorder).await.context("failed to start a load balancer")?;
    account.add_balancer(Arc::clone(&balancer));
    Ok(balancer)
}

async fn healthy(balancer: &LoadBalancer, group: &str) -> Result<()> {
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
