//! `EventBridge` (awsJson1.1), as far as senders go: the default bus, and what was sent to it.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{ACCOUNT, ApiError, REGION};

/// Entries of a call, at most.
const MOST_ENTRIES: usize = 10;
/// Bytes of all entries of a call, at most.
const LONGEST: usize = 262_144;

/// The default bus of the pretended account.
#[derive(Debug, Default)]
pub struct EventBus {
    sent: Mutex<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    event_bus_name: Option<String>,
    source: Option<String>,
    detail_type: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    /// Seconds since the epoch.
    time: Option<f64>,
}

impl EventBus {
    /// The events so far, as rules and their targets see them.
    pub fn sent(&self) -> Vec<Value> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers `X-Amz-Target: AWSEvents.<operation>`; body and answer are JSON.
    pub fn handle(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        if operation != "PutEvents" {
            return Err(ApiError::unknown_operation(operation));
        }
        let request: PutEvents = serde_json::from_slice(body)
            .map_err(|error| ApiError::client("SerializationException", error.to_string()))?;
        let entries = request.entries;
        if !(1..=MOST_ENTRIES).contains(&entries.len()) {
            return Err(invalid(format!("a call has 1 to {MOST_ENTRIES} entries, not {}", entries.len())));
        }
        if entries.iter().map(Entry::size).sum::<usize>() > LONGEST {
            return Err(invalid(format!("the entries are longer than {LONGEST} bytes")));
        }
        let answers: Vec<Value> = entries.into_iter().map(|entry| self.put(entry)).collect();
        let failed = answers.iter().filter(|answer| answer.get("ErrorCode").is_some()).count();
        Ok(json!({"FailedEntryCount": failed, "Entries": answers}).to_string().into_bytes())
    }

    /// An entry that is wrong does not keep the others from being taken.
    fn put(&self, entry: Entry) -> Value {
        match entry.event() {
            Ok(event) => {
                let id = event["id"].clone();
                self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                json!({"EventId": id})
            }
            Err((code, message)) => json!({"ErrorCode": code, "ErrorMessage": message}),
        }
    }
}

impl Entry {
    /// As `EventBridge` counts it.
    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let time = if self.time.is_some() { 14 } else { 0 };
        let resources: usize = self.resources.iter().map(String::len).sum();
        text(&self.source) + text(&self.detail_type) + text(&self.detail) + resources + time
    }

    fn event(self) -> Result<Value, (&'static str, String)> {
        let needed = |text: Option<String>, name: &str| {
            text.filter(|text| !text.is_empty())
                .ok_or_else(|| ("InvalidArgument", format!("{name} is a required argument.")))
        };
        let (source, kind) = (needed(self.source, "Source")?, needed(self.detail_type, "DetailType")?);
        if self.event_bus_name.is_some_and(|name| name != "default") {
            return Err(("InvalidArgument", "the lab has the default bus only".to_owned()));
        }
        if source.starts_with("aws.") {
            return Err(("NotAuthorizedForSource", "Not authorized for the source.".to_owned()));
        }
        let detail: Option<Value> = serde_json::from_str(&needed(self.detail, "Detail")?).ok();
        let detail = detail.filter(Value::is_object);
        let detail = detail.ok_or_else(|| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
        let time = self.time.and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok());
        Ok(json!({
            "version": "0",
            "id": Uuid::new_v4().to_string(),
            "detail-type": kind,
            "source": source,
            "account": ACCOUNT,
            // In whole seconds, as on AWS.
            "time": format!("{:.0}", time.unwrap_or_else(Timestamp::now)),
            "region": REGION,
            "resources": self.resources,
            "detail": detail,
        }))
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::client("ValidationException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bus: &EventBus, entries: &Value) -> Value {
        let body = json!({"Entries": entries}).to_string();
        serde_json::from_slice(&bus.handle("PutEvents", body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_that_is_wrong_is_refused_alone() {
        let bus = EventBus::default();
        let good = json!({"Source": "shop", "DetailType": "Sold", "Detail": "{\"items\": 1}", "Time": 1_795_000_000});
        let answer = put(
            &bus,
            &json!([
                good,
                {"Source": "shop", "DetailType": "Sold", "Detail": "no JSON"},
                {"Source": "aws.ecs", "DetailType": "Sold", "Detail": "{}"},
                {"Source": "shop", "Detail": "{}"},
            ]),
        );
        assert_eq!(answer["FailedEntryCount"], 3);
        let codes = ["MalformedDetail", "NotAuthorizedForSource", "InvalidArgument"];
        assert_eq!([1, 2, 3].map(|at| answer["Entries"][at]["ErrorCode"].as_str().unwrap()), codes);
        let sent = bus.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0]["detail"]["items"], 1);
        assert_eq!(sent[0]["time"], "2026-11-18T11:06:40Z");
        assert_eq!(sent[0]["id"], answer["Entries"][0]["EventId"]);
    }

    #[test]
    fn a_call_that_is_too_long_is_refused() {
        let detail = json!({"text": "x".repeat(LONGEST)}).to_string();
        let body =
            json!({"Entries": [{"Source": "shop", "DetailType": "Sold", "Detail": detail}]}).to_string();
        let error = EventBus::default().handle("PutEvents", body.as_bytes()).unwrap_err();
        assert_eq!(error.code, "ValidationException");
    }
}
