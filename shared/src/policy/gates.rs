//! The gates of a policy, validated: limits, comparisons of green with blue, changes after the shift. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use shiftgate_judge::placebo::Direction;

use super::defaults;
use super::plan::Faults;
use super::raw;
use super::values::Limit;
use crate::judge::compare::Comparison;
use crate::verdict::{Quantity, Unit};

/// One rule over one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Name in reports.
    pub name: String,
    /// The rule.
    pub rule: Rule,
}

impl Gate {
    /// The metrics that the gate reads.
    pub fn metrics(&self) -> Vec<&Metric> {
        match &self.rule {
            Rule::Compared(Compared { events: Events::Counts { bad, of }, .. })
            | Rule::Threshold(Threshold { measure: Measure::Share { bad, of }, .. })
            | Rule::Changed(Changed { measure: Measure::Share { bad, of }, .. }) => vec![bad, of],
            Rule::Compared(Compared { events: Events::Slow { metric, .. }, .. })
            | Rule::Threshold(Threshold { measure: Measure::Statistic { metric, .. }, .. })
            | Rule::Changed(Changed { measure: Measure::Statistic { metric, .. }, .. }) => vec![metric],
        }
    }

    /// The same gate where both versions share a target group: a comparison becomes a change after the update has begun,
    /// and a limit that asks for blue stands alone. Nothing is left of a limit that only makes sense beside blue.
    pub(super) fn of_both(&self) -> Option<Self> {
        let rule = match &self.rule {
            Rule::Compared(Compared { events, comparison, weight }) => Rule::Changed(Changed {
                measure: match events {
                    Events::Counts { bad, of } => Measure::Share { bad: bad.clone(), of: of.clone() },
                    Events::Slow { metric, .. } => {
                        Measure::Statistic { metric: metric.clone(), statistic: SLOW_OF_BOTH.to_owned() }
                    }
                },
                direction: Direction::Up,
                tolerate: comparison.tolerate.max(defaults::CHANGE_TOLERATED),
                weight: *weight,
            }),
            // Tasks that are replaced are unhealthy targets for a while.
            Rule::Threshold(Threshold { bound: Bound::AtMost { tolerate: Some(_), .. }, .. }) => return None,
            other => other.clone(),
        };
        Some(Self { name: self.name.clone(), rule })
    }
}

/// Statistic by which slow requests show where they cannot be counted for each version.
const SLOW_OF_BOTH: &str = "p90";

/// How a gate judges.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Against a limit.
    Threshold(Threshold),
    /// Green's bad events against blue's, with the chance of a false rollback bounded.
    Compared(Compared),
    /// A metric after the shift against what it was before.
    Changed(Changed),
}

/// Green against blue, by counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What is counted.
    pub events: Events,
    /// What is tolerated, and what does not matter.
    pub comparison: Comparison,
    /// Share of the chance of a false rollback, relative to the other gates of the list.
    pub weight: f64,
}

/// Bad events among all events.
#[derive(Debug, Clone, PartialEq)]
pub enum Events {
    /// The sums of two metrics.
    Counts {
        /// Bad events.
        bad: Metric,
        /// All events.
        of: Metric,
    },
    /// Samples of a metric above a limit among all its samples.
    Slow {
        /// The metric, such as `TargetResponseTime`.
        metric: Metric,
        /// The limit.
        than: SlowerThan,
    },
}

/// From where on a sample is slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SlowerThan {
    /// The usual 99th percentile before the shift.
    Usual,
    /// A limit in the metric's unit (seconds for `TargetResponseTime`).
    Limit(f64),
}

/// A metric before and after the shift.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// What is measured.
    pub measure: Measure,
    /// Which change is bad.
    pub direction: Direction,
    /// Tolerated ratio of after to before, at least 1.
    pub tolerate: f64,
    /// Share of the chance of a false rollback, relative to the other gates of the list.
    pub weight: f64,
}

/// A measure against a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// Namespace of the metrics of Lambda functions.
const LAMBDA: &str = "AWS/Lambda";

impl Metric {
    /// A metric of the version of a Lambda function that is being judged, as far as its alias serves it.
    pub fn of_version(name: &str) -> Self {
        let dimensions = [
            ("ExecutedVersion", "{version}"),
            ("FunctionName", "{function}"),
            ("Resource", "{function}:{alias}"),
        ];
        Self {
            namespace: LAMBDA.to_owned(),
            name: name.to_owned(),
            dimensions: dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }
}

/// Placeholders that dimension values may use.
pub const PLACEHOLDERS: [&str; 11] = [
    "target_group",
    "green.target_group",
    "blue.target_group",
    "load_balancer",
    "cluster",
    "service",
    "function",
    "alias",
    "version",
    "green.version",
    "blue.version",
];

pub(super) fn gates(list: Vec<raw::Gate>, key: &str, faults: &mut Faults) -> Vec<Gate> {
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
    let limited = raw.limit.is_some() || raw.at_least.is_some();
    match (&raw.bad, &raw.slower_than, &raw.metric) {
        (Some(_), None, None) if !limited => compared(raw, key, faults),
        (None, Some(_), None) => compared(raw, key, faults),
        (None, None, Some(_)) if raw.direction.is_some() => changed(raw, key, faults),
        (Some(_), None, None) | (None, None, Some(_)) => threshold(raw, key, faults),
        _ => {
            faults.add(
                format!("{key}.bad"),
                "a gate measures either `bad` of `of`, or what is `slower_than` a limit, or `statistic` of `metric`",
            );
            None
        }
    }
}

/// Complains about keys that another kind of gate understands.
fn foreign(keys: &[(&str, bool)], why: &str, key: &str, faults: &mut Faults) {
    for (name, _) in keys.iter().filter(|(_, given)| *given) {
        faults.add(format!("{key}.{name}"), why);
    }
}

/// `bad` of `of` without a limit, or `slower_than`: green against blue.
fn compared(raw: raw::Gate, key: &str, faults: &mut Faults) -> Option<Gate> {
    foreign(
        &[
            ("limit", raw.limit.is_some()),
            ("at_least", raw.at_least.is_some()),
            ("min_requests", raw.min_requests.is_some()),
            ("worst_of", raw.worst_of.is_some()),
            ("statistic", raw.statistic.is_some()),
            ("direction", raw.direction.is_some()),
        ],
        "a comparison with blue counts events and needs no such key; give `bad`, `of` and a `limit` for a plain limit",
        key,
        faults,
    );
    let (events, default_name, defaults) = match (&raw.bad, &raw.of, &raw.slower_than) {
        (Some(bad), Some(of), None) => (
            Events::Counts { bad: metric(&raw, bad, key, faults), of: metric(&raw, of, key, faults) },
            bad.clone(),
            defaults::COMPARISON,
        ),
        (None, of, Some(than)) => {
            let of_function = raw.namespace.as_deref() == Some(LAMBDA);
            let usual = if of_function { "Duration" } else { "TargetResponseTime" };
            let name = of.as_deref().unwrap_or(usual);
            let than = match than.0 {
                None => SlowerThan::Usual,
                Some(limit) if of_function => SlowerThan::Limit(in_milliseconds(limit).value),
                Some(limit) => SlowerThan::Limit(limit.value),
            };
            let default_name = format!("slow {name}");
            (
                Events::Slow { metric: metric(&raw, name, key, faults), than },
                default_name,
                defaults::SLOW_COMPARISON,
            )
        }
        _ => {
            faults.add(format!("{key}.of"), "`bad` needs `of` beside it: the metric that counts all events");
            return None;
        }
    };
    let comparison = Comparison {
        tolerate: raw.tolerate.map_or(defaults.tolerate, |times| times.0),
        ignore_below: raw.ignore_below.map_or(defaults.ignore_below, |share| share.0),
        pass_below: raw.pass_below.map_or(defaults.pass_below, |times| times.0),
    };
    faults.require(
        comparison.pass_below > comparison.tolerate,
        &format!("{key}.pass_below"),
        &format!("must be above what is tolerated ({}x)", comparison.tolerate),
    );
    let (Events::Counts { bad: seen, .. } | Events::Slow { metric: seen, .. }) = &events;
    faults.require(
        tells_colours_apart(seen),
        &format!("{key}.dimensions"),
        "comparing green with blue needs a dimension with `{target_group}` (of a function: `{version}`)",
    );
    let weight = weight(&raw, key, faults);
    Some(Gate {
        name: raw.name.unwrap_or(default_name),
        rule: Rule::Compared(Compared { events, comparison, weight }),
    })
}

/// `statistic` of `metric` with a `direction`: after the shift against before.
fn changed(raw: raw::Gate, key: &str, faults: &mut Faults) -> Option<Gate> {
    foreign(
        &[
            ("limit", raw.limit.is_some()),
            ("at_least", raw.at_least.is_some()),
            ("min_requests", raw.min_requests.is_some()),
            ("worst_of", raw.worst_of.is_some()),
            ("ignore_below", raw.ignore_below.is_some()),
            ("pass_below", raw.pass_below.is_some()),
        ],
        "a gate with a `direction` compares the metric after the shift with what it was before, and needs no such key",
        key,
        faults,
    );
    let (Some(name), Some(statistic), Some(direction)) = (&raw.metric, &raw.statistic, raw.direction) else {
        faults.add(
            format!("{key}.statistic"),
            "`metric` needs a `statistic` beside it, such as p99 or Average",
        );
        return None;
    };
    valid_statistic(statistic, key, faults);
    faults.require(
        key.starts_with("bake"),
        &format!("{key}.direction"),
        "what changes with the shift is judged after it: such a gate belongs under `bake.gates`",
    );
    let measure =
        Measure::Statistic { metric: metric(&raw, name, key, faults), statistic: statistic.clone() };
    let default_name = format!("{statistic} of {name}");
    let weight = weight(&raw, key, faults);
    let tolerate = raw.tolerate.map_or(defaults::CHANGE_TOLERATED, |times| times.0);
    Some(Gate {
        name: raw.name.unwrap_or(default_name),
        rule: Rule::Changed(Changed { measure, direction, tolerate, weight }),
    })
}

fn weight(raw: &raw::Gate, key: &str, faults: &mut Faults) -> f64 {
    let weight = raw.weight.unwrap_or(1.0);
    faults.require(weight > 0.0 && weight <= 1000.0, &format!("{key}.weight"), "above 0, at most 1000");
    weight
}

fn valid_statistic(statistic: &str, key: &str, faults: &mut Faults) {
    faults.require(
        is_statistic(statistic),
        &format!("{key}.statistic"),
        "one of SampleCount, Sum, Average, Minimum, Maximum, p99, TM(..), WM(..), TC(..), TS(..), PR(..), IQM",
    );
}

fn metric(raw: &raw::Gate, name: &str, key: &str, faults: &mut Faults) -> Metric {
    if let Some(meant) = misspelt_metric(name, raw.namespace.as_deref()) {
        faults.add(
            format!("{key}.metric"),
            format!("the load balancer has no metric `{name}`; did you mean `{meant}`?"),
        );
    }
    Metric {
        namespace: raw.namespace.clone().unwrap_or_else(|| defaults::LOAD_BALANCER_NAMESPACE.to_owned()),
        dimensions: dimensions(raw, key, name, faults),
        name: name.to_owned(),
    }
}

/// A `limit` or `at_least`.
fn threshold(raw: raw::Gate, key: &str, faults: &mut Faults) -> Option<Gate> {
    foreign(
        &[
            ("ignore_below", raw.ignore_below.is_some()),
            ("pass_below", raw.pass_below.is_some()),
            ("weight", raw.weight.is_some()),
            ("direction", raw.direction.is_some()),
        ],
        "a gate with a limit needs no such key; leave the `limit` out to compare green with blue by chance",
        key,
        faults,
    );
    let (measure, default_name, default_requests) = match (&raw.bad, &raw.of, &raw.metric, &raw.statistic) {
        (Some(bad), Some(of), None, None) => (
            Measure::Share { bad: metric(&raw, bad, key, faults), of: metric(&raw, of, key, faults) },
            bad.clone(),
            defaults::MIN_REQUESTS_FOR_SHARE,
        ),
        (None, None, Some(name), Some(statistic)) => {
            valid_statistic(statistic, key, faults);
            let least = percentile(statistic).map_or(0, |_| defaults::MIN_REQUESTS_FOR_PERCENTILE);
            let measure =
                Measure::Statistic { metric: metric(&raw, name, key, faults), statistic: statistic.clone() };
            (measure, format!("{statistic} of {name}"), least)
        }
        (Some(_), ..) => {
            faults.add(format!("{key}.of"), "`bad` needs `of` beside it: the metric that counts all events");
            return None;
        }
        _ => {
            faults.add(
                format!("{key}.statistic"),
                "`metric` needs a `statistic` beside it, such as p99 or Average",
            );
            return None;
        }
    };
    let bound = bound(raw.limit, raw.tolerate.map(|times| times.0), raw.at_least, &measure, key, faults)?;
    faults.require(raw.worst_of != Some(0), &format!("{key}.worst_of"), "at least 1");
    let (Measure::Share { bad: seen, .. } | Measure::Statistic { metric: seen, .. }) = &measure;
    faults.require(
        !matches!(bound, Bound::AtMost { tolerate: Some(_), .. }) || tells_colours_apart(seen),
        &format!("{key}.tolerate"),
        "comparing green with blue needs a dimension with `{target_group}` (of a function: `{version}`)",
    );
    Some(Gate {
        name: raw.name.unwrap_or(default_name),
        rule: Rule::Threshold(Threshold {
            measure,
            bound,
            min_requests: raw.min_requests.unwrap_or(default_requests),
            worst_of: raw.worst_of.map(|periods| periods as usize),
        }),
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
                "`tolerate` needs a `limit` beside it (the level below which a difference does not matter), or a `direction`",
            );
            return None;
        }
        (None, None, None) => {
            faults.add(
                format!("{key}.limit"),
                "a metric needs a `limit`, `at_least`, or (under `bake.gates`) a `direction`",
            );
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
    let measured = |limit: Quantity| match measure {
        Measure::Statistic { metric, .. } if metric.namespace == LAMBDA => in_milliseconds(limit),
        _ => Quantity { unit, ..limit },
    };
    match bound {
        Bound::AtMost { limit, tolerate } => Bound::AtMost { limit: measured(limit), tolerate },
        Bound::AtLeast { limit } => Bound::AtLeast { limit: measured(limit) },
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

/// Durations of functions are in milliseconds.
fn in_milliseconds(quantity: Quantity) -> Quantity {
    match quantity.unit {
        Unit::Seconds => Quantity::plain(quantity.value * 1000.0),
        _ => quantity,
    }
}

/// Whether the series of the two colours differ.
fn tells_colours_apart(metric: &Metric) -> bool {
    let tells = |value: &str| value.contains("{target_group}") || value.contains("{version}");
    metric.dimensions.iter().any(|(_, value)| tells(value))
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
pub(super) fn percentile(text: &str) -> Option<f64> {
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
