//! The policy as users write it: a dumb shape for serde and the JSON Schema. Every key is optional; what a key
//! needs of others is checked in [`super::plan`].

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use shiftgate_judge::placebo::Direction;

use super::values::{Limit, Share, SlowerThan, Span, Statuses, Times};

/// How Shiftgate gates one service. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map of keys such as `mode: observe`")]
pub struct Policy {
    /// Version of this format: 1.
    pub version: Option<u32>,
    /// `enforce` (default), or `observe`: judge and report fully, but always answer Succeeded.
    #[serde(deserialize_with = "word")]
    pub mode: Option<Mode>,
    /// Chance of rolling back a release that is as good as blue, over the whole rollout and all gates that compare:
    /// 1% by default.
    pub false_rollback_rate: Option<Share>,
    /// What to do when a check could not be told apart, for want of data: `proceed` (default) or `fail`.
    #[serde(deserialize_with = "word")]
    pub on_inconclusive: Option<Choice>,
    /// What to do when a check could not be made, such as a denied call: `fail` (default) or `proceed`.
    #[serde(deserialize_with = "word")]
    pub on_fault: Option<Choice>,
    /// How metrics are read.
    pub metrics: Metrics,
    /// Checked before anything is installed.
    pub preflight: Preflight,
    /// When green counts as running.
    pub readiness: Readiness,
    /// Requests to green before it takes traffic.
    pub smoke: Smoke,
    /// When green counts as down; outside every other gate.
    pub outage: Outage,
    /// Gates while traffic shifts. Replaces the built-in gates.
    pub traffic: Option<Vec<Gate>>,
    /// How long green is held at each traffic step; only where ECS itself carries the deployment out.
    pub steps: Steps,
    /// What is done about rolling updates, which call no hook: `ignore` (default), or `watch`. The service's tag
    /// `shiftgate: watch` does the same.
    #[serde(deserialize_with = "word")]
    pub rolling: Option<Rolling>,
    /// After the shift.
    pub bake: Bake,
}

/// One of some words. Whatever else stands there is told as a word that is none of them, and so with those that are.
fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    T::deserialize(text.into_deserializer()).map(Some)
}

/// Enforce or observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Answer what was found.
    Enforce,
    /// Answer Succeeded whatever was found.
    Observe,
}

/// Go on or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The release goes on.
    Proceed,
    /// The release stops.
    Fail,
}

/// How metrics are read.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{period: 60s}`")]
pub struct Metrics {
    /// Length of a reading: 60s (default) for load balancer metrics; 1s, 5s, 10s, 30s or whole minutes are possible.
    pub period: Option<Span>,
    /// How long CloudWatch needs until a period is complete: 2m by default, at least two periods.
    pub ingestion_delay: Option<Span>,
    /// Time between two looks of the watch: one period by default.
    pub look_every: Option<Span>,
}

/// Checked before anything is installed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{alarms: [orders-db]}`")]
pub struct Preflight {
    /// CloudWatch alarms that must not be ringing, beside those of the deployment group.
    pub alarms: Vec<String>,
}

/// When green counts as running.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{within: 10m}`")]
pub struct Readiness {
    /// Share of green's tasks and targets that must be healthy: 100% by default.
    pub healthy: Option<Share>,
    /// How long it must stay so: 30s by default.
    pub stable_for: Option<Span>,
    /// How long green may take to get there: 10m by default, at most 14m.
    pub within: Option<Span>,
}

/// Requests to green before it takes traffic.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{checks: [{get: /health}]}`")]
pub struct Smoke {
    /// `test-listener` (default), `production-listener`, or an https URL (host and port alone) whose host the function
    /// allows.
    pub base: Option<String>,
    /// Host header and TLS server name; the base's own host by default.
    pub host: Option<String>,
    /// Whether the watch asks green again at each look (GET and HEAD only): true by default.
    pub during_shift: Option<bool>,
    /// The checks, at most 50. Without any: the target group's own health check, several times.
    #[schemars(length(min = 1, max = 50))]
    pub checks: Option<Vec<Check>>,
}

/// One smoke check: a request, how often, and what its answers must look like. Exactly one method key is needed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a check such as `{get: /health}`")]
pub struct Check {
    /// Name in reports; method and path by default.
    pub name: Option<String>,
    /// Path to GET.
    pub get: Option<String>,
    /// Path to HEAD.
    pub head: Option<String>,
    /// Path to POST to.
    pub post: Option<String>,
    /// Path to PUT to.
    pub put: Option<String>,
    /// Path to PATCH.
    pub patch: Option<String>,
    /// Path to DELETE.
    pub delete: Option<String>,
    /// Path for OPTIONS.
    pub options: Option<String>,
    /// Instead of a method and a path: the payload (any JSON) with which the new version of a Lambda function is invoked.
    pub invoke: Option<serde_json::Value>,
    /// Request headers: a text, or `{ssm: NAME}` for a parameter of Parameter Store
    /// (`/aws/reference/secretsmanager/NAME` for a secret of Secrets Manager).
    pub headers: BTreeMap<String, HeaderValue>,
    /// Request body.
    pub body: Option<String>,
    /// How many requests: 1 by default, at most 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub times: Option<u32>,
    /// How many at the same time: 1 by default, at most 50.
    #[schemars(range(min = 1, max = 50))]
    pub concurrency: Option<u32>,
    /// How often a failed request is tried again before it counts as failed: 0 by default, at most 10.
    #[schemars(range(max = 10))]
    pub retries: Option<u32>,
    /// Longest wait for one answer, to its last byte: 5s by default, at most 60s.
    pub timeout: Option<Span>,
    /// Follow redirects: false by default.
    pub follow_redirects: Option<bool>,
    /// What every answer must look like.
    pub expect: Expect,
}

/// What every answer of a smoke check must look like.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{status: 200}`")]
pub struct Expect {
    /// Good statuses: 2xx by default.
    pub status: Option<Statuses>,
    /// Headers that must be there with exactly this value.
    pub headers: BTreeMap<String, String>,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// JSON that the body must contain: every key given here, with its value.
    pub json: Option<serde_json::Value>,
    /// JMESPath expression over the JSON body that must be true.
    pub jmespath: Option<String>,
    /// Longest time for each answer.
    pub within: Option<Span>,
    /// Percentiles over all requests of the check, such as `{p95: 300ms}`.
    pub percentiles: BTreeMap<String, Span>,
}

/// A header's value: written out, or kept in Parameter Store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// Written out in the policy.
    Text(String),
    /// Name of a Parameter Store parameter (a `SecureString`, as a rule).
    Ssm(String),
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrReference;
        impl<'de> Visitor<'de> for TextOrReference {
            type Value = HeaderValue;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text, or {ssm: NAME} with the name of a parameter")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderValue, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Reference {
                    ssm: String,
                }
                Reference::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|reference| HeaderValue::Ssm(reference.ssm))
            }
        }
        deserializer.deserialize_any(TextOrReference)
    }
}

impl JsonSchema for HeaderValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HeaderValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a text, or {ssm: NAME} with the name of a parameter of Parameter Store",
            "oneOf": [
                {"type": "string"},
                {"type": "object", "properties": {"ssm": {"type": "string"}}, "required": ["ssm"], "additionalProperties": false},
            ]
        })
    }
}

/// When green counts as down: most of its requests bad while blue's are not.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{share: 50%}`")]
pub struct Outage {
    /// Share of green's requests that are bad (server or connection errors): 50% by default.
    pub share: Option<Share>,
    /// Requests that a period needs to count: 20 by default.
    pub min_requests: Option<u64>,
    /// Periods in a row: 2 by default.
    pub periods: Option<u32>,
    /// From this many requests on, one period is enough: 200 by default.
    pub at_once_from: Option<u64>,
    /// Only while less than this share of blue's requests is bad: 10% by default.
    pub blue_below: Option<Share>,
}

/// One rule over one metric. Without a `limit`, `bad` of `of` (or what is `slower_than`) is compared with blue, with a
/// bounded chance of a false rollback; `statistic` of `metric` needs a `limit`, or after the shift a `direction`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a gate such as `{name: server errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount}`"
)]
pub struct Gate {
    /// Name in reports; must be unique in its list.
    pub name: Option<String>,
    /// Metric that counts bad events, such as `HTTPCode_Target_5XX_Count`.
    pub bad: Option<String>,
    /// Metric that counts all events, such as `RequestCount`; with `slower_than`, the metric whose samples are
    /// counted: `TargetResponseTime` by default.
    pub of: Option<String>,
    /// Count samples above this as bad: a time, or `auto` for the usual 99th percentile before the shift.
    pub slower_than: Option<SlowerThan>,
    /// Metric of which a statistic is taken.
    pub metric: Option<String>,
    /// Statistic of `metric`, as CloudWatch names it: `p99`, `Average`, `Sum`, `TC(0.5:)`.
    pub statistic: Option<String>,
    /// CloudWatch namespace: `AWS/ApplicationELB` by default.
    pub namespace: Option<String>,
    /// Dimensions; needed outside `AWS/ApplicationELB`. Values may use `{target_group}` (of the colour being
    /// judged), `{green.target_group}`, `{blue.target_group}`, `{load_balancer}`, `{cluster}` and `{service}`.
    pub dimensions: Option<BTreeMap<String, String>>,
    /// A period is bad above this limit.
    pub limit: Option<Limit>,
    /// How many times worse than blue green may be (after the shift: than before): 1.25x by default, 1.5x for slow
    /// requests and changes. With a `limit`, a period is bad only if it is also above this many times blue's value.
    pub tolerate: Option<Times>,
    /// A period is bad below this limit (instead of `limit`).
    pub at_least: Option<Limit>,
    /// Nobody cares about a smaller share of bad events than this: 0.05% by default, 1% for slow requests.
    pub ignore_below: Option<Share>,
    /// Green passes once it is shown not to be this many times worse than blue: 3x by default.
    pub pass_below: Option<Times>,
    /// Which change after the shift is bad: `up`, `down` or `any`; only in `bake.gates`.
    #[serde(deserialize_with = "word")]
    pub direction: Option<Direction>,
    /// Share of `false_rollback_rate` that this gate may spend, relative to the others of its list: 1 by default.
    pub weight: Option<f64>,
    /// Requests (samples) that a period needs to be judged: 50 for ratios, 100 for percentiles, else 0.
    pub min_requests: Option<u64>,
    /// Judge the worst of this many complete periods, the latest ones; all since the shift by default.
    pub worst_of: Option<u32>,
}

/// How long green is held at a traffic step of a deployment that ECS carries out itself. The step's bake time comes on top.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{at_least: 2m, at_most: 10m}`")]
pub struct Steps {
    /// Even when every gate has passed: one period by default.
    pub at_least: Option<Span>,
    /// While a gate has not seen enough: 10m by default, at most 23h; then `on_inconclusive` decides.
    pub at_most: Option<Span>,
}

/// What is done about rolling updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rolling {
    /// Nothing.
    Ignore,
    /// They are watched, and rolled back on a regression.
    Watch,
}

/// After the shift.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as `{for: 10m}`")]
pub struct Bake {
    /// How long green is watched with all the traffic: 5m by default, at most 50m (CodeDeploy allows a hook one hour).
    #[serde(rename = "for")]
    pub duration: Option<Span>,
    /// Gates after the shift; those of `traffic` by default.
    pub gates: Option<Vec<Gate>>,
}

/// The JSON Schema of a policy, for editors and for `policy schema`.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Policy).to_value();
    schema["title"] = "Shiftgate policy".into();
    schema
}
