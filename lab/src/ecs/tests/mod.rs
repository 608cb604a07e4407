//! The engine with a fake function behind its hooks. Time is paused: a minute of ECS passes as soon as nothing else can
//! happen.

mod balancer;
mod hooks;
mod rollback;
mod rolling;
mod stages;
mod wire;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::application::Behaviour;
use crate::doubts::*;
use crate::service::{Label, Service};
use crate::stepfunctions::TaskError;

const HOOKABLE: [Stage; 7] = [
    Stage::PreScaleUp,
    Stage::PostScaleUp,
    Stage::TestTrafficShift,
    Stage::PostTestTrafficShift,
    Stage::PreProductionTrafficShift,
    Stage::ProductionTrafficShift,
    Stage::PostProductionTrafficShift,
];

type Answer = Result<Value, TaskError>;

/// A service `shop` in the cluster `lab` with two tasks and no balancer, and a function that answers as told.
struct World {
    ecs: Arc<Ecs>,
    service: Arc<Service>,
    cloudwatch: Arc<CloudWatch>,
    /// The function's invocations: when, and its event.
    calls: Arc<Mutex<Vec<(Instant, Value)>>>,
    /// What was sent to `EventBridge`.
    events: Arc<Mutex<Vec<Value>>>,
}

/// What came of a deployment.
struct Played {
    record: ServiceDeploymentRecord,
    /// Stages that began, weights and the like, in order.
    told: Vec<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "as the function answers")]
fn succeeded() -> Answer {
    Ok(json!({"hookStatus": "SUCCEEDED"}))
}

#[expect(clippy::unnecessary_wraps, reason = "as the function answers")]
fn failed() -> Answer {
    Ok(json!({"hookStatus": "FAILED"}))
}

fn is_at(event: &Value, stage: Stage) -> bool {
    event["lifecycleStage"] == stage.as_str()
}

/// Whether a hook's event says that green has no share: the deployment is being rolled back.
fn is_rollback(event: &Value) -> bool {
    let details = &event["executionDetails"];
    let green = details["targetServiceRevisionArn"].as_str().unwrap();
    ["testTrafficWeights", "productionTrafficWeights"].iter().any(|weights| details[weights][green] == 0)
        && event["lifecycleStage"] != "PRE_PRODUCTION_TRAFFIC_SHIFT"
}

impl World {
    /// `answer` gets the event and the number of invocations before it.
    async fn new(
        change: impl FnOnce(&mut EcsService),
        answer: impl Fn(&Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let service = Arc::new(Service::new("lab", "shop", None));
        let live = service.start(Label::Blue, "", 2, &Behaviour::default()).await.unwrap();
        Self::of(EcsService::new(service, Some(live), 2), change, answer)
    }

    /// A service that has never been deployed.
    fn empty(
        change: impl FnOnce(&mut EcsService),
        answer: impl Fn(&Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::of(EcsService::new(Arc::new(Service::new("lab", "shop", None)), None, 2), change, answer)
    }

    fn of(
        mut spec: EcsService,
        change: impl FnOnce(&mut EcsService),
        answer: impl Fn(&Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        change(&mut spec);
        let pace = EcsPace {
            minute: Duration::from_mins(1),
            default_delay: Duration::from_secs(30),
            hook_timeout: Duration::from_hours(24),
            stage_timeout: Duration::from_hours(1),
        };
        Self::paced(pace, spec, answer)
    }

    fn paced(
        pace: EcsPace,
        spec: EcsService,
        answer: impl Fn(&Value, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let calls: Arc<Mutex<Vec<(Instant, Value)>>> = Arc::default();
        let called = Arc::clone(&calls);
        let invoke: Invoke = Arc::new(move |name, event| {
            assert_eq!(name, "gate");
            let mut calls = called.lock().unwrap();
            let answer = answer(&event, calls.len());
            calls.push((Instant::now(), event));
            Box::pin(std::future::ready(answer))
        });
        let cloudwatch = Arc::new(CloudWatch::new(Duration::ZERO));
        let ecs = Ecs::new(pace, Arc::clone(&cloudwatch), invoke);
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sent = Arc::clone(&events);
        ecs.on_event(Box::new(move |event| sent.lock().unwrap().push(event.clone())));
        let service = Arc::clone(&spec.service);
        ecs.add_service(spec).unwrap();
        Self { ecs, service, cloudwatch, calls, events }
    }

    /// Deploys and plays until the end.
    async fn play(&self) -> Played {
        self.play_with(|_, _| {}).await
    }

    /// Deploys and plays until the end; `act` sees everything that happens, with the deployment's ARN.
    async fn play_with(&self, mut act: impl FnMut(&EcsHappening, &str)) -> Played {
        let mut happenings = self.ecs.happenings();
        let arn = self.ecs.deploy("lab", "shop", None).unwrap();
        let mut told = Vec::new();
        loop {
            let happening = happenings.recv().await.unwrap();
            act(&happening, &arn);
            match &happening {
                EcsHappening::Stage { stage, ended: false, .. } => told.push(stage.as_str().to_owned()),
                EcsHappening::HookAnswered { answer, .. } => told.push(format!("hook {answer}")),
                EcsHappening::Weight { test, green, .. } => {
                    told.push(format!("{} {green}", if *test { "test" } else { "production" }));
                }
                EcsHappening::RollingBack { .. } => told.push("rolling back".to_owned()),
                EcsHappening::Ended { .. } => {
                    let record = self.ecs.deployment(&arn).unwrap();
                    return Played { record, told };
                }
                EcsHappening::Started { .. } | EcsHappening::Stage { .. } => {}
            }
        }
    }

    /// The stages at which the function was called, with green's weights of test and production traffic.
    fn called(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let told = |(_, event): &(Instant, Value)| {
            let details = &event["executionDetails"];
            let green = details["targetServiceRevisionArn"].as_str().unwrap();
            let weight = |kind: &str| match &details[kind][green] {
                Value::Null => "-".to_owned(),
                weight => weight.to_string(),
            };
            let stage = event["lifecycleStage"].as_str().unwrap();
            format!("{stage} {}/{}", weight("testTrafficWeights"), weight("productionTrafficWeights"))
        };
        calls.iter().map(told).collect()
    }

    fn event(&self, index: usize) -> Value {
        self.calls.lock().unwrap()[index].1.clone()
    }

    /// Names of the events that were sent.
    fn sent(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events.iter().map(|event| event["detail"]["eventName"].as_str().unwrap().to_owned()).collect()
    }

    fn call(&self, operation: &str, input: &Value) -> Result<Value, String> {
        let answer = self.ecs.handle(operation, input.to_string().as_bytes());
        answer.map(|body| serde_json::from_slice(&body).unwrap()).map_err(|error| error.code)
    }

    fn stop(&self, arn: &str) -> Result<Value, String> {
        self.call("StopServiceDeployment", &json!({"serviceDeploymentArn": arn}))
    }

    fn counts(&self, revision: &str) -> (usize, usize) {
        self.ecs.revision(revision).unwrap().counts()
    }
}

fn everywhere(service: &mut EcsService) {
    service.hooks = vec![EcsHook::function("gate", &HOOKABLE)];
}
