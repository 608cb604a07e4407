//! Faults with names: what can go wrong between a function and AWS.

mod distort;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use distort::{Syntax, distort_request, distort_response};

use crate::api::{ACCOUNT, ApiError};

/// What happens to a call, or to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The role does not allow it.
    Deny,
    /// The role's credentials are too old.
    Expired,
    /// The signature is of another time than AWS's.
    BadSignature,
    /// Too many requests.
    Throttle,
    /// The service has an internal fault (500).
    ServerError,
    /// The service is not there (503).
    Unavailable,
    /// No answer, ever.
    Hang,
    /// The call is carried out, and its answer comes byte by byte.
    Slow,
    /// The call is carried out, and the connection breaks in the middle of the answer.
    Reset,
    /// The call is carried out, and half of the answer is missing.
    Truncated,
    /// The call is carried out, and a proxy answers in its own words.
    Garbage,
    /// The call is carried out, and its answer says that it is of another type.
    WrongType,
    /// The answer has fields that nobody knows yet.
    UnknownFields,
    /// States, statuses and types have values that nobody knows yet.
    UnknownValues,
    /// The first page of each answer is empty and names a second one.
    EmptyPage,
    /// Every page names another one.
    EndlessPages,
    /// AWS's clock is five minutes ahead of the function's.
    ClockAhead,
    /// AWS's clock is five minutes behind the function's.
    ClockBehind,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 18] = [
        Self::Deny,
        Self::Expired,
        Self::BadSignature,
        Self::Throttle,
        Self::ServerError,
        Self::Unavailable,
        Self::Hang,
        Self::Slow,
        Self::Reset,
        Self::Truncated,
        Self::Garbage,
        Self::WrongType,
        Self::UnknownFields,
        Self::UnknownValues,
        Self::EmptyPage,
        Self::EndlessPages,
        Self::ClockAhead,
        Self::ClockBehind,
    ];

    /// Whether it is about clocks: AWS has one, whatever is called.
    pub fn is_of_clocks(self) -> bool {
        matches!(self, Self::ClockAhead | Self::ClockBehind)
    }

    /// The error that AWS answers instead of carrying the call out, if the fault is one.
    pub fn refusal(self, caller: &str, action: &str, resources: &[String]) -> Option<ApiError> {
        let server = |status, code: &str, message: &str| ApiError {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        };
        Some(match self {
            Self::Deny => denied(caller, action, resources),
            Self::Expired => {
                server(403, "ExpiredTokenException", "The security token included in the request is expired")
            }
            Self::BadSignature => server(
                403,
                "InvalidSignatureException",
                "Signature expired: the time of the request is too far from the time of the server",
            ),
            Self::Throttle => ApiError::client("ThrottlingException", "Rate exceeded"),
            Self::ServerError => server(500, "InternalServerError", "the lab was asked to fail"),
            Self::Unavailable => {
                server(503, "ServiceUnavailableException", "the lab was asked to be unavailable")
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.pad(name.as_str().unwrap_or_default())
    }
}

/// The refusal of a call that the caller's role does not allow on these resources.
pub fn denied(caller: &str, action: &str, resources: &[String]) -> ApiError {
    let resources = resources.join(", ");
    ApiError {
        status: 403,
        code: "AccessDeniedException".to_owned(),
        message: format!(
            "User: arn:aws:sts::{ACCOUNT}:assumed-role/{caller}/{caller} is not authorized to perform: {action} on resource: {resources} because no identity-based policy allows the {action} action"
        ),
    }
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
    /// Which of the calls that fit: the first one is 0.
    pub calls: Range<u32>,
}

impl Rule {
    /// A fault of every such call.
    pub fn lasting(action: &str, caller: Option<&str>, fault: Fault) -> Self {
        Self { action: action.to_owned(), caller: caller.map(str::to_owned), fault, calls: 0..u32::MAX }
    }

    fn fits(&self, caller: &str, action: &str) -> bool {
        (self.action == action || self.action == "*")
            && self.caller.as_deref().is_none_or(|wanted| wanted == caller)
    }
}

/// What happens to a call. The clocks are apart whatever else happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hit {
    /// AWS's clock.
    pub clock: Option<Fault>,
    /// Anything else.
    pub other: Option<Fault>,
}

/// The faults that hold now, each with the calls that it has seen.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<(Rule, u32)>>);

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.lock().push((rule, 0));
    }

    /// Takes a rule away.
    pub fn remove(&self, rule: &Rule) {
        self.lock().retain(|(known, _)| known != rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// What a call meets: the fault of the first rule which hits it, and beside it that of the first about clocks.
    pub fn on(&self, caller: &str, action: &str) -> Hit {
        let mut hit = Hit::default();
        for (rule, seen) in self.lock().iter_mut().filter(|(rule, _)| rule.fits(caller, action)) {
            let place = if rule.fault.is_of_clocks() { &mut hit.clock } else { &mut hit.other };
            *place = place.or(rule.calls.contains(seen).then_some(rule.fault));
            *seen = seen.saturating_add(1);
        }
        hit
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Rule, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_the_calls_that_it_names() {
        let faults = Faults::default();
        let action = "cloudwatch:GetMetricData";
        let second = Rule { calls: 1..2, ..Rule::lasting(action, Some("watch"), Fault::Throttle) };
        faults.add(second.clone());
        faults.add(Rule::lasting("*", Some("watch"), Fault::Slow));
        let on = |caller, action| faults.on(caller, action).other;
        assert_eq!(on("after-install", action), None);
        assert_eq!(on("watch", action), Some(Fault::Slow));
        assert_eq!(on("watch", action), Some(Fault::Throttle));
        assert_eq!(on("watch", action), Some(Fault::Slow));
        faults.remove(&second);
        assert_eq!(on("watch", "ssm:GetParameter"), Some(Fault::Slow));
        faults.clear();
        assert_eq!(on("watch", action), None);
    }
}
