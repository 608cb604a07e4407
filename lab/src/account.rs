//! The pretended AWS account: all services, the functions of the template, and the address under which they answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::api::{ApiError, REGION};
use crate::cloudwatch::CloudWatch;
use crate::codedeploy::{CodeDeploy, Pace};
use crate::doubts::Doubts;
use crate::ecs::{Ecs, OnEvent};
use crate::endpoint::{Endpoint, Services};
use crate::eventbridge::EventBus;
use crate::fault::Faults;
use crate::lambda::{FunctionSpec, Lambda, function_arn};
use crate::load_balancer::LoadBalancer;
use crate::logs::Logs;
use crate::quota::Quotas;
use crate::s3::Buckets;
use crate::sns::Topics;
use crate::ssm::ParameterStore;
use crate::stepfunctions::{CallAws, StateMachines, TaskError, invoke_by};
use crate::subscription::Subscriptions;
use crate::template::Template;

/// The secret key of every caller: to be recognised where it must not stand.
pub const SECRET_ACCESS_KEY: &str = "lab-secret-access-key";

/// What an account is made from.
#[derive(Debug, Clone)]
pub struct AccountSpec {
    /// The project's folder: its template and state machine are what is deployed.
    pub project: PathBuf,
    /// The folder with the function binaries.
    pub binaries: PathBuf,
    /// How fast CodeDeploy's time passes, and ECS's.
    pub pace: Pace,
    /// Time until metrics can be read.
    pub ingestion_delay: Duration,
    /// Time until Lambda calls a failed function again, first and second; one and two minutes on AWS.
    pub retry_delays: [Duration; 2],
    /// Port of the endpoint; 0 stands for any free one.
    pub port: u16,
    /// What CloudWatch does where nobody has looked.
    pub doubts: Doubts,
    /// Whether logs are handed over to the functions that subscribe to them. Rollouts do not need it, and are played faster
    /// without.
    pub subscriptions: bool,
}

/// A running account; everything stops when it is dropped.
pub struct Account {
    /// The services.
    pub services: Arc<Services>,
    /// What was deployed.
    pub template: Template,
    endpoint: Endpoint,
    /// Takes what the functions log to CloudWatch Logs.
    _logged: JoinSet<()>,
}

impl Account {
    /// Starts the services and deploys the template's functions.
    pub async fn start(spec: &AccountSpec) -> Result<Self> {
        let template = Template::read(&read(&spec.project.join("template.yaml"))?, &parameters())?;
        let definition = read(&spec.project.join("statemachine/watch.asl.json"))?;
        let listener = Endpoint::bind(spec.port).await.context("failed to open a port on 127.0.0.1")?;
        let functions = function_specs(&template, &spec.binaries, listener.local_addr()?)?;
        let lambda = Lambda::new(functions, spec.retry_delays);
        let cloudwatch =
            Arc::new(CloudWatch::new(spec.ingestion_delay).doubted(spec.doubts, spec.pace.minute));
        let codedeploy = CodeDeploy::new(spec.pace, Arc::clone(&cloudwatch), Arc::clone(&lambda));
        let ecs = Ecs::new(spec.pace.into(), Arc::clone(&cloudwatch), invoke_by(Arc::clone(&lambda)));
        ecs.on_event(event_bus(&template, Arc::clone(&lambda)));
        let stepfunctions =
            StateMachines::new(invoke_by(Arc::clone(&lambda)), reports_to(Arc::clone(&codedeploy)));
        let quotas = Arc::new(Quotas::default());
        stepfunctions.limit(Arc::clone(&quotas));
        let watch = template.function("watch").context("template.yaml has no watch")?;
        let substitutions = [
            ("WatchFunctionArn".to_owned(), function_arn(&watch.name)),
            ("Partition".to_owned(), "aws".to_owned()),
        ]
        .into();
        stepfunctions.create(&template.state_machine, &definition, &substitutions)?;
        let roles =
            template.functions.iter().map(|function| (function.binary.clone(), function.role.clone()));
        let logs = Arc::new(Logs::default());
        let mut logged = JoinSet::new();
        let subscriptions = spec.subscriptions.then(|| Subscriptions::new(&template, Arc::clone(&lambda)));
        logged.spawn(log(&template, &lambda, &logs, subscriptions));
        let services = Arc::new(Services {
            codedeploy,
            ecs,
            cloudwatch,
            lambda,
            logs,
            stepfunctions,
            parameters: ParameterStore::default(),
            bus: EventBus::default(),
            topics: Topics::new(template.topics.clone()),
            buckets: Buckets::new(template.buckets.clone()),
            balancers: Mutex::default(),
            faults: Faults::default(),
            quotas,
            roles: roles.collect(),
            calls: Mutex::default(),
        });
        let endpoint = Endpoint::start(Arc::clone(&services), listener)?;
        Ok(Self { services, template, endpoint, _logged: logged })
    }

    /// Where the services answer.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Environment variables with which a program on this machine reaches the account, as a caller that may do
    /// everything.
    pub fn exports(&self) -> Vec<(String, String)> {
        let mut exports: Vec<(String, String)> = credentials("lab", self.address()).into();
        exports.push(("AWS_DEFAULT_REGION".to_owned(), REGION.to_owned()));
        let settings = self.template.functions.iter().flat_map(|function| function.environment.clone());
        exports.extend(settings.filter(|(_, value)| !value.is_empty()));
        exports.sort();
        exports.dedup();
        exports
    }

    /// Makes a load balancer known to the API.
    pub fn add_balancer(&self, balancer: Arc<LoadBalancer>) {
        self.services.balancers.lock().unwrap_or_else(PoisonError::into_inner).push(balancer);
    }
}

/// The template's parameters that are not at their default here: smoke checks may invoke the lab's functions, and call its
/// balancers, which serve on loopback; and reports are stored.
pub fn parameters() -> BTreeMap<String, String> {
    [("SmokedFunctions", "shop"), ("AllowedHosts", "127.0.0.1"), ("StoreReports", "yes")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn credentials(caller: &str, address: SocketAddr) -> [(String, String); 4] {
    [
        ("AWS_ACCESS_KEY_ID", caller.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// The functions as the template has them. Each calls AWS under a key of its own, so that the endpoint knows whose
/// role it must hold the call against.
fn function_specs(template: &Template, binaries: &Path, address: SocketAddr) -> Result<Vec<FunctionSpec>> {
    let spec = |function: &crate::template::Function| {
        let binary = binaries.join(&function.binary);
        anyhow::ensure!(binary.is_file(), "there is no {}; build the functions first", binary.display());
        let mut environment = function.environment.clone();
        environment.extend(credentials(&function.binary, address));
        Ok(FunctionSpec {
            name: function.name.clone(),
            binary,
            environment,
            timeout: function.timeout,
            memory_mb: function.memory_mb,
            vpc: None,
        })
    };
    template.functions.iter().map(spec).collect()
}

/// Takes what the functions log to their groups, until the lab ends.
fn log(
    template: &Template,
    lambda: &Lambda,
    logs: &Arc<Logs>,
    subscriptions: Option<Subscriptions>,
) -> impl Future<Output = ()> + use<> {
    let groups: BTreeMap<String, String> = template
        .functions
        .iter()
        .map(|function| (function.name.clone(), function.log_group.clone()))
        .collect();
    for (group, days) in &template.log_groups {
        logs.create(group, Some(*days));
    }
    let (mut lines, logs) = (lambda.logs(), Arc::clone(logs));
    async move {
        loop {
            match lines.recv().await {
                Ok(line) => {
                    let Some(group) = groups.get(&line.function) else { continue };
                    if let Some(subscriptions) = &subscriptions {
                        subscriptions.take(group, &line);
                    }
                    logs.write(group, Timestamp::now(), line.line);
                }
                // Too many at once; as on AWS, nobody hears of what was lost.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// `EventBridge`: hands each event to the functions whose rules match it, and does not wait for them.
fn event_bus(template: &Template, lambda: Arc<Lambda>) -> OnEvent {
    let rules: Vec<_> = template
        .functions
        .iter()
        .flat_map(|function| function.events.iter().map(|rule| (function.name.clone(), rule.clone())))
        .collect();
    Box::new(move |event| {
        for (function, _) in rules.iter().filter(|(_, rule)| rule.matches(event)) {
            if let Err(error) = lambda.invoke_async(function, event.to_string().into_bytes()) {
                tracing::warn!(%error, %function, "failed to hand over an event");
            }
        }
    })
}

/// The one call that the state machine makes itself: the last resort of a bake.
fn reports_to(codedeploy: Arc<CodeDeploy>) -> CallAws {
    Arc::new(move |service, action, parameters| {
        let codedeploy = Arc::clone(&codedeploy);
        Box::pin(async move {
            if service != "codedeploy" {
                return Err(TaskError::new(
                    "States.Runtime",
                    format!("the lab does not call {service}:{action}"),
                ));
            }
            let mut operation = action;
            operation[..1].make_ascii_uppercase();
            let body = serde_json::to_vec(&lower_camel(parameters))
                .map_err(|error| TaskError::new("States.Runtime", error.to_string()))?;
            let output = codedeploy.handle(&operation, &body).map_err(|error: ApiError| {
                TaskError::new(format!("CodeDeploy.{}", error.code), error.message)
            })?;
            serde_json::from_slice(&output)
                .map_err(|error| TaskError::new("States.Runtime", error.to_string()))
        })
    })
}

/// Step Functions writes parameters in `PascalCase`, CodeDeploy's own wire in camelCase.
fn lower_camel(parameters: Value) -> Value {
    match parameters {
        Value::Object(map) => map
            .into_iter()
            .map(|(mut key, value)| {
                if let Some(first) = key.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                (key, value)
            })
            .collect(),
        other => other,
    }
}
