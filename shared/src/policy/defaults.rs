//! What holds where the policy says nothing. Every number has its reason in docs/policy.md.

use std::time::Duration;

use super::gates::{Bound, Compared, Events, Gate, Measure, Metric, Rule, SlowerThan, Threshold};
use super::plan::{Outage, Readiness, Sampling};
use crate::judge::compare::Comparison;
use crate::rollout::Front;
use crate::verdict::Quantity;

/// Load balancer metrics come once a minute, and a minute is complete two minutes later.
pub const SAMPLING: Sampling = Sampling {
    period: Duration::from_mins(1),
    ingestion_delay: Duration::from_mins(2),
    look_every: Duration::from_mins(1),
};

/// All of green, for half a minute, within ten minutes: ECS itself needs three health checks of ten seconds or so.
pub const READINESS: Readiness =
    Readiness { healthy: 1.0, stable_for: Duration::from_secs(30), within: Duration::from_mins(10) };

/// Half of the requests bad is no noise.
pub const OUTAGE: Outage =
    Outage { share: 0.5, min_requests: 20, periods: 2, at_once_from: 200, blue_below: 0.1 };

/// Five minutes at 100 %: at least four complete ones, judged when they are in.
pub const BAKE: Duration = Duration::from_mins(5);
/// CodeDeploy waits one hour for a hook; what comes before and after the bake needs some of it.
pub const LONGEST_BAKE: Duration = Duration::from_mins(50);

/// Two canary steps of ECS's own default; at ten steps, not a working day.
pub const LONGEST_STEP: Duration = Duration::from_mins(10);
/// ECS ends a stage after a day.
pub const LONGEST_HOLD: Duration = Duration::from_hours(23);

/// Namespace of the load balancer's metrics.
pub const LOAD_BALANCER_NAMESPACE: &str = "AWS/ApplicationELB";
/// Requests that a period needs before a ratio says anything.
pub const MIN_REQUESTS_FOR_SHARE: u64 = 50;
/// Requests that a period needs before a percentile says anything.
pub const MIN_REQUESTS_FOR_PERCENTILE: u64 = 100;

/// One good release in a hundred: less would miss regressions that people want to be saved from, more would teach them
/// to ignore rollbacks.
pub const FALSE_ROLLBACK_RATE: f64 = 0.01;
/// Share of it that the comparisons of green with blue may spend; the rest is for changes after the shift.
pub const SHARE_OF_COMPARISONS: f64 = 0.75;
/// A quarter more errors than blue is not worth a rollback, nor is an error in two thousand requests.
pub const COMPARISON: Comparison = Comparison { tolerate: 1.25, ignore_below: 0.0005, pass_below: 3.0 };
/// Slow requests are one in a hundred by definition, and come in bursts.
pub const SLOW_COMPARISON: Comparison = Comparison { tolerate: 1.5, ignore_below: 0.01, pass_below: 3.0 };
/// A new version may use half as much again of whatever it is.
pub const CHANGE_TOLERATED: f64 = 1.5;

/// How long a shift is taken to last, in periods, while nobody knows: evidence for a late regression is spread over them.
pub const USUAL_PERIODS: usize = 15;

/// The gates while traffic shifts, without a policy: as far as CloudWatch can tell the versions apart.
pub fn gates(front: Front) -> Vec<Gate> {
    match front {
        Front::Application => of_an_application_load_balancer(),
        // What becomes of them is in `Plan::fitted`. As few as possible: the past of a few days can show only so much.
        Front::Shared => vec![
            compared("server errors", errors("HTTPCode_Target_5XX_Count"), COMPARISON, 1.0),
            compared("slow requests", slow(), SLOW_COMPARISON, 1.0),
        ],
        Front::Network => vec![unhealthy_targets("AWS/NetworkELB")],
        Front::Function => vec![
            compared(
                "errors",
                Events::Counts { bad: Metric::of_version("Errors"), of: Metric::of_version("Invocations") },
                COMPARISON,
                2.0,
            ),
            compared(
                "slow invocations",
                Events::Slow { metric: Metric::of_version("Duration"), than: SlowerThan::Usual },
                SLOW_COMPARISON,
                1.0,
            ),
        ],
        Front::None => Vec::new(),
    }
}

fn compared(name: &str, events: Events, comparison: Comparison, weight: f64) -> Gate {
    Gate { name: name.to_owned(), rule: Rule::Compared(Compared { events, comparison, weight }) }
}

fn errors(bad: &str) -> Events {
    Events::Counts { bad: Metric::of_target_group(bad), of: Metric::of_target_group("RequestCount") }
}

fn slow() -> Events {
    Events::Slow { metric: Metric::of_target_group("TargetResponseTime"), than: SlowerThan::Usual }
}

fn of_an_application_load_balancer() -> Vec<Gate> {
    vec![
        // Weights: what goes wrong most often may spend most. Connections fail all at once or not at all.
        compared("server errors", errors("HTTPCode_Target_5XX_Count"), COMPARISON, 6.0),
        compared("connection errors", errors("TargetConnectionErrorCount"), COMPARISON, 1.0),
        compared("slow requests", slow(), SLOW_COMPARISON, 3.0),
        unhealthy_targets(LOAD_BALANCER_NAMESPACE),
    ]
}

fn unhealthy_targets(namespace: &str) -> Gate {
    Gate {
        name: "unhealthy targets".to_owned(),
        // The minimum over a period: a target counts when it was unhealthy during the whole of it.
        rule: Rule::Threshold(Threshold {
            measure: Measure::Statistic {
                metric: Metric {
                    namespace: namespace.to_owned(),
                    ..Metric::of_target_group("UnHealthyHostCount")
                },
                statistic: "Minimum".to_owned(),
            },
            bound: Bound::AtMost { limit: Quantity::plain(0.0), tolerate: Some(1.0) },
            min_requests: 0,
            worst_of: None,
        }),
    }
}
