//! Tasks: green's are started, or replace blue's one after the other, and are counted when they fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Failure, Run};
use super::model::Strategy;
use super::record::MonitorStatus;
use crate::service::{Label, Readiness, TaskSet};

/// How often tasks are looked at.
const TASK_POLL: Duration = Duration::from_millis(50);

/// Counts the tasks that fail. A failing task is counted once in the time that ECS takes to replace it, ten seconds.
struct Failures {
    next: Instant,
}

impl Run {
    /// Starts green's tasks, without any that run yet.
    pub(super) async fn start_green(&self, count: usize) -> Result<Arc<TaskSet>, Failure> {
        let revision = self.revision(&self.record().target.revision)?;
        let group = revision.target_group.unwrap_or_default();
        let started = self.service.service.start(Label::Green, &group, count, &self.service.next_version);
        let tasks = started.await.map_err(|error| Failure::rolls_back(format!("of an error: {error}")))?;
        self.update_revision(&revision.arn, |revision| revision.tasks = Some(Arc::clone(&tasks)));
        Ok(tasks)
    }

    /// Starts all of green's tasks and waits until they are ready.
    pub(super) async fn scale_up(&self) -> Result<(), Failure> {
        let tasks = self.start_green(self.service.desired).await?;
        let mut failures = Failures { next: Instant::now() };
        let deadline = self.deadline();
        loop {
            let readiness = self.service.service.readiness(&tasks);
            if readiness.ready >= self.service.desired {
                return Ok(());
            }
            self.count(&mut failures, readiness)?;
            self.rest_until(deadline).await?;
        }
    }

    /// Lets one version's tasks take the place of the other's, within the limits of a rolling deployment. `counted` says
    /// whether the circuit breaker watches.
    pub(super) async fn roll(
        &self,
        incoming: &Arc<TaskSet>,
        outgoing: Option<&Arc<TaskSet>>,
        counted: bool,
    ) -> Result<(), Failure> {
        let service = &self.service.service;
        let desired = self.service.desired;
        let (minimum, maximum) = self.limits();
        let mut failures = Failures { next: Instant::now() };
        let deadline = self.deadline();
        loop {
            let come = service.readiness(incoming);
            let left = outgoing.map(|tasks| service.readiness(tasks)).unwrap_or_default();
            let (coming, leaving) = (incoming.desired(), outgoing.map_or(0, |tasks| tasks.desired()));
            if come.ready >= desired && leaving == 0 {
                return Ok(());
            }
            if counted {
                self.count(&mut failures, come)?;
            }
            let room = maximum.saturating_sub(coming + leaving).min(desired.saturating_sub(coming));
            if room > 0 {
                let added = service.add(incoming, room).await;
                added.map_err(|error| Failure::rolls_back(format!("of an error: {error}")))?;
            } else if let Some(outgoing) = outgoing {
                // A task that does not run may go at any time, one that runs only above the minimum.
                let idle = leaving - left.ready;
                let spare = (come.ready + left.ready).saturating_sub(minimum);
                // As many as were replaced, or as many as may go if there is no room for the next.
                let replaced = (come.ready + leaving).saturating_sub(desired);
                let wanted = if coming < desired { leaving } else { replaced };
                service.remove(outgoing, wanted.min(idle + spare));
            }
            self.rest_until(deadline).await?;
        }
    }

    /// Tasks that must be ready at any time, and tasks that may exist.
    fn limits(&self) -> (usize, usize) {
        let Strategy::Rolling { minimum_healthy_percent, maximum_percent } = self.service.strategy else {
            return (self.service.desired, 2 * self.service.desired);
        };
        let minimum = (self.service.desired * minimum_healthy_percent as usize).div_ceil(100);
        (minimum, self.service.desired * maximum_percent as usize / 100)
    }

    /// Counts failing tasks; the circuit breaker opens when they are too many.
    fn count(&self, failures: &mut Failures, readiness: Readiness) -> Result<(), Failure> {
        if readiness.failing == 0 || Instant::now() < failures.next {
            return Ok(());
        }
        failures.next = Instant::now() + self.ecs.pace.minute / 6;
        let failing = readiness.failing as u32;
        let record = self.update(|record| {
            record.failures += failing;
            record.clone()
        });
        let Some(record) = record else { return Ok(()) };
        self.update_revision(&record.target.revision, |revision| revision.failed_tasks += failing);
        let Some(breaker) = self.service.circuit_breaker else { return Ok(()) };
        if record.failures < record.failure_threshold() {
            return Ok(());
        }
        self.update(|record| record.circuit_breaker = MonitorStatus::Triggered);
        Err(Failure {
            because: "the circuit breaker threshold was exceeded.".to_owned(),
            roll_back: breaker.rollback,
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.ecs.pace.stage_timeout
    }

    /// Waits for the next look, or fails when it is too late for one.
    async fn rest_until(&self, deadline: Instant) -> Result<(), Failure> {
        if Instant::now() > deadline {
            // The lab's words: ECS would try for days.
            return Err(Failure::rolls_back("the tasks did not become ready in time.".to_owned()));
        }
        tokio::time::sleep(TASK_POLL).await;
        Ok(())
    }
}
