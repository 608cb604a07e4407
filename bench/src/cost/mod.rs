//! What Shiftgate costs on AWS: counted calls times list prices. `rollouts` says what is played, `counts` has what was counted,
//! `prices` the prices; here is the model between them, `peers` what else one could do, `tables` and `chart` tell it.
//!
//! ```text
//! billed seconds = cold starts x init + round trips x latency + connections x set-up + smoke requests x their time + waiting
//! cost of a function = GB x billed seconds x price + invocations x price + metrics asked for x price + bytes of log x price
//! cost of a rollout = all functions + transitions x price + events x price
//! cost of a month = rollouts x that + custom metrics x hours with data x price + what stands there
//! ```
//!
//! Round trips are taken one after the other, and each invocation opens its connections anew: both are upper bounds.

pub mod chart;
pub mod counts;
pub mod peers;
pub mod prices;
pub mod rollouts;
pub mod tables;

use std::collections::BTreeSet;
use std::time::Duration;

use shiftgate_lab::world::{Bill, Used};

use self::prices::{
    ALARM_METRIC, CUSTOM_METRIC, DASHBOARD, EVENT, HOURS_OF_A_MONTH, KMS_KEY, LAMBDA_REQUEST, LAMBDA_TIME,
    LOG_INGESTED, LOG_STORED, MESSAGE, METRIC_READ, TRANSITION, Usd,
};

/// What the lab cannot tell of AWS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumptions {
    /// One call to AWS and its answer within a region.
    pub round_trip: Duration,
    /// Opening a connection with TLS, to each service that an invocation calls.
    pub connection: Duration,
    /// Starting a process, until it asks for its event.
    pub init: Duration,
    /// A request of a smoke check, with its connection.
    pub smoke_request: Duration,
    /// Memory of a function, in GB of 1024 MB.
    pub memory_gb: f64,
    /// Bytes of Lambda's own lines about an invocation, in JSON: its start, its report, and of a cold one its init.
    pub platform_bytes: f64,
    /// Bytes that CloudWatch Logs adds to each event.
    pub event_bytes: f64,
    /// Months that lines are kept.
    pub months_kept: f64,
}

impl Default for Assumptions {
    /// template.yaml has the memory and the 90 days; CloudWatch Logs' documentation the 26 bytes; the others are guesses on the
    /// high side.
    fn default() -> Self {
        Self {
            round_trip: Duration::from_millis(20),
            connection: Duration::from_millis(60),
            init: Duration::from_millis(100),
            smoke_request: Duration::from_millis(150),
            memory_gb: 256.0 / 1024.0,
            platform_bytes: 1000.0,
            event_bytes: 26.0,
            months_kept: 3.0,
        }
    }
}

/// Lambda's own events in the log of an invocation.
const PLATFORM_EVENTS: f64 = 3.0;
/// Bytes of a GB, as AWS bills them.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What a function, or a whole rollout, costs by what is paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Lambda's time in which something is done.
    pub working: Usd,
    /// Lambda's time in which an invocation waits.
    pub waiting: Usd,
    /// Invocations.
    pub invocations: Usd,
    /// Metrics read.
    pub metrics: Usd,
    /// State transitions.
    pub transitions: Usd,
    /// Logs, taken in and kept.
    pub logs: Usd,
    /// Events and messages of verdicts.
    pub told: Usd,
}

impl Cost {
    /// What is paid for, with its name.
    pub fn lines(&self) -> [(&'static str, Usd); 7] {
        [
            ("GetMetricData", self.metrics),
            ("Lambda, waiting", self.waiting),
            ("Step Functions", self.transitions),
            ("Lambda, working", self.working),
            ("CloudWatch Logs", self.logs),
            ("Lambda, invocations", self.invocations),
            ("EventBridge and SNS", self.told),
        ]
    }

    /// All of it.
    pub fn total(&self) -> Usd {
        self.lines().into_iter().map(|(_, cost)| cost).sum()
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            working: self.working + other.working,
            waiting: self.waiting + other.waiting,
            invocations: self.invocations + other.invocations,
            metrics: self.metrics + other.metrics,
            transitions: self.transitions + other.transitions,
            logs: self.logs + other.logs,
            told: self.told + other.told,
        }
    }
}

/// Seconds of a function in which it does something, all invocations together.
pub fn working_seconds(function: &Used, assumed: &Assumptions) -> f64 {
    let services: BTreeSet<&str> =
        function.calls.keys().map(|action| action.split(':').next().unwrap_or(action)).collect();
    let connections = services.len() * function.invocations;
    let times = |count: usize, each: Duration| count as f64 * each.as_secs_f64();
    times(function.cold_starts, assumed.init)
        + times(function.round_trips(), assumed.round_trip)
        + times(connections, assumed.connection)
        + times(function.smoke_requests, assumed.smoke_request)
}

/// What a function costs.
pub fn of_function(function: &Used, assumed: &Assumptions) -> Cost {
    let invocations = function.invocations as f64;
    let bytes = function.log_bytes as f64
        + invocations * assumed.platform_bytes
        + (function.log_lines as f64 + PLATFORM_EVENTS * invocations) * assumed.event_bytes;
    let called = |action: &str| function.calls.get(action).copied().unwrap_or(0) as f64;
    Cost {
        working: LAMBDA_TIME.of(assumed.memory_gb * working_seconds(function, assumed)),
        waiting: LAMBDA_TIME.of(assumed.memory_gb * function.waited_seconds),
        invocations: LAMBDA_REQUEST.of(invocations),
        metrics: METRIC_READ.of(function.metrics as f64),
        transitions: Usd::default(),
        logs: LOG_INGESTED.of(bytes / GB) + LOG_STORED.of(assumed.months_kept * bytes / GB),
        told: EVENT.of(called("events:PutEvents")) + MESSAGE.of(called("sns:Publish")),
    }
}

/// What a rollout costs, without the custom metrics. The state machine's part is `of_function` of nobody.
pub fn of_rollout(bill: &Bill, assumed: &Assumptions) -> Cost {
    let functions = bill.functions.values().map(|function| of_function(function, assumed));
    functions.fold(of_the_loop(bill), std::ops::Add::add)
}

/// What the watch's loop costs in a rollout, without what it calls.
pub fn of_the_loop(bill: &Bill) -> Cost {
    Cost { transitions: TRANSITION.of(bill.transitions as f64), ..Cost::default() }
}

/// Hours of a month in which at least one of so many rollouts falls, when each is as likely in every hour.
pub fn hours_with_data(rollouts: f64) -> f64 {
    HOURS_OF_A_MONTH * (1.0 - (1.0 - 1.0 / HOURS_OF_A_MONTH).powf(rollouts))
}

/// What the custom metrics of a rollout cost in a month with so many like it. Each metric gets its value in one hour.
pub fn of_custom_metrics(bill: &Bill, rollouts: f64) -> Usd {
    CUSTOM_METRIC.of(bill.custom_metrics.len() as f64 * hours_with_data(rollouts))
}

/// Metrics that the template's alarms look at.
pub const ALARM_METRICS: f64 = 29.0;

/// What stands there costs so much a month, released or not, as name and price: the alarms, the key, the dashboard.
pub fn standing() -> [(&'static str, Usd); 3] {
    [
        ("the alarms, with 29 metrics in them", ALARM_METRIC.of(ALARM_METRICS)),
        ("the key of the topics", KMS_KEY.of(1.0)),
        ("the dashboard, if the account's three free ones are taken", DASHBOARD.of(1.0)),
    ]
}

/// A month with so many rollouts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Month {
    /// Rollouts.
    pub rollouts: f64,
    /// All of them, without custom metrics.
    pub used: Usd,
    /// The custom metrics.
    pub custom_metrics: Usd,
    /// What stands there.
    pub standing: Usd,
}

impl Month {
    /// A month of rollouts like this one.
    pub fn of(bill: &Bill, rollouts: f64, assumed: &Assumptions) -> Self {
        Self {
            rollouts,
            used: of_rollout(bill, assumed).total() * rollouts,
            custom_metrics: of_custom_metrics(bill, rollouts),
            standing: standing().into_iter().map(|(_, cost)| cost).sum(),
        }
    }

    /// Everything.
    pub fn total(&self) -> Usd {
        self.used + self.custom_metrics + self.standing
    }

    /// Its part of it.
    pub fn of_each(&self) -> Usd {
        self.total() * (1.0 / self.rollouts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(cost: Usd, usd: f64) {
        assert!((cost.0 - usd).abs() < 1e-9, "{cost:?} is not {usd}");
    }

    /// Two invocations, one of them cold; three calls to two services; 100 s of waiting.
    fn function() -> Used {
        Used {
            invocations: 2,
            cold_starts: 1,
            waited_seconds: 100.0,
            calls: [("codedeploy:GetDeployment".to_owned(), 2), ("events:PutEvents".to_owned(), 1)].into(),
            metrics: 30,
            smoke_requests: 4,
            log_lines: 4,
            log_bytes: 10_000,
        }
    }

    #[test]
    fn the_time_of_a_function_is_what_it_does_one_after_the_other() {
        // 1 x 0.1 + 3 x 0.02 + 2 services x 2 invocations x 0.06 + 4 x 0.15
        let seconds = working_seconds(&function(), &Assumptions::default());
        assert!((seconds - 1.0).abs() < 1e-12, "{seconds}");
    }

    #[test]
    fn a_function_costs_its_parts() {
        let cost = of_function(&function(), &Assumptions::default());
        // A quarter of a GB, for a second and for a hundred.
        near(cost.working, 0.25 * 0.000_013_333_4);
        near(cost.waiting, 25.0 * 0.000_013_333_4);
        near(cost.invocations, 0.000_000_4);
        near(cost.metrics, 0.000_3);
        // 10,000 + 2 x 1,000 + (4 + 3 x 2) x 26 = 12,260 bytes, at 0.50 and three times 0.03 a GB.
        near(cost.logs, 12_260.0 / 1_073_741_824.0 * 0.59);
        near(cost.told, 0.000_001);
        near(
            cost.total(),
            0.000_003_333_35 + 0.000_333_335 + 0.000_000_4 + 0.000_3 + 0.000_006_736_6 + 0.000_001,
        );
    }

    #[test]
    fn a_rollout_costs_its_functions_and_its_transitions() {
        let functions = [("one", function()), ("two", function())];
        let bill = Bill {
            functions: functions.map(|(name, function)| (name.to_owned(), function)).into(),
            transitions: 40,
            custom_metrics: ["a", "b"].map(str::to_owned).into(),
        };
        let cost = of_rollout(&bill, &Assumptions::default());
        near(cost.transitions, 0.001);
        near(cost.metrics, 0.000_6);
        // Two metrics, each in one hour of 730.
        near(of_custom_metrics(&bill, 1.0), 2.0 * 0.30 / 730.0);
        let month = Month::of(&bill, 1e9, &Assumptions::default());
        // In every hour of the month.
        near(month.custom_metrics, 0.60);
        // 2.90 + 1 + 3
        near(month.standing, 6.90);
    }

    #[test]
    fn rollouts_share_hours() {
        assert!((hours_with_data(1.0) - 1.0).abs() < 1e-9);
        // Two at random are in the same hour once in 730.
        assert!((hours_with_data(2.0) - (2.0 - 1.0 / 730.0)).abs() < 1e-9);
        assert!((hours_with_data(1e6) - 730.0).abs() < 1e-9);
    }

    #[test]
    fn the_alarms_metrics_and_the_memory_are_those_of_the_template() {
        let template = include_str!("../../../template.yaml");
        let alarms = template.matches("Type: AWS::CloudWatch::Alarm").count();
        let in_expressions = template.matches("ReturnData: false, MetricStat:").count();
        let alone = template.matches("\n      Namespace: Shiftgate\n").count();
        assert_eq!((alarms, (in_expressions + alone) as f64), (7, ALARM_METRICS));
        assert_eq!(template.matches("MemorySize: 256").count(), 1);
        assert_eq!(template.matches("MemorySize:").count(), 1);
        assert!(
            template.contains("Default: 90\n    AllowedValues: [1, 3, 5"),
            "the months that logs are kept"
        );
    }
}
