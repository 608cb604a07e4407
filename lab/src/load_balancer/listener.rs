//! A listener: its address, and which target groups it forwards to with which weights.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::seq::IndexedRandom;

use super::target_group::{Target, TargetGroup};

/// Which listener of a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// Serves the users.
    Production,
    /// Serves the smoke checks.
    Test,
}

/// One group of a weighted forward, with its weight (0 to 999).
type Forward = (Arc<TargetGroup>, u32);

/// A running listener.
#[derive(Debug)]
pub struct Listener {
    /// Which one it is.
    pub kind: ListenerKind,
    /// Its ARN.
    pub arn: String,
    /// ARN of its default rule.
    pub rule_arn: String,
    /// Where it listens.
    pub address: SocketAddr,
    forwards: Mutex<Vec<Forward>>,
}

impl Listener {
    pub(super) fn new(
        kind: ListenerKind,
        arn: String,
        rule_arn: String,
        address: SocketAddr,
        first: Arc<TargetGroup>,
    ) -> Self {
        Self { kind, arn, rule_arn, address, forwards: Mutex::new(vec![(first, 1)]) }
    }

    /// The groups of its forward action, with their weights.
    pub fn forwards(&self) -> Vec<(Arc<TargetGroup>, u32)> {
        self.lock().clone()
    }

    pub(super) fn set_forwards(&self, forwards: Vec<Forward>) {
        *self.lock() = forwards;
    }

    /// Whether it names the group, with whatever weight.
    pub(super) fn forwards_to(&self, group: &TargetGroup) -> bool {
        self.lock().iter().any(|(forward, _)| forward.name == group.name)
    }

    /// A group by weight, and a target of it. As on AWS, a group without targets does not give way to the other.
    pub(super) fn choose(&self) -> Option<(Arc<TargetGroup>, Target)> {
        let group = self.choose_group()?;
        let target = group.next_target()?;
        Some((group, target))
    }

    fn choose_group(&self) -> Option<Arc<TargetGroup>> {
        let forwards = self.lock();
        // An error means that all weights are 0: there is nothing to choose.
        let (group, _) = forwards.choose_weighted(&mut rand::rng(), |(_, weight)| *weight).ok()?;
        Some(Arc::clone(group))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Forward>> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
