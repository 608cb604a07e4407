//! What CloudWatch knows of a service or a function from before the lab began: an hour of its periods, as the old version behaved.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Poisson, StandardNormal};

use crate::api::REGION;
use crate::application::Behaviour;
use crate::cloudwatch::CloudWatch;
use crate::function_site::Meter;

const NAMESPACE: &str = "AWS/ApplicationELB";
/// What the balancer itself adds to a response time on this machine, in seconds.
const OVERHEAD: f64 = 0.002;
/// Response times above this many standard deviations are recorded one by one: the slowest tenth.
const SLOW: f64 = 1.28;

/// A service that has been running.
pub struct Past<'a> {
    /// Value of the dimension `LoadBalancer`.
    pub load_balancer: &'a str,
    /// Value of the dimension `TargetGroup`.
    pub target_group: &'a str,
    /// Its tasks, spread over the zones.
    pub tasks: usize,
    /// Requests per second of its users.
    pub requests_per_second: f64,
    /// How it behaved.
    pub behaviour: &'a Behaviour,
}

impl Past<'_> {
    /// Records the seconds of `length` before `until`.
    pub fn record(&self, cloudwatch: &CloudWatch, until: Timestamp, length: Duration) {
        let mut random = SmallRng::seed_from_u64(until.as_second().cast_unsigned());
        let zones = self.tasks.clamp(1, 3);
        let Ok(requests) = Poisson::new(self.requests_per_second / zones as f64) else { return };
        for back in (1..=length.as_secs()).rev() {
            let Ok(at) = until.checked_sub(SignedDuration::from_secs(back.cast_signed())) else { continue };
            for zone in ["a", "b", "c"].iter().take(zones) {
                let requests = requests.sample(&mut random);
                self.record_second(cloudwatch, &format!("{REGION}{zone}"), at, requests, &mut random);
            }
        }
    }

    fn record_second(
        &self,
        cloudwatch: &CloudWatch,
        zone: &str,
        at: Timestamp,
        requests: f64,
        random: &mut SmallRng,
    ) {
        let all = [
            ("AvailabilityZone", zone),
            ("LoadBalancer", self.load_balancer),
            ("TargetGroup", self.target_group),
        ];
        let record = |metric: &str, value: f64, count: f64| {
            for dimensions in [&all[1..2], &all[1..], &all] {
                cloudwatch.record_many(NAMESPACE, metric, dimensions, at, value, count);
            }
        };
        if requests < 1.0 {
            return;
        }
        record("RequestCount", 1.0, requests);
        let answers = Answers::draw(self.behaviour, requests, random);
        if answers.errors > 0.0 {
            record("HTTPCode_Target_5XX_Count", 1.0, answers.errors);
        }
        for (milliseconds, count) in answers.times {
            record("TargetResponseTime", milliseconds / 1000.0 + OVERHEAD, count);
        }
    }
}

/// How the requests of a second were answered.
struct Answers {
    errors: f64,
    /// Milliseconds, and how many took so long.
    times: Vec<(f64, f64)>,
}

impl Answers {
    fn draw(behaviour: &Behaviour, requests: f64, random: &mut SmallRng) -> Self {
        let errors = (0..requests as u64).filter(|_| random.random_bool(behaviour.errors)).count() as f64;
        // Slow ones one by one, since they are what is judged; the others as so many of the usual time.
        let slow: Vec<f64> = (0..requests as u64)
            .map(|_| StandardNormal.sample(random))
            .filter(|normal| *normal > SLOW)
            .collect();
        let time = |normal: f64| behaviour.latency_ms * (behaviour.latency_spread * normal).exp();
        let usual = (time(0.0), requests - slow.len() as f64);
        let times = [usual].into_iter().chain(slow.into_iter().map(|normal| (time(normal), 1.0))).collect();
        Self { errors, times }
    }
}

/// A function that has been invoked behind its alias.
pub struct FunctionPast<'a> {
    /// Where its invocations are recorded.
    pub meter: &'a Meter,
    /// The version that the alias pointed to.
    pub version: &'a str,
    /// Invocations per second by its users.
    pub requests_per_second: f64,
    /// How it behaved.
    pub behaviour: &'a Behaviour,
}

impl FunctionPast<'_> {
    /// Records the seconds of `length` before `until`.
    pub fn record(&self, until: Timestamp, length: Duration) {
        let mut random = SmallRng::seed_from_u64(until.as_second().cast_unsigned());
        let Ok(invocations) = Poisson::new(self.requests_per_second) else { return };
        for back in (1..=length.as_secs()).rev() {
            let Ok(at) = until.checked_sub(SignedDuration::from_secs(back.cast_signed())) else { continue };
            let invocations = invocations.sample(&mut random);
            if invocations >= 1.0 {
                let answers = Answers::draw(self.behaviour, invocations, &mut random);
                self.meter.through_alias(
                    self.version,
                    false,
                    at,
                    invocations,
                    answers.errors,
                    &answers.times,
                );
            }
        }
    }
}
