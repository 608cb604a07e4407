//! Whether every function may do what its stage needs, asked in second one and not when it is too late. Each function
//! has a role of its own, so before-install asks its siblings, and each makes a harmless call for every action.

use aws_sdk_codedeploy::types::LifecycleEventStatus;
use aws_sdk_lambda::primitives::Blob;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws::{self, Aws};
use crate::budget::Budget;
use crate::carry;
use crate::clock;
use crate::environment::Environment;
use crate::event::{
    DeploymentId, Duty, ExecutionId, HookEvent, LifecycleStage, Look, Next, PermissionQuestion, Stage,
};
use crate::fault::{Fault, FaultKind};
use crate::hook::{self, Release};
use crate::metrics::{self, Query, Window};
use crate::policy::defaults;
use crate::readiness;
use crate::report;
use crate::rollout;
use crate::smoke;
use crate::verdict::{Caveat, Finding, Outcome};
use crate::watch;
use crate::watched;

/// Name of the finding.
const NAME: &str = "permissions";

/// What became of trying one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The IAM action.
    pub action: String,
    /// Whether it is allowed; `None` when it could not be tried.
    pub allowed: Option<bool>,
    /// Why not, or why it was not tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// An action with a call that has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Report,
    TargetHealth,
    Alarms,
    Metrics,
    Stop,
    StartWatch,
    WatchState,
    Secrets,
}

/// What a stage of CodeDeploy does beyond opening the release, which exercises the reading of deployment, balancer and policy.
fn actions(stage: Stage) -> &'static [Action] {
    match stage {
        Stage::BeforeInstall => &[Action::Report, Action::TargetHealth, Action::Alarms],
        Stage::AfterInstall => &[Action::Report, Action::TargetHealth],
        Stage::AfterAllowTestTraffic => &[Action::Report, Action::Secrets],
        Stage::BeforeAllowTraffic => {
            &[Action::Report, Action::Alarms, Action::Secrets, Action::Metrics, Action::StartWatch]
        }
        Stage::AfterAllowTraffic => &[
            Action::Report,
            Action::TargetHealth,
            Action::Alarms,
            Action::Metrics,
            Action::StartWatch,
            Action::WatchState,
        ],
        Stage::Watch => &[
            Action::Report,
            Action::TargetHealth,
            Action::Alarms,
            Action::Secrets,
            Action::Metrics,
            Action::Stop,
            Action::WatchState,
        ],
        // Nobody asks it; see `of_ecs_lifecycle`.
        Stage::Ecs(_) => &[],
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Report => "codedeploy:PutLifecycleEventHookExecutionStatus",
            Self::TargetHealth => "elasticloadbalancing:DescribeTargetHealth",
            Self::Alarms => "cloudwatch:DescribeAlarms",
            Self::Metrics => "cloudwatch:GetMetricData",
            Self::Stop => "codedeploy:StopDeployment",
            Self::StartWatch => "states:StartExecution",
            Self::WatchState => watched::ACTION,
            Self::Secrets => "ssm:GetParameter",
        }
    }

    async fn try_it(self, release: &Release) -> Tried {
        let result = match self {
            Self::Report => report_nothing(release).await,
            Self::TargetHealth => target_health(release).await,
            Self::Alarms => alarms(&release.aws).await,
            Self::Metrics => metrics(release).await,
            Self::Stop => match &release.rollout.last_successful {
                Some(last) => watch::stop(&release.aws, last, false).await,
                None => return untried(self.name(), "there is no finished deployment to try it on"),
            },
            Self::StartWatch => start_nothing(release).await,
            Self::WatchState => {
                watched::ask(&release.aws, &release.environment, &release.deployment.id).await.map(drop)
            }
            Self::Secrets => return secrets(release).await,
        };
        tried(self.name(), result)
    }
}

/// The call was let through unless AWS denied it: any other error comes from behind the permission.
fn tried(action: &str, result: Result<(), Fault>) -> Tried {
    match result {
        Err(fault) if fault.kind == FaultKind::Denied => refused(action, &fault),
        Err(fault) if fault.may_heal() => untried(action, &fault.chain()),
        _ => Tried { action: action.to_owned(), allowed: Some(true), detail: String::new() },
    }
}

fn refused(action: &str, fault: &Fault) -> Tried {
    Tried { action: action.to_owned(), allowed: Some(false), detail: fault.chain() }
}

fn untried(action: &str, why: &str) -> Tried {
    Tried { action: action.to_owned(), allowed: None, detail: why.to_owned() }
}

/// A report that cannot count: an id that no hook has, and a status that CodeDeploy refuses.
async fn report_nothing(release: &Release) -> Result<(), Fault> {
    let event = HookEvent {
        deployment_id: release.deployment.id.clone(),
        execution_id: ExecutionId::from("shiftgate-permission-check"),
    };
    report::put(&release.aws, &event, LifecycleEventStatus::InProgress).await.map(drop)
}

async fn target_health(release: &Release) -> Result<(), Fault> {
    readiness::targets(&release.aws, release.rollout.blue.target_group.as_ref()).await.map(drop)
}

async fn alarms(aws: &Aws) -> Result<(), Fault> {
    let sent = aws.cloudwatch.describe_alarms().max_records(1).send().await;
    sent.map(drop).map_err(|error| aws::fault(Action::Alarms.name(), "read the alarms", error))
}

async fn metrics(release: &Release) -> Result<(), Fault> {
    let query = Query {
        namespace: defaults::LOAD_BALANCER_NAMESPACE.to_owned(),
        metric: "RequestCount".to_owned(),
        dimensions: Vec::new(),
        statistic: "Sum".to_owned(),
    };
    let now = clock::now();
    let hour_ago = now.saturating_sub(std::time::Duration::from_hours(1)).unwrap_or(now);
    let window = Window::complete(hour_ago, now, now, &defaults::SAMPLING);
    metrics::read(&release.aws, &[query], &window).await.map(drop)
}

/// An execution that ends at once: its input says that the watch is done.
async fn start_nothing(release: &Release) -> Result<(), Fault> {
    let look =
        Look { next: Some(Next::Done), ..Look::new(release.deployment.id.to_string(), Duty::Traffic, 1) };
    let name = format!("{}-permissions", release.deployment.id);
    carry::start(&release.aws, &release.environment, &name, &look).await.map(drop)
}

/// Reads every secret that a smoke check will need; one that is missing is as bad as one that is denied.
async fn secrets(release: &Release) -> Tried {
    let action = Action::Secrets.name();
    for name in smoke::secret_names(release) {
        match release.secrets.read(&release.aws, &name).await {
            Ok(_) => {}
            Err(fault) if fault.may_heal() => return untried(action, &fault.chain()),
            Err(fault) => return refused(action, &fault),
        }
    }
    Tried { action: action.to_owned(), allowed: Some(true), detail: String::new() }
}

/// A sibling's answer to before-install: every action of its stage, tried under its own role.
pub async fn answer(
    stage: Stage,
    aws: &Aws,
    environment: &Environment,
    question: &PermissionQuestion,
    budget: Budget,
) -> Result<Value, Fault> {
    let id = DeploymentId::new(&question.permissions_for_deployment)?;
    let work = async {
        let (deployment, target_id) =
            tokio::try_join!(rollout::deployment(aws, &id), rollout::target_id(aws, &id))?;
        let (plan, rollout) = tokio::join!(
            hook::plan(aws, environment, &deployment),
            rollout::discover(aws, &deployment, None, target_id.as_deref()),
        );
        let release = Release::open(aws, environment, budget, deployment, plan?.0, rollout?)?;
        Ok(try_all(stage, &release).await)
    };
    let tried = match hook::within(budget, work).await {
        Ok(all) => all,
        Err(fault) if fault.kind == FaultKind::Denied => vec![tried("opening the release", Err(fault))],
        Err(fault) => vec![untried("opening the release", &fault.chain())],
    };
    Ok(json!(tried))
}

async fn try_all(stage: Stage, release: &Release) -> Vec<Tried> {
    join_all(actions(stage).iter().map(|action| action.try_it(release))).await
}

/// Tries what the stages of ECS need: one function serves them all, and answers by what it returns. Named one by one, so that
/// the calls of other functions are no part of it.
pub async fn of_ecs_lifecycle(release: &Release, stage: LifecycleStage) -> Result<Vec<Finding>, Fault> {
    let (targets, alarms, secrets, metrics) =
        tokio::join!(target_health(release), alarms(&release.aws), secrets(release), metrics(release));
    let tried = vec![
        tried(Action::TargetHealth.name(), targets),
        tried(Action::Alarms.name(), alarms),
        secrets,
        tried(Action::Metrics.name(), metrics),
    ];
    Ok(vec![finding(&[(Stage::Ecs(stage).function().to_owned(), tried)])])
}

/// Tries the actions of this function and, through its siblings, those of all others.
pub async fn of_all_stages(release: &Release) -> Result<Vec<Finding>, Fault> {
    let own =
        async { (Stage::BeforeInstall.function().to_owned(), try_all(Stage::BeforeInstall, release).await) };
    let siblings = release.environment.siblings.iter().map(async |(stage, function)| {
        let tried = match ask(release, function).await {
            Ok(tried) => tried,
            Err(fault) if fault.may_heal() => vec![untried("asking for permissions", &fault.chain())],
            Err(fault) => vec![refused("asking for permissions", &fault)],
        };
        (stage.clone(), tried)
    });
    let (own, siblings) = tokio::join!(own, join_all(siblings));
    let all = [vec![own], siblings].concat();
    let mut finding = finding(&all);
    if release.environment.siblings.is_empty() {
        finding = finding.but(Caveat::NotExercised {
            action: "what the other functions need".to_owned(),
            reason: "SHIFTGATE_SIBLINGS does not name them".to_owned(),
        });
    }
    Ok(vec![finding])
}

async fn ask(release: &Release, function: &str) -> Result<Vec<Tried>, Fault> {
    let question =
        json!(PermissionQuestion { permissions_for_deployment: release.deployment.id.to_string() });
    let output = release
        .aws
        .lambda
        .invoke()
        .function_name(function)
        .payload(Blob::new(question.to_string()))
        .send()
        .await
        .map_err(|error| {
            aws::fault("lambda:InvokeFunction", &format!("ask {function} for its permissions"), error)
        })?;
    let payload = output.payload.map(Blob::into_inner).unwrap_or_default();
    serde_json::from_slice(&payload).map_err(|_| {
        Fault::new(
            FaultKind::NotFound,
            format!(
                "{function} did not say what it may do (lambda:InvokeFunction): {}",
                String::from_utf8_lossy(&payload)
            ),
            "all functions must be of the same version; deploy the stack again",
        )
    })
}

fn finding(all: &[(String, Vec<Tried>)]) -> Finding {
    let each = || all.iter().flat_map(|(stage, tried)| tried.iter().map(move |tried| (stage, tried)));
    let denied: Vec<String> = each()
        .filter(|(_, tried)| tried.allowed == Some(false))
        .map(|(stage, tried)| format!("{stage}, {}: {}", tried.action, tried.detail))
        .collect();
    let mut finding = if denied.is_empty() {
        let allowed = each().filter(|(_, tried)| tried.allowed == Some(true)).count();
        Finding::new(
            NAME,
            Outcome::Pass,
            if let [(name, _)] = all {
                format!("{name} was let through with {allowed} actions")
            } else {
                format!("{} functions were let through with {allowed} actions", all.len())
            },
        )
    } else {
        Finding::new(NAME, Outcome::Fail, denied.join("; "))
    };
    for (stage, tried) in each().filter(|(_, tried)| tried.allowed.is_none()) {
        finding = finding.but(Caveat::NotExercised {
            action: format!("{} of {stage}", tried.action),
            reason: tried.detail.clone(),
        });
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_denial_counts_against_a_permission() {
        let of = |kind| tried("x:Y", Err(Fault::new(kind, "told", ""))).allowed;
        assert_eq!(tried("x:Y", Ok(())).allowed, Some(true));
        assert_eq!(of(FaultKind::Denied), Some(false));
        assert_eq!(of(FaultKind::NotFound), Some(true));
        assert_eq!(of(FaultKind::Unavailable), None);
    }

    #[test]
    fn a_denied_action_is_named_with_its_function() {
        let all = [(
            "watch".to_owned(),
            vec![
                Tried {
                    action: "codedeploy:StopDeployment".into(),
                    allowed: Some(false),
                    detail: "denied".into(),
                },
                untried("a:B", "busy"),
            ],
        )];
        let finding = finding(&all);
        assert_eq!(finding.outcome, Outcome::Fail);
        assert_eq!(finding.summary, "watch, codedeploy:StopDeployment: denied");
        assert_eq!(finding.caveats.len(), 1);
    }
}
