//! The protocol around every hook: parse the event, keep within the time, find out what is deployed, run the recipe,
//! conclude, and report exactly once. Whatever goes wrong on the way becomes an answer; only a report that cannot be
//! made becomes an error, so that Lambda calls again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::aws::Aws;
use crate::beside::beside;
use crate::budget::Budget;
use crate::clock;
use crate::environment::Environment;
use crate::event::{HookEvent, PermissionQuestion, Stage};
use crate::fault::{Fault, FaultKind};
use crate::metrics;
use crate::permissions;
use crate::policy::load::{self, Source};
use crate::policy::plan::Plan;
use crate::recording::Traffic;
use crate::report::{self, About, Background};
use crate::rollout::{self, Controller, Deployment, Rollout, Service};
use crate::smoke::Secrets;
use crate::telemetry;
use crate::traffic::UsuallySlow;
use crate::verdict::{Finding, Findings, Outcome, Rules, Verdict, conclude};
use crate::watched::{self, Watch};

/// Time that a recipe needs after the release is open: it is opened no more when there is less.
const FOR_THE_RECIPE: Duration = Duration::from_mins(2);
/// Pause before a release is opened once more; the SDK has paused before.
const COME_BACK: Duration = Duration::from_secs(5);

/// CodeDeploy's states of lifecycle events have settled after this, and are asked for so often until then.
const STATES_SETTLE: Duration = Duration::from_secs(20);
const SETTLING: Duration = Duration::from_secs(2);

/// All that a recipe works with: the deployment, what it deploys, and how it is to be gated.
#[derive(Debug)]
pub struct Release {
    /// Clients.
    pub aws: Aws,
    /// The function's settings.
    pub environment: Environment,
    /// The deployment.
    pub deployment: Deployment,
    /// What it deploys.
    pub rollout: Rollout,
    /// The validated policy.
    pub plan: Plan,
    /// Time left.
    pub budget: Budget,
    /// The header values that smoke checks have read.
    pub secrets: Secrets,
    /// The watch, as far as it was asked for.
    pub watch: Watch,
    /// What was slow before the shift, as far as a look has found out.
    pub usually_slow: UsuallySlow,
    /// What the comparisons looked at when the last look was made, if it ended something.
    pub recording: Option<Traffic>,
}

/// How a recipe ends.
#[derive(Debug)]
pub enum Ended {
    /// With findings, from which the answer follows.
    Findings(Findings),
    /// The state machine goes on and will report; the text names its execution.
    HandedOver(String),
}

/// Runs a hook function until Lambda stops it. The recipe is what makes one stage different from another.
pub async fn serve<R>(stage: Stage, recipe: R) -> Result<(), Error>
where
    R: AsyncFn(&mut Release, &HookEvent) -> Ended,
{
    telemetry::start();
    let aws = Aws::from_environment();
    let environment = Environment::read();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        // Boxed: the nested futures of the SDK calls are deeper than the compiler's limit for one type.
        let answer =
            handle(stage, &recipe, &aws, &environment, &event.payload, event.context.deadline).boxed_local();
        answer.await.map_err(|fault| Error::from(fault.chain()))
    }))
    .await
}

/// Handles one event; `deadline_ms` is the invocation's deadline in milliseconds since the epoch. The value is what
/// `cargo lambda invoke` shows; CodeDeploy does not look at it.
pub async fn handle<R>(
    stage: Stage,
    recipe: &R,
    aws: &Aws,
    environment: &Environment,
    event: &Value,
    deadline_ms: u64,
) -> Result<Value, Fault>
where
    R: AsyncFn(&mut Release, &HookEvent) -> Ended,
{
    let (aws, started) = (&aws.for_one_run(), clock::now());
    let budget = Budget::new(started, deadline_ms, environment.timeout);
    if let Some(question) = PermissionQuestion::parse(event) {
        return permissions::answer(stage, aws, environment, &question, budget).await;
    }
    let event = HookEvent::parse(event).inspect_err(|fault| report::failure(stage, None, fault))?;
    let about = About::new(stage, event.deployment_id.clone(), environment);
    let mut session = Session { about, rules: environment.rules(), aws, environment, budget };
    let ended = within(budget, session.run(recipe, &event)).await;
    let verdict = match ended {
        Ok(Ended::HandedOver(execution)) => return Ok(report::handed_over(&session.about, &execution)),
        Ok(Ended::Findings(findings)) => session.conclude(findings.into()),
        Err(fault) => session.conclude(vec![Finding::from_fault(stage.name(), &fault)]),
    };
    report::make(aws, &session.about, &event, &verdict, started, &budget).await
}

/// What is known of the deployment so far; outlives a recipe that panics or runs out of time.
struct Session<'a> {
    about: About,
    rules: Rules,
    aws: &'a Aws,
    environment: &'a Environment,
    budget: Budget,
}

impl Session<'_> {
    async fn run<R>(&mut self, recipe: &R, event: &HookEvent) -> Result<Ended, Fault>
    where
        R: AsyncFn(&mut Release, &HookEvent) -> Ended,
    {
        let Some(mut release) = self.open_patiently().await? else {
            let found = vec![Finding::new(
                "rollback",
                Outcome::Pass,
                "this deployment is itself a rollback; nothing holds it up",
            )];
            return Ok(Ended::Findings(Findings::new().and("rollback", Ok(found))));
        };
        self.cross_check(&mut release).await?;
        self.about.began = release.rollout.in_progress().and_then(|event| event.started);
        self.about.background = Some(Background::of(&release));
        let ended = recipe(&mut release, event).await;
        self.about.background = Some(Background::of(&release));
        Ok(ended)
    }

    /// Opens the release, again and again while AWS asks to come back later and there is time: where many rollouts begin
    /// together, the account's quotas are spent for minutes, and that is no fault of any of them.
    async fn open_patiently(&mut self) -> Result<Option<Release>, Fault> {
        loop {
            match self.open().await {
                Err(fault) if fault.may_heal() && self.budget.for_checks(clock::now()) > FOR_THE_RECIPE => {
                    report::failure(self.about.stage, Some(&self.about), &fault);
                    tokio::time::sleep(COME_BACK).await;
                }
                opened => return opened,
            }
        }
    }

    /// The release, unless it is a rollback.
    async fn open(&mut self) -> Result<Option<Release>, Fault> {
        let (aws, environment, id) = (self.aws, self.environment, &self.about.deployment_id);
        // A rollback is held up by nothing.
        let is_enough =
            |told: &Result<Deployment, Fault>| told.as_ref().is_ok_and(|deployment| deployment.is_rollback);
        let ids_alone = async { tokio::join!(rollout::target_id(aws, id), self.watch()) };
        let (deployment, told) = beside(rollout::deployment(aws, id), is_enough, ids_alone).await;
        let deployment = deployment?;
        self.about.deployment = Some(deployment.clone());
        let Some((target_id, watch)) = told.filter(|_| !deployment.is_rollback) else { return Ok(None) };
        let (plan, rollout) = tokio::join!(plan(aws, environment, &deployment), async {
            rollout::discover(aws, &deployment, watch.service(), target_id?.as_deref()).await
        });
        let (plan, source) = plan?;
        // From here on the policy's rules hold, whatever happens next.
        self.rules = plan.rules;
        self.about.source = Some(source);
        let release = Release::open(aws, environment, self.budget, deployment, plan, rollout?)?;
        Ok(Some(Release { watch, ..release }))
    }

    /// The hook after the shift must know of the watch anyway; and the watch was told what the service is, so that nobody
    /// need find it out again. If the question fails, the recipe asks once more and says why.
    async fn watch(&self) -> Watch {
        if self.about.stage != Stage::AfterAllowTraffic {
            return Watch::Unknown;
        }
        watched::ask(self.aws, self.environment, &self.about.deployment_id).await.unwrap_or_default()
    }

    /// A function that is asked at another hook than its own checks what nobody asked for, and leaves out what was: the
    /// AppSpec names the wrong one. Nobody has confirmed that CodeDeploy tells a new state at once, so an event before its own
    /// may be over in a moment.
    async fn cross_check(&self, release: &mut Release) -> Result<(), Fault> {
        let stage = self.about.stage;
        let until = clock::now().saturating_add(STATES_SETTLE).unwrap_or(Timestamp::MAX);
        loop {
            let Some(other) =
                release.rollout.in_progress().filter(|event| event.name != stage.lifecycle_event())
            else {
                return Ok(());
            };
            let may_settle = release.rollout.comes_before(&other.name, stage.lifecycle_event());
            if !may_settle || clock::now() > until {
                return Err(misplaced(stage, &other.name));
            }
            tokio::time::sleep(SETTLING).await;
            rollout::refresh(&release.aws, &release.deployment, &mut release.rollout).await?;
        }
    }

    fn conclude(&self, findings: Vec<Finding>) -> Verdict {
        conclude(findings, self.rules)
    }
}

impl Release {
    /// Fits the plan to what is deployed. A clock that differs from AWS's is a fault, and so is a gate that CloudWatch cannot be
    /// asked about.
    pub fn open(
        aws: &Aws,
        environment: &Environment,
        budget: Budget,
        deployment: Deployment,
        plan: Plan,
        mut rollout: Rollout,
    ) -> Result<Self, Fault> {
        aws.clock.agrees()?;
        let plan = plan.fitted(rollout.front());
        if deployment.controller == Controller::Ecs {
            // Its own bake times are the shorter part: each step is held until enough has been seen.
            rollout.schedule.iter_mut().for_each(|step| step.lasts = step.lasts.max(plan.steps.at_most));
        }
        askable(&plan, &rollout)?;
        let (aws, environment, secrets) = (aws.clone(), environment.clone(), Secrets::default());
        Ok(Self {
            aws,
            environment,
            deployment,
            rollout,
            plan,
            budget,
            secrets,
            watch: Watch::Unknown,
            usually_slow: UsuallySlow::default(),
            recording: None,
        })
    }

    /// What later looks need not find out again. Of ECS the listener's weights are asked for with it, and they change.
    pub fn service(&self) -> Option<Service> {
        let settled = self.deployment.controller == Controller::CodeDeploy;
        settled.then(|| Service::of(&self.deployment, &self.rollout)).flatten()
    }
}

fn misplaced(stage: Stage, in_progress: &str) -> Fault {
    let belongs =
        Stage::ALL.into_iter().find(|other| *other != Stage::Watch && other.lifecycle_event() == in_progress);
    let hint = belongs.map_or_else(
        || format!("no function of Shiftgate serves {in_progress}: take it out of the AppSpec's hooks"),
        |belongs| format!("name the function {} at {in_progress} in the AppSpec", belongs.function()),
    );
    Fault::new(
        FaultKind::Event,
        format!(
            "{} serves {}, and CodeDeploy is at {in_progress}",
            stage.function(),
            stage.lifecycle_event()
        ),
        hint,
    )
}

/// Every gate must be one that CloudWatch can be asked about this rollout.
fn askable(plan: &Plan, rollout: &Rollout) -> Result<(), Fault> {
    let asked = plan.traffic.iter().chain(&plan.bake);
    let unnamed = asked.into_iter().find_map(|gate| {
        let placeholder = gate.metrics().into_iter().find_map(|metric| metrics::unnamed(metric, rollout))?;
        Some((gate, placeholder))
    });
    let Some((gate, placeholder)) = unnamed else { return Ok(()) };
    Err(Fault::new(
        FaultKind::Policy,
        format!(
            "the gate `{}` needs {{{placeholder}}}, and this release has none: {}",
            gate.name,
            if rollout.function.is_some() { "it is a Lambda function" } else { "no load balancer serves it" }
        ),
        "give this service a policy whose gates name metrics and dimensions of its own",
    ))
}

/// The plan of a deployment, and where it came from.
pub(crate) async fn plan(
    aws: &Aws,
    environment: &Environment,
    deployment: &Deployment,
) -> Result<(Plan, Source), Fault> {
    plan_of_group(aws, environment, &deployment.application, &deployment.group).await
}

/// The plan of a deployment group, and where it came from.
pub(crate) async fn plan_of_group(
    aws: &Aws,
    environment: &Environment,
    application: &str,
    group: &str,
) -> Result<(Plan, Source), Fault> {
    let inline = environment.inline_policy.as_deref();
    let (plan, source) = load::load(aws, inline, application, group).await?;
    Ok((environment.overrule(plan), source))
}

/// Runs `work` within the time for checks; a panic or a spent budget is a fault like any other.
pub(crate) async fn within<T>(
    budget: Budget,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let left = budget.for_checks(clock::now());
    // What a panic leaves half done is not looked at again, except for what the session already knew.
    match tokio::time::timeout(left, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Fault::new(
            FaultKind::Bug,
            format!("a check panicked: {}", panic_message(panic.as_ref())),
            "this is a bug of Shiftgate; please report it with this message",
        )),
        Err(_) => Err(Fault::new(
            FaultKind::OutOfTime,
            format!("the checks were not done within {} s", left.as_secs()),
            "raise the function's timeout, or ask for less in the policy",
        )),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Milliseconds from `started` until now, for logs.
pub(crate) fn elapsed_ms(started: Timestamp) -> u64 {
    u64::try_from(clock::now().duration_since(started).as_millis()).unwrap_or(0)
}
