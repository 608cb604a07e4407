//! The policy validated, with its defaults filled in. Pure; whatever is in a [`Plan`] can be used as it is.

use std::time::Duration;

use super::gates::{self, Gate};
use super::raw;
use super::values::{Share, Span, Statuses};
use super::{defaults, expression, raw::HeaderValue};
use crate::rollout::Front;
use crate::verdict::Rules;
use crate::yaml::Problem;

pub use super::raw::{Choice, Mode, Rolling};

/// How a service is gated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Mode, and what unclear checks and faults lead to.
    pub rules: Rules,
    /// Chance of rolling back a release that is as good as blue, 0 to 1, over the whole rollout.
    pub false_rollback_rate: f64,
    /// How metrics are read.
    pub sampling: Sampling,
    /// Alarms that must not be ringing, beside the deployment group's.
    pub alarms: Vec<String>,
    /// When green counts as running.
    pub readiness: Readiness,
    /// Requests to green.
    pub smoke: Smoke,
    /// When green counts as down.
    pub outage: Outage,
    /// Gates while traffic shifts.
    pub traffic: Vec<Gate>,
    /// Whether `traffic` and `bake` are the built-in gates, which depend on what can be measured.
    pub built_in: BuiltIn,
    /// How long green is held at each traffic step.
    pub steps: Steps,
    /// Whether rolling updates are watched.
    pub rolling: Rolling,
    /// Length of the bake at 100 %.
    pub bake_for: Duration,
    /// Gates of the bake.
    pub bake: Vec<Gate>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            false_rollback_rate: defaults::FALSE_ROLLBACK_RATE,
            sampling: defaults::SAMPLING,
            alarms: Vec::new(),
            readiness: defaults::READINESS,
            smoke: Smoke { base: Base::TestListener, host: None, during_shift: true, checks: None },
            outage: defaults::OUTAGE,
            traffic: defaults::gates(Front::Application),
            built_in: BuiltIn { traffic: true, bake: true },
            steps: Steps { at_least: defaults::SAMPLING.period, at_most: defaults::LONGEST_STEP },
            rolling: Rolling::Ignore,
            bake_for: defaults::BAKE,
            bake: defaults::gates(Front::Application),
        }
    }
}

/// Which lists of gates the policy leaves to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Those while traffic shifts.
    pub traffic: bool,
    /// Those after the shift.
    pub bake: bool,
}

/// How long green is held at a traffic step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Even when all has been seen.
    pub at_least: Duration,
    /// While it has not.
    pub at_most: Duration,
}

/// How metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Length of a reading.
    pub period: Duration,
    /// Age from which on a period is complete.
    pub ingestion_delay: Duration,
    /// Time between two looks.
    pub look_every: Duration,
}

/// When green counts as running.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readiness {
    /// Share of tasks and targets, 0 to 1.
    pub healthy: f64,
    /// How long it must stay so.
    pub stable_for: Duration,
    /// How long it may take.
    pub within: Duration,
}

/// Where smoke checks go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The test listener of the deployment group.
    TestListener,
    /// The production listener.
    ProductionListener,
    /// Somewhere else; the host must be allowed by the function's environment.
    Url(reqwest::Url),
}

/// Requests to green.
#[derive(Debug, Clone)]
pub struct Smoke {
    /// Where they go.
    pub base: Base,
    /// Host header and TLS server name, if not the base's own.
    pub host: Option<String>,
    /// Whether green is also asked while traffic shifts.
    pub during_shift: bool,
    /// What is asked; `None` stands for the target group's health check.
    pub checks: Option<Vec<Check>>,
}

/// One smoke check.
#[derive(Debug, Clone)]
pub struct Check {
    /// Name in reports.
    pub name: String,
    /// Payload with which a Lambda function is invoked; then method, path, headers and body mean nothing.
    pub invoke: Option<serde_json::Value>,
    /// HTTP method.
    pub method: reqwest::Method,
    /// Path and query.
    pub path: String,
    /// Request headers.
    pub headers: Vec<(reqwest::header::HeaderName, HeaderValue)>,
    /// Request body.
    pub body: Option<String>,
    /// Number of requests.
    pub times: u32,
    /// Requests at the same time.
    pub concurrency: u32,
    /// Further tries of a failed request.
    pub retries: u32,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// What answers must look like.
    pub expect: Expect,
}

/// What answers must look like.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Good statuses.
    pub status: Statuses,
    /// Headers with exactly these values.
    pub headers: Vec<(reqwest::header::HeaderName, String)>,
    /// Text within the body.
    pub body: Option<String>,
    /// JSON within the body.
    pub json: Option<serde_json::Value>,
    /// Expression over the body that must be true.
    pub jmespath: Option<jmespath::Expression<'static>>,
    /// Longest time of each answer.
    pub within: Option<Duration>,
    /// Percentile (0 to 1) and its longest time, over all answers.
    pub percentiles: Vec<(f64, Duration)>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            status: any_success(),
            headers: Vec::new(),
            body: None,
            json: None,
            jmespath: None,
            within: None,
            percentiles: Vec::new(),
        }
    }
}

/// When green counts as down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// Share of green's requests that are bad, 0 to 1.
    pub share: f64,
    /// Requests that a period needs.
    pub min_requests: u64,
    /// Periods in a row.
    pub periods: usize,
    /// From this many requests on one period is enough.
    pub at_once_from: u64,
    /// Only while less than this share of blue's requests is bad, 0 to 1.
    pub blue_below: f64,
}

/// Checks of a policy. With the limits of each check they bound what a policy can ask of a service.
const MOST_CHECKS: usize = 50;

fn any_success() -> Statuses {
    "200-299".parse().unwrap_or_else(|_| unreachable!("a constant"))
}

/// Gathers faults, so that all of them can be told at once.
#[derive(Default)]
pub(super) struct Faults(Vec<Problem>);

impl Faults {
    pub(super) fn add(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { line: 0, key: key.into(), what: what.into() });
    }

    /// The value if `fine`, else a fault and the default.
    pub(super) fn require(&mut self, fine: bool, key: &str, what: &str) {
        if !fine {
            self.add(key, what);
        }
    }
}

impl Plan {
    /// Validates a policy and fills in the defaults, or tells every fault (with the key; lines are the caller's).
    pub fn new(policy: raw::Policy) -> Result<Self, Vec<Problem>> {
        let mut faults = Faults::default();
        faults.require(matches!(policy.version, None | Some(1)), "version", "only version 1 exists");
        let rules = Rules {
            mode: policy.mode.unwrap_or(Mode::Enforce),
            on_inconclusive: policy.on_inconclusive.unwrap_or(Choice::Proceed),
            on_fault: policy.on_fault.unwrap_or(Choice::Fail),
        };
        let sampling = sampling(policy.metrics, &mut faults);
        let readiness = readiness(policy.readiness, &mut faults);
        let smoke = smoke(policy.smoke, &mut faults);
        let outage = outage(policy.outage, &mut faults);
        let built_in = BuiltIn {
            traffic: policy.traffic.is_none(),
            bake: policy.traffic.is_none() && policy.bake.gates.is_none(),
        };
        let traffic = policy.traffic.map_or_else(
            || defaults::gates(Front::Application),
            |list| gates::gates(list, "traffic", &mut faults),
        );
        let bake = policy
            .bake
            .gates
            .map_or_else(|| traffic.clone(), |list| gates::gates(list, "bake.gates", &mut faults));
        let steps = Steps {
            at_least: span_or(policy.steps.at_least, sampling.period),
            at_most: span_or(policy.steps.at_most, defaults::LONGEST_STEP),
        };
        let first_seen = sampling.period.saturating_add(sampling.ingestion_delay);
        faults.require(
            steps.at_most.is_zero() || steps.at_most >= first_seen,
            "steps.at_most",
            "at least `metrics.period` and `metrics.ingestion_delay` together (3m by default): before that nothing of a step can be judged; 0s does not hold at all",
        );
        faults.require(
            policy.steps.at_least.is_none() || steps.at_least <= steps.at_most,
            "steps.at_least",
            "not longer than `steps.at_most`",
        );
        faults.require(
            steps.at_most <= defaults::LONGEST_HOLD,
            "steps.at_most",
            "at most 23h: ECS allows a stage a day",
        );
        let false_rollback_rate = share_or(policy.false_rollback_rate, defaults::FALSE_ROLLBACK_RATE);
        faults.require(
            false_rollback_rate > 0.0 && false_rollback_rate <= 0.5,
            "false_rollback_rate",
            "above 0%, at most 50%",
        );
        let bake_for = policy.bake.duration.map_or(defaults::BAKE, |span| span.0);
        faults.require(
            bake_for.saturating_add(sampling.ingestion_delay) <= defaults::LONGEST_BAKE,
            "bake.for",
            "at most 50m together with `metrics.ingestion_delay`: CodeDeploy allows a hook one hour",
        );
        for (index, name) in policy.preflight.alarms.iter().enumerate() {
            let key = format!("preflight.alarms[{index}]");
            faults.require(!name.is_empty(), &key, "an alarm needs a name");
            faults.require(
                !name.starts_with("arn:"),
                &key,
                "an alarm is given by its name, without the ARN around it",
            );
        }
        if faults.0.is_empty() {
            Ok(Self {
                rules,
                false_rollback_rate,
                sampling,
                alarms: policy.preflight.alarms,
                readiness,
                smoke,
                outage,
                traffic,
                built_in,
                steps,
                rolling: policy.rolling.unwrap_or(Rolling::Ignore),
                bake_for,
                bake,
            })
        } else {
            Err(faults.0)
        }
    }

    /// The plan for a rollout of which CloudWatch can tell no more than this: the built-in gates are those that can be
    /// measured, and where both versions share a target group, comparisons become changes.
    #[must_use]
    pub fn fitted(mut self, front: Front) -> Self {
        if self.built_in.traffic {
            self.traffic = defaults::gates(front);
        }
        if self.built_in.bake {
            self.bake = defaults::gates(front);
        }
        if front == Front::Shared {
            self.bake = self.bake.iter().filter_map(Gate::of_both).collect();
            self.traffic.clear();
        }
        self
    }
}

fn sampling(raw: raw::Metrics, faults: &mut Faults) -> Sampling {
    let period = raw.period.map_or(defaults::SAMPLING.period, |span| span.0);
    let seconds = period.as_secs();
    faults.require(
        period.subsec_nanos() == 0
            && (matches!(seconds, 1 | 5 | 10 | 30) || (seconds > 0 && seconds.is_multiple_of(60))),
        "metrics.period",
        "CloudWatch has periods of 1s, 5s, 10s, 30s and whole minutes",
    );
    let ingestion_delay =
        raw.ingestion_delay.map_or_else(|| defaults::SAMPLING.ingestion_delay.max(period * 2), |span| span.0);
    faults.require(
        ingestion_delay >= period * 2,
        "metrics.ingestion_delay",
        "at least two periods: younger readings are not complete",
    );
    let look_every = raw.look_every.map_or(period, |span| span.0);
    faults.require(
        (Duration::from_secs(1)..=Duration::from_mins(15)).contains(&look_every),
        "metrics.look_every",
        "between 1s and 15m",
    );
    Sampling { period, ingestion_delay, look_every }
}

fn readiness(raw: raw::Readiness, faults: &mut Faults) -> Readiness {
    let Readiness { healthy, stable_for, within } = defaults::READINESS;
    let readiness = Readiness {
        healthy: raw.healthy.map_or(healthy, |share| share.0),
        stable_for: span_or(raw.stable_for, stable_for),
        within: span_or(raw.within, within),
    };
    faults.require(readiness.healthy > 0.0, "readiness.healthy", "more than 0%");
    faults.require(
        readiness.within <= Duration::from_mins(14),
        "readiness.within",
        "at most 14m: Lambda ends a function after 15",
    );
    faults.require(
        readiness.stable_for <= readiness.within,
        "readiness.stable_for",
        "must not be longer than `readiness.within`",
    );
    readiness
}

fn outage(raw: raw::Outage, faults: &mut Faults) -> Outage {
    let outage = Outage {
        share: share_or(raw.share, defaults::OUTAGE.share),
        min_requests: raw.min_requests.unwrap_or(defaults::OUTAGE.min_requests),
        periods: raw.periods.map_or(defaults::OUTAGE.periods, |periods| periods as usize),
        at_once_from: raw.at_once_from.unwrap_or(defaults::OUTAGE.at_once_from),
        blue_below: share_or(raw.blue_below, defaults::OUTAGE.blue_below),
    };
    faults.require(outage.share > 0.0, "outage.share", "more than 0%");
    faults.require(outage.periods > 0, "outage.periods", "at least 1");
    faults.require(outage.min_requests > 0, "outage.min_requests", "at least 1");
    outage
}

fn smoke(raw: raw::Smoke, faults: &mut Faults) -> Smoke {
    let base = match raw.base.as_deref() {
        None | Some("test-listener") => Base::TestListener,
        Some("production-listener") => Base::ProductionListener,
        Some(text) => match reqwest::Url::parse(text) {
            Ok(url) if is_base(&url) => Base::Url(url),
            _ => {
                faults.add(
                    "smoke.base",
                    format!(
                        "`{text}` is none of test-listener, production-listener, an https URL of a host (and port) alone"
                    ),
                );
                Base::TestListener
            }
        },
    };
    faults.require(
        raw.host.as_deref().is_none_or(is_host_name),
        "smoke.host",
        "a host name, without port; a request is sent to `smoke.base`, whatever name it goes under",
    );
    let checks = raw.checks.map(|checks| {
        faults.require(
            !checks.is_empty(),
            "smoke.checks",
            "an empty list checks nothing; leave the key out for the health check",
        );
        faults.require(checks.len() <= MOST_CHECKS, "smoke.checks", "at most 50");
        checks
            .into_iter()
            .enumerate()
            .map(|(index, raw)| check(raw, &format!("smoke.checks[{index}]"), faults))
            .collect()
    });
    Smoke { base, host: raw.host, during_shift: raw.during_shift.unwrap_or(true), checks }
}

/// Paths, queries and credentials belong to the checks.
fn is_base(url: &reqwest::Url) -> bool {
    url.scheme() == "https"
        && url.host().is_some()
        && url.as_str() == format!("{}/", url.origin().ascii_serialization())
}

/// Whether a text is a host name and nothing more: no port, no address in any of its forms, no part of a URL.
fn is_host_name(text: &str) -> bool {
    let url = reqwest::Url::parse(&format!("https://{text}/"));
    url.is_ok_and(|url| url.domain().is_some_and(|domain| domain.eq_ignore_ascii_case(text)))
}

/// Whether a path is one on the server that is asked, and can be sent as it is: `//host` would be another host, a line break
/// another request.
fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(|c: char| c == '\\' || c == '#' || c.is_control())
}

/// What the client itself sets: two of a kind would let two servers on the way see two different requests.
const CLIENTS_OWN: [&str; 7] =
    ["host", "connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade"];

fn request_header(
    name: &str,
    value: HeaderValue,
    key: &str,
    faults: &mut Faults,
) -> Option<(reqwest::header::HeaderName, HeaderValue)> {
    let name = header_name(name, key, faults)?;
    faults.require(
        !CLIENTS_OWN.contains(&name.as_str()),
        &format!("{key}.{name}"),
        "set by Shiftgate itself (the host by `smoke.host`)",
    );
    let fit = match &value {
        HeaderValue::Text(text) => reqwest::header::HeaderValue::from_str(text.trim_end()).is_ok(),
        HeaderValue::Ssm(parameter) => is_parameter_name(parameter),
    };
    if let HeaderValue::Text(text) = &value
        && text.starts_with("ssm:")
    {
        faults.add(
            format!("{key}.{name}"),
            "a parameter is written {ssm: NAME}, without quotes around the braces",
        );
    }
    faults.require(
        fit,
        &format!("{key}.{name}"),
        "one line of visible characters, or the name of a parameter",
    );
    Some((name, value))
}

/// Letters, digits and `.-_/`, or an ARN; below `/aws/reference/secretsmanager/` a secret's name, which may hold a few more.
fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/:+=@".contains(c))
}

fn check(raw: raw::Check, key: &str, faults: &mut Faults) -> Check {
    use reqwest::Method;
    let mut given: Vec<(Method, String)> = [
        (Method::GET, raw.get),
        (Method::HEAD, raw.head),
        (Method::POST, raw.post),
        (Method::PUT, raw.put),
        (Method::PATCH, raw.patch),
        (Method::DELETE, raw.delete),
        (Method::OPTIONS, raw.options),
    ]
    .into_iter()
    .filter_map(|(method, path)| path.map(|path| (method, path)))
    .collect();
    let invokes = raw.invoke.is_some();
    faults.require(
        given.len() + usize::from(invokes) == 1,
        &format!("{key}.get"),
        "a check needs exactly one of get, head, post, put, patch, delete, options with a path behind it (`get: /health`), or, for a Lambda function, invoke with a payload (`invoke: {}`)",
    );
    let of_http = [
        ("headers", !raw.headers.is_empty()),
        ("body", raw.body.is_some()),
        ("follow_redirects", raw.follow_redirects.is_some()),
        ("expect.status", raw.expect.status.is_some()),
        ("expect.headers", !raw.expect.headers.is_empty()),
    ];
    for (name, _) in of_http.iter().filter(|(_, given)| *given && invokes) {
        faults.add(
            format!("{key}.{name}"),
            "an invoked function has no such thing: `invoke` is the whole request",
        );
    }
    let (method, path) = given.pop().unwrap_or((Method::GET, "/".to_owned()));
    let method_key = format!("{key}.{}", method.as_str().to_ascii_lowercase());
    faults.require(
        is_local_path(&path),
        &method_key,
        "the path must begin with one `/`, and have no `\\`, no `#` and no control characters",
    );
    let headers = raw
        .headers
        .into_iter()
        .filter_map(|(name, value)| request_header(&name, value, &format!("{key}.headers"), faults))
        .collect();
    let check = Check {
        name: raw
            .name
            .unwrap_or_else(|| if invokes { "invocation".to_owned() } else { format!("{method} {path}") }),
        invoke: raw.invoke,
        method,
        path,
        headers,
        body: raw.body,
        times: raw.times.unwrap_or(1),
        concurrency: raw.concurrency.unwrap_or(1),
        retries: raw.retries.unwrap_or(0),
        timeout: span_or(raw.timeout, Duration::from_secs(5)),
        follow_redirects: raw.follow_redirects.unwrap_or(false),
        expect: expect(raw.expect, &format!("{key}.expect"), faults),
    };
    faults.require((1..=1000).contains(&check.times), &format!("{key}.times"), "between 1 and 1000");
    faults.require((1..=50).contains(&check.concurrency), &format!("{key}.concurrency"), "between 1 and 50");
    faults.require(check.retries <= 10, &format!("{key}.retries"), "at most 10");
    faults.require(
        (Duration::from_millis(1)..=Duration::from_mins(1)).contains(&check.timeout),
        &format!("{key}.timeout"),
        "between 1ms and 60s",
    );
    check
}

fn expect(raw: raw::Expect, key: &str, faults: &mut Faults) -> Expect {
    let jmespath = raw.jmespath.and_then(|text| match expression::compile(&text) {
        Ok(expression) => Some(expression),
        Err(what) => {
            faults.add(format!("{key}.jmespath"), what);
            None
        }
    });
    let percentiles = raw
        .percentiles
        .into_iter()
        .filter_map(|(name, span)| {
            if let Some(rank) = gates::percentile(&name) {
                Some((rank, span.0))
            } else {
                faults
                    .add(format!("{key}.percentiles.{name}"), "a percentile is written as p50, p95 or p99.9");
                None
            }
        })
        .collect();
    let is_written_out = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).is_ok_and(|json| json.is_object() || json.is_array())
    };
    if raw.json.as_ref().and_then(serde_json::Value::as_str).is_some_and(is_written_out) {
        faults.add(
            format!("{key}.json"),
            "this is a text that holds JSON, and no answer is such a text; leave out the quotes around it",
        );
    }
    Expect {
        status: raw.status.unwrap_or_else(any_success),
        headers: raw
            .headers
            .into_iter()
            .filter_map(|(name, value)| {
                header_name(&name, &format!("{key}.headers"), faults).map(|name| (name, value))
            })
            .collect(),
        body: raw.body,
        json: raw.json,
        jmespath,
        within: raw.within.map(|span| span.0),
        percentiles,
    }
}

fn header_name(name: &str, key: &str, faults: &mut Faults) -> Option<reqwest::header::HeaderName> {
    let parsed = name.parse().ok();
    faults.require(parsed.is_some(), &format!("{key}.{name}"), "not a header's name");
    parsed
}

fn span_or(span: Option<Span>, default: Duration) -> Duration {
    span.map_or(default, |span| span.0)
}

fn share_or(share: Option<Share>, default: f64) -> f64 {
    share.map_or(default, |share| share.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    fn threshold(gate: &Gate) -> &gates::Threshold {
        match &gate.rule {
            gates::Rule::Threshold(threshold) => threshold,
            other => panic!("{other:?}"),
        }
    }

    /// Every fault of `text` as `line key`.
    fn check_faults(text: &str, expect: &[&str]) {
        let seen: Vec<String> = match parse(text) {
            Ok(_) => Vec::new(),
            Err(problems) => {
                problems.iter().map(|problem| format!("{} {}", problem.line, problem.key)).collect()
            }
        };
        assert_eq!(seen, expect, "{text}\n{:?}", parse(text).err());
    }

    #[test]
    fn an_empty_policy_is_the_default() {
        let plan = parse("").unwrap();
        assert_eq!(plan.traffic, defaults::gates(Front::Application));
        assert_eq!(plan.rules, Rules::default());
        assert_eq!(plan.sampling, defaults::SAMPLING);
    }

    #[test]
    fn the_whole_format_is_read() {
        let plan = parse(include_str!("../../tests/policies/full.yaml")).unwrap();
        assert_eq!(plan.rules.mode, Mode::Observe);
        assert_eq!(plan.traffic.len(), 3);
        assert_eq!(plan.bake_for, Duration::from_mins(10));
        let checks = plan.smoke.checks.unwrap();
        assert_eq!(checks[0].times, 20);
        assert_eq!(checks[1].headers[0].1, HeaderValue::Ssm("/api/smoke-token".into()));
    }

    #[test]
    fn a_gate_with_a_direction_compares_a_metric_with_its_past() {
        let text = "bake: {gates: [{metric: CPUUtilization, namespace: AWS/ECS, statistic: Average, direction: up, tolerate: 1.5x, \
                    weight: 2, dimensions: {ServiceName: shop}}]}";
        let gate = parse(text).unwrap().bake.remove(0);
        assert_eq!(gate.name, "Average of CPUUtilization");
        let gates::Rule::Changed(changed) = gate.rule else { panic!("{:?}", gate.rule) };
        assert_eq!((changed.direction, changed.tolerate, changed.weight), (gates::Direction::Up, 1.5, 2.0));
        let gates::Measure::Statistic { metric, statistic } = changed.measure else { panic!("no statistic") };
        assert_eq!((metric.name.as_str(), statistic.as_str()), ("CPUUtilization", "Average"));
        check_faults(&text.replace("statistic: Average, ", ""), &["1 bake.gates[0].statistic"]);
    }

    #[test]
    fn all_faults_are_told_with_line_and_key() {
        check_faults(
            "version: 2\nmode: watch\nmetrics:\n  period: 7s\n  ingestion_delay: 1s\nsmoke:\n  checks:\n    - get: healthz\n      times: 0\n    - name: x\n      expect: {jmespath: '[', status: 2x}\ntraffic:\n  - name: a\n    bad: x\n    of: y\n    limit: 500ms\n  - metric: z\n    namespace: Shop\n    statistic: p999\n    limt: 5\n  - {metric: x, statistic: Sum, tolerate: 2x}\nbake: {for: 2h}\n",
            &[
                "1 version",
                "2 mode",
                "4 metrics.period",
                "5 metrics.ingestion_delay",
                "8 smoke.checks[0].get",
                "9 smoke.checks[0].times",
                "10 smoke.checks[1].get",
                "11 smoke.checks[1].expect.status",
                "11 smoke.checks[1].expect.jmespath",
                "16 traffic[0].limit",
                "17 traffic[1].dimensions",
                "17 traffic[1].limit",
                "19 traffic[1].statistic",
                "20 traffic[1].limt",
                "21 traffic[2].limit",
                "22 bake.for",
            ],
        );
    }

    #[test]
    fn what_stands_in_the_place_of_something_else_is_told_with_what_belongs_there() {
        let faults = |text: &str| match parse(text) {
            Ok(_) => String::new(),
            Err(problems) => problems[0].to_string(),
        };
        assert_eq!(
            faults("rolling: true"),
            "line 1, rolling: unknown word `true`, expected `ignore` or `watch`"
        );
        let steps = faults("steps: 10m");
        assert!(steps.ends_with("expected a map such as `{at_least: 2m, at_most: 10m}`"), "{steps}");
        let checks = faults("smoke:\n  checks: {get: /}");
        assert_eq!(checks, "line 2, smoke.checks: invalid type: map, expected a list");
        let check = faults("smoke: {checks: [/health]}");
        assert!(check.ends_with("expected a check such as `{get: /health}`"), "{check}");
        let methods = faults("smoke: {checks: [{get: /, post: /}]}");
        assert!(methods.ends_with("invoke with a payload (`invoke: {}`)"), "{methods}");
        for (text, place) in [
            ("smoke:\n  checks:\n    - get: /\n      invoke:\n", "line 4, smoke.checks[0].invoke: "),
            (
                "smoke:\n  checks:\n    - get: /\n      expect: {json: }\n",
                "line 4, smoke.checks[0].expect.json: ",
            ),
            ("mode:\n", "line 1, mode: "),
            ("bake:\nfor: 10m\n", "line 1, bake: "),
        ] {
            let told = faults(text);
            assert!(told.starts_with(&format!("{place}nothing stands behind it")), "{told}");
        }
        assert_eq!(
            faults("smoke: {checks: [{get: /, expect: {json: {error: null}}}]}"),
            "",
            "JSON may hold null"
        );
        for (text, expect) in [
            (
                "smoke: {checks: [{get: /, expect: {json: '{\"status\": \"ok\"}'}}]}",
                "leave out the quotes around it",
            ),
            (
                "smoke: {checks: [{get: /, headers: {x-token: 'ssm:/shiftgate/token'}}]}",
                "is written {ssm: NAME}",
            ),
            (
                "smoke: {checks: [{get: /, headers: {x-token: {ssm: my token}}}]}",
                "or the name of a parameter",
            ),
            ("preflight: {alarms: ['arn:aws:cloudwatch:eu-west-1:123456789012:alarm:db']}", "by its name"),
        ] {
            let told = faults(text);
            assert!(told.contains(expect), "{text}: {told}");
        }
        let app_spec = faults("version: 0.0\nResources: []\nHooks:\n  - BeforeInstall: f\n");
        assert!(app_spec.starts_with("line 1: this is an AppSpec, not a policy"), "{app_spec}");
        assert!(faults("- mode: observe").starts_with("line 1: a policy is a map of keys"));
        let key = faults("false_rollbacks: 5%");
        assert_eq!(
            key,
            "line 1, false_rollbacks: unknown key `false_rollbacks`; did you mean `false_rollback_rate`?"
        );
    }

    #[test]
    fn a_request_cannot_be_made_another_one() {
        let faults = |smoke: &str| match parse(&format!("smoke: {smoke}")) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>(),
        };
        for path in [
            "//evil.example/",
            "/\\t/evil.example/",
            "/a\\r\\nHost: b",
            "/\\0",
            "\\\\evil",
            "/a#b",
            "evil",
            "",
        ] {
            assert_eq!(
                faults(&format!("{{checks: [{{get: \"{path}\"}}]}}")),
                ["smoke.checks[0].get"],
                "{path}"
            );
        }
        assert_eq!(faults("{checks: [{get: '/a/../b?c=d e&f=//x'}]}"), [""; 0]);
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9.254.43518",
            "[::1]",
            "::1",
            "a:80",
            "a/b",
            "u@a",
            "a b",
            "",
        ] {
            assert_eq!(faults(&format!("{{host: '{host}'}}")), ["smoke.host"], "{host}");
        }
        assert_eq!(faults("{host: Shop.example.com}"), [""; 0]);
        for base in ["http://a/", "https://u:p@a/", "https://a/b", "https://a/?b", "https://a/#b", "tcp://a/"]
        {
            assert_eq!(faults(&format!("{{base: '{base}'}}")), ["smoke.base"], "{base}");
        }
        for base in ["https://a", "https://a:8443/", "https://A/"] {
            assert_eq!(faults(&format!("{{base: '{base}'}}")), [""; 0], "{base}");
        }
        for (name, value) in [
            ("host", "a"),
            ("Transfer-Encoding", "chunked"),
            ("content-length", "'1'"),
            ("x", "\"a\\r\\ny: b\""),
            ("x", "\"a\\0\""),
            ("x", "{ssm: ''}"),
        ] {
            let key = format!("smoke.checks[0].headers.{}", name.to_ascii_lowercase());
            assert_eq!(
                faults(&format!("{{checks: [{{get: /, headers: {{{name}: {value}}}}}]}}")),
                [key],
                "{name}: {value}"
            );
        }
        assert_eq!(faults("{checks: [{get: /, headers: {x: \"one line\\n\"}}]}"), [""; 0]);
    }

    #[test]
    fn what_a_policy_can_ask_of_a_service_is_bounded() {
        let most = "smoke: {checks: [{get: /, times: 1000, concurrency: 50, retries: 10, timeout: 60s}]}";
        check_faults(most, &[]);
        check_faults(
            "smoke: {checks: [{get: /, times: 1001, concurrency: 51, retries: 11, timeout: 61s}]}",
            &[
                "1 smoke.checks[0].times",
                "1 smoke.checks[0].concurrency",
                "1 smoke.checks[0].retries",
                "1 smoke.checks[0].timeout",
            ],
        );
        let checks = |number| format!("smoke: {{checks: [{}]}}", vec!["{get: /}"; number].join(", "));
        check_faults(&checks(MOST_CHECKS), &[]);
        check_faults(&checks(MOST_CHECKS + 1), &["1 smoke.checks"]);
    }

    #[test]
    fn times_beyond_all_bounds_are_faults() {
        let longest = i64::MAX;
        check_faults(
            &format!(
                "metrics: {{period: {longest}s}}\nbake: {{for: {longest}s}}\nsteps: {{at_most: {longest}s}}\n"
            ),
            &["1 metrics.period", "1 metrics.look_every", "2 bake.for", "3 steps.at_most", "3 steps.at_most"],
        );
    }

    #[test]
    fn placeholders_and_names_are_checked() {
        check_faults(
            "traffic:\n  - {name: a, metric: M, statistic: Sum, namespace: N, dimensions: {T: '{colour}'}, limit: 1}\n  - {name: a, metric: M, statistic: Sum, namespace: N, dimensions: {T: 'x-{green.target_group}'}, limit: 1}\n",
            &["2 traffic[0].dimensions.T", "3 traffic[1].name"],
        );
    }

    #[test]
    fn a_misspelt_metric_would_never_have_data() {
        check_faults(
            "traffic: [{bad: HTTPCode_Target_5xx_Count, of: RequestCounts, limit: 5%}]",
            &["1 traffic[0].metric", "1 traffic[0].metric"],
        );
        check_faults("traffic: [{bad: HTTPCode_Target_4XX_Count, of: RequestCount, limit: 5%}]", &[]);
    }

    #[test]
    fn empty_lists_are_refused_because_they_would_pass_silently() {
        check_faults(
            "traffic: []\nsmoke: {checks: []}\nbake: {gates: []}\n",
            &["1 traffic", "2 smoke.checks", "3 bake.gates"],
        );
    }

    #[test]
    fn a_plain_number_takes_the_unit_of_its_measure() {
        check_faults("traffic: [{bad: B, of: R, limit: 1}]", &["1 traffic[0].limit"]);
        check_faults(
            "traffic: [{metric: TargetResponseTime, statistic: p99, limit: 500}]",
            &["1 traffic[0].limit"],
        );
        let plan = parse("traffic: [{bad: B, of: R, limit: 0.05}, {metric: TargetResponseTime, statistic: p99, limit: 500ms}]").unwrap();
        let limits: Vec<String> =
            plan.traffic.iter().map(|gate| threshold(gate).bound.limit().to_string()).collect();
        assert_eq!(limits, ["5 %", "500 ms"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_policy_panic(text in "(version|mode|traffic|smoke|: |\\[|\\]|\\{|\\}|\n  - |5%|p99|a){0,24}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn durations_of_functions_are_in_milliseconds() {
        let dimensions = "dimensions: {FunctionName: '{function}', ExecutedVersion: '{version}'}";
        let text = format!(
            "traffic:\n  - {{name: a, namespace: AWS/Lambda, slower_than: 300ms, {dimensions}}}\n  - {{name: b, namespace: AWS/Lambda, metric: Duration, statistic: p99, limit: 1.5s, {dimensions}}}\n"
        );
        let plan = crate::policy::parse(&text).unwrap();
        let gates::Rule::Compared(compared) = &plan.traffic[0].rule else { panic!("no comparison") };
        assert!(matches!(
            &compared.events,
            gates::Events::Slow { metric, than: gates::SlowerThan::Limit(limit) }
                if metric.name == "Duration" && limit.to_bits() == 300.0_f64.to_bits()
        ));
        let gates::Rule::Threshold(threshold) = &plan.traffic[1].rule else { panic!("no limit") };
        assert_eq!(threshold.bound.limit().to_string(), "1500");
    }

    #[test]
    fn an_invocation_has_no_part_of_a_request() {
        let faults = |check: &str| {
            let problems = crate::policy::parse(&format!("smoke: {{checks: [{check}]}}")).unwrap_err();
            problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert_eq!(faults("{invoke: {a: 1}, get: /}"), ["smoke.checks[0].get"]);
        assert_eq!(
            faults("{invoke: 1, body: x, headers: {a: b}, expect: {status: 200}}"),
            ["smoke.checks[0].headers", "smoke.checks[0].body", "smoke.checks[0].expect.status"]
        );
        let plan =
            crate::policy::parse("smoke: {checks: [{invoke: [1, {a: x}], expect: {jmespath: ok}}]}").unwrap();
        let check = &plan.smoke.checks.unwrap()[0];
        assert_eq!(
            (check.name.as_str(), &check.invoke),
            ("invocation", &Some(serde_json::json!([1, {"a": "x"}])))
        );
    }

    #[test]
    fn the_built_in_gates_are_those_that_can_be_measured() {
        let names = |front| {
            let plan = Plan::default().fitted(front);
            let names = |gates: &[Gate]| gates.iter().map(|gate| gate.name.clone()).collect::<Vec<_>>();
            (names(&plan.traffic), names(&plan.bake))
        };
        let (traffic, bake) = names(Front::Application);
        assert_eq!(traffic.len(), 4);
        assert_eq!(traffic, bake);
        // A Network Load Balancer knows nothing of requests.
        assert_eq!(names(Front::Network).0, ["unhealthy targets"]);
        assert_eq!(names(Front::Function).0, ["errors", "slow invocations"]);
        assert_eq!(names(Front::None), (Vec::new(), Vec::new()));
        // Where both versions share a target group, nothing is judged beside blue.
        assert_eq!(
            names(Front::Shared),
            (Vec::new(), vec!["server errors".to_owned(), "slow requests".to_owned()])
        );
    }

    #[test]
    fn where_both_versions_share_a_target_group_comparisons_become_changes() {
        let text = "traffic:\n  - {name: a, bad: HTTPCode_Target_5XX_Count, of: RequestCount, weight: 2}\n  - {name: b, slower_than: 300ms}\n  - {name: c, metric: TargetResponseTime, statistic: p99, limit: 1s}\n  - {name: d, metric: TargetResponseTime, statistic: p99, limit: 1s, tolerate: 2x}\n";
        let plan = crate::policy::parse(text).unwrap().fitted(Front::Shared);
        let rules: Vec<(&str, &gates::Rule)> =
            plan.bake.iter().map(|gate| (gate.name.as_str(), &gate.rule)).collect();
        // A limit that only makes sense beside blue is left out.
        assert_eq!(rules.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(matches!(
            rules[0].1,
            gates::Rule::Changed(gates::Changed { measure: gates::Measure::Share { .. }, weight, .. }) if weight.to_bits() == 2.0_f64.to_bits()
        ));
        assert!(matches!(
            rules[1].1,
            gates::Rule::Changed(gates::Changed { measure: gates::Measure::Statistic { statistic, .. }, .. }) if statistic == "p90"
        ));
        assert!(matches!(rules[2].1, gates::Rule::Threshold(_)));
        // The whole budget is theirs.
        assert_eq!(
            crate::policy::chances::Chances::of_changes(&plan).to_bits(),
            plan.false_rollback_rate.to_bits()
        );
    }
}
