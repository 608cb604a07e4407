//! A listener: its address, its rules, and which target groups it forwards everything else to with which weights.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Request;
use jiff::Timestamp;

use super::rule::{Forward, Rule};
use super::target_group::{Target, TargetGroup};

/// Which listener of a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// Serves the users.
    Production,
    /// Serves the smoke checks.
    Test,
}

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
    /// Its other rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
    default: Forward,
    /// Of the test listener, when each request came; users' requests are counted where they are made.
    arrivals: Mutex<Vec<Timestamp>>,
}

impl Listener {
    pub(super) fn new(
        kind: ListenerKind,
        arn: String,
        rule_arn: String,
        address: SocketAddr,
        mut rules: Vec<Rule>,
        first: Arc<TargetGroup>,
    ) -> Self {
        rules.sort_by_key(|rule| rule.spec.priority);
        Self { kind, arn, rule_arn, address, rules, default: Forward::to(first), arrivals: Mutex::default() }
    }

    /// The groups of its default action, with their weights.
    pub fn forwards(&self) -> Vec<(Arc<TargetGroup>, u32)> {
        self.default.all()
    }

    pub(super) fn set_forwards(&self, forwards: Vec<(Arc<TargetGroup>, u32)>) {
        self.default.set(forwards);
    }

    /// Whether its default action or a rule names the group, with whatever weight.
    pub(super) fn forwards_to(&self, group: &TargetGroup) -> bool {
        self.default.names(group) || self.rules.iter().any(|rule| rule.forward().names(group))
    }

    /// When the requests of smoke checks came; of the production listener nothing is known.
    pub fn arrivals(&self) -> Vec<Timestamp> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn arrived(&self, at: Timestamp) {
        if self.kind == ListenerKind::Test {
            self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        }
    }

    /// A group and a target of it, by the first rule that takes the request, or else by the default action.
    pub(super) fn choose<B>(&self, request: &Request<B>) -> Option<(Arc<TargetGroup>, Target)> {
        let rule = self.rules.iter().find(|rule| rule.takes(request));
        rule.map_or(&self.default, Rule::forward).choose()
    }
}
