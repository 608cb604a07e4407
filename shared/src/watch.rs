//! The watch: one stateless look while traffic shifts, and the rollback in mid-shift that no hook can make. The state
//! machine in `statemachine/` loops it; a look reads everything again, so a lost or doubled look does no harm.

use std::time::Duration;

use aws_sdk_codedeploy::types::EcsTarget;
use aws_sdk_ecs::types::StopServiceDeploymentStopType;
use futures_util::FutureExt;
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::aws::{self, Aws};
use crate::bake;
use crate::beside::beside;
use crate::budget::Budget;
use crate::carry::{self, Step};
use crate::clock;
use crate::ecs::rolling;
use crate::environment::Environment;
use crate::event::{DeploymentId, Duty, ExecutionId, HookEvent, Look, Next, PermissionQuestion, Stage};
use crate::fault::{Fault, FaultKind};
use crate::hook::{self, Release};
use crate::permissions;
use crate::policy::load::Source;
use crate::policy::plan::{Choice, Plan};
use crate::report::{self, About, Background};
use crate::rollout::{self, Deployment, Phase, Service};
use crate::shift;
use crate::telemetry;
use crate::traffic::UsuallySlow;
use crate::verdict::{Answer, Finding, Findings, Outcome, Rules, Verdict, conclude};
use crate::watched::{self, Watch};

// IAM actions, for faults.
const STOP: &str = "codedeploy:StopDeployment";
const STOP_OF_ECS: &str = "ecs:StopServiceDeployment";
/// A rollout longer than this is looked at less often: an execution of Step Functions holds 25,000 events, and a look
/// takes nine of them.
const LONG_ROLLOUT: Duration = Duration::from_hours(24);
/// Time between looks of a long rollout.
const LONG_PAUSE: Duration = Duration::from_mins(15);

/// Starts the watch of this release. Named after the deployment, so that a second delivery starts nothing twice.
pub async fn begin(release: &Release) -> Result<Vec<Finding>, Fault> {
    let look_every = release.plan.sampling.look_every;
    let look = Look {
        begin_after_seconds: carry::first_pause(&release.deployment.id, look_every),
        service: release.service(),
        ..Look::new(release.deployment.id.to_string(), Duty::Traffic, seconds(look_every))
    };
    let name =
        carry::start(&release.aws, &release.environment, release.deployment.id.as_str(), &look).await?;
    Ok(vec![Finding::new(
        "watch",
        Outcome::Pass,
        format!("execution {name} looks every {} s while traffic shifts", look.after_seconds),
    )])
}

/// Runs the watch's function until Lambda stops it.
pub async fn serve() -> Result<(), Error> {
    telemetry::start();
    let aws = Aws::from_environment();
    let environment = Environment::read();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let answer = handle(&aws, &environment, &event.payload, event.context.deadline).boxed_local();
        answer.await.map_err(|fault| Error::from(fault.chain()))
    }))
    .await
}

/// Handles one look; the value goes back to the state machine.
pub async fn handle(
    aws: &Aws,
    environment: &Environment,
    event: &Value,
    deadline_ms: u64,
) -> Result<Value, Fault> {
    let (aws, started) = (&aws.for_one_run(), clock::now());
    let budget = Budget::new(started, deadline_ms, environment.timeout);
    if let Some(question) = PermissionQuestion::parse(event) {
        return permissions::answer(Stage::Watch, aws, environment, &question, budget).await;
    }
    let look = Look::parse(event).inspect_err(|fault| report::failure(Stage::Watch, None, fault))?;
    let id = DeploymentId::new(&look.deployment_id)?;
    let about = About::new(Stage::Watch, id, environment);
    if let Some(caught) = &look.error {
        report::looks_crashed(&about, caught);
    }
    let known = Known { service: look.service.clone(), usually_slow: look.usually_slow.clone() };
    let mut visit = Visit { about, rules: environment.rules(), known, aws, started, budget };
    let seen = hook::within(budget, visit.look(environment, &look)).await;
    let next = visit.conclude(&look, seen).await?;
    let answer = Look {
        next: Some(next.0),
        after_seconds: next.1.map_or(look.after_seconds, seconds),
        begin_after_seconds: None,
        service: visit.known.service,
        usually_slow: visit.known.usually_slow,
        error: None,
        ..look
    };
    serde_json::to_value(answer).map_err(|error| {
        Fault::new(FaultKind::Bug, "cannot write the look's answer", "please report this").because(error)
    })
}

/// What a look saw.
enum Seen {
    /// There is nothing to watch any more, and why.
    Over(String),
    /// Nothing to judge yet, or nothing bad so far.
    Soon(Duration),
    /// Reason enough to conclude.
    Findings(Findings),
}

/// What earlier looks found out; the next one is spared to.
struct Known {
    service: Option<Service>,
    usually_slow: UsuallySlow,
}

/// What was asked together with the deployment.
#[expect(clippy::large_enum_variant, reason = "there is one, on its way from one call to the next")]
enum Early {
    /// Of a known service all that is needed.
    OfService(Service, Result<(Plan, Source), Fault>, Result<EcsTarget, Fault>),
    /// Of another the target's id.
    TargetId(Result<Option<String>, Fault>),
}

struct Visit<'a> {
    about: About,
    rules: Rules,
    known: Known,
    aws: &'a Aws,
    started: Timestamp,
    budget: Budget,
}

impl Visit<'_> {
    async fn look(&mut self, environment: &Environment, look: &Look) -> Result<Seen, Fault> {
        let id = self.about.deployment_id.clone();
        // A rolling update is judged once more when it is over: there is no other hook that would.
        let is_over = |deployment: &Deployment| {
            deployment.is_rollback || (deployment.is_over && look.duty != Duty::Rolling)
        };
        let is_enough = |told: &Result<Deployment, Fault>| told.as_ref().is_ok_and(is_over);
        let at_once = async { tokio::join!(self.early(environment), self.watched(environment, look.duty)) };
        let (deployment, told) = beside(rollout::deployment(self.aws, &id), is_enough, at_once).await;
        let deployment = deployment?;
        self.about.deployment = Some(deployment.clone());
        let Some((early, watch)) = told.filter(|_| !is_over(&deployment)) else {
            return Ok(Seen::Over(format!("the deployment is {}", deployment.status)));
        };
        let mut release = self.open(environment, deployment, early).await?;
        release.watch = watch;
        if look.duty == Duty::Bake {
            self.about.began = release.rollout.in_progress().and_then(|event| event.started);
        }
        self.about.background = Some(Background::of(&release));
        let seen = self.see(look, &mut release).await;
        self.about.background = Some(Background::of(&release));
        self.known = Known { service: release.service(), usually_slow: release.usually_slow };
        seen
    }

    /// What can be asked without knowing the deployment: much where the service is known, and else the target's id.
    async fn early(&self, environment: &Environment) -> Early {
        let id = &self.about.deployment_id;
        let Some(service) = &self.known.service else {
            return Early::TargetId(rollout::target_id(self.aws, id).await);
        };
        let (plan, target) = tokio::join!(
            hook::plan_of_group(self.aws, environment, &service.application, &service.group),
            service.target(self.aws, id),
        );
        Early::OfService(service.clone(), plan, target)
    }

    /// The bake asks whether the watch was there. If the question fails, it asks once more and says why.
    async fn watched(&self, environment: &Environment, duty: Duty) -> Watch {
        match duty {
            Duty::Bake => {
                watched::ask(self.aws, environment, &self.about.deployment_id).await.unwrap_or_default()
            }
            Duty::Traffic | Duty::Rolling => Watch::Unknown,
        }
    }

    async fn open(
        &mut self,
        environment: &Environment,
        deployment: Deployment,
        early: Early,
    ) -> Result<Release, Fault> {
        let (plan, rollout) = match early {
            Early::OfService(service, plan, target) => {
                (plan, target.and_then(|target| service.rollout(&deployment, &target)))
            }
            Early::TargetId(target_id) => {
                tokio::join!(hook::plan(self.aws, environment, &deployment), async {
                    rollout::discover(self.aws, &deployment, None, target_id?.as_deref()).await
                })
            }
        };
        let (plan, source) = plan?;
        // From here on the policy's rules hold, whatever happens next.
        self.rules = plan.rules;
        self.about.source = Some(source);
        let release = Release::open(self.aws, environment, self.budget, deployment, plan, rollout?)?;
        Ok(Release { usually_slow: self.known.usually_slow.clone(), ..release })
    }

    async fn see(&self, look: &Look, release: &mut Release) -> Result<Seen, Fault> {
        match look.duty {
            Duty::Traffic => self.traffic(release).await,
            Duty::Bake => match bake::look(release).await? {
                Step::Done(findings) => Ok(Seen::Findings(findings)),
                Step::Again { after, .. } if is_too_late(look, self.started, after) => Err(cut_short()),
                Step::Again { after, .. } => Ok(Seen::Soon(after)),
            },
            Duty::Rolling => Ok(match rolling::look(release, &self.about, self.started).await? {
                Step::Done(findings) => Seen::Findings(findings),
                Step::Again { after, .. } => Seen::Soon(after),
            }),
        }
    }

    async fn traffic(&self, release: &mut Release) -> Result<Seen, Fault> {
        let shifting_since = match release.rollout.shift() {
            (Phase::Pending, _) | (Phase::InProgress, None) => {
                return Ok(Seen::Soon(release.plan.sampling.look_every));
            }
            (Phase::InProgress, Some(started)) => started,
            (Phase::Succeeded, _) => return Ok(Seen::Over("all traffic has shifted".to_owned())),
            (Phase::Over, _) => return Ok(Seen::Over("the shift has ended".to_owned())),
        };
        let look = shift::look(release, &self.about, shifting_since, self.started).await?;
        if look.ends {
            return Ok(Seen::Findings(look.findings));
        }
        Ok(Seen::Soon(pause(release, shifting_since, self.started)))
    }

    /// Acts on what was seen; says whether to look again, and after how long (`None`: as before).
    async fn conclude(
        &self,
        look: &Look,
        seen: Result<Seen, Fault>,
    ) -> Result<(Next, Option<Duration>), Fault> {
        let findings = match seen {
            Ok(Seen::Over(why)) => {
                report::watch_over(&self.about, &why);
                return Ok((Next::Done, None));
            }
            Ok(Seen::Soon(after)) => return Ok((Next::Again, Some(after))),
            Ok(Seen::Findings(findings)) => findings.into(),
            Err(fault) if self.about.deployment.is_none() && look.duty != Duty::Bake => {
                report::look_failed(&self.about, &fault);
                return Ok((self.unread(&fault), None));
            }
            Err(fault) => {
                report::look_failed(&self.about, &fault);
                // One throttled look is no reason to roll back; the last hook judges the whole window again. What
                // cannot heal is: a watch that will never see anything must not wave the release through.
                let in_time = !is_too_late(look, self.started, Duration::from_secs(look.after_seconds));
                let forgiven = look.duty != Duty::Bake && self.rules.on_fault == Choice::Proceed;
                if in_time && (fault.may_heal() || forgiven) {
                    return Ok((Next::Again, None));
                }
                vec![Finding::from_fault("watch", &fault)]
            }
        };
        let verdict = conclude(findings, self.rules);
        match (&look.execution_id, look.duty) {
            (Some(execution_id), Duty::Bake) => self.report(execution_id, &verdict).await,
            _ => self.roll_back(&verdict).await,
        }
    }

    /// What was not read may be anybody's deployment, or none at all: it is never stopped. It is asked for again where
    /// that can help; else the watch ends, and the hook after the shift judges the whole window.
    fn unread(&self, fault: &Fault) -> Next {
        if fault.may_heal() {
            return Next::Again;
        }
        let unread = Fault::new(
            fault.kind,
            format!(
                "deployment {} was not read: it is not stopped, and no longer watched",
                self.about.deployment_id
            ),
            "see the failure before this one; the function may read the deployments that the stack's parameters name",
        );
        report::failure(Stage::Watch, Some(&self.about), &unread);
        Next::Done
    }

    /// The bake's report, in place of the hook that handed it over.
    async fn report(
        &self,
        execution_id: &ExecutionId,
        verdict: &Verdict,
    ) -> Result<(Next, Option<Duration>), Fault> {
        let event =
            HookEvent { deployment_id: self.about.deployment_id.clone(), execution_id: execution_id.clone() };
        let about = About { stage: Stage::AfterAllowTraffic, ..self.about.clone() };
        report::make(self.aws, &about, &event, verdict, self.started, &self.budget).await?;
        Ok((Next::Done, None))
    }

    async fn stop(&self) -> Result<(), Fault> {
        let id = &self.about.deployment_id;
        // What the look has spent must not be lacking where it matters most.
        let aws = self.aws.for_one_run();
        let stopped = async {
            if id.service_deployment().is_some() {
                stop_service_deployment(&aws, id.as_str()).await
            } else {
                stop(&aws, id.as_str(), true).await
            }
        };
        let action = if id.service_deployment().is_some() { STOP_OF_ECS } else { STOP };
        let left = self.budget.for_report(clock::now());
        tokio::time::timeout(left, stopped).await.unwrap_or_else(|_| {
            Err(Fault::new(
                FaultKind::OutOfTime,
                format!("deployment {id} was not stopped within {} s ({action})", left.as_secs()),
                "the next look tries again",
            ))
        })
    }

    async fn roll_back(&self, verdict: &Verdict) -> Result<(Next, Option<Duration>), Fault> {
        let goes_on = self.about.deployment.as_ref().is_some_and(|deployment| !deployment.is_over);
        if verdict.answer == Answer::Failed
            && goes_on
            && let Err(fault) = self.stop().await
        {
            // Loud, and again: until the deployment is stopped, green goes on serving.
            report::failure(Stage::Watch, Some(&self.about), &fault);
            return Ok((Next::Again, None));
        }
        report::verdict(&self.about, verdict, hook::elapsed_ms(self.started));
        Ok((Next::Done, None))
    }
}

/// Stops a service deployment of ECS and has it rolled back; one that is ending already counts as stopped. The only call of
/// `StopServiceDeployment`.
async fn stop_service_deployment(aws: &Aws, arn: &str) -> Result<(), Fault> {
    let sent = aws
        .ecs
        .stop_service_deployment()
        .service_deployment_arn(arn)
        .stop_type(StopServiceDeploymentStopType::Rollback)
        .send()
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error)
            if error.as_service_error().is_some_and(
                aws_sdk_ecs::operation::stop_service_deployment::StopServiceDeploymentError::is_conflict_exception,
            ) =>
        {
            Ok(())
        }
        Err(error) => {
            Err(aws::fault(STOP_OF_ECS, &format!("stop service deployment {arn}"), error))
        }
    }
}

/// Stops a deployment; one that has ended already counts as stopped. The only call of `StopDeployment`.
pub(crate) async fn stop(aws: &Aws, deployment_id: &str, roll_back: bool) -> Result<(), Fault> {
    let sent = aws
        .codedeploy
        .stop_deployment()
        .deployment_id(deployment_id)
        .auto_rollback_enabled(roll_back)
        .send()
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(aws_sdk_codedeploy::operation::stop_deployment::StopDeploymentError::is_deployment_already_completed_exception) =>
        {
            Ok(())
        }
        Err(error) => {
            Err(aws::fault(STOP, &format!("stop deployment {deployment_id}"), error))
        }
    }
}

/// Whether the look after the pause would come after the hook must have its answer.
fn is_too_late(look: &Look, now: Timestamp, after: Duration) -> bool {
    look.answer_by.is_some_and(|by| now.as_second().saturating_add(after.as_secs().cast_signed()) >= by)
}

fn cut_short() -> Fault {
    Fault::new(
        FaultKind::OutOfTime,
        "the bake was not over when the hook had to have its answer: CodeDeploy waits an hour",
        "let `bake.for` be shorter; if it is short, look why the hook's event came so late",
    )
}

/// Time until the next look.
fn pause(release: &Release, since: Timestamp, now: Timestamp) -> Duration {
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let usual = release.plan.sampling.look_every;
    if age > LONG_ROLLOUT { usual.max(LONG_PAUSE) } else { usual }
}

/// Whole seconds, as Step Functions waits; at least one.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bake_is_cut_short_before_codedeploy_stops_to_wait() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let look = |answer_by| Look { answer_by, ..Look::new("d-1", Duty::Bake, 60) };
        let minute = Duration::from_mins(1);
        assert!(!is_too_late(&look(None), now, minute));
        assert!(!is_too_late(&look(Some(1_800_000_061)), now, minute));
        assert!(is_too_late(&look(Some(1_800_000_060)), now, minute));
        assert!(is_too_late(&look(Some(i64::MIN)), now, minute));
    }
}
