//! The way of a service deployment through its stages.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::hooks::{Asked, rest};
use super::model::{EcsService, Route, Stage, Strategy};
use super::record::{
    MonitorStatus, Revision, ServiceDeploymentRecord, ServiceDeploymentStatus as Status, StopType,
    new_deployment_id, revision_arn,
};
use super::{Ecs, EcsHappening};
use crate::api::ApiError;
use crate::doubts::{LastStepHook, ProductionHook, WeightsBeforeStep};

/// How often alarms are looked at.
const ALARM_POLL: Duration = Duration::from_millis(250);

/// Why a deployment does not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What ECS puts behind "Service deployment rolled back because".
    pub(super) because: String,
    /// Whether blue is to serve again; else everything stays as it is.
    pub(super) roll_back: bool,
}

impl Failure {
    pub(super) fn rolls_back(because: String) -> Self {
        Self { because, roll_back: true }
    }

    pub(super) fn reason(&self) -> String {
        let what = if self.roll_back { "rolled back" } else { "stopped" };
        format!("Service deployment {what} because {}", self.because)
    }
}

/// A deployment that runs.
pub(super) struct Run {
    pub(super) ecs: Arc<Ecs>,
    pub(super) arn: String,
    pub(super) service: EcsService,
}

impl Ecs {
    /// Makes a service deployment, as `UpdateService` does, and lets it run; its ARN. `id` is chosen when it is `None`.
    pub fn deploy(
        self: &Arc<Self>,
        cluster: &str,
        service: &str,
        id: Option<&str>,
    ) -> Result<String, ApiError> {
        let id = id.map_or_else(new_deployment_id, str::to_owned);
        let mut state = self.lock();
        let known = state.known(cluster, service).ok_or_else(super::wire::no_service)?;
        let found = known.service.clone();
        let going_on = known.current.as_ref().and_then(|arn| state.deployments.get(arn));
        if going_on.is_some_and(|current| !current.status.is_over()) {
            // ECS would replace the deployment that goes on; the lab has no use for that.
            let message = "a service deployment is in progress, and the lab does not replace one by another";
            return Err(ApiError::client("ClientException", message));
        }
        let source = state.active(known);
        let serving = known.live.as_ref().and_then(|arn| state.revisions.get(arn));
        let group = group_for_green(&found, serving);
        let target = revision_arn(&found, &id);
        let record = ServiceDeploymentRecord::new(&id, found.clone(), source, &target);
        let arn = record.arn.clone();
        state.add_revision(&target, &found, group);
        state.deployments.insert(arn.clone(), record);
        if let Some(known) = state.known_mut(cluster, service) {
            known.current = Some(arn.clone());
        }
        drop(state);
        let run = Run { ecs: Arc::clone(self), arn: arn.clone(), service: found };
        tokio::spawn(run.run());
        Ok(arn)
    }
}

/// The target group for green: of the two the one that blue is not in, or in a rolling deployment blue's own.
fn group_for_green(service: &EcsService, serving: Option<&Revision>) -> Option<String> {
    let [primary, alternate] = &service.routing.as_ref()?.target_groups;
    let blue = serving.and_then(|revision| revision.target_group.as_ref());
    let stays = matches!(service.strategy, Strategy::Rolling { .. });
    Some(match blue {
        Some(blue) if stays => blue.clone(),
        Some(blue) if blue == primary => alternate.clone(),
        _ => primary.clone(),
    })
}

impl Run {
    async fn run(self) {
        let ignored = self.begin();
        let failure = tokio::select! {
            result = self.forward() => result.err(),
            failure = self.interrupted(&ignored) => Some(failure),
        };
        let failure = failure.or_else(|| self.succeed());
        if let Some(failure) = failure {
            self.fail(failure).await;
        }
    }

    /// Begins, and returns the alarms that ring already: ECS ignores them for the whole deployment.
    fn begin(&self) -> Vec<String> {
        self.update(|record| {
            record.started = Some(Timestamp::now());
            // It may have been stopped before it began.
            if record.status == Status::Pending {
                record.status = Status::InProgress;
            }
        });
        self.ecs.tell(EcsHappening::Started { deployment: self.arn.clone() });
        self.send_event(&self.record().target.revision, "SERVICE_DEPLOYMENT_IN_PROGRESS", |id| {
            format!("ECS deployment {id} in progress.")
        });
        let alarms = self.service.alarms.as_ref();
        alarms.map(|alarms| self.ecs.cloudwatch.ringing(&alarms.names)).unwrap_or_default()
    }

    async fn forward(&self) -> Result<(), Failure> {
        if let Strategy::Rolling { .. } = self.service.strategy {
            return self.forward_rolling().await;
        }
        if self.record().source.len() > 1 {
            self.stage(Stage::ReconcileService, self.hooks(Stage::ReconcileService, Asked::default()))
                .await?;
            self.reconcile();
        }
        let only_hooks = |stage| self.stage(stage, self.hooks(stage, Asked::default()));
        only_hooks(Stage::PreScaleUp).await?;
        self.stage(Stage::ScaleUp, self.scale_up()).await?;
        only_hooks(Stage::PostScaleUp).await?;
        self.stage(Stage::TestTrafficShift, async {
            self.set_test(100.0)?;
            self.hooks(Stage::TestTrafficShift, Asked { test: Some(100.0), production: None }).await
        })
        .await?;
        only_hooks(Stage::PostTestTrafficShift).await?;
        self.shift().await?;
        only_hooks(Stage::PostProductionTrafficShift).await?;
        self.stage(Stage::BakeTime, self.sleep(self.service.bake_minutes)).await?;
        self.begin_stage(Stage::CleanUp);
        Ok(())
    }

    /// All steps of production traffic.
    async fn shift(&self) -> Result<(), Failure> {
        let steps = self.service.strategy.steps();
        let doubts = self.service.doubts;
        let mut before = 0.0;
        for (index, &(weight, bake)) in steps.iter().enumerate() {
            let is_last_of_many = index > 0 && index + 1 == steps.len();
            if !is_last_of_many || doubts.last_step_hook == LastStepHook::Called {
                let told = match doubts.weights_before_step {
                    WeightsBeforeStep::Current => before,
                    WeightsBeforeStep::Requested => weight,
                };
                let current = Asked { test: None, production: Some(told) };
                let stage = Stage::PreProductionTrafficShift;
                self.stage(stage, self.hooks(stage, current)).await?;
            }
            self.stage(Stage::ProductionTrafficShift, async {
                let asked = Asked { test: None, production: Some(weight) };
                let hooks = || self.hooks(Stage::ProductionTrafficShift, asked);
                if doubts.production_hook == ProductionHook::BeforeShift {
                    hooks().await?;
                }
                self.set_production(weight)?;
                if doubts.production_hook == ProductionHook::AfterShift {
                    hooks().await?;
                }
                self.sleep(bake).await?;
                if doubts.production_hook == ProductionHook::AfterBake {
                    hooks().await?;
                }
                Ok(())
            })
            .await?;
            before = weight;
        }
        Ok(())
    }

    /// A rolling deployment calls no hooks. That it shows these three stages is the lab's choice.
    async fn forward_rolling(&self) -> Result<(), Failure> {
        self.stage(Stage::ScaleUp, async {
            let green = self.start_green(0).await?;
            let blue = match self.record().rollback_candidate() {
                Some(revision) => self.revision(revision)?.tasks,
                None => None,
            };
            self.roll(&green, blue.as_ref(), true).await
        })
        .await?;
        self.stage(Stage::BakeTime, self.sleep(self.service.bake_minutes)).await?;
        self.begin_stage(Stage::CleanUp);
        Ok(())
    }

    /// Ends what an aborted deployment left: only the revision that serves keeps tasks and traffic.
    fn reconcile(&self) {
        let record = self.record();
        for side in record.source.iter().rev().skip(1) {
            self.stop_tasks(&side.revision);
        }
        // Without balancer there is no traffic to set.
        let _ = self.set_production(0.0);
    }

    /// Resolves when somebody stops the deployment, or one of its alarms begins to ring.
    async fn interrupted(&self, ignored: &[String]) -> Failure {
        let Some(mut asked) = self.update(|record| record.stop.subscribe()) else {
            return std::future::pending().await;
        };
        loop {
            if let Some(stop) = *asked.borrow_and_update() {
                return stopped(stop);
            }
            let Some(alarms) = &self.service.alarms else {
                let _ = asked.changed().await;
                continue;
            };
            let mut ringing = self.ecs.cloudwatch.ringing(&alarms.names);
            ringing.retain(|name| !ignored.contains(name));
            if !ringing.is_empty() {
                // The lab's words.
                let because = format!("of CloudWatch alarm(s) in ALARM state: {}.", ringing.join(", "));
                self.update(|record| {
                    record.alarms = MonitorStatus::Triggered;
                    record.triggered = ringing;
                });
                return Failure { because, roll_back: alarms.rollback };
            }
            // Either a stop or the next look at the alarms.
            let _ = tokio::time::timeout(ALARM_POLL, asked.changed()).await;
        }
    }

    /// Green serves and blue's tasks go; unless somebody has just stopped the deployment.
    fn succeed(&self) -> Option<Failure> {
        let record = self.update(|record| {
            if let Some(stop) = *record.stop.borrow() {
                return Err(stopped(stop));
            }
            record.end(Status::Successful, None);
            Ok(record.clone())
        })?;
        let record = match record {
            Ok(record) => record,
            Err(failure) => return Some(failure),
        };
        for side in &record.source {
            self.stop_tasks(&side.revision);
        }
        self.set_live(&record.target.revision);
        self.end_stage(Stage::CleanUp);
        self.send_event(&record.target.revision, "SERVICE_DEPLOYMENT_COMPLETED", |id| {
            format!("ECS deployment {id} completed.")
        });
        self.tell_end();
        None
    }

    pub(super) async fn stage(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        self.begin_stage(stage);
        work.await?;
        self.end_stage(stage);
        Ok(())
    }

    pub(super) fn begin_stage(&self, stage: Stage) {
        self.update(|record| record.stage = Some(stage));
        self.ecs.tell(EcsHappening::Stage { deployment: self.arn.clone(), stage, ended: false });
    }

    pub(super) fn end_stage(&self, stage: Stage) {
        self.ecs.tell(EcsHappening::Stage { deployment: self.arn.clone(), stage, ended: true });
    }

    /// Gives green this share of test traffic.
    pub(super) fn set_test(&self, green: f64) -> Result<(), Failure> {
        if let Some(route) = self.service.routing.as_ref().and_then(|routing| routing.test.as_ref()) {
            self.set_route(route, green)?;
        }
        self.update(|record| {
            record.target.test_weight = green;
            if let Some(blue) = record.source.last_mut() {
                blue.test_weight = rest(green);
            }
        });
        self.ecs.tell(EcsHappening::Weight { deployment: self.arn.clone(), test: true, green });
        Ok(())
    }

    /// Gives green this share of production traffic.
    pub(super) fn set_production(&self, green: f64) -> Result<(), Failure> {
        if let Some(routing) = &self.service.routing {
            self.set_route(&routing.production, green)?;
        }
        self.update(|record| {
            record.target.production_weight = green;
            if let Some(blue) = record.source.last_mut() {
                blue.production_weight = rest(green);
            }
        });
        self.ecs.tell(EcsHappening::Weight { deployment: self.arn.clone(), test: false, green });
        Ok(())
    }

    fn set_route(&self, route: &Route, green: f64) -> Result<(), Failure> {
        let Some(routing) = &self.service.routing else { return Ok(()) };
        let Some(group) = self.revision(&self.record().target.revision)?.target_group else { return Ok(()) };
        let (green, blue) = forward_weights(green);
        let weights = routing
            .target_groups
            .clone()
            .map(|name| if name == group { (name, green) } else { (name, blue) });
        set_weights(&self.service, route, &weights).map_err(|error| {
            Failure::rolls_back(format!("of invalid networking configuration. {}", error.message))
        })
    }

    pub(super) async fn sleep(&self, minutes: f64) -> Result<(), Failure> {
        tokio::time::sleep(self.ecs.pace.minute.mul_f64(minutes)).await;
        Ok(())
    }
}

fn stopped(stop: StopType) -> Failure {
    // The lab's words.
    Failure { because: "of a user's request.".to_owned(), roll_back: stop == StopType::Rollback }
}

/// Weights of a forward action for green's percentage, green first. Whole percentages are the weights themselves; others,
/// which have one decimal, are written in tenths. Neither exceeds 999, as only 100 % would.
pub(super) fn forward_weights(green: f64) -> (u32, u32) {
    let tenths = (green * 10.0).round() as u32;
    if tenths.is_multiple_of(10) { (tenths / 10, 100 - tenths / 10) } else { (tenths, 1000 - tenths) }
}

/// Replaces what a route forwards to.
pub(super) fn set_weights(
    service: &EcsService,
    route: &Route,
    weights: &[(String, u32)],
) -> Result<(), ApiError> {
    let balancer = service.service.balancer()?;
    match route {
        Route::Rule(arn) => balancer.set_rule_weights(arn, weights),
        Route::Listener(kind) => balancer.set_weights(*kind, weights),
    }
}
