//! From an answer to what is wrong with it. Pure.

use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::Value;

use crate::policy::plan::Expect;

/// Longest body that is read, in bytes; what a smoke check wants to see comes early.
pub const LONGEST_BODY: usize = 1024 * 1024;

/// An answer to a smoke request.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, or its first [`LONGEST_BODY`] bytes.
    pub body: Vec<u8>,
    /// Whether the body was longer; the rest is unknown.
    pub cut: bool,
    /// Time from sending the request until the body was read.
    pub took: Duration,
}

/// Everything that is wrong with an answer; empty when it is as expected. Bodies are never quoted: they may hold
/// what must not be in a log.
pub fn faults(expect: &Expect, response: &Response) -> Vec<String> {
    let mut faults = Vec::new();
    if !expect.status.contains(response.status) {
        faults.push(format!("status {} instead of {}", response.status, expect.status));
    }
    if let Some(limit) = expect.within.filter(|limit| response.took > *limit) {
        faults.push(format!("took {} ms, longer than {} ms", response.took.as_millis(), limit.as_millis()));
    }
    for (name, wanted) in &expect.headers {
        match response.headers.get(name) {
            None => faults.push(format!("no header {name}")),
            Some(value) if value.as_bytes() == wanted.as_bytes() => {}
            Some(_) => faults.push(format!("header {name} is not `{wanted}`")),
        }
    }
    let before_body = faults.len();
    if let Some(text) = &expect.body
        && !String::from_utf8_lossy(&response.body).contains(text)
    {
        faults.push(format!(
            "{} not contain `{text}`",
            if response.cut { "the first 1 MB of the body do" } else { "the body does" }
        ));
    }
    if expect.json.is_some() || expect.jmespath.is_some() {
        match serde_json::from_slice(&response.body) {
            Ok(body) => json_faults(expect, &body, &mut faults),
            Err(_) => faults.push(no_json(response).to_owned()),
        }
    }
    if faults.len() > before_body && is_compressed(&response.headers) {
        faults.push("the body is compressed, and nothing is decompressed".to_owned());
    }
    faults
}

fn no_json(response: &Response) -> &'static str {
    if response.cut {
        "the body is longer than 1 MB, too long to be read as JSON"
    } else {
        "the body is not JSON"
    }
}

/// Compressed bodies are taken as they are: one megabyte of zeros may stand for a gigabyte.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity")
}

fn json_faults(expect: &Expect, body: &Value, faults: &mut Vec<String>) {
    if let Some(wanted) = &expect.json
        && let Some(path) = first_difference(wanted, body, "$")
    {
        faults.push(format!("the JSON differs from what is expected at {path}"));
    }
    if let Some(expression) = &expect.jmespath {
        match expression.search(body) {
            Ok(result) if result.is_truthy() => {}
            Ok(_) => faults.push(format!("`{}` is not true", expression.as_str())),
            Err(error) => {
                faults.push(format!("`{}` cannot be evaluated: {}", expression.as_str(), error.reason));
            }
        }
    }
}

/// Where `body` lacks something of `wanted`: every key wanted must be there with its value, every item of a wanted
/// list at its place; what more the body has does not matter.
fn first_difference(wanted: &Value, body: &Value, path: &str) -> Option<String> {
    match (wanted, body) {
        (Value::Object(wanted), Value::Object(body)) => wanted.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match body.get(key) {
                Some(found) => first_difference(value, found, &path),
                None => Some(path),
            }
        }),
        (Value::Array(wanted), Value::Array(body)) => wanted.iter().enumerate().find_map(|(index, value)| {
            let path = format!("{path}[{index}]");
            match body.get(index) {
                Some(found) => first_difference(value, found, &path),
                None => Some(path),
            }
        }),
        (Value::Number(wanted), Value::Number(body)) => {
            // 1 and 1.0 are the same number to whoever writes a policy.
            (wanted.as_f64() != body.as_f64()).then(|| path.to_owned())
        }
        _ => (wanted != body).then(|| path.to_owned()),
    }
}

/// The percentile `rank` (0 to 1) of the times, by nearest rank; `None` without any.
pub fn percentile(times: &[Duration], rank: f64) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = ((rank * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;
    use proptest::prelude::*;

    fn check(expect: &str, response: &Response, wanted: &[&str]) {
        let policy = format!("smoke: {{checks: [{{get: /, expect: {expect}}}]}}");
        let plan = parse(&policy).unwrap();
        assert_eq!(faults(&plan.smoke.checks.unwrap()[0].expect, response), wanted, "{expect}");
    }

    fn response(status: u16, body: &str) -> Response {
        let headers = [("content-type", "application/json")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Response { status, headers, body: body.into(), cut: false, took: Duration::from_millis(120) }
    }

    #[test]
    fn what_lies_behind_the_limit_is_not_guessed_at() {
        let cut = Response { cut: true, ..response(200, "{\"status\": \"ok\", ") };
        check("{body: ok}", &cut, &[]);
        check("{body: teapot}", &cut, &["the first 1 MB of the body do not contain `teapot`"]);
        check("{json: {status: ok}}", &cut, &["the body is longer than 1 MB, too long to be read as JSON"]);
        check("{status: 200}", &cut, &[]);
    }

    #[test]
    fn an_answer_is_held_against_every_expectation() {
        let good = response(200, r#"{"status":"ok","version":"2","parts":[{"n":1.0},{"n":2}]}"#);
        check("{}", &good, &[]);
        check("{status: 204}", &good, &["status 200 instead of 204"]);
        check("{within: 100ms}", &good, &["took 120 ms, longer than 100 ms"]);
        check("{within: 120ms}", &good, &[]);
        check(
            "{headers: {content-type: text/html, x-a: b}}",
            &good,
            &["header content-type is not `text/html`", "no header x-a"],
        );
        check("{headers: {Content-Type: application/json}}", &good, &[]);
        check("{body: version}", &good, &[]);
        check("{body: teapot}", &good, &["the body does not contain `teapot`"]);
        check("{json: {status: ok, parts: [{n: 1}]}}", &good, &[]);
        check(
            "{json: {parts: [{n: 1}, {n: 3}]}}",
            &good,
            &["the JSON differs from what is expected at $.parts[1].n"],
        );
        check("{json: {missing: null}}", &good, &["the JSON differs from what is expected at $.missing"]);
        check("{jmespath: \"version == '2'\"}", &good, &[]);
        check("{jmespath: \"length(parts) > `5`\"}", &good, &["`length(parts) > `5`` is not true"]);
        check("{jmespath: nothing}", &good, &["`nothing` is not true"]);
        check(
            "{json: {a: 1}}",
            &response(500, "<html>"),
            &["status 500 instead of 200-299", "the body is not JSON"],
        );
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=20).rev().map(Duration::from_millis).collect();
        let at = |rank| percentile(&times, rank).map(|time| time.as_millis());
        assert_eq!([at(0.5), at(0.95), at(0.99), at(1.0)], [Some(10), Some(19), Some(20), Some(20)]);
        assert_eq!(percentile(&[], 0.5), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                proptest::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_document_contains_itself_and_more_keys_do_not_matter(wanted in any_json(), key in "[x-z]", more in any_json()) {
            let mut body = wanted.clone();
            if let Value::Object(map) = &mut body { map.insert(key, more); }
            prop_assert_eq!(first_difference(&wanted, &body, "$"), None);
        }
    }
}
