//! Faults with names: what can go wrong between a function and AWS.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

/// What happens to a call instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The role does not allow it.
    Deny,
    /// Too many requests.
    Throttle,
    /// The service has an internal fault.
    ServerError,
    /// No answer, ever.
    Hang,
    /// The connection breaks in the middle of the answer.
    Reset,
    /// An answer that is not of the protocol.
    Garbage,
}

/// Which calls a fault hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// IAM action, such as `cloudwatch:GetMetricData`; `*` for all.
    pub action: String,
    /// Only calls of this function; `None` for all callers.
    pub caller: Option<String>,
    /// What happens.
    pub fault: Fault,
}

/// The faults that hold now.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.lock().push(rule);
    }

    /// Takes a rule away.
    pub fn remove(&self, rule: &Rule) {
        self.lock().retain(|known| known != rule);
    }

    /// The fault that a call meets, if any.
    pub fn on(&self, caller: &str, action: &str) -> Option<Fault> {
        self.lock()
            .iter()
            .find(|rule| {
                (rule.action == action || rule.action == "*")
                    && rule.caller.as_deref().is_none_or(|wanted| wanted == caller)
            })
            .map(|rule| rule.fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
