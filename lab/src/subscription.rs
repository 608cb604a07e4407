//! Subscriptions to logs: what a function has logged goes to another one, as CloudWatch Logs packs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::ACCOUNT;
use crate::lambda::{Lambda, LogLine};
use crate::logs::Pattern;
use crate::template::Template;

/// Who is handed what. The lines of an invocation come together once it has ended; on AWS they come with those of others, soon
/// after they were written, and as a rule together.
pub struct Subscriptions {
    lambda: Arc<Lambda>,
    /// By log group: the function that is handed its lines, and which.
    targets: BTreeMap<String, (String, Pattern)>,
    /// Lines of invocations that go on, by their id.
    waiting: BTreeMap<String, Vec<Value>>,
}

impl Subscriptions {
    /// Those of a template.
    pub fn new(template: &Template, lambda: Arc<Lambda>) -> Self {
        let targets = template.functions.iter().flat_map(|function| {
            let target = |one: &crate::template::Subscription| {
                (one.log_group.clone(), (function.name.clone(), one.pattern.clone()))
            };
            function.subscriptions.iter().map(target)
        });
        Self { lambda, targets: targets.collect(), waiting: BTreeMap::new() }
    }

    /// Takes a line that a function wrote to its group, and hands over what has come together.
    pub fn take(&mut self, group: &str, line: &LogLine) {
        let Some((target, pattern)) = self.targets.get(group) else { return };
        if pattern.matches(&line.line) {
            self.waiting.entry(line.request_id.clone()).or_default().push(entry(&line.line));
        }
        if !line.line.starts_with("END RequestId") {
            return;
        }
        let Some(entries) = self.waiting.remove(&line.request_id) else { return };
        if let Err(error) = self.lambda.invoke_async(target, packed(group, entries)) {
            tracing::warn!(%error, %target, "failed to hand over lines of a log");
        }
    }
}

fn entry(line: &str) -> Value {
    json!({
        "id": Uuid::new_v4().simple().to_string(),
        "timestamp": Timestamp::now().as_millisecond(),
        "message": line,
    })
}

/// JSON, compressed and in base64.
fn packed(group: &str, entries: Vec<Value>) -> Vec<u8> {
    let data = json!({
        "messageType": "DATA_MESSAGE",
        "owner": ACCOUNT,
        "logGroup": group,
        "logStream": "lab",
        "subscriptionFilters": ["lab"],
        "logEvents": entries,
    });
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = packed.write_all(data.to_string().as_bytes());
    let data = BASE64_STANDARD.encode(packed.finish().unwrap_or_default());
    json!({"awslogs": {"data": data}}).to_string().into_bytes()
}
