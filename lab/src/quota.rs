//! What AWS lets an account call per second: token buckets, as its services have them. Off until somebody asks for them.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::ApiError;

/// A bucket from which calls take a token each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// What a reader calls it.
    pub name: &'static str,
    /// The IAM actions that share it; a `*` at the end stands for whatever follows.
    pub actions: &'static [&'static str],
    /// Calls that an unused bucket lets through at once.
    pub burst: f64,
    /// Calls a second in the long run.
    pub per_second: f64,
    /// Code of the error when it is empty.
    pub code: &'static str,
    /// Where the figures come from.
    pub source: &'static str,
}

/// The part of CodeDeploy's and ELB's figures that AWS lets differ from account to account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumed {
    /// Calls a second of each operation of CodeDeploy. AWS publishes none, and says that they vary.
    pub codedeploy_per_second: f64,
    /// `GetMetricData` a second: 500, and 50 in accounts that still have the older quota.
    pub metric_data_per_second: f64,
}

impl Default for Assumed {
    fn default() -> Self {
        Self { codedeploy_per_second: 20.0, metric_data_per_second: 500.0 }
    }
}

/// Transitions of state machines: no call, so it has a name of its own.
pub const TRANSITION: &str = "states:StateTransition";

/// The quotas of an account that never asked for others, in a region that is not one of the largest.
pub fn fresh_account(assumed: Assumed) -> Vec<Quota> {
    const ELB: &str = "documented for all Describe calls together";
    const CODEDEPLOY: &str = "assumed: AWS publishes none, users report throttled bursts of GetDeployment";
    let quota = |name, actions, burst, per_second, source| Quota {
        name,
        actions,
        burst,
        per_second,
        code: "ThrottlingException",
        source,
    };
    let metric_data = assumed.metric_data_per_second;
    let codedeploy = |name, actions| {
        let per_second = assumed.codedeploy_per_second;
        quota(name, actions, 2.0 * per_second, per_second, CODEDEPLOY)
    };
    vec![
        Quota {
            code: "Throttling",
            ..quota("ELB Describe*", &["elasticloadbalancing:Describe*"], 40.0, 10.0, ELB)
        },
        codedeploy("CodeDeploy GetDeployment", &["codedeploy:GetDeployment"]),
        codedeploy("CodeDeploy GetDeploymentGroup", &["codedeploy:GetDeploymentGroup"]),
        codedeploy("CodeDeploy GetDeploymentTarget", &["codedeploy:GetDeploymentTarget"]),
        codedeploy("CodeDeploy ListDeploymentTargets", &["codedeploy:ListDeploymentTargets"]),
        codedeploy("CodeDeploy StopDeployment", &["codedeploy:StopDeployment"]),
        codedeploy("CodeDeploy PutLifecycleEvent...", &["codedeploy:PutLifecycleEventHookExecutionStatus"]),
        quota("SSM GetParameter(s)", &["ssm:GetParameter*"], 40.0, 40.0, "documented, for both together"),
        Quota {
            code: "Throttling",
            ..quota(
                "CloudWatch GetMetricData",
                &["cloudwatch:GetMetricData"],
                metric_data,
                metric_data,
                "documented; 50 in older accounts",
            )
        },
        Quota {
            code: "Throttling",
            ..quota("CloudWatch DescribeAlarms", &["cloudwatch:DescribeAlarms"], 9.0, 9.0, "documented")
        },
        quota(
            "ECS service reads",
            &["ecs:DescribeService*", "ecs:ListServiceDeployments"],
            100.0,
            20.0,
            "documented",
        ),
        quota(
            "Step Functions StartExecution",
            &["states:StartExecution"],
            800.0,
            150.0,
            "documented, not for the three largest regions",
        ),
        quota(
            "Step Functions DescribeExecution",
            &["states:DescribeExecution"],
            250.0,
            10.0,
            "documented, not for the three largest regions",
        ),
        quota(
            "Step Functions StateTransition",
            &[TRANSITION],
            800.0,
            500.0,
            "documented, not for the three largest regions",
        ),
    ]
}

impl Quota {
    /// Whether calls of this action take from it.
    pub fn covers(&self, action: &str) -> bool {
        self.actions.iter().any(|covered| match covered.strip_suffix('*') {
            Some(beginning) => action.starts_with(beginning),
            None => action == *covered,
        })
    }

    /// The same where time passes `times` as fast.
    #[must_use]
    pub fn faster(self, times: f64) -> Self {
        Self { per_second: self.per_second * times, ..self }
    }
}

/// How full a bucket is. Time is in seconds since any instant. Pure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    /// Full at second `at`.
    pub fn full(burst: f64, per_second: f64, at: f64) -> Self {
        Self { burst, per_second, tokens: burst, at }
    }

    /// Takes a token, if there is one; `now` must not go back.
    pub fn take(&mut self, now: f64) -> bool {
        self.tokens = (self.tokens + (now - self.at) * self.per_second).min(self.burst);
        self.at = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// The quotas that hold in an account.
#[derive(Debug, Default)]
pub struct Quotas(OnceLock<Held>);

#[derive(Debug)]
struct Held {
    since: Instant,
    buckets: Vec<(Quota, Mutex<Bucket>)>,
}

impl Quotas {
    /// From now on these hold. They cannot be changed after.
    pub fn hold(&self, quotas: Vec<Quota>) {
        let full = |quota: Quota| (quota, Mutex::new(Bucket::full(quota.burst, quota.per_second, 0.0)));
        let held = Held { since: Instant::now(), buckets: quotas.into_iter().map(full).collect() };
        // A second set is a bug of the lab, and the first one still holds.
        drop(self.0.set(held));
    }

    /// Takes what a call needs, or answers what the service would.
    pub fn take(&self, action: &str) -> Result<(), ApiError> {
        let Some(held) = self.0.get() else { return Ok(()) };
        let now = held.since.elapsed().as_secs_f64();
        for (quota, bucket) in held.buckets.iter().filter(|(quota, _)| quota.covers(action)) {
            if !bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
                return Err(ApiError::client(quota.code, "Rate exceeded"));
            }
        }
        Ok(())
    }

    /// Waits until there is a token, as Step Functions delays a transition instead of refusing it.
    pub async fn wait(&self, action: &str) {
        while self.take(action).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_its_rate() {
        let mut bucket = Bucket::full(3.0, 2.0, 0.0);
        assert_eq!((0..5).filter(|_| bucket.take(0.0)).count(), 3);
        assert!(!bucket.take(0.4));
        assert!(bucket.take(0.5));
        assert!(!bucket.take(0.9));
        assert_eq!((0..9).filter(|_| bucket.take(100.0)).count(), 3, "it does not save up more than a burst");
    }

    proptest! {
        #[test]
        fn no_bucket_gives_more_than_burst_and_rate(
            burst in 1_u32..50,
            per_second in 1_u32..50,
            steps in prop::collection::vec(0.0_f64..0.5, 1..200),
        ) {
            let mut bucket = Bucket::full(burst.into(), per_second.into(), 0.0);
            let mut now = 0.0;
            let mut given = 0.0;
            for step in steps {
                now += step;
                given += f64::from(u8::from(bucket.take(now)));
                prop_assert!(given <= f64::from(burst) + now * f64::from(per_second) + 1e-6);
            }
        }
    }

    #[test]
    fn describe_calls_share_a_bucket_and_other_services_do_not() {
        let quotas = Quotas::default();
        assert_eq!(quotas.take("elasticloadbalancing:DescribeListeners"), Ok(()), "none hold");
        quotas.hold(fresh_account(Assumed::default()));
        let let_through = |action: &str| (0..200).filter(|_| quotas.take(action).is_ok()).count();
        let listeners = let_through("elasticloadbalancing:DescribeListeners");
        assert!((40..45).contains(&listeners), "{listeners}");
        let health = let_through("elasticloadbalancing:DescribeTargetHealth");
        assert!(health < 5, "{health}");
        assert_eq!(let_through("cloudwatch:GetMetricData"), 200);
        assert_eq!(let_through("lambda:InvokeFunction"), 200, "no bucket covers it");
        let refused = quotas.take("elasticloadbalancing:DescribeListeners").unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (400, "Throttling"));
    }
}
