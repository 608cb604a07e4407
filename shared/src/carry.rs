//! Work that takes longer than a moment: wait in place while the budget lasts, else hand over to the state machine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use crate::aws::{self, Aws};
use crate::clock;
use crate::environment::Environment;
use crate::event::{DeploymentId, Duty, HookEvent, Look};
use crate::fault::{Fault, FaultKind};
use crate::hook::{Ended, Release};
use crate::rollout;
use crate::verdict::Findings;

/// Where a piece of work stands after one look.
#[derive(Debug)]
pub enum Step {
    /// Everything is seen.
    Done(Findings),
    /// There is more to come.
    Again {
        /// Time until the next look.
        after: Duration,
        /// Time until the last look.
        done_in: Duration,
    },
}

/// Time that the last look itself may take.
const LAST_LOOK: Duration = Duration::from_secs(45);
/// Pause after a look that could not be made; the SDK has paused before.
const COME_BACK: Duration = Duration::from_secs(10);
/// CodeDeploy waits an hour for a hook, from the begin of the lifecycle event on; the last minutes are for the report.
const ANSWER_WITHIN: Duration = Duration::from_mins(55);

/// Looks until the work is done, or hands it over when this invocation cannot see its end. A fault that may heal is
/// looked at again while time is left.
pub async fn through<L>(release: &mut Release, event: &HookEvent, look: L) -> Ended
where
    L: AsyncFn(&mut Release) -> Result<Step, Fault>,
{
    let answer_by = answer_by(release);
    let mut has_looked = false;
    loop {
        let now = clock::now();
        let hook_left = Duration::try_from(answer_by.duration_since(now)).unwrap_or_default();
        let left = release.budget.for_checks(now).min(hook_left);
        let seen = if has_looked { look_again(release, &look).await } else { look(release).await };
        has_looked = true;
        let after = match seen {
            Ok(Step::Done(findings)) => return Ended::Findings(findings),
            Ok(Step::Again { done_in, .. }) if done_in + LAST_LOOK.min(left / 4) > left => {
                return match hand_over(release, event, answer_by).await {
                    Ok(execution) => Ended::HandedOver(execution),
                    Err(fault) => Ended::Findings(Findings::new().and("bake", Err(fault))),
                };
            }
            Ok(Step::Again { after, .. }) => after,
            Err(fault) => {
                let pause = release.plan.sampling.look_every.min(COME_BACK);
                if !fault.may_heal() || pause + LAST_LOOK > left {
                    return Ended::Findings(Findings::new().and("bake", Err(fault)));
                }
                pause
            }
        };
        tokio::time::sleep(after).await;
    }
}

/// When the hook must have its answer. Lambda may deliver an event late, and tries again after a failure: what counts is when
/// CodeDeploy began to wait.
fn answer_by(release: &Release) -> Timestamp {
    let began = release.rollout.in_progress().and_then(|event| event.started);
    began.unwrap_or_else(clock::now).saturating_add(ANSWER_WITHIN).unwrap_or(Timestamp::MAX)
}

/// Looks at tasks and lifecycle events as they are by now; what was opened a moment ago need not be read again.
async fn look_again<L>(release: &mut Release, look: &L) -> Result<Step, Fault>
where
    L: AsyncFn(&mut Release) -> Result<Step, Fault>,
{
    rollout::refresh(&release.aws, &release.deployment, &mut release.rollout).await?;
    look(release).await
}

async fn hand_over(release: &Release, event: &HookEvent, answer_by: Timestamp) -> Result<String, Fault> {
    let look_every = release.plan.sampling.look_every;
    let look = Look {
        execution_id: Some(event.execution_id.clone()),
        answer_by: Some(answer_by.as_second()),
        begin_after_seconds: first_pause(&event.deployment_id, look_every),
        service: release.service(),
        usually_slow: release.usually_slow.clone(),
        ..Look::new(event.deployment_id.to_string(), Duty::Bake, look_every.as_secs().max(1))
    };
    let name = format!("{}-bake", event.deployment_id);
    start(&release.aws, &release.environment, &name, &look).await
}

/// Seconds until the first look: a part of the time between looks that follows from the deployment's id. An account has
/// few calls a second, and rollouts that one pipeline begins together would otherwise look together ever after.
pub fn first_pause(id: &DeploymentId, look_every: Duration) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    Some(hasher.finish() % look_every.as_secs().max(1)).filter(|seconds| *seconds > 0)
}

/// Starts the state machine under a name, once: a second delivery of the same event finds it started. Returns the
/// name.
pub async fn start(aws: &Aws, environment: &Environment, name: &str, look: &Look) -> Result<String, Fault> {
    let arn = state_machine(environment)?;
    let input = serde_json::to_string(look).map_err(|error| {
        Fault::new(FaultKind::Bug, "cannot write the watch's input", "please report this").because(error)
    })?;
    match aws.states.start_execution().state_machine_arn(arn).name(name).input(input).send().await {
        Ok(_) => Ok(name.to_owned()),
        Err(error)
            if error.as_service_error().is_some_and(
                aws_sdk_sfn::operation::start_execution::StartExecutionError::is_execution_already_exists,
            ) =>
        {
            Ok(name.to_owned())
        }
        Err(error) => Err(aws::fault("states:StartExecution", &format!("start the watch ({arn})"), error)),
    }
}

/// ARN of the state machine.
pub(crate) fn state_machine(environment: &Environment) -> Result<&str, Fault> {
    environment.state_machine_arn.as_deref().ok_or_else(|| {
        Fault::new(
            FaultKind::NotFound,
            "the environment variable SHIFTGATE_STATE_MACHINE_ARN is not set, so the watch can neither be started nor asked for",
            "deploy with template.yaml, which sets it; by hand, `shiftgate serve` prints it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_first_looks_are_spread_over_the_time_between_looks() {
        let minute = Duration::from_mins(1);
        let mut per_second = [0_u32; 60];
        for number in 0..1000 {
            let id = DeploymentId::new(&format!("d-{number:09}")).unwrap();
            assert_eq!(first_pause(&id, minute), first_pause(&id, minute), "a second delivery waits as long");
            per_second[first_pause(&id, minute).unwrap_or(0) as usize] += 1;
        }
        // 17 on average; a second with twice as many is one chance in ten thousand.
        assert!(per_second.iter().all(|looks| (3..36).contains(looks)), "{per_second:?}");
        assert_eq!(first_pause(&DeploymentId::unknown(), Duration::from_secs(1)), None);
    }
}
