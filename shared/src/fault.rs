//! What could not be done, and what to do about it.

use std::error::Error;

/// Kinds of faults, for callers that branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The event that started the function cannot be used.
    Event,
    /// The policy is invalid or asks for something that this rollout does not have.
    Policy,
    /// AWS denies the call: an IAM action is missing.
    Denied,
    /// Something that must exist does not, or is not as expected.
    NotFound,
    /// AWS does not accept the request, for a reason that is not known here: its own words are with the fault.
    Rejected,
    /// The credentials are too old. New ones come with the next start of a function, or with a sign-in.
    Expired,
    /// AWS did not answer, or asked to come back later.
    Unavailable,
    /// The invocation's time is spent.
    OutOfTime,
    /// A bug of Shiftgate.
    Bug,
}

/// Something that could not be checked or done. `Display` is one sentence without its source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// The kind, for branching.
    pub kind: FaultKind,
    /// What happened, and where.
    pub what: String,
    /// What the reader can do about it.
    pub hint: String,
    /// The cause, when another error is behind it.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl FaultKind {
    /// Whether a later attempt may succeed without anybody changing anything.
    pub fn may_heal(self) -> bool {
        matches!(self, Self::Unavailable | Self::OutOfTime | Self::Expired)
    }
}

impl Fault {
    /// A fault without a cause.
    pub fn new(kind: FaultKind, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: hint.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Whether a later attempt may succeed without anybody changing anything.
    pub fn may_heal(&self) -> bool {
        self.kind.may_heal()
    }

    /// The fault and its causes on one line, for a log or a report.
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Some errors repeat their source; say everything once.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_says_every_cause_once() {
        let inner = Fault::new(FaultKind::Unavailable, "connection refused", "");
        let fault = Fault::new(FaultKind::Unavailable, "cannot read metrics", "look again").because(inner);
        assert_eq!(fault.to_string(), "cannot read metrics");
        assert_eq!(fault.chain(), "cannot read metrics: connection refused");
        assert!(fault.may_heal());
    }
}
