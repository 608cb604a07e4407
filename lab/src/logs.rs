//! CloudWatch Logs (awsJson1.1): what the functions have logged, in the template's log groups.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) use self::pattern::Pattern;
use crate::api::{ACCOUNT, ApiError, REGION};

/// Events that a group keeps: a lab that is up for hours must not fill the memory.
const KEPT: usize = 10_000;
/// Events that one call looks at. As on AWS a page may be empty though there are more; here that happens often.
const AT_ONCE: usize = 200;
/// Groups of a page, at most and if nothing is said.
const GROUPS: usize = 50;
/// What AWS says of most faults of a caller.
const INVALID: &str = "InvalidParameterException";

/// All log groups of the pretended account.
#[derive(Debug, Default)]
pub struct Logs {
    groups: Mutex<BTreeMap<String, Group>>,
}

#[derive(Debug)]
struct Group {
    days: Option<u64>,
    created: Timestamp,
    events: VecDeque<Event>,
    /// Number of the next event; with the group's name it is the event's id.
    next: u64,
}

#[derive(Debug, Clone)]
struct Event {
    number: u64,
    at: i64,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    limit: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

impl Logs {
    /// Makes a group that keeps its events so many days.
    pub fn create(&self, group: &str, days: Option<u64>) {
        let new = Group { days, created: Timestamp::now(), events: VecDeque::new(), next: 0 };
        self.lock().entry(group.to_owned()).or_insert(new);
    }

    /// Writes an event to a group, which must be there: Lambda's roles may not make one either.
    pub fn write(&self, group: &str, at: Timestamp, message: String) {
        let mut groups = self.lock();
        let Some(group) = groups.get_mut(group) else { return };
        group.events.push_back(Event { number: group.next, at: at.as_millisecond(), message });
        group.next += 1;
        if group.events.len() > KEPT {
            group.events.pop_front();
        }
    }

    /// Answers `X-Amz-Target: Logs_20140328.<operation>`; body and answer are JSON.
    pub fn handle(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let answer = match operation {
            "DescribeLogGroups" => self.describe(&read(body)?)?,
            "FilterLogEvents" => self.filter(&read(body)?)?,
            unknown => return Err(ApiError::unknown_operation(unknown)),
        };
        Ok(answer.to_string().into_bytes())
    }

    fn describe(&self, request: &DescribeLogGroups) -> Result<Value, ApiError> {
        let limit = request.limit.unwrap_or(GROUPS);
        if !(1..=GROUPS).contains(&limit) {
            return Err(ApiError::client(INVALID, format!("limit must be from 1 to {GROUPS}")));
        }
        let groups = self.lock();
        let prefix = request.log_group_name_prefix.as_deref().unwrap_or_default();
        // The token is the name after which the next page begins.
        let after = request.next_token.as_deref();
        let mut wanted =
            groups.iter().filter(|(name, _)| name.starts_with(prefix) && after < Some(name.as_str()));
        let page: Vec<(&String, &Group)> = wanted.by_ref().take(limit).collect();
        let token = wanted.next().and_then(|_| page.last()).map(|(name, _)| *name);
        let shown: Vec<Value> = page.iter().map(|(name, group)| described(name, group)).collect();
        Ok(with_token(json!({"logGroups": shown}), token))
    }

    fn filter(&self, request: &FilterLogEvents) -> Result<Value, ApiError> {
        let name = named_group(request)?;
        let pattern = Pattern::read(request.filter_pattern.as_deref().unwrap_or_default())
            .map_err(|why| ApiError::client(INVALID, format!("Invalid filter pattern: {why}")))?;
        let limit = request.limit.unwrap_or(KEPT);
        if !(1..=KEPT).contains(&limit) {
            return Err(ApiError::client(INVALID, format!("limit must be from 1 to {KEPT}")));
        }
        let groups = self.lock();
        let group = groups.get(name).ok_or_else(|| {
            ApiError::client("ResourceNotFoundException", "The specified log group does not exist.")
        })?;
        // The token is the number of the event with which the next page begins.
        let token = request.next_token.as_deref().map(str::parse::<u64>).transpose();
        let from = token
            .map_err(|_| ApiError::client(INVALID, "The specified nextToken is invalid."))?
            .unwrap_or_default();
        let (start, end) = (request.start_time.unwrap_or(0), request.end_time.unwrap_or(i64::MAX));
        let within = |event: &&Event| event.number >= from && (start..=end).contains(&event.at);
        let mut events = group.events.iter().filter(within);
        let mut found = Vec::new();
        for event in events.by_ref().take(AT_ONCE) {
            if pattern.matches(&event.message) {
                found.push(shown(name, event));
            }
            if found.len() == limit {
                break;
            }
        }
        let token = events.next().map(|event| event.number.to_string());
        Ok(with_token(json!({"events": found, "searchedLogStreams": []}), token.as_ref()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group that is asked for, by its name or its ARN.
fn named_group(request: &FilterLogEvents) -> Result<&str, ApiError> {
    match (&request.log_group_name, &request.log_group_identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => {
            let name = identifier.rsplit_once(":log-group:").map_or(identifier.as_str(), |(_, name)| name);
            Ok(name.trim_end_matches(":*"))
        }
        _ => Err(ApiError::client(INVALID, "Either logGroupName or logGroupIdentifier must be given.")),
    }
}

fn described(name: &str, group: &Group) -> Value {
    let arn = format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}");
    let stored: usize = group.events.iter().map(|event| event.message.len()).sum();
    let mut shown = json!({
        "logGroupName": name,
        "logGroupArn": arn,
        "arn": format!("{arn}:*"),
        "creationTime": group.created.as_millisecond(),
        "metricFilterCount": 0,
        "storedBytes": stored,
        "logGroupClass": "STANDARD",
    });
    if let Some(days) = group.days {
        shown["retentionInDays"] = days.into();
    }
    shown
}

/// Here each function has one stream; on AWS each of its processes has.
fn shown(group: &str, event: &Event) -> Value {
    json!({
        "logStreamName": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "timestamp": event.at,
        "ingestionTime": event.at,
        "message": event.message,
        "eventId": format!("{group}/{:020}", event.number),
    })
}

fn with_token(mut answer: Value, token: Option<&String>) -> Value {
    if let Some(token) = token {
        answer["nextToken"] = json!(token);
    }
    answer
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::client("SerializationException", error.to_string()))
}
