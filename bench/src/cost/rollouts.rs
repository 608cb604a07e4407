//! The rollouts whose calls are counted: healthy ones, by the built-in policy, and others that differ from the first in one
//! thing, so that the difference is what this thing costs.

use std::time::Duration;

use serde_json::{Value, json};
use shiftgate::policy::defaults;
use shiftgate::policy::values::Span;
use shiftgate_lab::scenario::{Controller, Scenario, ServiceSpec, ShiftSpec, Step};
use shiftgate_lab::world::Bill;

/// A way to release, with its name in tables and in the file of counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The name.
    pub name: &'static str,
    /// Who carries it out.
    pub controller: Controller,
    /// Minutes of the one step of 10 %, or of each of ten.
    pub shift: Minutes,
    /// Minutes of the bake.
    pub bake: u32,
    /// Comparisons, beside those of the built-in policy.
    pub more_gates: usize,
    /// Smoke checks, beside the built-in one.
    pub more_checks: usize,
}

/// How traffic shifts, ten percent at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minutes {
    /// One step of so many minutes.
    Canary(u32),
    /// Ten steps of so many minutes each.
    Linear(u32),
}

/// The rollout that is told in full, and from which the others differ.
pub const CANARY: &str = "CodeDeploy canary";
/// The same in steps.
pub const LINEAR: &str = "CodeDeploy linear";
/// The same by ECS itself.
pub const ECS: &str = "ECS canary";
/// The same of a function.
pub const FUNCTION: &str = "Lambda canary";
/// Ten minutes less of shift.
pub const SHORT: &str = "canary of 5 minutes";
/// Five minutes more of bake.
pub const LONG_BAKE: &str = "bake of 10 minutes";
/// A gate more.
pub const ONE_GATE_MORE: &str = "1 gate more";
/// A smoke check more.
pub const ONE_CHECK_MORE: &str = "1 smoke check more";

/// Minutes of the canaries' step.
pub const CANARY_MINUTES: u32 = 15;
/// Minutes of the bake by the built-in policy.
pub const BAKE_MINUTES: u32 = (defaults::BAKE.as_secs() / 60) as u32;
/// Zones of the lab's balancers, with a task in each. CloudWatch has metrics for each zone.
pub const ZONES: usize = 3;
/// How far blue's metrics go back, in minutes: what is slow is what was in the hour before.
const PAST_MINUTES: u32 = 65;
/// Requests of the users in a second.
const REQUESTS_PER_SECOND: f64 = 20.0;

/// All of them.
pub fn ways() -> Vec<Way> {
    let way = |name| Way {
        name,
        controller: Controller::CodeDeploy,
        shift: Minutes::Canary(CANARY_MINUTES),
        bake: BAKE_MINUTES,
        more_gates: 0,
        more_checks: 0,
    };
    vec![
        way(CANARY),
        Way { shift: Minutes::Linear(1), ..way(LINEAR) },
        Way { controller: Controller::Ecs, ..way(ECS) },
        Way { controller: Controller::Lambda, ..way(FUNCTION) },
        Way { shift: Minutes::Canary(5), ..way(SHORT) },
        Way { bake: 10, ..way(LONG_BAKE) },
        Way { more_gates: 1, ..way(ONE_GATE_MORE) },
        Way { more_checks: 1, ..way(ONE_CHECK_MORE) },
    ]
}

impl Way {
    /// The world in which it is played. With a `speed` of 1, minutes have 60 seconds; above, the minutes of the controller, of
    /// the metrics, of the looks and of the bake are shorter by as much. Readiness and what a call takes stay as they are.
    pub fn scenario(&self, speed: u32) -> Scenario {
        let minute = Duration::from_mins(1) / speed;
        let step = |percent, minutes| Some(Step { percent, minutes: f64::from(minutes) });
        let shift = match self.shift {
            Minutes::Canary(minutes) => ShiftSpec { canary: step(10.0, minutes), ..ShiftSpec::default() },
            Minutes::Linear(minutes) => ShiftSpec { linear: step(10.0, minutes), ..ShiftSpec::default() },
        };
        Scenario {
            service: ServiceSpec {
                tasks: ZONES,
                requests_per_second: REQUESTS_PER_SECOND,
                past: Span(minute * PAST_MINUTES),
                ..ServiceSpec::default()
            },
            shift,
            controller: self.controller,
            minute: Some(Span(minute)),
            policy: Some(self.policy(speed)),
            ..Scenario::default()
        }
    }

    /// The built-in policy, with what this way has otherwise.
    fn policy(&self, speed: u32) -> Value {
        let shorter = |duration: Duration| format!("{}s", duration.as_secs() / u64::from(speed));
        let sampling = defaults::SAMPLING;
        let mut policy = json!({
            "version": 1,
            "metrics": {
                "period": shorter(sampling.period),
                "ingestion_delay": shorter(sampling.ingestion_delay),
                "look_every": shorter(sampling.look_every),
            },
            "steps": {"at_most": shorter(defaults::LONGEST_STEP)},
            "bake": {"for": shorter(Duration::from_mins(self.bake.into()))},
        });
        if self.more_gates > 0 {
            let all = "RequestCount";
            let mut gates = vec![
                json!({"name": "server errors", "bad": "HTTPCode_Target_5XX_Count", "of": all, "weight": 6}),
                json!({"name": "connection errors", "bad": "TargetConnectionErrorCount", "of": all, "weight": 1}),
                json!({"name": "slow requests", "slower_than": "auto", "weight": 3}),
                json!({"name": "unhealthy targets", "metric": "UnHealthyHostCount", "statistic": "Minimum", "limit": 0, "tolerate": "1x"}),
            ];
            let more = json!({"name": "client errors", "bad": "HTTPCode_Target_4XX_Count", "of": all});
            gates.extend(std::iter::repeat_n(more, self.more_gates));
            policy["traffic"] = gates.into();
        }
        if self.more_checks > 0 {
            let check = |number| json!({"name": format!("check {number}"), "get": "/health", "times": 5});
            policy["smoke"] = json!({"checks": (0..=self.more_checks).map(check).collect::<Vec<_>>()});
        }
        policy
    }

    /// What was counted in faster minutes, as it is on AWS: of the waits within an invocation only those of the bake were shorter.
    #[must_use]
    pub fn at_the_pace_of_aws(mut bill: Bill, speed: u32) -> Bill {
        if let Some(bake) = bill.functions.get_mut("after-allow-traffic") {
            bake.waited_seconds *= f64::from(speed);
        }
        bill
    }
}
