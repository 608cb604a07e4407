//! How a service deployment ends badly: the way back to blue, or a stop; and how a run reads and writes its records.

use jiff::Timestamp;

use super::EcsHappening;
use super::engine::{Failure, Run};
use super::hooks::Asked;
use super::model::{Stage, Strategy};
use super::record::{
    MonitorStatus, Revision, RollbackRecord, ServiceDeploymentRecord, ServiceDeploymentStatus as Status,
};
use crate::doubts::{FailedEvent, FailedInRollback, RollbackStages};

impl Run {
    pub(super) async fn fail(&self, failure: Failure) {
        let reason = failure.reason();
        let record = self.record();
        self.tell_failure(&record, &reason);
        if !failure.roll_back {
            self.update(|record| {
                record.stopped = Some(Timestamp::now());
                record.end(Status::Stopped, Some(reason));
            });
            // Who has all of the traffic serves from now on; else blue stays what a rollback would go back to.
            if record.target.production_weight >= 100.0 {
                self.set_live(&record.target.revision);
            }
            self.tell_end();
            return;
        }
        let Some(blue) = record.rollback_candidate().map(str::to_owned) else {
            self.stop_tasks(&record.target.revision);
            let reason = "No rollback candidate was found to run the rollback.".to_owned();
            self.update(|record| record.end(Status::RollbackFailed, Some(reason)));
            self.tell_end();
            return;
        };
        self.update(|record| {
            record.status = Status::RollbackInProgress;
            record.status_reason = Some(reason.clone());
            record.rollback = Some(RollbackRecord {
                reason: reason.clone(),
                started: Timestamp::now(),
                revision: blue.clone(),
            });
        });
        self.ecs.tell(EcsHappening::RollingBack { deployment: self.arn.clone(), reason: reason.clone() });
        self.send_event(&blue, "SERVICE_DEPLOYMENT_IN_PROGRESS", |id| {
            format!("ECS deployment circuit breaker: rolling back to deploymentId {id}.")
        });
        match self.back(&record, &blue).await {
            Ok(()) => {
                self.update(|record| record.end(Status::RollbackSuccessful, Some(reason)));
                self.send_event(&blue, "SERVICE_DEPLOYMENT_COMPLETED", |id| {
                    format!("ECS deployment {id} completed.")
                });
            }
            // Green's tasks stay, so that the next deployment has something to reconcile.
            Err(failure) => {
                let reason = format!("Service deployment rollback failed because {}", failure.because);
                self.update(|record| record.end(Status::RollbackFailed, Some(reason)));
            }
        }
        self.tell_end();
    }

    /// Gives blue what green has taken: traffic first, and then the hooks of the shifts are called once more. Shifts that
    /// had not begun are not undone.
    async fn back(&self, failed: &ServiceDeploymentRecord, blue: &str) -> Result<(), Failure> {
        let green = &failed.target.revision;
        if let Strategy::Rolling { .. } = self.service.strategy {
            self.roll_back_tasks(green, blue).await?;
        } else {
            let reached = |stage| failed.stage.is_some_and(|at| at >= stage);
            if reached(Stage::ProductionTrafficShift) || failed.target.production_weight > 0.0 {
                self.stage(Stage::ProductionTrafficShift, async {
                    self.set_production(0.0)?;
                    self.hooks_on_the_way_back(Stage::ProductionTrafficShift).await
                })
                .await?;
            }
            if reached(Stage::TestTrafficShift) {
                self.stage(Stage::TestTrafficShift, async {
                    self.set_test(0.0)?;
                    self.hooks_on_the_way_back(Stage::TestTrafficShift).await
                })
                .await?;
            }
        }
        self.begin_stage(Stage::CleanUp);
        self.stop_tasks(green);
        self.end_stage(Stage::CleanUp);
        Ok(())
    }

    async fn hooks_on_the_way_back(&self, stage: Stage) -> Result<(), Failure> {
        let doubts = self.service.doubts;
        let of_test = stage == Stage::TestTrafficShift;
        if of_test && doubts.rollback_stages == RollbackStages::Production {
            return Ok(());
        }
        let asked = Asked { test: of_test.then_some(0.0), production: (!of_test).then_some(0.0) };
        let answered = self.hooks(stage, asked).await;
        if doubts.failed_in_rollback == FailedInRollback::Ignored { Ok(()) } else { answered }
    }

    async fn roll_back_tasks(&self, green: &str, blue: &str) -> Result<(), Failure> {
        let Some(blue) = self.revision(blue)?.tasks else { return Ok(()) };
        let green = self.revision(green)?.tasks;
        self.stage(Stage::ScaleUp, self.roll(&blue, green.as_ref(), false)).await
    }

    fn tell_failure(&self, record: &ServiceDeploymentRecord, reason: &str) {
        let needs_breaker = self.service.doubts.failed_event == FailedEvent::WithCircuitBreaker;
        if needs_breaker && self.service.circuit_breaker.is_none() {
            return;
        }
        let opened = record.circuit_breaker == MonitorStatus::Triggered;
        let reason = if opened { "ECS deployment circuit breaker: task failed to start." } else { reason };
        self.send_event(&record.target.revision, "SERVICE_DEPLOYMENT_FAILED", |_| reason.to_owned());
    }

    pub(super) fn tell_end(&self) {
        let record = self.record();
        self.ecs.tell(EcsHappening::Ended {
            deployment: self.arn.clone(),
            status: record.status,
            reason: record.status_reason,
        });
    }

    /// Sends an event about a revision; the reason may name its id.
    pub(super) fn send_event(&self, revision: &str, name: &str, reason: impl FnOnce(&str) -> String) {
        if let Ok(revision) = self.revision(revision) {
            self.ecs.send_event(&revision, name, &reason(&revision.deployment_id()));
        }
    }

    pub(super) fn stop_tasks(&self, revision: &str) {
        let tasks = self.update_revision(revision, |revision| revision.tasks.take()).flatten();
        if let Some(tasks) = tasks {
            self.service.service.remove(&tasks, tasks.desired());
            self.service.service.stop(&tasks);
        }
    }

    pub(super) fn set_live(&self, revision: &str) {
        let service = &self.service.service;
        if let Some(known) = self.ecs.lock().known_mut(&service.cluster, &service.name) {
            known.live = Some(revision.to_owned());
        }
    }

    pub(super) fn record(&self) -> ServiceDeploymentRecord {
        let record = self.ecs.deployment(&self.arn);
        // Nobody removes a deployment; an empty one stands for the impossible.
        record.unwrap_or_else(|| ServiceDeploymentRecord::new("gone", self.service.clone(), Vec::new(), ""))
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut ServiceDeploymentRecord) -> T) -> Option<T> {
        self.ecs.lock().deployments.get_mut(&self.arn).map(|record| {
            record.updated = Timestamp::now();
            change(record)
        })
    }

    pub(super) fn revision(&self, arn: &str) -> Result<Revision, Failure> {
        self.ecs.revision(arn).ok_or_else(|| Failure::rolls_back(format!("of a missing revision {arn}.")))
    }

    pub(super) fn update_revision<T>(&self, arn: &str, change: impl FnOnce(&mut Revision) -> T) -> Option<T> {
        self.ecs.lock().revisions.get_mut(arn).map(change)
    }
}

impl ServiceDeploymentRecord {
    /// Ends it; whoever watched over it has done so.
    pub(super) fn end(&mut self, status: Status, reason: Option<String>) {
        self.status = status;
        self.status_reason = reason;
        self.finished = Some(Timestamp::now());
        for monitor in [&mut self.alarms, &mut self.circuit_breaker] {
            if *monitor == MonitorStatus::Monitoring {
                *monitor = MonitorStatus::MonitoringComplete;
            }
        }
    }
}
