//! Recordings: what was counted during a rollout, or measured around a change, in a file that the judge reads offline.
//! Pure; the JSON Schema is checked in as docs/recording.schema.json.
//!
//! A count may be `null` (no data), or absent. Load balancers send no count of errors where there are none, so an absent
//! count of bad events is 0 in a period that has requests, once the recording has that count anywhere.

mod replay;
mod taken;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

pub use crate::policy::gates::Direction;
pub use replay::{Answer, Bad, Judged, Replay, Seen, Verdict, judge, replay};

/// The one version of this format.
pub const VERSION: u32 = 1;
/// No period has more events; above it a floating point number no longer counts one by one.
const MOST_EVENTS: f64 = 9e15;

/// What one file, or one line, holds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)] // for writing and for the schema; what is read is told apart by its `kind` first
pub enum Recording {
    /// Both colours while traffic shifts.
    Traffic(Traffic),
    /// One metric before and after a change.
    Change(Change),
}

/// A rollout: counts of both colours while traffic shifts, and of blue alone before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Version of this format: 1.
    pub version: Version,
    /// `traffic`.
    pub kind: OfTraffic,
    /// Length of a period in seconds. What is called a minute here is such a period.
    pub period_seconds: NonZeroU32,
    /// Periods that the rollout was meant to take; null or absent when nobody knew.
    #[serde(default)]
    pub minutes_planned: Option<NonZeroU32>,
    /// Blue alone before the shift, oldest first.
    #[serde(default)]
    pub history: Vec<Before>,
    /// Both colours since the shift began, oldest first.
    pub minutes: Vec<Minute>,
}

/// What was counted in one period. Each count may be null (no data) or absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// All requests.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub requests: Tally,
    /// Answered with a status from 500 on.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub server_errors: Tally,
    /// Not answered, since the connection failed.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub connection_errors: Tally,
    /// Answered later than what is slow for this service.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub slow_requests: Tally,
}

/// One period before the shift. Each count may be null (no data) or absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Before {
    /// All requests.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub requests: Tally,
    /// Answered with a status from 500 on.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub server_errors: Tally,
    /// Not answered, since the connection failed.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub connection_errors: Tally,
    /// Answered later than what is slow for this service.
    #[serde(skip_serializing_if = "Tally::is_absent")]
    pub slow_requests: Tally,
    /// The same counts per availability zone, which add up to those above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<Counts>,
}

impl Before {
    /// The counts of all zones together.
    pub fn total(&self) -> Counts {
        Counts {
            requests: self.requests,
            server_errors: self.server_errors,
            connection_errors: self.connection_errors,
            slow_requests: self.slow_requests,
        }
    }
}

/// One period of the rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Minute {
    /// The old version; null or absent is no data.
    pub blue: Option<Counts>,
    /// The new version; null or absent is no data.
    pub green: Option<Counts>,
}

/// One metric of a service before and after a change, when one version served everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Version of this format: 1.
    pub version: Version,
    /// `change`.
    pub kind: OfChange,
    /// Name of the metric, for the reader.
    pub metric: String,
    /// Which change is bad.
    pub direction: Direction,
    /// Length of a period in seconds.
    pub period_seconds: NonZeroU32,
    /// The first period after the change: an index into `values`.
    pub change_at: usize,
    /// A value per period, oldest first; null is no data.
    pub values: Vec<Option<f64>>,
}

/// A count of one period.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Tally {
    /// The key is not there.
    #[default]
    Absent,
    /// Null: it was asked for, and there was no data.
    NoData,
    /// So many.
    Of(f64),
}

impl Tally {
    /// Whether the key is not there.
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    /// The count, where there is one.
    pub fn count(&self) -> Option<f64> {
        if let Self::Of(count) = self { Some(*count) } else { None }
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<f64>::deserialize(deserializer)? {
            None => Ok(Self::NoData),
            // Adding nought makes a positive nought of a negative one.
            Some(count) if (0.0..=MOST_EVENTS).contains(&count) => Ok(Self::Of(count + 0.0)),
            Some(count) if count < 0.0 => {
                Err(D::Error::custom(format!("{count} is no count: it is below 0")))
            }
            Some(count) => Err(D::Error::custom(format!("{count} is no count: it is above {MOST_EVENTS:e}"))),
        }
    }
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::NoData => serializer.serialize_none(),
            Self::Of(count) => serializer.serialize_f64(*count),
        }
    }
}

impl JsonSchema for Tally {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tally".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "null"], "minimum": 0, "maximum": MOST_EVENTS })
    }
}

/// The version that a recording says it has: 1, or it is not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            version if version == u64::from(VERSION) => Ok(Self),
            version => {
                Err(D::Error::custom(format!("version {version} is not known, only version {VERSION} is")))
            }
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(VERSION)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": VERSION })
    }
}

/// The kind of a [`Traffic`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OfTraffic {
    /// Both colours while traffic shifts.
    #[default]
    Traffic,
}

/// The kind of a [`Change`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OfChange {
    /// One metric before and after a change.
    #[default]
    Change,
}

/// Why something is no recording: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The key, as `minutes[3].green.requests`; empty for the recording itself.
    pub key: String,
    /// What is wrong, with line and column.
    pub what: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.key, self.what) }
    }
}

impl std::error::Error for Invalid {}

/// What every version and kind has.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Envelope {
    version: Option<Version>,
    kind: Option<Kind>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Traffic,
    Change,
}

impl Recording {
    /// Reads a recording from JSON (UTF-8), or tells what is wrong with it, and where.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        // Nearly all are good rollouts, and this is fast; what is wrong is found out more slowly.
        if let Ok(traffic) = serde_json::from_slice(json) {
            return Self::Traffic(traffic).checked();
        }
        let missing = |key: &str, what: &str| Invalid { key: key.to_owned(), what: what.to_owned() };
        match json.trim_ascii_start().first() {
            Some(b'{') => {}
            None => return Err(missing("", "is empty; a recording is a JSON object")),
            Some(b'[') => {
                return Err(missing("", "is a JSON array; give one object, or one a line with --jsonl"));
            }
            Some(_) => return Err(missing("", "is not a JSON object, as a recording is")),
        }
        let Envelope { version, kind } = read(json)?;
        version.ok_or_else(|| missing("version", "is missing; a recording begins with \"version\": 1"))?;
        let recording = match kind {
            None => {
                return Err(missing("kind", "is missing; a recording is of kind \"traffic\" or \"change\""));
            }
            Some(Kind::Traffic) => Self::Traffic(read(json)?),
            Some(Kind::Change) => Self::Change(read(json)?),
        };
        recording.checked()
    }

    /// What no single value shows.
    fn checked(self) -> Result<Self, Invalid> {
        match &self {
            Self::Change(change) if change.change_at >= change.values.len() => Err(Invalid {
                key: "change_at".to_owned(),
                what: format!(
                    "{} is beyond the {} values; it is the index of the first value after the change, from 0",
                    change.change_at,
                    change.values.len()
                ),
            }),
            _ => Ok(self),
        }
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let key = error.path().to_string();
        let key = if key == "." || key == "?" { String::new() } else { key };
        Invalid { key, what: crate::yaml::with_suggestion(&error.inner().to_string()) }
    })?;
    deserializer.end().map_err(|error| Invalid {
        key: String::new(),
        what: format!("something follows the recording: {error}"),
    })?;
    Ok(read)
}

/// The JSON Schema of recordings.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Recording).to_value();
    schema["title"] = "Shiftgate recording".into();
    schema
}
