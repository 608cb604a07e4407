//! What the balancer tells `CloudWatch`, in the namespace and with the dimensions of an Application Load Balancer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;

/// Takes one value: namespace, metric, dimensions, time, value.
pub type Recorder = Arc<dyn Fn(&str, &str, &[(&str, &str)], Timestamp, f64) + Send + Sync>;

const NAMESPACE: &str = "AWS/ApplicationELB";

/// Records in the name of one balancer.
pub(super) struct Meter {
    recorder: Recorder,
    load_balancer: String,
}

/// Which target a request went to, as dimension values.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) target_group: &'a str,
    pub(super) zone: &'a str,
}

impl Meter {
    /// `load_balancer` is the dimension's value, `app/<name>/<id>`.
    pub(super) fn new(recorder: Recorder, load_balancer: String) -> Self {
        Self { recorder, load_balancer }
    }

    /// A target was chosen for a request.
    pub(super) fn request(&self, place: Place<'_>) {
        self.per_target("RequestCount", place, 1.0);
    }

    /// A target answered; `time` is from sending the request to the answer's headers, the body not counted.
    pub(super) fn answer(&self, place: Place<'_>, status: StatusCode, time: Duration) {
        self.per_target("TargetResponseTime", place, time.as_secs_f64());
        if let Some(metric) = target_code_metric(status) {
            self.per_target(metric, place, 1.0);
        }
    }

    /// No connection to a target.
    pub(super) fn connection_error(&self, place: Place<'_>) {
        self.per_target("TargetConnectionErrorCount", place, 1.0);
    }

    /// The balancer itself answered with an error.
    pub(super) fn own_error(&self) {
        self.record("HTTPCode_ELB_5XX_Count", &[("LoadBalancer", &self.load_balancer)], 1.0);
    }

    /// How many targets of a group are healthy and unhealthy.
    pub(super) fn hosts(&self, target_group: &str, healthy: usize, unhealthy: usize) {
        let dimensions = [("LoadBalancer", self.load_balancer.as_str()), ("TargetGroup", target_group)];
        self.record("HealthyHostCount", &dimensions, healthy as f64);
        self.record("UnHealthyHostCount", &dimensions, unhealthy as f64);
    }

    fn per_target(&self, metric: &str, place: Place<'_>, value: f64) {
        // In the order of their names; a shorter dimension set is a part of the longest.
        let all = [
            ("AvailabilityZone", place.zone),
            ("LoadBalancer", self.load_balancer.as_str()),
            ("TargetGroup", place.target_group),
        ];
        for dimensions in [&all[1..2], &all[1..], &all] {
            self.record(metric, dimensions, value);
        }
    }

    fn record(&self, metric: &str, dimensions: &[(&str, &str)], value: f64) {
        (self.recorder)(NAMESPACE, metric, dimensions, now(), value);
    }
}

/// The balancer stands for a service with a clock of its own, so it reads the real one.
#[expect(clippy::disallowed_methods, reason = "metrics are stamped by the service, not by its caller")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("load_balancer", &self.load_balancer).finish_non_exhaustive()
    }
}

fn target_code_metric(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        200..=299 => Some("HTTPCode_Target_2XX_Count"),
        300..=399 => Some("HTTPCode_Target_3XX_Count"),
        400..=499 => Some("HTTPCode_Target_4XX_Count"),
        500..=599 => Some("HTTPCode_Target_5XX_Count"),
        _ => None,
    }
}
