//! Rolling updates: ECS replaces task after task and calls nobody, so an event starts the watch. Both versions share one
//! target group: what is judged is how the service changes, and whether green's tasks run.

use std::time::Duration;

use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types::{self as types, DeploymentStrategy, ServiceDeploymentStatus, ServiceField};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::unusable;
use crate::aws::{self, Aws};
use crate::budget::Budget;
use crate::carry::{self, Step};
use crate::change;
use crate::environment::Environment;
use crate::event::{DeploymentId, Duty, LifecycleStage, Look, Stage};
use crate::fault::{Fault, FaultKind};
use crate::hook::{self, Release};
use crate::policy::load;
use crate::policy::plan::Rolling;
use crate::preflight;
use crate::readiness;
use crate::report::{self, About};
use crate::traffic::{self, Span};
use crate::verdict::{Finding, Findings, Outcome};

/// What `EventBridge` calls the change of a deployment's state.
const STATE_CHANGE: &str = "ECS Deployment State Change";
/// The change that begins a deployment.
const BEGUN: &str = "SERVICE_DEPLOYMENT_IN_PROGRESS";
/// Tag of a service whose rolling updates are watched.
const TAG: (&str, &str) = ("shiftgate", "watch");
/// Failed tasks from which on an update fails, as ECS's own circuit breaker counts: half of the desired tasks, within
/// these bounds.
const FAILED_TASKS: (f64, f64) = (3.0, 200.0);

/// Whether an event tells of a deployment's state.
pub(super) fn is_state_change(event: &Value) -> bool {
    event["detail-type"] == STATE_CHANGE
}

/// Starts the watch of a rolling update that has begun, if its service wants one. The value is for people: `EventBridge` does
/// not look at it. An error makes Lambda try again, and tell people when that is in vain: nobody else would notice that an
/// update is not watched.
pub(super) async fn begin(
    aws: &Aws,
    environment: &Environment,
    event: &Value,
    budget: Budget,
) -> Result<Value, Fault> {
    let told = match hook::within(budget, started(aws, environment, event)).await {
        Ok(told) => told,
        Err(fault) => {
            report::failure(Stage::Ecs(LifecycleStage::PreScaleUp), None, &fault);
            if fault.kind == FaultKind::Event {
                return Ok(json!({"watch": "not started", "reason": fault.chain()}));
            }
            return Err(fault);
        }
    };
    Ok(match told {
        Started::Watch(execution) => json!({"watch": execution}),
        Started::Nothing(why) => {
            report::ignored(&why);
            json!({"watch": "not started", "reason": why})
        }
    })
}

/// What became of an event.
enum Started {
    /// The watch, by its execution's name.
    Watch(String),
    /// Nothing, and why.
    Nothing(String),
}

async fn started(aws: &Aws, environment: &Environment, event: &Value) -> Result<Started, Fault> {
    if event["detail"]["eventName"] != BEGUN {
        return Ok(Started::Nothing("no deployment begins with this event".to_owned()));
    }
    let arn = event["resources"][0].as_str().unwrap_or_default();
    let named = arn.rsplit_once(":service/").and_then(|(_, names)| names.split_once('/'));
    let (cluster, service) =
        named.ok_or_else(|| unusable(format!("resources name `{arn}`, which is no service")))?;
    let found = describe(aws, cluster, service).await?;
    let strategy = found.deployment_configuration().and_then(|configuration| configuration.strategy());
    if strategy.is_some_and(|strategy| *strategy != DeploymentStrategy::Rolling) {
        return Ok(Started::Nothing(format!("{cluster}/{service} is gated by its lifecycle hooks")));
    }
    if !is_tagged(&found) {
        // With the tag, a policy that cannot be read is the watch's to fail on.
        let (plan, _) = load::load(aws, environment.inline_policy.as_deref(), cluster, service).await?;
        if plan.rolling != Rolling::Watch {
            let (name, value) = TAG;
            return Ok(Started::Nothing(format!(
                "{cluster}/{service} has neither the tag {name}: {value} nor a policy with `rolling: watch`"
            )));
        }
    }
    let Some(deployment) = latest(aws, cluster, service).await? else {
        return Ok(Started::Nothing(format!("no deployment of {cluster}/{service} is in progress")));
    };
    let id = DeploymentId::new(&deployment)?;
    let name = id.service_deployment().map(|parts| parts.name.to_owned());
    let name = name.ok_or_else(|| unusable(format!("`{deployment}` is no service deployment")))?;
    // A second until the first look, which knows the policy.
    let look = Look::new(deployment, Duty::Rolling, 1);
    carry::start(aws, environment, &name, &look).await.map(Started::Watch)
}

fn is_tagged(service: &types::Service) -> bool {
    let (name, value) = TAG;
    service.tags().iter().any(|tag| tag.key() == Some(name) && tag.value() == Some(value))
}

async fn describe(aws: &Aws, cluster: &str, service: &str) -> Result<types::Service, Fault> {
    let output = aws
        .ecs
        .describe_services()
        .cluster(cluster)
        .services(service)
        .include(ServiceField::Tags)
        .send()
        .await
        .map_err(|error| {
            aws::fault("ecs:DescribeServices", &format!("read the service {cluster}/{service}"), error)
        })?;
    output.services.and_then(|mut services| services.pop()).ok_or_else(|| {
        Fault::new(
            FaultKind::NotFound,
            format!("the service {cluster}/{service} was not found"),
            "it may have been deleted since its deployment began",
        )
    })
}

/// The latest service deployment that is going on.
async fn latest(aws: &Aws, cluster: &str, service: &str) -> Result<Option<String>, Fault> {
    let output = aws
        .ecs
        .list_service_deployments()
        .cluster(cluster)
        .service(service)
        .status(ServiceDeploymentStatus::Pending)
        .status(ServiceDeploymentStatus::InProgress)
        .send()
        .await
        .map_err(|error| {
            let purpose = format!("list the deployments of {cluster}/{service}");
            aws::fault("ecs:ListServiceDeployments", &purpose, error)
        })?;
    let latest =
        output.service_deployments().iter().max_by_key(|brief| brief.created_at().map(DateTime::as_nanos));
    Ok(latest.and_then(|brief| brief.service_deployment_arn.clone()))
}

/// One look at a rolling update. Done on a failure, when the update is over, or when the policy's time is.
pub async fn look(release: &mut Release, about: &About, now: Timestamp) -> Result<Step, Fault> {
    let began = release.deployment.started.unwrap_or(now);
    let (most, sampling) = (release.plan.steps.at_most + release.plan.bake_for, release.plan.sampling);
    let until = began.saturating_add(most).unwrap_or(Timestamp::MAX);
    let span = Span { shift: began, from: began, until };
    let mut findings = Findings::new().and("tasks", tasks(release).await);
    if !release.plan.alarms.is_empty() {
        findings = findings.and("alarms", preflight::alarms(release).await);
    }
    let gates = &release.plan.bake;
    if !findings.any_fail() {
        let traffic::Seen { findings: limits, window, .. } = traffic::look(release, gates, span, now).await?;
        let mut seen = change::look(release, gates, span, now).await?;
        seen.extend(limits);
        report::looked(about, release, &seen, window.periods);
        findings = findings.and("traffic", Ok(seen));
    }
    let all_in = until.saturating_add(sampling.ingestion_delay).unwrap_or(Timestamp::MAX);
    let done_in = Duration::try_from(all_in.duration_since(now)).unwrap_or_default();
    if release.deployment.is_over && findings.any_fail() {
        let late = "the update had ended before this was seen, so nothing is rolled back; an alarm in the service's deployment \
                    configuration makes ECS wait longer before it calls an update complete";
        findings = findings.and("rollback", Ok(vec![Finding::new("rollback", Outcome::Inconclusive, late)]));
    }
    if findings.end_it(release.plan.rules) || release.deployment.is_over || done_in.is_zero() {
        return Ok(Step::Done(findings));
    }
    Ok(Step::Again { after: sampling.look_every, done_in })
}

/// Whether the service still serves, and whether green's tasks stay up; and what ECS's own guards say.
async fn tasks(release: &Release) -> Result<Vec<Finding>, Fault> {
    let rollout = &release.rollout;
    let targets = readiness::targets(&release.aws, rollout.green.target_group.as_ref()).await?;
    let service = describe(&release.aws, &rollout.cluster, &rollout.service).await?;
    let primary = service.deployments().iter().find(|one| one.status() == Some("PRIMARY"));
    let failed = primary.map_or(0, |one| one.failed_tasks);
    let desired = primary.map_or(service.desired_count, |one| one.desired_count);
    let running = rollout.green.tasks.unwrap_or_default().running;
    let (least, most) = FAILED_TASKS;
    let limit = (f64::from(desired) / 2.0).clamp(least, most).ceil();
    let outcome = if f64::from(failed) >= limit { Outcome::Fail } else { Outcome::Pass };
    let summary =
        format!("{running} of {desired} tasks are new; {failed} of them failed to stay up (limit {limit})");
    let mut findings = vec![Finding::new("task count", outcome, summary)];
    if rollout.green.target_group.is_some() {
        let served = targets.healthy > 0 || targets.registered == targets.not_in_use;
        let outcome = if served { Outcome::Pass } else { Outcome::Fail };
        let summary =
            format!("{} of {} targets of the service are healthy", targets.healthy, targets.registered);
        findings.push(Finding::new("healthy targets", outcome, summary));
    }
    findings.push(guards(&service));
    Ok(findings)
}

/// What ECS itself would roll back for: told, since two guards may be better than one, and none is what people believe to
/// have.
fn guards(service: &types::Service) -> Finding {
    let configuration = service.deployment_configuration();
    let breaker = configuration.and_then(|one| one.deployment_circuit_breaker());
    let alarms = configuration.and_then(|one| one.alarms()).filter(|alarms| alarms.enable);
    let breaker = match breaker.filter(|breaker| breaker.enable) {
        Some(breaker) if breaker.rollback => "its circuit breaker rolls back",
        Some(_) => "its circuit breaker stops the update without a rollback",
        None => "it has no circuit breaker",
    };
    let alarms = match alarms {
        Some(alarms) => format!("and it watches the alarms {}", alarms.alarm_names().join(", ")),
        None => "and it watches no alarm".to_owned(),
    };
    Finding::new("guards of ECS", Outcome::Pass, format!("{breaker}, {alarms}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_by_its_tag_that_it_wants_to_be_watched() {
        let service = |key: &str, value: &str| {
            types::Service::builder().tags(types::Tag::builder().key(key).value(value).build()).build()
        };
        assert!(is_tagged(&service("shiftgate", "watch")));
        assert!(!is_tagged(&service("shiftgate", "ignore")));
        assert!(!is_tagged(&service("other", "watch")));
    }

    #[test]
    fn the_guards_of_ecs_are_told() {
        let breaker = types::DeploymentCircuitBreaker::builder().enable(true).rollback(true).build();
        let alarms = types::DeploymentAlarms::builder()
            .alarm_names("errors")
            .enable(true)
            .rollback(true)
            .build()
            .unwrap();
        let configuration = types::DeploymentConfiguration::builder()
            .deployment_circuit_breaker(breaker)
            .alarms(alarms)
            .build();
        let service = types::Service::builder().deployment_configuration(configuration).build();
        assert_eq!(
            guards(&service).summary,
            "its circuit breaker rolls back, and it watches the alarms errors"
        );
        let none = types::Service::builder().build();
        assert_eq!(guards(&none).summary, "it has no circuit breaker, and it watches no alarm");
    }
}
