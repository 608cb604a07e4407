//! Whether a colour runs: tasks by their count, targets by the balancer's health checks.

use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::config::Config;
use aws_sdk_elasticloadbalancingv2::config::retry::RetryConfig;
use aws_sdk_elasticloadbalancingv2::types::{TargetHealthReasonEnum, TargetHealthStateEnum};

use crate::aws::{self, Aws};
use crate::clock;
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::rollout::{self, Front, TargetGroup, TaskSet};
use crate::verdict::{Caveat, Finding, Outcome};

/// Health of the targets of a group. Counts are of targets; draining ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Registered targets.
    pub registered: usize,
    /// Healthy ones.
    pub healthy: usize,
    /// Targets of a group that no listener points at: the balancer does not check them.
    pub not_in_use: usize,
    /// Why the first unhealthy target is so, in the balancer's words.
    pub why: Option<String>,
}

/// The IAM action that it takes.
const TARGET_HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";
/// Name of the finding about targets.
const HEALTHY_TARGETS: &str = "healthy targets";
/// Longest wait for a lost task to come back, within one look.
const LONGEST_DOUBT: Duration = Duration::from_secs(30);

/// How hard the balancer is asked for the health of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As hard as for everything else.
    Full,
    /// Twice: there is another look soon, and an account has only ten such calls a second. What the metrics show must not
    /// wait for it.
    InPassing,
}

/// Attempts of a call that is made in passing.
const ATTEMPTS_IN_PASSING: u32 = 2;

/// Asks the balancer for the health of a group's targets. Without a group there are none, and tasks alone count.
pub async fn targets(aws: &Aws, group: Option<&TargetGroup>) -> Result<Targets, Fault> {
    ask(aws, group, Patience::Full).await
}

async fn ask(aws: &Aws, group: Option<&TargetGroup>, patience: Patience) -> Result<Targets, Fault> {
    let Some(group) = group else { return Ok(Targets::default()) };
    let mut how = Config::builder();
    if patience == Patience::InPassing {
        how = how.retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_IN_PASSING));
    }
    let call = aws.elb.describe_target_health().target_group_arn(&group.arn);
    let output = call.customize().config_override(how).send().await.map_err(|error| {
        aws::fault(TARGET_HEALTH, &format!("read the health of target group {}", group.name), error)
    })?;
    let mut targets = Targets::default();
    for target in output.target_health_descriptions() {
        let told = target.target_health().and_then(|health| Some((health, health.state.as_ref()?)));
        let (health, state) = told.ok_or_else(|| no_state(group))?;
        match state {
            TargetHealthStateEnum::Draining => continue,
            TargetHealthStateEnum::Healthy => targets.healthy += 1,
            TargetHealthStateEnum::Unused if health.reason == Some(TargetHealthReasonEnum::NotInUse) => {
                targets.not_in_use += 1;
            }
            // The states of an unhealthy target.
            TargetHealthStateEnum::Initial
            | TargetHealthStateEnum::Unhealthy
            | TargetHealthStateEnum::UnhealthyDraining
            | TargetHealthStateEnum::Unavailable
            | TargetHealthStateEnum::Unused => {
                targets.why = targets.why.take().or_else(|| health.description.clone());
            }
            unknown => return Err(unknown_state(group, unknown)),
        }
        targets.registered += 1;
    }
    Ok(targets)
}

/// An answer that ends in the middle may look like this.
fn no_state(group: &TargetGroup) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("{TARGET_HEALTH} does not say how a target of group {} is", group.name),
        "AWS gave an incomplete answer; deploy again",
    )
}

/// Neither healthy nor unhealthy: nothing to release by, and nothing to roll back for.
fn unknown_state(group: &TargetGroup, state: &TargetHealthStateEnum) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!(
            "the state {} of a target in group {} ({TARGET_HEALTH}) is one that nobody knows here",
            state.as_str(),
            group.name
        ),
        "look at the target group in the console; a newer Shiftgate may know the state",
    )
}

/// Waits until green runs as the policy wants it, or until the policy's time (or ours) is over.
pub async fn green_is_ready(release: &mut Release) -> Result<Vec<Finding>, Fault> {
    let plan = release.plan.readiness;
    let left = release.budget.for_checks(clock::now()).saturating_sub(Duration::from_secs(1));
    let pause = (plan.stable_for / 3).clamp(Duration::from_millis(500), Duration::from_secs(5));
    let started = tokio::time::Instant::now();
    let deadline = started + plan.within.min(left);
    let mut ready_since = None;
    loop {
        let group = release.rollout.green.target_group.as_ref();
        let targets = targets(&release.aws, group).await?;
        let checked = group.is_some().then_some(&targets);
        let state = assess(release.rollout.green.tasks, checked, plan.healthy);
        let now = tokio::time::Instant::now();
        match &state {
            State::Ready(_) => {
                let since = *ready_since.get_or_insert(now);
                if now.duration_since(since) >= plan.stable_for {
                    return Ok(vec![finding(state, group, &format!("for {}", seconds(plan.stable_for)))]);
                }
            }
            State::Waiting(_) => ready_since = None,
            State::NothingWanted => return Ok(vec![finding(state, group, "")]),
        }
        if now + pause > deadline {
            let state = match state {
                State::Ready(_) => State::Waiting("ready, but not for long enough".to_owned()),
                other => other,
            };
            return Ok(vec![finding(state, group, &format!("after {}", seconds(started.elapsed())))]);
        }
        tokio::time::sleep(pause).await;
        rollout::refresh(&release.aws, &release.deployment, &mut release.rollout).await?;
    }
}

/// Whether blue could take the traffic back: without a healthy old version there is nothing to roll back to.
pub async fn blue_is_healthy(release: &Release) -> Result<Vec<Finding>, Fault> {
    const NAME: &str = "old version";
    if release.rollout.is_first {
        let first =
            Finding::new(NAME, Outcome::Pass, "there is none: this is the service's first deployment");
        return Ok(vec![first.but(Caveat::NoBlue)]);
    }
    let Some(group) = &release.rollout.blue.target_group else {
        let tasks = release.rollout.blue.tasks.unwrap_or_default();
        let outcome = if tasks.running > 0 { Outcome::Pass } else { Outcome::Fail };
        let summary = format!("{} of {} tasks of the old version run", tasks.running, tasks.desired);
        return Ok(vec![Finding::new(NAME, outcome, summary)]);
    };
    let targets = targets(&release.aws, Some(group)).await?;
    let summary = if targets.registered == 0 {
        format!("{} has no target ({TARGET_HEALTH})", group.name)
    } else {
        format!("{} of {} targets of the old version are healthy", targets.healthy, targets.registered)
    };
    let outcome = if targets.healthy > 0 { Outcome::Pass } else { Outcome::Fail };
    Ok(vec![Finding::new(NAME, outcome, summary)])
}

/// A look at green while it serves: no healthy target at all, or tasks lost for good, end the release.
pub async fn green_still_runs(release: &Release, patience: Patience) -> Result<Vec<Finding>, Fault> {
    if release.rollout.front() == Front::Function {
        // A function has neither tasks nor targets; that it runs shows in its invocations.
        return Ok(Vec::new());
    }
    let group = release.rollout.green.target_group.as_ref();
    let healthy = match ask(&release.aws, group, patience).await {
        Ok(targets) => healthy_targets(&targets),
        // The tasks, which CodeDeploy knows, are looked at all the same.
        Err(fault) if fault.may_heal() => Finding::from_fault(HEALTHY_TARGETS, &fault),
        Err(fault) => return Err(fault),
    };
    let mut tasks = release.rollout.green.tasks;
    if healthy.outcome != Outcome::Fail && tasks.is_some_and(lost) {
        // A task that is being replaced is missing for a moment; one that stays away is not.
        let half = release.budget.for_checks(clock::now()) / 2;
        tokio::time::sleep(release.plan.readiness.stable_for.min(LONGEST_DOUBT).min(half)).await;
        let mut rollout = release.rollout.clone();
        rollout::refresh(&release.aws, &release.deployment, &mut rollout).await?;
        tasks = rollout.green.tasks;
    }
    let of_targets = release.rollout.green.target_group.is_some().then_some(healthy);
    Ok(of_targets.into_iter().chain([task_count(tasks)]).collect())
}

fn healthy_targets(targets: &Targets) -> Finding {
    let Targets { registered, healthy, .. } = targets;
    if *registered > targets.not_in_use && *healthy == 0 {
        let why = targets.why.as_deref().unwrap_or("the balancer gives no reason");
        let none = format!("none of green's {registered} targets is healthy: {why}");
        Finding::new(HEALTHY_TARGETS, Outcome::Fail, none)
    } else {
        let some = format!("{healthy} of green's {registered} targets are healthy");
        Finding::new(HEALTHY_TARGETS, Outcome::Pass, some)
    }
}

/// Fewer tasks than wanted, and no replacement on its way.
fn lost(tasks: TaskSet) -> bool {
    tasks.running + tasks.pending < tasks.desired || (tasks.running == 0 && tasks.desired > 0)
}

fn task_count(tasks: Option<TaskSet>) -> Finding {
    const NAME: &str = "task count";
    match tasks {
        None => Finding::new(NAME, Outcome::Inconclusive, "AWS does not show green's tasks"),
        Some(tasks) => {
            let outcome = if lost(tasks) { Outcome::Fail } else { Outcome::Pass };
            Finding::new(NAME, outcome, format!("{} of green's {} tasks run", tasks.running, tasks.desired))
        }
    }
}

/// How far a colour is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Runs.
    Ready(Judged),
    /// Not yet, and why.
    Waiting(String),
    /// The service wants no task at all.
    NothingWanted,
}

/// What readiness was judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// The balancer's health checks, and the tasks.
    ByTargets,
    /// The tasks alone: the balancer does not check the targets yet.
    ByTasks,
    /// The tasks alone: there is no load balancer.
    Unbalanced,
}

/// Holds tasks and targets against the share that must be there. Without a target group there are no targets.
fn assess(tasks: Option<TaskSet>, targets: Option<&Targets>, healthy: f64) -> State {
    let Some(tasks) = tasks else { return State::Waiting("green has no task set yet".to_owned()) };
    if tasks.desired == 0 {
        return State::NothingWanted;
    }
    let needed = |all: f64| (all * healthy).ceil().max(1.0);
    if (tasks.running as f64) < needed(tasks.desired as f64) {
        return State::Waiting(format!("{} of {} tasks run", tasks.running, tasks.desired));
    }
    let Some(targets) = targets else { return State::Ready(Judged::Unbalanced) };
    if targets.registered > 0 && targets.not_in_use == targets.registered {
        return State::Ready(Judged::ByTasks);
    }
    // Fewer targets than tasks: some are not registered yet.
    let wanted = targets.registered.max(usize::try_from(tasks.desired).unwrap_or(0));
    if (targets.healthy as f64) < needed(wanted as f64) {
        let none = (targets.registered == 0).then_some(TARGET_HEALTH);
        let why = targets.why.as_deref().or(none).map(|why| format!(" ({why})")).unwrap_or_default();
        return State::Waiting(format!("{} of {wanted} targets are healthy{why}", targets.healthy));
    }
    State::Ready(Judged::ByTargets)
}

fn finding(state: State, group: Option<&TargetGroup>, how_long: &str) -> Finding {
    const NAME: &str = "readiness";
    match state {
        State::Ready(Judged::ByTargets) => {
            Finding::new(NAME, Outcome::Pass, format!("green runs and its targets are healthy {how_long}"))
        }
        State::Ready(Judged::ByTasks | Judged::Unbalanced) => {
            let ready = Finding::new(NAME, Outcome::Pass, format!("green's tasks run {how_long}"));
            let unchecked =
                group.map(|group| Caveat::TargetGroupNotInUse { target_group: group.name.clone() });
            unchecked.into_iter().fold(ready, Finding::but)
        }
        State::Waiting(why) => {
            Finding::new(NAME, Outcome::Fail, format!("green is not ready {how_long}: {why}"))
        }
        State::NothingWanted => Finding::new(
            NAME,
            Outcome::Inconclusive,
            "the service's desired count is 0; there is nothing to check",
        ),
    }
}

fn seconds(duration: Duration) -> String {
    crate::verdict::Quantity::seconds(duration.as_secs_f64()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(desired: i64, running: i64, pending: i64) -> TaskSet {
        TaskSet { desired, pending, running, weight: 0.0 }
    }

    fn targets(registered: usize, healthy: usize, not_in_use: usize) -> Targets {
        Targets { registered, healthy, not_in_use, why: None }
    }

    #[test]
    fn readiness_needs_tasks_and_targets() {
        let ready = State::Ready(Judged::ByTargets);
        let waiting = |why: &str| State::Waiting(why.to_owned());
        for (tasks, targets, healthy, expect) in [
            (Some(tasks(2, 2, 0)), targets(2, 2, 0), 1.0, ready.clone()),
            (Some(tasks(2, 1, 1)), targets(2, 2, 0), 1.0, waiting("1 of 2 tasks run")),
            (Some(tasks(2, 1, 1)), targets(1, 1, 0), 0.5, ready),
            (Some(tasks(2, 2, 0)), targets(2, 1, 0), 1.0, waiting("1 of 2 targets are healthy")),
            (
                Some(tasks(2, 2, 0)),
                targets(0, 0, 0),
                1.0,
                waiting("0 of 2 targets are healthy (elasticloadbalancing:DescribeTargetHealth)"),
            ),
            (Some(tasks(2, 2, 0)), targets(2, 0, 2), 1.0, State::Ready(Judged::ByTasks)),
            (Some(tasks(0, 0, 0)), targets(0, 0, 0), 1.0, State::NothingWanted),
            (None, targets(0, 0, 0), 1.0, waiting("green has no task set yet")),
        ] {
            assert_eq!(assess(tasks, Some(&targets), healthy), expect, "{tasks:?} {targets:?}");
        }
        assert_eq!(assess(Some(tasks(2, 2, 0)), None, 1.0), State::Ready(Judged::Unbalanced));
    }

    #[test]
    fn a_task_that_is_being_replaced_is_not_lost() {
        assert!(!lost(tasks(3, 2, 1)));
        assert!(lost(tasks(3, 2, 0)));
        assert!(lost(tasks(3, 0, 3)));
        assert!(!lost(tasks(0, 0, 0)));
    }
}
