//! The policy validated, with its defaults filled in. Pure; whatever is in a [`Plan`] can be used as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raw;
use super::values::{Limit, Share, Span, Statuses};
use super::{defaults, raw::HeaderValue};
use crate::verdict::{Quantity, Rules, Unit};
use crate::yaml::Problem;

pub use super::raw::{Choice, Mode};

/// How a service is gated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Mode, and what unclear checks and faults lead to.
    pub rules: Rules,
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
    /// Length of the bake at 100 %.
    pub bake_for: Duration,
    /// Gates of the bake.
    pub bake: Vec<Gate>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            sampling: defaults::SAMPLING,
            alarms: Vec::new(),
            readiness: defaults::READINESS,
            smoke: Smoke { base: Base::TestListener, host: None, checks: None },
            outage: defaults::OUTAGE,
            traffic: defaults::gates(),
            bake_for: defaults::BAKE,
            bake: defaults::gates(),
        }
    }
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
    /// What is asked; `None` stands for the target group's health check.
    pub checks: Option<Vec<Check>>,
}

/// One smoke check.
#[derive(Debug, Clone)]
pub struct Check {
    /// Name in reports.
    pub name: String,
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

/// One rule over one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Name in reports.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// What makes a period bad.
    pub bound: Bound,
    /// Requests (samples) that a period needs.
    pub min_requests: u64,
    /// How many of the latest complete periods are judged; `None` is all since the shift.
    pub worst_of: Option<usize>,
}

/// What a gate measures in each period.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// The sum of `bad` over the sum of `of`.
    Share {
        /// Bad events.
        bad: Metric,
        /// All events.
        of: Metric,
    },
    /// A statistic of a metric.
    Statistic {
        /// The metric.
        metric: Metric,
        /// The statistic, as CloudWatch names it.
        statistic: String,
    },
}

/// What makes a period bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Above `limit` and, if given, above `tolerate` times blue.
    AtMost {
        /// The absolute limit.
        limit: Quantity,
        /// Tolerated ratio of green to blue, at least 1.
        tolerate: Option<f64>,
    },
    /// Below the limit.
    AtLeast {
        /// The absolute limit.
        limit: Quantity,
    },
}

impl Bound {
    /// The absolute limit.
    pub fn limit(&self) -> Quantity {
        match self {
            Self::AtMost { limit, .. } | Self::AtLeast { limit } => *limit,
        }
    }
}

/// A CloudWatch metric whose dimension values may hold placeholders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Dimension names and value templates.
    pub dimensions: Vec<(String, String)>,
}

impl Metric {
    /// A load balancer metric of the target group that is being judged.
    pub fn of_target_group(name: &str) -> Self {
        Self {
            namespace: defaults::LOAD_BALANCER_NAMESPACE.to_owned(),
            name: name.to_owned(),
            dimensions: vec![
                ("LoadBalancer".to_owned(), "{load_balancer}".to_owned()),
                ("TargetGroup".to_owned(), "{target_group}".to_owned()),
            ],
        }
    }
}

/// Placeholders that dimension values may use.
pub const PLACEHOLDERS: [&str; 6] =
    ["target_group", "green.target_group", "blue.target_group", "load_balancer", "cluster", "service"];

fn any_success() -> Statuses {
    "200-299".parse().unwrap_or_else(|_| unreachable!("a constant"))
}

/// Gathers faults, so that all of them can be told at once.
#[derive(Default)]
struct Faults(Vec<Problem>);

impl Faults {
    fn add(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { line: 0, key: key.into(), what: what.into() });
    }

    /// The value if `fine`, else a fault and the default.
    fn require(&mut self, fine: bool, key: &str, what: &str) {
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
        let traffic = policy.traffic.map_or_else(defaults::gates, |list| gates(list, "traffic", &mut faults));
        let bake =
            policy.bake.gates.map_or_else(|| traffic.clone(), |list| gates(list, "bake.gates", &mut faults));
        let bake_for = policy.bake.duration.map_or(defaults::BAKE, |span| span.0);
        faults.require(
            bake_for + sampling.ingestion_delay <= defaults::LONGEST_BAKE,
            "bake.for",
            "at most 50m together with `metrics.ingestion_delay`: CodeDeploy allows a hook one hour",
        );
        for (index, name) in policy.preflight.alarms.iter().enumerate() {
            faults.require(!name.is_empty(), &format!("preflight.alarms[{index}]"), "an alarm needs a name");
        }
        if faults.0.is_empty() {
            Ok(Self {
                rules,
                sampling,
                alarms: policy.preflight.alarms,
                readiness,
                smoke,
                outage,
                traffic,
                bake_for,
                bake,
            })
        } else {
            Err(faults.0)
        }
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
            Ok(url) if url.scheme() == "https" && url.host().is_some() => Base::Url(url),
            _ => {
                faults.add(
                    "smoke.base",
                    format!("`{text}` is none of test-listener, production-listener, an https URL"),
                );
                Base::TestListener
            }
        },
    };
    let checks = raw.checks.map(|checks| {
        faults.require(
            !checks.is_empty(),
            "smoke.checks",
            "an empty list checks nothing; leave the key out for the health check",
        );
        checks
            .into_iter()
            .enumerate()
            .map(|(index, raw)| check(raw, &format!("smoke.checks[{index}]"), faults))
            .collect()
    });
    Smoke { base, host: raw.host, checks }
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
    faults.require(
        given.len() == 1,
        &format!("{key}.get"),
        "a check needs exactly one of get, head, post, put, patch, delete, options",
    );
    let (method, path) = given.pop().unwrap_or((Method::GET, "/".to_owned()));
    let method_key = format!("{key}.{}", method.as_str().to_ascii_lowercase());
    // `//host` would be another host.
    let local = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    faults.require(local, &method_key, "the path must begin with one `/`");
    let headers = raw
        .headers
        .into_iter()
        .filter_map(|(name, value)| {
            header_name(&name, &format!("{key}.headers"), faults).map(|name| (name, value))
        })
        .collect();
    let check = Check {
        name: raw.name.unwrap_or_else(|| format!("{method} {path}")),
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
    let jmespath = raw.jmespath.and_then(|text| match jmespath::compile(&text) {
        Ok(expression) => Some(expression),
        Err(error) => {
            faults.add(format!("{key}.jmespath"), format!("not a JMESPath expression: {}", error.reason));
            None
        }
    });
    let percentiles = raw
        .percentiles
        .into_iter()
        .filter_map(|(name, span)| {
            if let Some(rank) = percentile(&name) {
                Some((rank, span.0))
            } else {
                faults
                    .add(format!("{key}.percentiles.{name}"), "a percentile is written as p50, p95 or p99.9");
                None
            }
        })
        .collect();
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

fn gates(list: Vec<raw::Gate>, key: &str, faults: &mut Faults) -> Vec<Gate> {
    faults.require(
        !list.is_empty(),
        key,
        "an empty list gates nothing; leave the key out for the built-in gates",
    );
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut gates = Vec::new();
    for (index, raw) in list.into_iter().enumerate() {
        let at = format!("{key}[{index}]");
        let Some(gate) = gate(raw, &at, faults) else { continue };
        if let Some(first) = names.insert(gate.name.clone(), index) {
            faults.add(format!("{at}.name"), format!("`{}` is the name of {key}[{first}] too", gate.name));
        }
        gates.push(gate);
    }
    gates
}

fn gate(raw: raw::Gate, key: &str, faults: &mut Faults) -> Option<Gate> {
    let metric = |name: String, faults: &mut Faults| {
        if let Some(meant) = misspelt_metric(&name, raw.namespace.as_deref()) {
            faults.add(
                format!("{key}.metric"),
                format!("the load balancer has no metric `{name}`; did you mean `{meant}`?"),
            );
        }
        Metric {
            namespace: raw.namespace.clone().unwrap_or_else(|| defaults::LOAD_BALANCER_NAMESPACE.to_owned()),
            dimensions: dimensions(&raw, key, &name, faults),
            name,
        }
    };
    let (measure, default_name, default_requests) = match (&raw.bad, &raw.of, &raw.metric, &raw.statistic) {
        (Some(bad), Some(of), None, None) => (
            Measure::Share { bad: metric(bad.clone(), faults), of: metric(of.clone(), faults) },
            bad.clone(),
            defaults::MIN_REQUESTS_FOR_SHARE,
        ),
        (None, None, Some(name), Some(statistic)) => {
            faults.require(
                is_statistic(statistic),
                &format!("{key}.statistic"),
                "one of SampleCount, Sum, Average, Minimum, Maximum, p99, TM(..), WM(..), TC(..), TS(..), PR(..), IQM",
            );
            let least = percentile(statistic).map_or(0, |_| defaults::MIN_REQUESTS_FOR_PERCENTILE);
            let measure =
                Measure::Statistic { metric: metric(name.clone(), faults), statistic: statistic.clone() };
            (measure, format!("{statistic} of {name}"), least)
        }
        _ => {
            faults.add(
                format!("{key}.bad"),
                "a gate measures either `bad` of `of`, or `statistic` of `metric`",
            );
            return None;
        }
    };
    let bound = bound(raw.limit, raw.tolerate.map(|times| times.0), raw.at_least, &measure, key, faults)?;
    faults.require(raw.worst_of != Some(0), &format!("{key}.worst_of"), "at least 1");
    faults.require(
        !matches!(bound, Bound::AtMost { tolerate: Some(_), .. }) || tells_colours_apart(&measure),
        &format!("{key}.tolerate"),
        "comparing green with blue needs a dimension with `{target_group}`",
    );
    Some(Gate {
        name: raw.name.unwrap_or(default_name),
        measure,
        bound,
        min_requests: raw.min_requests.unwrap_or(default_requests),
        worst_of: raw.worst_of.map(|periods| periods as usize),
    })
}

fn bound(
    limit: Option<Limit>,
    tolerate: Option<f64>,
    at_least: Option<Limit>,
    measure: &Measure,
    key: &str,
    faults: &mut Faults,
) -> Option<Bound> {
    let (bound, written) = match (limit, tolerate, at_least) {
        (Some(Limit(limit)), tolerate, None) => (Bound::AtMost { limit, tolerate }, "limit"),
        (None, None, Some(Limit(limit))) => (Bound::AtLeast { limit }, "at_least"),
        (None, Some(_), None) => {
            faults.add(
                format!("{key}.limit"),
                "`tolerate` needs a `limit` beside it: the level below which a difference does not matter",
            );
            return None;
        }
        (None, None, None) => {
            faults.add(format!("{key}.limit"), "a gate needs a `limit` (or `at_least`)");
            return None;
        }
        _ => {
            faults.add(format!("{key}.at_least"), "`at_least` stands alone, without `limit` and `tolerate`");
            return None;
        }
    };
    let unit = bound.limit().unit;
    let fits = match measure {
        Measure::Share { .. } => unit == Unit::Share || (unit == Unit::Plain && bound.limit().value < 1.0),
        Measure::Statistic { metric, statistic } if metric.name == "TargetResponseTime" => {
            // Counts and shares of samples (TC, PR, SampleCount) are not times.
            let counts = ["TC", "PR", "SampleCount"].iter().any(|prefix| statistic.starts_with(prefix));
            if counts { unit != Unit::Seconds } else { unit == Unit::Seconds }
        }
        Measure::Statistic { .. } => true,
    };
    faults.require(
        fits,
        &format!("{key}.{written}"),
        &format!(
            "`{}` does not fit what the gate measures: write 5% for a ratio, 500ms for a time",
            bound.limit()
        ),
    );
    Some(in_measured_unit(bound, measure))
}

/// A plain number takes the unit of what it limits, so that reports show `5 %` and not `0.05`.
fn in_measured_unit(bound: Bound, measure: &Measure) -> Bound {
    let unit = match measure {
        Measure::Share { .. } => Unit::Share,
        Measure::Statistic { metric, statistic }
            if metric.name == "TargetResponseTime" && !statistic.starts_with(['T', 'P', 'S']) =>
        {
            Unit::Seconds
        }
        Measure::Statistic { .. } => bound.limit().unit,
    };
    match bound {
        Bound::AtMost { limit, tolerate } => Bound::AtMost { limit: Quantity { unit, ..limit }, tolerate },
        Bound::AtLeast { limit } => Bound::AtLeast { limit: Quantity { unit, ..limit } },
    }
}

fn dimensions(raw: &raw::Gate, key: &str, metric: &str, faults: &mut Faults) -> Vec<(String, String)> {
    match (&raw.dimensions, raw.namespace.as_deref()) {
        (Some(dimensions), _) => {
            for (name, value) in dimensions {
                if let Some(unknown) = unknown_placeholder(value) {
                    faults.add(
                        format!("{key}.dimensions.{name}"),
                        format!("unknown placeholder `{{{unknown}}}`; there are {}", PLACEHOLDERS.join(", ")),
                    );
                }
            }
            dimensions.clone().into_iter().collect()
        }
        (None, None | Some(defaults::LOAD_BALANCER_NAMESPACE)) => Metric::of_target_group(metric).dimensions,
        (None, Some(namespace)) => {
            faults.add(format!("{key}.dimensions"), format!("metrics in {namespace} need `dimensions`"));
            Vec::new()
        }
    }
}

/// Whether the series of the two colours differ.
fn tells_colours_apart(measure: &Measure) -> bool {
    let (Measure::Share { bad: metric, .. } | Measure::Statistic { metric, .. }) = measure;
    metric.dimensions.iter().any(|(_, value)| value.contains("{target_group}"))
}

/// The load balancer's metrics that have a target group; a policy may name others, but not misspell these.
const TARGET_GROUP_METRICS: [&str; 12] = [
    "RequestCount",
    "RequestCountPerTarget",
    "HTTPCode_Target_2XX_Count",
    "HTTPCode_Target_3XX_Count",
    "HTTPCode_Target_4XX_Count",
    "HTTPCode_Target_5XX_Count",
    "TargetResponseTime",
    "TargetConnectionErrorCount",
    "TargetTLSNegotiationErrorCount",
    "HealthyHostCount",
    "UnHealthyHostCount",
    "AnomalousHostCount",
];

/// The known metric that a name of the load balancer's namespace is a slip of.
fn misspelt_metric(name: &str, namespace: Option<&str>) -> Option<&'static str> {
    if namespace.is_some_and(|namespace| namespace != defaults::LOAD_BALANCER_NAMESPACE)
        || TARGET_GROUP_METRICS.contains(&name)
    {
        return None;
    }
    // Letter case alone makes another metric in CloudWatch.
    let slip =
        |known: &&&str| known.eq_ignore_ascii_case(name) || strsim::damerau_levenshtein(known, name) == 1;
    TARGET_GROUP_METRICS.iter().find(slip).copied()
}

fn unknown_placeholder(template: &str) -> Option<&str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .find(|name| !PLACEHOLDERS.contains(name))
}

/// The rank of `p99` as 0.99; `None` for anything else.
pub fn percentile(text: &str) -> Option<f64> {
    let number: f64 = text.strip_prefix('p')?.parse().ok()?;
    (number > 0.0 && number <= 100.0).then_some(number / 100.0)
}

fn is_statistic(text: &str) -> bool {
    let trimmed = ["TM(", "WM(", "TC(", "TS(", "PR("].iter().any(|prefix| text.starts_with(prefix))
        && text.ends_with(')');
    matches!(text, "SampleCount" | "Sum" | "Average" | "Minimum" | "Maximum" | "IQM")
        || percentile(text).is_some()
        || trimmed
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
        assert_eq!(plan.traffic, defaults::gates());
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
    fn all_faults_are_told_with_line_and_key() {
        check_faults(
            "version: 2\nmode: watch\nmetrics:\n  period: 7s\n  ingestion_delay: 1s\nsmoke:\n  checks:\n    - get: healthz\n      times: 0\n    - name: x\n      expect: {jmespath: '[', status: 2x}\ntraffic:\n  - name: a\n    bad: x\n    of: y\n    limit: 500ms\n  - metric: z\n    namespace: Shop\n    statistic: p999\n    limt: 5\n  - {bad: x, of: y, tolerate: 2x}\nbake: {for: 2h}\n",
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
        let limits: Vec<String> = plan.traffic.iter().map(|gate| gate.bound.limit().to_string()).collect();
        assert_eq!(limits, ["5 %", "500 ms"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_policy_panic(text in "(version|mode|traffic|smoke|: |\\[|\\]|\\{|\\}|\n  - |5%|p99|a){0,24}") {
            let _ = parse(&text);
        }
    }
}
