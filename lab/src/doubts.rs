//! What nobody has confirmed about AWS: one list of questions, each with the settings that a world can have. A gate must
//! hold with any of them.

mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use settings::{
    CallBackDelay, DeploymentBalancer, EventStates, EventWeights, FailedEvent, FailedInRollback,
    FinishedEvents, FunctionWeights, HookDelivery, HookDetails, HookErrors, HookNames, LastStepHook,
    ListenerRules, MetricValues, ProductionHook, RollbackHooks, RollbackStages, StageBeforeStep,
    StopInTerminationWait, TrimmedCounts, VersionMetrics, WeightsBeforeStep,
};

use crate::scenario::{Controller, Expect, Scenario};

/// How a world answers every question. The fields have the names of [`Doubt::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the questions are in the list, in words")]
pub struct Doubts {
    pub rollback_hooks: RollbackHooks,
    pub stop_in_termination_wait: StopInTerminationWait,
    pub hook_errors: HookErrors,
    pub hook_delivery: HookDelivery,
    pub event_states: EventStates,
    pub finished_events: FinishedEvents,
    pub deployment_balancer: DeploymentBalancer,
    pub listener_rules: ListenerRules,
    pub hook_names: HookNames,
    pub function_weights: FunctionWeights,
    pub production_hook: ProductionHook,
    pub event_weights: EventWeights,
    pub hook_details: HookDetails,
    pub last_step_hook: LastStepHook,
    pub weights_before_step: WeightsBeforeStep,
    pub stage_before_step: StageBeforeStep,
    pub rollback_stages: RollbackStages,
    pub failed_in_rollback: FailedInRollback,
    pub call_back_delay: CallBackDelay,
    pub failed_event: FailedEvent,
    pub trimmed_counts: TrimmedCounts,
    pub metric_values: MetricValues,
    pub version_metrics: VersionMetrics,
}

impl Doubts {
    /// The setting of a doubt, in words.
    pub fn setting(&self, doubt: &Doubt) -> String {
        let all = serde_json::to_value(self).unwrap_or_default();
        all[doubt.name].as_str().unwrap_or_default().to_owned()
    }

    /// The same world with another answer to one question.
    #[must_use]
    pub fn with(self, choice: Choice) -> Self {
        let mut all = serde_json::to_value(self).unwrap_or_default();
        all[choice.doubt.name] = choice.setting.into();
        // A choice is one of the list, and the list is what can be read.
        serde_json::from_value(all).unwrap_or(self)
    }
}

/// A question to which nobody has confirmed the answer.
#[derive(Debug, Clone, Copy)]
pub struct Doubt {
    /// Its key in a scenario's `doubts`.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// The answers that it may have, the lab's usual one first.
    pub settings: &'static [&'static str],
    can_matter: fn(&Scenario) -> bool,
}

impl PartialEq for Doubt {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self {
            name: "rollback_hooks",
            question: "Does CodeDeploy call the hooks of a service in a rollback deployment?",
            settings: &["called", "not_called"],
            can_matter: |scenario| is(scenario, Controller::CodeDeploy) && rolls_back(scenario),
        },
        Self {
            name: "stop_in_termination_wait",
            question: "Does StopDeployment stop a deployment that waits before the old version is stopped?",
            settings: &["accepted", "refused"],
            // A hook stands between the shift and the wait: only a look that takes longer than that hook meets it.
            can_matter: |_| false,
        },
        Self {
            name: "hook_errors",
            question: "Does CodeDeploy notice that a hook's function ended with an error, before the hour is over?",
            settings: &["unnoticed", "noticed"],
            can_matter: |scenario| !scenario.kill.is_empty(),
        },
        Self {
            name: "hook_delivery",
            question: "Does Lambda hand a hook's event over more than once?",
            settings: &["once", "repeated"],
            can_matter: by_codedeploy,
        },
        Self {
            name: "event_states",
            question: "Does GetDeploymentTarget tell at once where a lifecycle event stands?",
            settings: &["at_once", "late"],
            can_matter: |scenario| by_codedeploy(scenario) && takes_traffic(scenario),
        },
        Self {
            name: "finished_events",
            question: "Can the lifecycle events of a deployment be read after its end?",
            settings: &["readable", "gone"],
            // No function asks for them; `backtest` does.
            can_matter: |_| false,
        },
        Self {
            name: "deployment_balancer",
            question: "Does GetDeployment tell the target groups and listeners, as GetDeploymentGroup does?",
            settings: &["told", "left_out"],
            can_matter: by_codedeploy,
        },
        Self {
            name: "listener_rules",
            question: "Does CodeDeploy rewrite only the production listener's default action, or its other rules too?",
            settings: &["default_action", "all"],
            can_matter: |scenario| scenario.service.rule,
        },
        Self {
            name: "hook_names",
            question: "Can a hook name its function by an ARN with an alias behind it?",
            settings: &["unqualified", "qualified"],
            // All hooks are called in a release that goes through.
            can_matter: |scenario| calls_hooks(scenario) && goes_through(scenario),
        },
        Self {
            name: "function_weights",
            question: "Is a function's targetVersionWeight a fraction, or percent as of a service?",
            settings: &["fraction", "percent"],
            can_matter: |scenario| is(scenario, Controller::Lambda),
        },
        Self {
            name: "production_hook",
            question: "Does ECS call PRODUCTION_TRAFFIC_SHIFT before a step shifts, after it, or after its bake?",
            settings: &["after_shift", "before_shift", "after_bake"],
            can_matter: |scenario| in_steps(scenario) && takes_traffic(scenario),
        },
        Self {
            name: "event_weights",
            question: "Does ECS write the weights of an event as whole numbers, or as fractions?",
            settings: &["as_needed", "integers", "fractions"],
            can_matter: in_steps,
        },
        Self {
            name: "hook_details",
            question: "For how long does ECS carry the hookDetails that a hook returned?",
            settings: &["whole_deployment", "within_stage", "never"],
            can_matter: |scenario| in_steps(scenario) && takes_traffic(scenario),
        },
        Self {
            name: "last_step_hook",
            question: "Does ECS call PRE_PRODUCTION_TRAFFIC_SHIFT before the step to 100 %, too?",
            settings: &["called", "left_out"],
            can_matter: |scenario| in_steps(scenario) && takes_traffic(scenario),
        },
        Self {
            name: "weights_before_step",
            question: "Are the weights in an event of PRE_PRODUCTION_TRAFFIC_SHIFT those of the moment, or of the step?",
            settings: &["current", "requested"],
            can_matter: in_steps,
        },
        Self {
            name: "stage_before_step",
            question: "Does DescribeServiceDeployments name the stage PRE_PRODUCTION_TRAFFIC_SHIFT?",
            settings: &["shown", "not_shown"],
            // No function reads the stage; each call names its own.
            can_matter: |_| false,
        },
        Self {
            name: "rollback_stages",
            question: "Does ECS call TEST_TRAFFIC_SHIFT in a rollback, too?",
            settings: &["both_shifts", "production"],
            can_matter: |scenario| in_steps(scenario) && rolls_back(scenario),
        },
        Self {
            name: "failed_in_rollback",
            question: "Does a FAILED answer to a hook in a rollback of ECS break the rollback?",
            settings: &["breaks_it", "ignored"],
            // No function answers so; with the lab's usual setting a scenario would see it.
            can_matter: |_| false,
        },
        Self {
            name: "call_back_delay",
            question: "Does ECS read callBackDelay, or only callBackDelaySeconds?",
            settings: &["read", "unread"],
            can_matter: |scenario| in_steps(scenario) && takes_traffic(scenario),
        },
        Self {
            name: "failed_event",
            question: "Does ECS send SERVICE_DEPLOYMENT_FAILED without a circuit breaker?",
            settings: &["always", "with_circuit_breaker"],
            // No function is called by it.
            can_matter: |_| false,
        },
        Self {
            name: "trimmed_counts",
            question: "Does CloudWatch serve the statistic TC of every metric?",
            settings: &["served", "empty", "refused"],
            can_matter: counts_slow_requests,
        },
        Self {
            name: "metric_values",
            question: "Is a metric's minute complete when the ingestion delay is over?",
            settings: &["settled", "growing"],
            can_matter: |scenario| takes_traffic(scenario) && scenario.service.requests_per_second > 0.0,
        },
        Self {
            name: "version_metrics",
            question: "Does an alias with one version publish metrics with the dimension ExecutedVersion?",
            settings: &["always", "between_versions"],
            can_matter: |scenario| is(scenario, Controller::Lambda),
        },
    ];

    /// The doubt of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        const { &Self::ALL }.iter().find(|doubt| doubt.name == name)
    }

    /// Whether the answer can make a difference to what is played. Where it cannot, no function meets it.
    pub fn can_matter_for(&self, scenario: &Scenario) -> bool {
        (self.can_matter)(scenario)
    }

    /// The settings that a scenario does not have by itself.
    pub fn others(&'static self, scenario: &Scenario) -> impl Iterator<Item = Choice> + use<> {
        let own = scenario.doubts.setting(self);
        self.settings
            .iter()
            .filter(move |setting| **setting != own)
            .map(move |setting| Choice { doubt: self, setting })
    }
}

/// A doubt with one of its settings, written `NAME=SETTING`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The doubt.
    pub doubt: &'static Doubt,
    /// One of its settings.
    pub setting: &'static str,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.doubt.name, self.setting)
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, setting) = text.split_once('=').ok_or("write it as NAME=SETTING")?;
        let doubt = Doubt::named(name).ok_or_else(|| {
            let known: Vec<&str> = Doubt::ALL.iter().map(|doubt| doubt.name).collect();
            format!("there is no doubt {name}; there are {}", known.join(", "))
        })?;
        let found = doubt.settings.iter().find(|known| **known == setting).ok_or_else(|| {
            format!("{name} has no setting {setting}; it has {}", doubt.settings.join(", "))
        })?;
        Ok(Self { doubt, setting: found })
    }
}

fn is(scenario: &Scenario, controller: Controller) -> bool {
    scenario.controller == controller
}

fn by_codedeploy(scenario: &Scenario) -> bool {
    !is(scenario, Controller::Ecs)
}

/// Whether ECS carries it out and calls hooks.
fn in_steps(scenario: &Scenario) -> bool {
    is(scenario, Controller::Ecs) && !scenario.shift.rolling
}

fn calls_hooks(scenario: &Scenario) -> bool {
    by_codedeploy(scenario) || in_steps(scenario)
}

fn goes_through(scenario: &Scenario) -> bool {
    scenario.expect.as_ref().is_some_and(Expect::is_release)
}

fn rolls_back(scenario: &Scenario) -> bool {
    scenario.expect.as_ref().is_some_and(|expect| expect.rolled_back)
}

/// Whether green takes any traffic before it is decided.
fn takes_traffic(scenario: &Scenario) -> bool {
    const BEFORE: [&str; 4] =
        ["before-install", "after-install", "after-allow-test-traffic", "before-allow-traffic"];
    let by = scenario.expect.as_ref().and_then(|expect| expect.by.as_deref());
    !by.is_some_and(|by| BEFORE.contains(&by))
}

/// Whether slow requests are counted: by a gate of the policy, or by the built-in one.
fn counts_slow_requests(scenario: &Scenario) -> bool {
    let policy = scenario.policy.as_ref();
    let gates = |key: &str| policy.and_then(|policy| policy.get(key));
    let named = |gates: &serde_json::Value| gates.to_string().contains("slower_than");
    let built_in = gates("traffic").is_none() && !is(scenario, Controller::Lambda);
    let asked = gates("traffic").is_some_and(named) || gates("bake").is_some_and(named) || built_in;
    // A rolling update compares a percentile with its past.
    asked && takes_traffic(scenario) && !scenario.shift.rolling
}
