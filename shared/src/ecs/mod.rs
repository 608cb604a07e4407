//! Deployments that ECS carries out itself. It calls a function at its lifecycle stages, waits for the answer, and calls
//! again after `IN_PROGRESS`; an error of the function, or an answer that it cannot read, is a rollback without a reason.
//! So whatever happens here becomes an answer.

mod call;
mod carried;
pub mod rolling;
pub mod steps;

use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

pub use call::{Call, Event, Weights};

use crate::aws::Aws;
use crate::budget::Budget;
use crate::carry::Step;
use crate::clock;
use crate::environment::Environment;
use crate::event::{DeploymentId, LifecycleStage, Stage};
use crate::fault::{Fault, FaultKind};
use crate::hook::{self, Release};
use crate::policy::load::{self, Source};
use crate::report::{self, About, Background};
use crate::rollout::native;
use crate::telemetry;
use crate::verdict::{Answer, Caveat, Finding, Outcome, Rules, Verdict, conclude};

/// How often a call may end with a fault that may heal before the policy's `on_fault` decides.
const TRIES: u32 = 3;
/// Time until ECS calls again after such a fault.
const HEALS_AFTER: Duration = Duration::from_secs(30);

/// Runs the function until Lambda stops it. The recipe says what each stage checks.
pub async fn serve<R>(recipe: R) -> Result<(), Error>
where
    R: AsyncFn(&mut Release, &mut Call) -> Result<Step, Fault>,
{
    telemetry::start();
    let aws = Aws::from_environment();
    let environment = Environment::read();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        // Boxed: the nested futures of the SDK calls are deeper than the compiler's limit for one type.
        let answer =
            handle(&recipe, &aws, &environment, &event.payload, event.context.deadline).boxed_local();
        answer.await.map_err(|fault| Error::from(fault.chain()))
    }))
    .await
}

/// Handles one event; `deadline_ms` is the invocation's deadline in milliseconds since the epoch. The value is the answer to
/// ECS, and there always is one. Only an event of `EventBridge` can end in an error: then Lambda hands it over again.
pub async fn handle<R>(
    recipe: &R,
    aws: &Aws,
    environment: &Environment,
    event: &Value,
    deadline_ms: u64,
) -> Result<Value, Fault>
where
    R: AsyncFn(&mut Release, &mut Call) -> Result<Step, Fault>,
{
    let (aws, started) = (&aws.for_one_run(), clock::now());
    let budget = Budget::new(started, deadline_ms, environment.timeout);
    if rolling::is_state_change(event) {
        return rolling::begin(aws, environment, event, budget).await;
    }
    let call = match Event::parse(event, started) {
        Ok(Event::Call(call)) => *call,
        Ok(Event::Unknown { stage }) => {
            let why = format!("nothing is known of the stage {stage}, so nothing was checked at it");
            report::ignored(&why);
            return Ok(answer("SUCCEEDED", &why, None, None));
        }
        Err(fault) => {
            let stage = Stage::Ecs(LifecycleStage::ReconcileService);
            report::failure(stage, None, &fault);
            return Ok(answer("FAILED", &fault.chain(), None, None));
        }
    };
    Ok(Session::new(aws, environment, call, started, budget).answer(recipe, environment).await)
}

/// What ECS is told. `reason` is for people: ECS shows it nowhere.
fn answer(status: &str, reason: &str, call_back: Option<Duration>, details: Option<Value>) -> Value {
    let mut answer = json!({"hookStatus": status, "reason": reason});
    if let Some(delay) = call_back {
        answer["callBackDelay"] = whole_seconds(delay).into();
    }
    if let Some(details) = details {
        answer["hookDetails"] = details;
    }
    answer
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

/// One call, with what is known of the deployment so far; outlives a recipe that panics or runs out of time.
struct Session<'a> {
    aws: &'a Aws,
    call: Call,
    about: About,
    rules: Rules,
    started: Timestamp,
    budget: Budget,
}

impl<'a> Session<'a> {
    fn new(aws: &'a Aws, environment: &Environment, call: Call, started: Timestamp, budget: Budget) -> Self {
        // What the event names, even if it is no deployment: reports are about it.
        let id = call.deployment_id().unwrap_or_else(|_| DeploymentId::unknown());
        let about = About::new(Stage::Ecs(call.stage), id, environment);
        Self { aws, call, about, rules: environment.rules(), started, budget }
    }

    async fn answer<R>(mut self, recipe: &R, environment: &Environment) -> Value
    where
        R: AsyncFn(&mut Release, &mut Call) -> Result<Step, Fault>,
    {
        let budget = self.budget;
        let ended = hook::within(budget, self.run(recipe, environment)).await;
        match ended {
            Ok(Step::Again { after, done_in }) => {
                let longest = whole_seconds(done_in);
                let why = format!("green is held here until enough has been seen, {longest} s more at most");
                self.again(after, &why, 0)
            }
            Ok(Step::Done(findings)) => self.conclude(findings.into()).await,
            Err(fault) if fault.may_heal() && self.call.tries < TRIES => {
                report::failure(self.about.stage, Some(&self.about), &fault);
                self.again(HEALS_AFTER, &fault.chain(), self.call.tries + 1)
            }
            Err(fault) => self.conclude(vec![Finding::from_fault(self.about.stage.name(), &fault)]).await,
        }
    }

    async fn run<R>(&mut self, recipe: &R, environment: &Environment) -> Result<Step, Fault>
    where
        R: AsyncFn(&mut Release, &mut Call) -> Result<Step, Fault>,
    {
        if self.call.gives_back() {
            return Ok(given_back());
        }
        let id = self.call.deployment_id()?;
        let deployment = native::deployment(self.aws, &id).await?;
        self.about.deployment = Some(deployment.clone());
        if deployment.is_rollback {
            return Ok(given_back());
        }
        if let Some(hooks_began) = deployment.hooks_began {
            self.call.waits_since(hooks_began);
        }
        let plan = async {
            match self.call.policy() {
                Some(text) if environment.inline_policy.is_none() => {
                    let (plan, source) = load::plan_of(&text, Source::HookDetails)?;
                    Ok((environment.overrule(plan), source))
                }
                _ => hook::plan(self.aws, environment, &deployment).await,
            }
        };
        let (plan, rollout) = tokio::join!(plan, native::discover(self.aws, &deployment));
        let (plan, source) = plan?;
        // From here on the policy's rules hold, whatever happens next.
        self.rules = plan.rules;
        self.about.source = Some(source);
        let mut release = Release::open(self.aws, environment, self.budget, deployment, plan, rollout?)?;
        self.about.background = Some(Background::of(&release));
        let step = recipe(&mut release, &mut self.call).await;
        self.about.background = Some(Background::of(&release));
        step
    }

    /// Asks ECS to call again.
    fn again(&self, after: Duration, why: &str, tries: u32) -> Value {
        report::held(&self.about, why, whole_seconds(after));
        answer("IN_PROGRESS", why, Some(after), Some(self.call.details_for_next(tries)))
    }

    async fn conclude(&self, findings: Vec<Finding>) -> Value {
        let mut verdict = conclude(findings, self.rules);
        verdict.caveats.extend(self.call.caveats.iter().cloned());
        if verdict.answer == Answer::Failed
            && let Some(status) = self.may_be_ending().await
        {
            verdict.answer = Answer::Succeeded;
            verdict.caveats.push(Caveat::AlreadyEnding { status });
        }
        self.tell(&verdict)
    }

    fn tell(&self, verdict: &Verdict) -> Value {
        report::verdict(&self.about, verdict, hook::elapsed_ms(self.started));
        let status = match verdict.answer {
            Answer::Succeeded => "SUCCEEDED",
            Answer::Failed => "FAILED",
        };
        answer(status, &verdict.reason, None, Some(self.call.details_for_next(0)))
    }

    /// The deployment's status if it is on its way back, or may be: a failed answer to a rollback leaves the service stuck
    /// between two versions. Somebody may have stopped the deployment while this function looked at it.
    async fn may_be_ending(&self) -> Option<String> {
        let Ok(id) = self.call.deployment_id() else { return self.unless_it_goes_on() };
        let left = self.budget.for_report(clock::now());
        match tokio::time::timeout(left, native::deployment(self.aws, &id)).await {
            Ok(Ok(deployment)) => (deployment.is_rollback || deployment.is_over).then_some(deployment.status),
            _ => self.unless_it_goes_on(),
        }
    }

    /// Where neither the event nor ECS says which way traffic goes, it may be a rollback. The stage after the shift, which
    /// no rollback has, judges the release again.
    fn unless_it_goes_on(&self) -> Option<String> {
        (!self.call.goes_on()).then(|| "in a state that could not be read".to_owned())
    }
}

fn given_back() -> Step {
    let found = Finding::new(
        "rollback",
        Outcome::Pass,
        "ECS gives the traffic back to the old version; nothing holds it up",
    );
    Step::Done(crate::verdict::Findings::new().and("rollback", Ok(vec![found])))
}

/// A fault of the event itself.
fn unusable(what: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Event, what, "events/ecs-*.json are samples of what ECS and EventBridge send")
}
