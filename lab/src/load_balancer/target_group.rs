//! A target group: who is registered, how healthy each target is, and whose turn it is.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::health::{Failure, HealthCheck, Opinion, Record};
use crate::service::Label;

/// What a target group is to be like.
#[derive(Debug, Clone)]
pub struct TargetGroupSpec {
    /// Its name, at most 32 characters on AWS.
    pub name: String,
    /// How its targets are checked.
    pub health_check: HealthCheck,
    /// How long a deregistered target is shown as draining; AWS waits 300 s by default.
    pub deregistration_delay: Duration,
}

/// Where requests can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the API calls it: the IP address of a task.
    pub id: String,
    /// Where it really listens.
    pub address: SocketAddr,
    /// Its availability zone, such as `eu-west-1a`.
    pub zone: String,
    /// Which version runs there. AWS does not know; the lab's users are told, see `VERSION`.
    pub version: Label,
}

/// The state of a target, as `DescribeTargetHealth` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Registered, and not checked enough to say more.
    Initial,
    /// Gets requests.
    Healthy,
    /// Failed its checks.
    Unhealthy,
    /// No listener forwards to its group.
    Unused,
    /// Deregistered a moment ago.
    Draining,
}

impl TargetState {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
        }
    }
}

/// How a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Which target.
    pub target: Target,
    /// Its state.
    pub state: TargetState,
    /// Reason code and description; a healthy target has none.
    pub reason: Option<(&'static str, String)>,
}

/// A running target group.
#[derive(Debug)]
pub struct TargetGroup {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Value of the metric dimension `TargetGroup`: `targetgroup/<name>/<id>`.
    pub dimension: String,
    /// How its targets are checked.
    pub health_check: HealthCheck,
    deregistration_delay: Duration,
    members: Mutex<Members>,
    change: Notify,
}

#[derive(Debug, Default)]
struct Members {
    /// Whether a listener forwards to the group; a weight of 0 is enough.
    in_use: bool,
    turn: usize,
    targets: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    target: Target,
    record: Record,
    /// Set when it was deregistered: when it is forgotten.
    drained_at: Option<Instant>,
}

impl TargetGroup {
    pub(super) fn new(spec: TargetGroupSpec, arn: String, dimension: String) -> Self {
        Self {
            name: spec.name,
            arn,
            dimension,
            health_check: spec.health_check,
            deregistration_delay: spec.deregistration_delay,
            members: Mutex::default(),
            change: Notify::new(),
        }
    }

    /// Whether a listener forwards to the group.
    pub fn in_use(&self) -> bool {
        self.members().in_use
    }

    /// All registered and draining targets.
    pub fn health(&self) -> Vec<TargetHealth> {
        let members = self.members();
        members.targets.iter().map(|member| member.health(members.in_use)).collect()
    }

    /// Registering a target again changes nothing, except that it stops draining.
    pub(super) fn register(&self, target: Target) {
        let mut members = self.members();
        members.targets.retain(|member| member.drained_at.is_none() || !member.is(&target));
        if !members.targets.iter().any(|member| member.is(&target)) {
            members.targets.push(Member { target, record: Record::NEW, drained_at: None });
        }
        self.change.notify_one();
    }

    /// The targets with this id get no new requests; those of a group in use drain for a while.
    pub(super) fn deregister(&self, id: &str) {
        let mut members = self.members();
        if !members.in_use {
            members.targets.retain(|member| member.target.id != id);
        }
        let drained_at = Instant::now() + self.deregistration_delay;
        for member in members.targets.iter_mut().filter(|member| member.target.id == id) {
            member.drained_at.get_or_insert(drained_at);
        }
    }

    /// A group that comes into use is checked anew: nobody looked while it was not.
    pub(super) fn set_in_use(&self, in_use: bool) {
        let mut members = self.members();
        if members.in_use == in_use {
            return;
        }
        members.in_use = in_use;
        for member in &mut members.targets {
            member.record = Record::NEW;
        }
        self.change.notify_one();
    }

    /// The next target in turn: of the healthy ones, or of all when none is healthy (the balancer fails open).
    pub(super) fn next_target(&self) -> Option<Target> {
        let mut members = self.members();
        let turn = members.turn;
        members.turn = turn.wrapping_add(1);
        let registered = || members.targets.iter().filter(|member| member.drained_at.is_none());
        let healthy: Vec<_> =
            registered().filter(|member| member.record.opinion == Opinion::Healthy).collect();
        let candidates = if healthy.is_empty() { registered().collect() } else { healthy };
        let chosen = candidates.get(turn.checked_rem(candidates.len())?)?;
        Some(chosen.target.clone())
    }

    /// Waits for a target or a listener to come.
    pub(super) async fn changed(&self) {
        self.change.notified().await;
    }

    /// Whom to check: nobody while no listener forwards to the group.
    pub(super) fn targets_to_check(&self) -> Vec<Target> {
        let members = self.members();
        let checked = members.targets.iter().filter(|member| members.in_use && member.drained_at.is_none());
        checked.map(|member| member.target.clone()).collect()
    }

    /// Takes note of the result of a check.
    pub(super) fn observe(&self, target: &Target, result: Result<(), Failure>) {
        let mut members = self.members();
        if !members.in_use {
            return;
        }
        for member in members.targets.iter_mut().filter(|member| member.is(target)) {
            member.record = member.record.after(result, &self.health_check);
        }
    }

    /// Healthy and unhealthy targets; none when the group is not in use or nothing is registered.
    pub(super) fn host_counts(&self) -> Option<(usize, usize)> {
        let members = self.members();
        let registered: Vec<_> =
            members.targets.iter().filter(|member| member.drained_at.is_none()).collect();
        let healthy = registered.iter().filter(|member| member.record.opinion == Opinion::Healthy).count();
        let unhealthy =
            registered.iter().filter(|member| matches!(member.record.opinion, Opinion::Unhealthy(_))).count();
        (members.in_use && !registered.is_empty()).then_some((healthy, unhealthy))
    }

    /// The members, without those that have drained.
    fn members(&self) -> MutexGuard<'_, Members> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        members.targets.retain(|member| member.drained_at.is_none_or(|drained_at| now < drained_at));
        members
    }
}

impl Member {
    /// A target is known by its id and port.
    fn is(&self, target: &Target) -> bool {
        self.target.id == target.id && self.target.address.port() == target.address.port()
    }

    fn health(&self, in_use: bool) -> TargetHealth {
        let (state, reason) = self.state(in_use);
        TargetHealth { target: self.target.clone(), state, reason }
    }

    fn state(&self, in_use: bool) -> (TargetState, Option<(&'static str, String)>) {
        let told = |state, code, description: &str| (state, Some((code, description.to_owned())));
        if self.drained_at.is_some() {
            let description = "Target deregistration is in progress";
            return told(TargetState::Draining, "Target.DeregistrationInProgress", description);
        }
        if !in_use {
            let description = "Target group is not configured to receive traffic from the load balancer";
            return told(TargetState::Unused, "Target.NotInUse", description);
        }
        match (self.record.opinion, self.record.contradictions) {
            (Opinion::Healthy, _) => (TargetState::Healthy, None),
            (Opinion::Unhealthy(failure), _) => (TargetState::Unhealthy, Some(failure.explain())),
            (Opinion::Initial, 0) => {
                told(TargetState::Initial, "Elb.RegistrationInProgress", "Target registration is in progress")
            }
            (Opinion::Initial, _) => {
                told(TargetState::Initial, "Elb.InitialHealthChecking", "Initial health checks in progress")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(deregistration_delay: Duration) -> TargetGroup {
        let spec = TargetGroupSpec {
            name: "blue".to_owned(),
            health_check: HealthCheck::default(),
            deregistration_delay,
        };
        TargetGroup::new(spec, String::new(), String::new())
    }

    fn target(id: &str) -> Target {
        Target {
            id: id.to_owned(),
            address: ([127, 0, 0, 1], 80).into(),
            zone: "eu-west-1a".to_owned(),
            version: Label::Green,
        }
    }

    fn states(group: &TargetGroup) -> Vec<(String, &'static str, Option<&'static str>)> {
        let told = |health: TargetHealth| {
            (health.target.id, health.state.as_str(), health.reason.map(|reason| reason.0))
        };
        group.health().into_iter().map(told).collect()
    }

    fn chosen(group: &TargetGroup, times: usize) -> String {
        (0..times).filter_map(|_| group.next_target()).map(|target| target.id).collect()
    }

    #[test]
    fn takes_healthy_targets_in_turn_and_fails_open() {
        let group = group(Duration::ZERO);
        assert_eq!(group.next_target(), None);
        group.set_in_use(true);
        for id in ["a", "b", "c"] {
            group.register(target(id));
        }
        assert_eq!(chosen(&group, 3).len(), 3, "none is healthy yet: all get requests");
        group.observe(&target("a"), Ok(()));
        group.observe(&target("c"), Ok(()));
        let order = chosen(&group, 4);
        assert!(order == "acac" || order == "caca", "{order}");
        assert_eq!(group.host_counts(), Some((2, 0)));
    }

    #[test]
    fn a_group_that_no_listener_forwards_to_is_unused() {
        let group = group(Duration::ZERO);
        group.register(target("a"));
        let unused = ("a".to_owned(), "unused", Some("Target.NotInUse"));
        let registering = ("a".to_owned(), "initial", Some("Elb.RegistrationInProgress"));
        assert_eq!(states(&group), std::slice::from_ref(&unused));
        assert_eq!(group.targets_to_check(), []);
        assert_eq!(group.host_counts(), None);

        group.set_in_use(true);
        assert_eq!(states(&group), std::slice::from_ref(&registering));
        group.observe(&target("a"), Err(Failure::Connection));
        assert_eq!(states(&group), [("a".to_owned(), "initial", Some("Elb.InitialHealthChecking"))]);
        group.observe(&target("a"), Err(Failure::Connection));
        assert_eq!(states(&group), [("a".to_owned(), "unhealthy", Some("Target.FailedHealthChecks"))]);
        group.observe(&target("a"), Err(Failure::Code(503)));
        let reason = group.health()[0].reason.clone().unwrap();
        assert_eq!(
            reason,
            ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]".to_owned())
        );

        group.set_in_use(false);
        assert_eq!(states(&group), [unused]);
        group.set_in_use(true);
        assert_eq!(states(&group), [registering], "what was known before is not trusted");
    }

    #[test]
    fn a_deregistered_target_drains_and_is_forgotten() {
        let slow = group(Duration::from_hours(1));
        slow.set_in_use(true);
        slow.register(target("a"));
        slow.deregister("a");
        assert_eq!(states(&slow), [("a".to_owned(), "draining", Some("Target.DeregistrationInProgress"))]);
        assert_eq!(slow.next_target(), None);
        slow.register(target("a"));
        assert_eq!(states(&slow), [("a".to_owned(), "initial", Some("Elb.RegistrationInProgress"))]);

        let fast = group(Duration::ZERO);
        fast.set_in_use(true);
        fast.register(target("a"));
        fast.deregister("a");
        assert_eq!(states(&fast), []);
    }

    #[test]
    fn a_target_of_an_unused_group_does_not_drain() {
        let group = group(Duration::from_hours(1));
        group.register(target("a"));
        group.deregister("a");
        assert_eq!(states(&group), []);
    }
}
