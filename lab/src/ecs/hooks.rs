//! Lifecycle hooks: what a function is told, what it may answer, and how long it is asked again.

use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::EcsHappening;
use super::engine::{Failure, Run};
use super::model::{EcsHook, HookTarget, Stage, TimeoutAction};
use super::record::{HookRecord, HookStatus, Side, service_arn};
use crate::doubts::{CallBackDelay, EventWeights, HookDetails};
use crate::lambda::function_arn;
use crate::stepfunctions::TaskError;

/// Shares of green in percent that a stage asks for; what its hooks are told as weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) test: Option<f64>,
    pub(super) production: Option<f64>,
}

/// A function's answer.
enum Answer {
    Succeeded,
    Failed,
    InProgress { delay: Option<Duration>, details: Map<String, Value> },
}

impl Run {
    /// Calls all hooks of a stage at the same time. The first one that fails decides.
    pub(super) async fn hooks(&self, stage: Stage, asked: Asked) -> Result<(), Failure> {
        let hooks = self.service.hooks.iter().enumerate().filter(|(_, hook)| hook.stages.contains(&stage));
        let calls = hooks.map(|(index, hook)| self.hook(index, hook, stage, asked));
        match try_join_all(calls).await {
            Ok(_) => Ok(()),
            Err(detail) => {
                Err(Failure::rolls_back(format!("{} lifecycle hook(s) failed. {detail}", stage.as_str())))
            }
        }
    }

    async fn hook(&self, index: usize, hook: &EcsHook, stage: Stage, asked: Asked) -> Result<(), String> {
        let limit = hook
            .timeout_minutes
            .map_or(self.ecs.pace.hook_timeout, |minutes| self.ecs.pace.minute.mul_f64(minutes));
        let id = self.open(index, hook);
        let done = async {
            match &hook.target {
                HookTarget::Function(name) => self.call(index, hook, name, stage, asked).await,
                HookTarget::Wait(_) => self.wait(&id).await,
            }
        };
        let ended = tokio::time::timeout(limit, done).await;
        let (status, result) = match ended {
            Ok(Ok(())) => (HookStatus::Succeeded, Ok(())),
            Ok(Err(detail)) => (HookStatus::Failed, Err(detail)),
            Err(_) if hook.on_timeout == TimeoutAction::Continue => (HookStatus::TimedOut, Ok(())),
            // Nobody has published ECS's words for it; these are the lab's.
            Err(_) => (HookStatus::TimedOut, Err(format!("{} timed out.", told_as(&hook.target)))),
        };
        self.set_hook(&id, |record| record.status = status);
        result
    }

    /// Invokes a function until it says that it is done.
    async fn call(
        &self,
        index: usize,
        hook: &EcsHook,
        name: &str,
        stage: Stage,
        asked: Asked,
    ) -> Result<(), String> {
        // That all invocations at a stage have one id is the lab's choice.
        let execution_id = uuid::Uuid::new_v4().to_string();
        let doubts = self.service.doubts;
        let mut returned = match doubts.hook_details {
            HookDetails::WithinStage | HookDetails::Never => Map::new(),
            HookDetails::WholeDeployment => self
                .update(|record| record.returned_details.get(&index).cloned())
                .flatten()
                .unwrap_or_default(),
        };
        loop {
            let event = self.event(&execution_id, stage, asked, merged(hook.details.as_ref(), &returned));
            let answer = (self.ecs.invoke)(name.to_owned(), event).await;
            let answer = understood(answer);
            self.ecs.tell(EcsHappening::HookAnswered {
                deployment: self.arn.clone(),
                stage,
                function: name.to_owned(),
                answer: match &answer {
                    Ok(Answer::Succeeded) => "SUCCEEDED".to_owned(),
                    Ok(Answer::Failed) => "FAILED".to_owned(),
                    Ok(Answer::InProgress { .. }) => "IN_PROGRESS".to_owned(),
                    Err(problem) => problem.clone(),
                },
            });
            match answer {
                Ok(Answer::Succeeded) => return Ok(()),
                Ok(Answer::Failed) => {
                    return Err(format!("{} returned FAILED status.", told_as(&hook.target)));
                }
                Ok(Answer::InProgress { delay, details }) => {
                    if doubts.hook_details != HookDetails::Never {
                        returned.extend(details);
                        self.update(|record| record.returned_details.insert(index, returned.clone()));
                    }
                    let delay = delay.filter(|_| doubts.call_back_delay == CallBackDelay::Read);
                    tokio::time::sleep(delay.unwrap_or(self.ecs.pace.default_delay)).await;
                }
                // The words are ECS's, also where the function never answered.
                Err(problem) => {
                    let arn = arn_of(name);
                    return Err(format!(
                        "ECS was unable to parse the response from {arn} due to: {problem}."
                    ));
                }
            }
        }
    }

    /// Waits for `ContinueServiceDeployment`.
    async fn wait(&self, id: &str) -> Result<(), String> {
        let Some(mut answers) = self.update(|record| record.answers.subscribe()) else {
            return std::future::pending().await;
        };
        loop {
            answers.borrow_and_update();
            let seen = self.update(|record| record.hooks.iter().find(|hook| hook.id == id)?.continued);
            match seen.flatten() {
                Some(true) => return Ok(()),
                Some(false) => return Err(format!("Lifecycle hook {id} was answered with ROLLBACK.")),
                None if answers.changed().await.is_err() => return std::future::pending().await,
                None => {}
            }
        }
    }

    /// Notes that a hook is called; its id.
    fn open(&self, index: usize, hook: &EcsHook) -> String {
        let (id, target_arn, status) = match &hook.target {
            HookTarget::Function(name) => {
                (format!("ecs-hook-{index}"), Some(arn_of(name)), HookStatus::InProgress)
            }
            HookTarget::Wait(id) => (id.clone(), None, HookStatus::AwaitingAction),
        };
        // In real minutes, as the limit itself is told: however quick the lab is, both together tell when it began.
        let minutes = hook.timeout_minutes.unwrap_or(1440.0);
        let told = Duration::from_secs_f64(60.0 * minutes.round());
        let expires = Timestamp::now().saturating_add(told).unwrap_or(Timestamp::MAX);
        self.update(|record| {
            record.hooks.retain(|known| known.id != id);
            record.hooks.push(HookRecord {
                id: id.clone(),
                target_arn,
                status,
                expires,
                on_timeout: hook.on_timeout,
                continued: None,
            });
        });
        id
    }

    fn set_hook(&self, id: &str, change: impl FnOnce(&mut HookRecord)) {
        self.update(|record| record.hooks.iter_mut().find(|hook| hook.id == id).map(change));
    }

    /// What a function is told. It names no source revision, and weights only at the stages that are about them.
    fn event(&self, execution_id: &str, stage: Stage, asked: Asked, details: Option<Value>) -> Value {
        let record = self.record();
        let weights = |green: Option<f64>, of: fn(&Side) -> f64| {
            let mut weights = Map::new();
            let sides = record.source.iter().chain([&record.target]);
            match (stage, green) {
                (Stage::ReconcileService, _) => {
                    weights.extend(sides.map(|side| (side.revision.clone(), self.number(of(side)))));
                }
                (_, Some(green)) => {
                    let serving = record.rollback_candidate();
                    weights.extend(sides.map(|side| {
                        let weight = if side.revision == record.target.revision {
                            green
                        } else if Some(side.revision.as_str()) == serving {
                            rest(green)
                        } else {
                            0.0
                        };
                        (side.revision.clone(), self.number(weight))
                    }));
                }
                (_, None) => {}
            }
            weights
        };
        let mut event = json!({
            "executionId": execution_id,
            "lifecycleStage": stage.as_str(),
            "resourceArn": self.arn,
            "executionDetails": {
                "serviceArn": service_arn(&self.service),
                "targetServiceRevisionArn": record.target.revision,
                "testTrafficWeights": weights(asked.test, |side| side.test_weight),
                "productionTrafficWeights": weights(asked.production, |side| side.production_weight),
            },
        });
        if let Some(details) = details {
            event["hookDetails"] = details;
        }
        event
    }

    fn number(&self, weight: f64) -> Value {
        match self.service.doubts.event_weights {
            EventWeights::Integers => json!(weight.round() as u64),
            EventWeights::AsNeeded if weight.fract() == 0.0 => json!(weight as u64),
            EventWeights::Fractions | EventWeights::AsNeeded => json!(weight),
        }
    }
}

/// What is left of 100 %, without the noise of binary fractions: percentages have one decimal.
pub(super) fn rest(green: f64) -> f64 {
    ((100.0 - green) * 10.0).round() / 10.0
}

/// The configured details with the returned ones over them; none if there are neither.
fn merged(configured: Option<&Value>, returned: &Map<String, Value>) -> Option<Value> {
    match configured {
        _ if returned.is_empty() => configured.cloned(),
        Some(Value::Object(map)) => {
            let mut map = map.clone();
            map.extend(returned.clone());
            Some(Value::Object(map))
        }
        _ => Some(Value::Object(returned.clone())),
    }
}

/// The answer of a function, or what ECS makes of one that it does not understand. Of a function that failed ECS sees
/// Lambda's error document, in which there is no hookStatus.
fn understood(answer: Result<Value, TaskError>) -> Result<Answer, String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.error == "Lambda.ResourceNotFoundException" => return Err(error.cause),
        Err(_) => Value::Null,
    };
    match answer["hookStatus"].as_str() {
        Some("SUCCEEDED") => Ok(Answer::Succeeded),
        Some("FAILED") => Ok(Answer::Failed),
        Some("IN_PROGRESS") => {
            let seconds = answer["callBackDelay"].as_f64();
            let delay = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let details = answer["hookDetails"].as_object().cloned().unwrap_or_default();
            Ok(Answer::InProgress { delay, details })
        }
        _ => Err("HookStatus must not be null".to_owned()),
    }
}

fn arn_of(name: &str) -> String {
    if name.starts_with("arn:") { name.to_owned() } else { function_arn(name) }
}

fn told_as(target: &HookTarget) -> String {
    match target {
        HookTarget::Function(name) => format!("Lifecycle hook target {}", arn_of(name)),
        HookTarget::Wait(id) => format!("Lifecycle hook {id}"),
    }
}
