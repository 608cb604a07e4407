//! The lifecycle of a deployment: the events in order, the hooks, the shift, and the way back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::model::{
    Creator, DeploymentRecord, EventStatus, Group, Hook, Status, Stop, Versions, new_deployment_id,
    new_execution_id,
};
use super::shift::Shift;
use super::target::{ServiceTarget, Target};
use super::{CodeDeploy, Happening};
use crate::api::ApiError;
use crate::doubts::{HookDelivery, HookErrors};

/// How often the group's alarms are looked at.
const ALARM_POLL: Duration = Duration::from_millis(500);
/// How often a new task set is looked at.
const INSTALL_POLL: Duration = Duration::from_millis(100);

/// Why a deployment did not succeed.
struct Failure {
    status: Status,
    code: &'static str,
    message: String,
    roll_back: RollBack,
}

/// Whether the failure asks for a rollback.
enum RollBack {
    IfOnFailure,
    IfOnAlarm,
    Decided(bool),
}

impl CodeDeploy {
    /// Makes a deployment and lets it run. `id` is chosen when it is `None`.
    pub fn deploy(
        self: &Arc<Self>,
        application: &str,
        group: &str,
        shift: Option<Shift>,
        id: Option<&str>,
    ) -> Result<String, ApiError> {
        let id = id.map_or_else(new_deployment_id, str::to_owned);
        let mut state = self.lock();
        if state
            .deployments
            .values()
            .any(|other| other.application == application && other.group == group && !other.status.is_over())
        {
            return Err(ApiError::client(
                "DeploymentLimitExceededException",
                format!("The Deployment Group '{group}' already has an active Deployment"),
            ));
        }
        let found = state.group_mut(application, group)?.clone();
        let shift = shift.unwrap_or(found.shift);
        let mut record =
            DeploymentRecord::new(&id, application, group, shift, Creator::User).on(found.target.platform());
        found.target.start(&mut record);
        state.deployments.insert(id.clone(), record);
        drop(state);
        let engine = Arc::clone(self);
        let task_id = id.clone();
        tokio::spawn(async move { engine.run(&task_id).await });
        Ok(id)
    }

    async fn run(self: Arc<Self>, id: &str) {
        let Some(group) = self.begin(id) else { return };
        let failure = tokio::select! {
            result = self.forward(id, &group) => result.err(),
            stop = self.stopped(id, &group) => Some(failure_of(stop)),
        };
        match failure {
            None => self.succeed(id, &group),
            Some(failure) => self.fail(id, &group, failure).await,
        }
    }

    fn begin(&self, id: &str) -> Option<Group> {
        let mut state = self.lock();
        let record = state.deployments.get_mut(id)?;
        record.status = Status::InProgress;
        let (application, group, creator) =
            (record.application.clone(), record.group.clone(), record.creator);
        let group = state.group_mut(&application, &group).ok()?.clone();
        drop(state);
        self.tell(Happening::Started { deployment: id.to_owned(), creator });
        Some(group)
    }

    async fn forward(&self, id: &str, group: &Group) -> Result<(), Failure> {
        let target = &group.target;
        // What cannot be deployed cannot be given back either.
        let as_it_is = |failure| Failure { roll_back: RollBack::Decided(false), ..failure };
        target.check().map_err(|error| as_it_is(target_failure(target, &error)))?;
        for &event in target.platform().events() {
            self.mark(id, event, EventStatus::InProgress);
            match (event, target) {
                ("Install", Target::Service(service)) => self.install(id, target, service).await?,
                ("AllowTestTraffic", _) => {
                    let record = self.record(id, target)?;
                    target.allow_test_traffic(&record).map_err(|error| target_failure(target, &error))?;
                }
                ("AllowTraffic", _) => self.allow_traffic(id, target).await?,
                _ => self.hook(id, group, event).await?,
            }
            self.mark(id, event, EventStatus::Succeeded);
        }
        tokio::time::sleep(self.pace.minute.mul_f64(target.termination_wait_minutes())).await;
        Ok(())
    }

    fn record(&self, id: &str, target: &Target) -> Result<DeploymentRecord, Failure> {
        let vanished = || target_failure(target, &ApiError::client("", "the deployment vanished"));
        self.deployment(id).ok_or_else(vanished)
    }

    /// Starts green's tasks and waits until they run.
    async fn install(&self, id: &str, target: &Target, service: &ServiceTarget) -> Result<(), Failure> {
        let green = service.install().await.map_err(|error| target_failure(target, &error))?;
        self.update(id, |record| record.green = Some(Arc::clone(&green)));
        let deadline = tokio::time::Instant::now() + self.pace.minute * 60;
        while green.running() < green.desired() {
            if tokio::time::Instant::now() > deadline {
                return Err(timed_out(
                    "The deployment timed out while waiting for the replacement task set to become healthy.",
                ));
            }
            tokio::time::sleep(INSTALL_POLL).await;
        }
        Ok(())
    }

    /// The whole shift happens within this one event; no hook runs between its steps.
    async fn allow_traffic(&self, id: &str, target: &Target) -> Result<(), Failure> {
        let record = self.record(id, target)?;
        for (weight, minutes) in record.steps() {
            target.set_weight(&record, weight).map_err(|error| target_failure(target, &error))?;
            self.update(id, |record| record.green_weight = weight);
            self.tell(Happening::Weight { deployment: id.to_owned(), green: weight });
            tokio::time::sleep(self.pace.minute.mul_f64(minutes)).await;
        }
        Ok(())
    }

    /// Calls a hook and waits for its report.
    async fn hook(&self, id: &str, group: &Group, event: &'static str) -> Result<(), Failure> {
        let Some(hook) = group.hooks.get(event) else { return Ok(()) };
        let execution_id = match hook {
            Hook::Wait(execution_id) => execution_id.clone(),
            Hook::Function(_) => new_execution_id(),
        };
        let mut reports = self.update(id, |record| {
            if let Some(event) = record.event_mut(event) {
                event.execution_id = Some(execution_id.clone());
            }
            record.reports.subscribe()
        });
        let payload = json!({"DeploymentId": id, "LifecycleEventHookExecutionId": execution_id});
        let errors = self.call(group, hook, &payload.to_string(), reports.as_ref())?;
        let report = tokio::time::timeout(self.pace.hook_timeout, async {
            loop {
                let seen = self.deployment(id).and_then(|record| record.event(event)?.report);
                if let Some(succeeded) = seen {
                    return succeeded;
                }
                let changed = match &mut reports {
                    Some(reports) => reports.changed().await,
                    None => return false,
                };
                if changed.is_err() {
                    return false;
                }
            }
        });
        let ended = tokio::select! {
            report = report => report,
            () = noticed(errors) => Ok(false),
        };
        match ended {
            Ok(true) => Ok(()),
            Ok(false) => Err(hook_failed()),
            Err(_) => Err(timed_out(
                "The deployment timed out while waiting for a status callback. CodeDeploy expects a status callback within one hour after a deployment hook is invoked.",
            )),
        }
    }

    /// Hands a hook's event to its function. What comes back tells of an error of the function, if CodeDeploy notices one.
    fn call(
        &self,
        group: &Group,
        hook: &Hook,
        payload: &str,
        reports: Option<&watch::Receiver<u64>>,
    ) -> Result<Option<oneshot::Receiver<()>>, Failure> {
        let Hook::Function(function) = hook else { return Ok(None) };
        let hand_over = || self.lambda.invoke_async(function, payload.as_bytes().to_vec());
        let errors = hand_over().map_err(|error| Failure {
            status: Status::Failed,
            code: "IAM_ROLE_PERMISSIONS",
            message: format!("The function {function} cannot be invoked: {error}"),
            roll_back: RollBack::IfOnFailure,
        })?;
        if let (HookDelivery::Repeated, Some(reports)) = (group.doubts.hook_delivery, reports) {
            let (mut reports, lambda) = (reports.clone(), Arc::clone(&self.lambda));
            let (function, payload) = (function.clone(), payload.as_bytes().to_vec());
            let _ = hand_over();
            tokio::spawn(async move {
                if reports.changed().await.is_ok() {
                    let _ = lambda.invoke_async(&function, payload);
                }
            });
        }
        Ok((group.doubts.hook_errors == HookErrors::Noticed).then_some(errors))
    }

    /// Resolves when somebody stops the deployment, or an alarm of its group rings.
    async fn stopped(&self, id: &str, group: &Group) -> Stop {
        let Some(mut asked) = self.update(id, |record| record.stop.subscribe()) else {
            return std::future::pending().await;
        };
        loop {
            if let Some(stop) = asked.borrow_and_update().clone() {
                return stop;
            }
            let ringing =
                if group.alarms.is_empty() { Vec::new() } else { self.cloudwatch.ringing(&group.alarms) };
            if !ringing.is_empty() {
                return Stop::Alarm(ringing);
            }
            // Either a stop or the next look at the alarms.
            let _ = tokio::time::timeout(ALARM_POLL, asked.changed()).await;
        }
    }

    /// All traffic is green's, and the old version goes.
    fn succeed(&self, id: &str, group: &Group) {
        let record = self.update(id, |record| {
            record.status = Status::Succeeded;
            record.completed = Some(Timestamp::now());
            record.clone()
        });
        let Some(record) = record else { return };
        group.target.stop_old(&record);
        let mut state = self.lock();
        if let Ok(group) = state.group_mut(&record.application, &record.group) {
            group.target.succeeded(&record);
            group.last_successful = Some(id.to_owned());
        }
        drop(state);
        self.tell(Happening::Ended { deployment: id.to_owned(), status: Status::Succeeded, error: None });
    }

    async fn fail(&self, id: &str, group: &Group, failure: Failure) {
        let wanted = match failure.roll_back {
            RollBack::IfOnFailure => group.auto_rollback.on_failure,
            RollBack::IfOnAlarm => group.auto_rollback.on_alarm,
            RollBack::Decided(decided) => decided,
        };
        let error = (failure.code.to_owned(), failure.message);
        let now = Timestamp::now();
        let record = self.update(id, |record| {
            record.status = failure.status;
            record.error = Some(error.clone());
            record.completed = Some(now);
            for event in &mut record.events {
                match event.status {
                    EventStatus::InProgress => {
                        event.status = EventStatus::Failed;
                        event.ended = Some(now);
                    }
                    EventStatus::Pending => event.status = EventStatus::Skipped,
                    _ => {}
                }
            }
            record.clone()
        });
        let Some(record) = record else { return };
        for event in record.events.iter().filter(|event| event.status == EventStatus::Failed) {
            self.tell(Happening::Event {
                deployment: id.to_owned(),
                event: event.name,
                status: EventStatus::Failed,
            });
        }
        self.tell(Happening::Ended { deployment: id.to_owned(), status: failure.status, error: Some(error) });
        if wanted && record.can_be_undone() {
            self.roll_back(&record, group).await;
        }
    }

    /// A rollback is a deployment of its own: traffic goes back to the old version at once, and the new one is stopped.
    async fn roll_back(&self, undone: &DeploymentRecord, group: &Group) {
        let id = new_deployment_id();
        let target = &group.target;
        let mut record = DeploymentRecord::new(
            &id,
            &undone.application,
            &undone.group,
            Shift::AllAtOnce,
            Creator::Rollback,
        )
        .on(target.platform());
        record.status = Status::InProgress;
        record.rollback_of = Some(undone.id.clone());
        // In the deployment's eyes the version that gets the traffic is the new one.
        record.blue.clone_from(&undone.green);
        record.green.clone_from(&undone.blue);
        record.versions = undone.versions.as_ref().map(Versions::swapped);
        self.lock().deployments.insert(id.clone(), record);
        self.update(&undone.id, |undone| undone.rolled_back_by = Some(id.clone()));
        self.tell(Happening::Started { deployment: id.clone(), creator: Creator::Rollback });
        for &event in target.platform().events() {
            self.mark(&id, event, EventStatus::InProgress);
            match event {
                "AllowTestTraffic" => target.give_test_traffic_back(undone),
                "AllowTraffic" => {
                    let _ = target.set_weight(undone, 0.0);
                    self.update(&id, |record| record.green_weight = 100.0);
                    self.update(&undone.id, |record| record.green_weight = 0.0);
                    self.tell(Happening::Weight { deployment: undone.id.clone(), green: 0.0 });
                }
                event
                    if group.calls_hooks_in_rollback()
                        && matches!(group.hooks.get(event), Some(Hook::Function(_)))
                        && self.hook(&id, group, event).await.is_err() =>
                {
                    self.end(&id, Status::Failed);
                    return;
                }
                _ => {}
            }
            self.mark(&id, event, EventStatus::Succeeded);
        }
        target.stop_new(undone);
        self.end(&id, Status::Succeeded);
    }

    fn end(&self, id: &str, status: Status) {
        self.update(id, |record| {
            record.status = status;
            record.completed = Some(Timestamp::now());
        });
        self.tell(Happening::Ended { deployment: id.to_owned(), status, error: None });
    }

    fn mark(&self, id: &str, event: &'static str, status: EventStatus) {
        self.update(id, |record| {
            if let Some(event) = record.event_mut(event) {
                event.status = status;
                let now = Some(Timestamp::now());
                if status == EventStatus::InProgress { event.started = now } else { event.ended = now }
            }
        });
        self.tell(Happening::Event { deployment: id.to_owned(), event, status });
    }

    fn update<T>(&self, id: &str, change: impl FnOnce(&mut DeploymentRecord) -> T) -> Option<T> {
        self.lock().deployments.get_mut(id).map(change)
    }
}

fn failure_of(stop: Stop) -> Failure {
    match stop {
        Stop::Asked { roll_back } => Failure {
            status: Status::Stopped,
            code: "MANUAL_STOP",
            message: "The deployment was stopped by a user.".to_owned(),
            roll_back: RollBack::Decided(roll_back),
        },
        Stop::Alarm(names) => Failure {
            status: Status::Stopped,
            code: "ALARM_ACTIVE",
            message: format!(
                "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the affected deployments have been stopped. Activated alarms: <{}>",
                names.join(", ")
            ),
            roll_back: RollBack::IfOnAlarm,
        },
    }
}

/// Resolves when a hook's function has ended with an error that CodeDeploy notices.
async fn noticed(errors: Option<oneshot::Receiver<()>>) {
    let told = match errors {
        Some(errors) => errors.await.is_ok(),
        None => false,
    };
    // A sender that is gone has had nothing to tell.
    if !told {
        std::future::pending::<()>().await;
    }
}

fn hook_failed() -> Failure {
    Failure {
        status: Status::Failed,
        code: "HOOK_EXECUTION_FAILURE",
        message:
            "The deployment failed because one or more of the lifecycle event validation functions failed."
                .to_owned(),
        roll_back: RollBack::IfOnFailure,
    }
}

fn timed_out(message: &str) -> Failure {
    Failure {
        status: Status::Failed,
        code: "TIMEOUT",
        message: message.to_owned(),
        roll_back: RollBack::IfOnFailure,
    }
}

/// The service or function refused what CodeDeploy asked of it.
fn target_failure(target: &Target, error: &ApiError) -> Failure {
    Failure {
        status: Status::Failed,
        code: target.error_code(),
        message: error.message.clone(),
        roll_back: RollBack::IfOnFailure,
    }
}
