//! The settings that a function takes from its environment: the only place that reads it.

use std::time::Duration;

use crate::policy::plan::{Mode, Plan, Steps};
use crate::verdict::Rules;

/// What template.yaml, or whoever runs a function by hand, may set. All are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `SHIFTGATE_POLICY`: an inline policy (YAML or JSON), used instead of Parameter Store.
    pub inline_policy: Option<String>,
    /// `SHIFTGATE_STATE_MACHINE_ARN`: the watch's loop.
    pub state_machine_arn: Option<String>,
    /// `SHIFTGATE_SIBLINGS`: the other functions, `stage=function name` separated by commas; before-install asks
    /// each of them whether it has its permissions.
    pub siblings: Vec<(String, String)>,
    /// `SHIFTGATE_ALLOWED_HOSTS`: hosts other than the rollout's listeners that smoke checks may call, and the only ones
    /// that they call at a loopback address.
    pub allowed_hosts: Vec<String>,
    /// `SHIFTGATE_STACK`: the stack that the function belongs to, by which its own health is measured.
    pub stack: Option<String>,
    /// `AWS_REGION`, set by Lambda: where a report's links lead to.
    pub region: Option<String>,
    /// `AWS_LAMBDA_LOG_GROUP_NAME`, set by Lambda: the same.
    pub log_group: Option<String>,
    /// `SHIFTGATE_MODE=observe`: nothing is stopped and nothing is held, whatever the policies say.
    pub observe: bool,
    /// `SHIFTGATE_REPORT_BUCKET`: the bucket that reports are stored in.
    pub report_bucket: Option<String>,
    /// `SHIFTGATE_VERDICT_TOPIC_ARN`: the topic that is told of verdicts.
    pub verdict_topic_arn: Option<String>,
    /// `SHIFTGATE_NOTIFY_ON=all`: it is told of all of them, and else of those that stop a release or would have.
    pub notify_of_all: bool,
    /// `SHIFTGATE_TIMEOUT_SECONDS`: the function's timeout, assumed when the invocation carries no usable deadline.
    pub timeout: Option<Duration>,
}

/// A variable that is set to something.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// `RUST_LOG`: which of the plain log lines are written.
pub fn log_filter() -> Option<String> {
    variable("RUST_LOG")
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> Self {
        Self::from_lookup(variable)
    }

    /// The same from any source of variables. Empty values count as absent, since a template cannot leave one out.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let list = |name: &str| -> Vec<String> {
            let text = get(name).unwrap_or_default();
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        Self {
            inline_policy: get("SHIFTGATE_POLICY"),
            state_machine_arn: get("SHIFTGATE_STATE_MACHINE_ARN"),
            siblings: list("SHIFTGATE_SIBLINGS")
                .iter()
                .filter_map(|item| item.split_once('='))
                .map(|(stage, function)| (stage.to_owned(), function.to_owned()))
                .collect(),
            allowed_hosts: list("SHIFTGATE_ALLOWED_HOSTS"),
            stack: get("SHIFTGATE_STACK"),
            region: get("AWS_REGION"),
            log_group: get("AWS_LAMBDA_LOG_GROUP_NAME"),
            observe: get("SHIFTGATE_MODE").is_some_and(|mode| mode == "observe"),
            report_bucket: get("SHIFTGATE_REPORT_BUCKET"),
            verdict_topic_arn: get("SHIFTGATE_VERDICT_TOPIC_ARN"),
            notify_of_all: get("SHIFTGATE_NOTIFY_ON").is_some_and(|on| on == "all"),
            timeout: get("SHIFTGATE_TIMEOUT_SECONDS")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
        }
    }
}

impl Environment {
    /// What holds before the policy is known.
    pub fn rules(&self) -> Rules {
        let mode = if self.observe { Mode::Observe } else { Mode::Enforce };
        Rules { mode, ..Rules::default() }
    }

    /// A policy's plan, and who deployed this stack has the last word.
    pub fn overrule(&self, plan: Plan) -> Plan {
        if !self.observe {
            return plan;
        }
        let rules = Rules { mode: Mode::Observe, ..plan.rules };
        let steps = Steps { at_least: Duration::ZERO, at_most: Duration::ZERO };
        Plan { rules, steps, ..plan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load;

    #[test]
    fn who_deploys_the_stack_may_switch_every_gate_to_observing() {
        let of = |mode: &'static str| {
            Environment::from_lookup(|name| (name == "SHIFTGATE_MODE").then(|| mode.to_owned()))
        };
        let enforcing = || load::parse("mode: enforce\nsteps: {at_most: 20m}").unwrap();
        let observed = of("observe").overrule(enforcing());
        assert_eq!(observed.rules, Rules { mode: Mode::Observe, ..enforcing().rules });
        assert_eq!(observed.steps.at_most, Duration::ZERO, "nothing is held either");
        assert_eq!(of("observe").rules().mode, Mode::Observe, "a policy that cannot be read stops nothing");
        for other in ["policy", ""] {
            assert_eq!(of(other).overrule(enforcing()).rules, enforcing().rules);
            assert_eq!(of(other).overrule(enforcing()).steps, enforcing().steps);
            assert_eq!(of(other).rules(), Rules::default());
        }
    }

    #[test]
    fn siblings_are_pairs_and_empty_values_are_absent() {
        let environment = Environment::from_lookup(|name| match name {
            "SHIFTGATE_SIBLINGS" => Some("watch=CodeDeployHook_x_watch, after-install=f".into()),
            "SHIFTGATE_POLICY" => Some("  ".into()),
            "SHIFTGATE_TIMEOUT_SECONDS" => Some("60".into()),
            _ => None,
        });
        assert_eq!(
            environment.siblings,
            [
                ("watch".to_owned(), "CodeDeployHook_x_watch".to_owned()),
                ("after-install".to_owned(), "f".to_owned())
            ]
        );
        assert_eq!(environment.inline_policy, None);
        assert_eq!(environment.timeout, Some(Duration::from_mins(1)));
    }
}
