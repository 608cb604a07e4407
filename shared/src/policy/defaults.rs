//! What holds where the policy says nothing. Every number has its reason in docs/policy.md.

use std::time::Duration;

use super::plan::{Bound, Gate, Measure, Metric, Outage, Readiness, Sampling};
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

/// Namespace of the load balancer's metrics.
pub const LOAD_BALANCER_NAMESPACE: &str = "AWS/ApplicationELB";
/// Requests that a period needs before a ratio says anything.
pub const MIN_REQUESTS_FOR_SHARE: u64 = 50;
/// Requests that a period needs before a percentile says anything.
pub const MIN_REQUESTS_FOR_PERCENTILE: u64 = 100;

/// The gates without a policy.
pub fn gates() -> Vec<Gate> {
    let share = |name: &str, bad: &str, limit: f64, tolerate: f64| Gate {
        name: name.to_owned(),
        measure: Measure::Share {
            bad: Metric::of_target_group(bad),
            of: Metric::of_target_group("RequestCount"),
        },
        bound: Bound::AtMost { limit: Quantity::share(limit), tolerate: Some(tolerate) },
        min_requests: MIN_REQUESTS_FOR_SHARE,
        worst_of: None,
    };
    vec![
        share("server errors", "HTTPCode_Target_5XX_Count", 0.05, 1.5),
        share("connection errors", "TargetConnectionErrorCount", 0.01, 2.0),
        Gate {
            name: "p99 latency".to_owned(),
            measure: Measure::Statistic {
                metric: Metric::of_target_group("TargetResponseTime"),
                statistic: "p99".to_owned(),
            },
            bound: Bound::AtMost { limit: Quantity::seconds(0.1), tolerate: Some(3.0) },
            min_requests: MIN_REQUESTS_FOR_PERCENTILE,
            worst_of: None,
        },
        Gate {
            name: "unhealthy targets".to_owned(),
            // The minimum over a period: a target counts when it was unhealthy during the whole of it.
            measure: Measure::Statistic {
                metric: Metric::of_target_group("UnHealthyHostCount"),
                statistic: "Minimum".to_owned(),
            },
            bound: Bound::AtMost { limit: Quantity::plain(0.0), tolerate: Some(1.0) },
            min_requests: 0,
            worst_of: None,
        },
    ]
}
