//! Whether the watch was there while traffic shifted, asked when it has: a watch that died leaves no other trace in the
//! deployment, and a shift that nobody looked at is not one that was found good.

use std::time::Duration;

use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Timestamp;
use serde_json::Value;

use crate::aws::{self, Aws};
use crate::carry;
use crate::clock;
use crate::environment::Environment;
use crate::event::{DeploymentId, Look};
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::rollout::Service;
use crate::verdict::{Finding, Outcome};

/// Name of the finding.
pub const NAME: &str = "watch";
/// The IAM action that it takes.
pub const ACTION: &str = "states:DescribeExecution";
/// Step Functions forgets an execution so long after its end.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(90 * 24);

/// The watch of a deployment whose shift is over. What Step Functions says of it then stays true.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Watch {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// Step Functions knows no execution of that name.
    NeverStarted,
    /// The execution that is named after the deployment.
    Started(Box<Execution>),
}

/// The execution that is named after the deployment, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    status: ExecutionStatus,
    ended: Option<Timestamp>,
    /// Error and cause, where it failed.
    why: Option<String>,
    /// What the watch was told of the service when it was started.
    service: Option<Service>,
}

impl Watch {
    /// What is known of the service since the hook before the shift found it out.
    pub fn service(&self) -> Option<&Service> {
        match self {
            Self::Started(execution) => execution.service.as_ref(),
            Self::Unknown | Self::NeverStarted => None,
        }
    }
}

/// The shift, when it is over.
#[derive(Debug, Clone, Copy)]
struct Shift {
    began: Timestamp,
    ended: Timestamp,
}

/// Says whether the watch was there all the time. A shift without one is a fault: what happened in it was not seen while it
/// could be stopped.
pub async fn look(release: &mut Release, began: Timestamp, ended: Timestamp) -> Result<Vec<Finding>, Fault> {
    let shift = Shift { began, ended };
    if let Some(why) = needs_none(release, shift) {
        return Ok(vec![Finding::new(NAME, Outcome::Pass, why)]);
    }
    if release.watch == Watch::Unknown {
        release.watch = ask(&release.aws, &release.environment, &release.deployment.id).await?;
    }
    judge(release.deployment.id.as_str(), &release.watch, shift, clock::now()).map(|finding| vec![finding])
}

/// Why a shift needs no watch, if it needs none.
fn needs_none(release: &Release, shift: Shift) -> Option<&'static str> {
    let lasted = Duration::try_from(shift.ended.duration_since(shift.began)).unwrap_or_default();
    if release.rollout.is_first {
        return Some("there is no old version, so there was nothing to watch it beside or to go back to");
    }
    (release.rollout.schedule.is_empty() || lasted < release.plan.sampling.period)
        .then_some("traffic shifted at once, so there was nothing to watch; the bake judges")
}

/// Asks Step Functions for the watch of a deployment.
pub async fn ask(aws: &Aws, environment: &Environment, id: &DeploymentId) -> Result<Watch, Fault> {
    let machine = carry::state_machine(environment)?;
    let arn = format!("{}:{id}", machine.replacen(":stateMachine:", ":execution:", 1));
    match aws.states.describe_execution().execution_arn(arn).send().await {
        Ok(output) => Ok(Watch::Started(Box::new(output.into()))),
        Err(error)
            if error.as_service_error().is_some_and(
                aws_sdk_sfn::operation::describe_execution::DescribeExecutionError::is_execution_does_not_exist,
            ) =>
        {
            Ok(Watch::NeverStarted)
        }
        Err(error) => Err(aws::fault(ACTION, &format!("ask for the watch, execution {id}"), error)),
    }
}

impl From<DescribeExecutionOutput> for Execution {
    fn from(output: DescribeExecutionOutput) -> Self {
        let ended = output.stop_date.and_then(|at| Timestamp::from_second(at.secs()).ok());
        let why: Vec<String> = [output.error, output.cause].into_iter().flatten().collect();
        let why = (!why.is_empty()).then(|| why.join(": "));
        let input = output.input.and_then(|input| serde_json::from_str::<Value>(&input).ok());
        let service = input.and_then(|input| Look::parse(&input).ok()?.service);
        Self { status: output.status, ended, why, service }
    }
}

fn judge(id: &str, watch: &Watch, shift: Shift, now: Timestamp) -> Result<Finding, Fault> {
    let passed = |what: String| Ok(Finding::new(NAME, Outcome::Pass, what));
    let Watch::Started(execution) = watch else { return never_started(id, shift, now) };
    let Execution { status, ended, why, .. } = execution.as_ref();
    let died =
        matches!(status, ExecutionStatus::Failed | ExecutionStatus::TimedOut | ExecutionStatus::Aborted);
    if !died {
        return passed(format!("execution {id} is {status}: it looked while traffic shifted"));
    }
    if ended.is_some_and(|ended| ended >= shift.ended) {
        return passed(format!("execution {id} is {status}, but traffic had shifted by then"));
    }
    let when = ended.map_or_else(|| "at some time".to_owned(), |ended| format!("at {}", told(ended)));
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Err(Fault::new(
        FaultKind::NotFound,
        format!(
            "the watch ended {when} as {status}{why}; traffic went on shifting unguarded until {}",
            told(shift.ended)
        ),
        format!(
            "the history of execution {id} says what ended it; until that is mended, deploy with a bake that is long enough to trust"
        ),
    ))
}

/// No execution of that name: nobody started one, or it was so long ago that nobody knows.
fn never_started(id: &str, shift: Shift, now: Timestamp) -> Result<Finding, Fault> {
    if now.duration_since(shift.ended) > FORGOTTEN_AFTER.try_into().unwrap_or_default() {
        let what = "Step Functions has forgotten whether there was a watch: it keeps executions for 90 days";
        return Ok(Finding::new(NAME, Outcome::Inconclusive, what));
    }
    Err(Fault::new(
        FaultKind::NotFound,
        format!(
            "no watch was started for deployment {id}; traffic shifted unguarded from {} to {}",
            told(shift.began),
            told(shift.ended)
        ),
        "name the function before-allow-traffic at the hook BeforeAllowTraffic of the AppSpec; if it is there, its report says why it could not start the watch",
    ))
}

/// To the second.
fn told(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d-0B7YUA91L";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn shift() -> Shift {
        Shift { began: at("2026-11-23T10:00:00Z"), ended: at("2026-11-23T10:15:00Z") }
    }

    fn of(execution: Option<Execution>, now: &str) -> Result<Finding, String> {
        let watch = execution.map_or(Watch::NeverStarted, |execution| Watch::Started(Box::new(execution)));
        judge(ID, &watch, shift(), at(now)).map_err(|fault| fault.chain())
    }

    fn ended(status: ExecutionStatus, when: &str) -> Execution {
        let why = Some("States.Runtime: killed".to_owned());
        Execution { status, ended: Some(at(when)), why, service: None }
    }

    const NOW: &str = "2026-11-23T10:16:00Z";

    #[test]
    fn a_watch_that_lived_is_fine() {
        let running = Execution { status: ExecutionStatus::Running, ended: None, why: None, service: None };
        for execution in [running, ended(ExecutionStatus::Succeeded, "2026-11-23T10:05:00Z")] {
            assert_eq!(of(Some(execution), NOW).unwrap().outcome, Outcome::Pass);
        }
        // It had nothing left to see.
        let late = of(Some(ended(ExecutionStatus::Aborted, "2026-11-23T10:15:00Z")), NOW).unwrap();
        assert_eq!(late.outcome, Outcome::Pass);
    }

    #[test]
    fn a_watch_that_died_is_a_fault_with_the_time_and_the_reason() {
        for (status, name) in [
            (ExecutionStatus::Failed, "FAILED"),
            (ExecutionStatus::TimedOut, "TIMED_OUT"),
            (ExecutionStatus::Aborted, "ABORTED"),
        ] {
            assert_eq!(
                of(Some(ended(status, "2026-11-23T10:05:00Z")), NOW).unwrap_err(),
                format!(
                    "the watch ended at 2026-11-23T10:05:00Z as {name}: States.Runtime: killed; traffic went on shifting unguarded until 2026-11-23T10:15:00Z"
                )
            );
        }
    }

    #[test]
    fn a_watch_that_nobody_started_is_a_fault_unless_it_is_forgotten() {
        let told = of(None, NOW).unwrap_err();
        assert!(told.contains("unguarded from 2026-11-23T10:00:00Z to 2026-11-23T10:15:00Z"), "{told}");
        assert_eq!(of(None, "2027-03-01T00:00:00Z").unwrap().outcome, Outcome::Inconclusive);
    }
}
