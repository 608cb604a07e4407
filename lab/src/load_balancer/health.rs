//! Health checks: which answers are good, when a target changes its state, and the task that asks.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::USER_AGENT;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::MissedTickBehavior;

use super::http::client;
use super::metrics::Meter;
use super::target_group::{Target, TargetGroup};

/// The client of the health checks, which send no body.
type Prober = Client<HttpConnector, Empty<Bytes>>;

/// How the targets of a group are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path that is asked for.
    pub path: String,
    /// Time between two checks of a target; AWS allows 5 s and more, the lab anything above 0.
    pub interval: Duration,
    /// A check without an answer in this time has failed.
    pub timeout: Duration,
    /// Good checks in a row that make an unhealthy target healthy; a new one needs only one.
    pub healthy_threshold: u32,
    /// Failed checks in a row that make a target unhealthy.
    pub unhealthy_threshold: u32,
    /// Statuses that are good.
    pub matcher: Matcher,
}

impl Default for HealthCheck {
    /// The defaults of AWS for IP targets, except for the path.
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::default(),
        }
    }
}

/// The statuses that a health check takes as good: `200`, `200-299` or `200,302`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    ranges: Vec<RangeInclusive<u16>>,
}

impl Matcher {
    /// Whether the status is a good one.
    pub fn matches(&self, status: StatusCode) -> bool {
        self.ranges.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Matcher {
    fn default() -> Self {
        Self { ranges: vec![200..=200] }
    }
}

impl FromStr for Matcher {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let ranges = text.split(',').map(parse_range).collect::<anyhow::Result<_>>();
        Ok(Self { ranges: ranges.with_context(|| format!("health check codes '{text}' are invalid"))? })
    }
}

/// `200` or `200-299`; AWS takes 200 to 499.
fn parse_range(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse()?, last.trim().parse()?);
    ensure!((200..=499).contains(&first) && (first..=499).contains(&last), "'{text}' is not within 200-499");
    Ok(first..=last)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Why a health check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// An answer with a status that the matcher does not take.
    Code(u16),
    /// No answer in time.
    Timeout,
    /// No connection, or no valid answer.
    Connection,
}

impl Failure {
    /// Reason code and description, as `DescribeTargetHealth` tells them.
    pub(super) fn explain(self) -> (&'static str, String) {
        match self {
            Self::Code(code) => {
                ("Target.ResponseCodeMismatch", format!("Health checks failed with these codes: [{code}]"))
            }
            Self::Timeout => ("Target.Timeout", "Request timed out".to_owned()),
            Self::Connection => ("Target.FailedHealthChecks", "Health checks failed".to_owned()),
        }
    }
}

/// What the checks so far say of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Not enough checks yet.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets requests only when no target of the group is healthy.
    Unhealthy(Failure),
}

/// The opinion, and how many checks in a row contradict it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) opinion: Opinion,
    pub(super) contradictions: u32,
}

impl Record {
    /// Of a target that was never checked.
    pub(super) const NEW: Self = Self { opinion: Opinion::Initial, contradictions: 0 };

    /// The record after one more check.
    pub(super) fn after(self, result: Result<(), Failure>, check: &HealthCheck) -> Self {
        let contradictions = self.contradictions + 1;
        let keep = |contradictions| Self { contradictions, ..self };
        let change = |opinion| Self { opinion, contradictions: 0 };
        match (self.opinion, result) {
            (Opinion::Healthy, Ok(())) => keep(0),
            (Opinion::Initial, Ok(())) => change(Opinion::Healthy),
            (Opinion::Unhealthy(_), Err(failure)) => change(Opinion::Unhealthy(failure)),
            (Opinion::Unhealthy(_), Ok(())) if contradictions >= check.healthy_threshold => {
                change(Opinion::Healthy)
            }
            (Opinion::Healthy | Opinion::Initial, Err(failure))
                if contradictions >= check.unhealthy_threshold =>
            {
                change(Opinion::Unhealthy(failure))
            }
            _ => keep(contradictions),
        }
    }
}

/// Shortest time between two rounds: an interval of 0 would never let go of the processor.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Checks the targets of a group, at every interval and at once when the group changes.
pub(super) async fn check_for_ever(group: Arc<TargetGroup>, meter: Arc<Meter>) {
    let prober: Prober = client(0);
    let mut interval = tokio::time::interval(group.health_check.interval.max(SHORTEST_INTERVAL));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = group.changed() => {}
        }
        check_once(&prober, &group).await;
        if let Some((healthy, unhealthy)) = group.host_counts() {
            meter.hosts(&group.dimension, healthy, unhealthy);
        }
    }
}

async fn check_once(prober: &Prober, group: &TargetGroup) {
    let checks = group.targets_to_check().into_iter().map(async |target| {
        let result = probe(prober, &group.health_check, &target).await;
        (target, result)
    });
    for (target, result) in join_all(checks).await {
        group.observe(&target, result);
    }
}

async fn probe(prober: &Prober, check: &HealthCheck, target: &Target) -> Result<(), Failure> {
    let request = Request::get(format!("http://{}{}", target.address, check.path))
        .header(USER_AGENT, "ELB-HealthChecker/2.0")
        .body(Empty::new())
        .map_err(|_| Failure::Connection)?;
    let answer = tokio::time::timeout(check.timeout, prober.request(request)).await;
    let response = answer.map_err(|_| Failure::Timeout)?.map_err(|_| Failure::Connection)?;
    let status = response.status();
    if check.matcher.matches(status) { Ok(()) } else { Err(Failure::Code(status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
        HealthCheck { healthy_threshold, unhealthy_threshold, ..HealthCheck::default() }
    }

    fn outcome(good: bool) -> Result<(), Failure> {
        if good { Ok(()) } else { Err(Failure::Timeout) }
    }

    #[test]
    fn matchers_take_the_forms_of_aws() {
        for (text, good, bad) in [("200", 200, 201), ("200-299", 299, 300), ("200,302", 302, 301)] {
            let matcher: Matcher = text.parse().unwrap();
            assert!(matcher.matches(StatusCode::from_u16(good).unwrap()), "{text} takes {good}");
            assert!(!matcher.matches(StatusCode::from_u16(bad).unwrap()), "{text} does not take {bad}");
        }
        for text in ["", "ok", "200-", "299-200", "199", "500", "200,,201"] {
            assert!(text.parse::<Matcher>().is_err(), "'{text}'");
        }
    }

    #[test]
    fn a_new_target_needs_one_good_check() {
        let check = check(5, 2);
        assert_eq!(Record::NEW.after(Ok(()), &check).opinion, Opinion::Healthy);
        let failed_once = Record::NEW.after(Err(Failure::Timeout), &check);
        assert_eq!(failed_once.opinion, Opinion::Initial);
        let failed_twice = failed_once.after(Err(Failure::Code(500)), &check);
        assert_eq!(failed_twice.opinion, Opinion::Unhealthy(Failure::Code(500)));
    }

    proptest! {
        #[test]
        fn a_matcher_reads_what_it_writes(ranges in prop::collection::vec((200_u16..=499, 0_u16..100), 1..4)) {
            let ranges = ranges.into_iter().map(|(first, width)| first..=(first + width).min(499)).collect();
            let matcher = Matcher { ranges };
            prop_assert_eq!(matcher.to_string().parse::<Matcher>().unwrap(), matcher);
        }

        /// Whatever went before: a run as long as the threshold decides, a shorter one never turns a decided target.
        #[test]
        fn runs_decide(
            history in prop::collection::vec(any::<bool>(), 0..20),
            healthy_threshold in 1_u32..6,
            unhealthy_threshold in 1_u32..6,
        ) {
            let check = check(healthy_threshold, unhealthy_threshold);
            let run = |start: Record, good, length| (0..length).fold(start, |record, _| record.after(outcome(good), &check));
            let start = history.iter().fold(Record::NEW, |record, &good| record.after(outcome(good), &check));

            let healthy = run(start, true, healthy_threshold);
            prop_assert_eq!(healthy.opinion, Opinion::Healthy);
            prop_assert_eq!(run(healthy, false, unhealthy_threshold - 1).opinion, Opinion::Healthy);

            let unhealthy = run(start, false, unhealthy_threshold);
            prop_assert_eq!(unhealthy.opinion, Opinion::Unhealthy(Failure::Timeout));
            prop_assert_eq!(run(unhealthy, true, healthy_threshold - 1).opinion, Opinion::Unhealthy(Failure::Timeout));
        }
    }
}
