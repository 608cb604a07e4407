//! Subscriptions to logs: what a function has logged goes to another one, as CloudWatch Logs packs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// How long lines are gathered. On AWS it is some seconds.
const GATHERED_FOR: Duration = Duration::from_millis(500);

/// Who is handed what. The lines that an invocation writes one after the other come together; on AWS with those of others, and as
/// a rule together.
pub struct Subscriptions {
    lambda: Arc<Lambda>,
    /// By log group: the function that is handed its lines, and which.
    targets: BTreeMap<String, (String, Pattern)>,
    /// Lines that are being gathered, by the id of their invocation.
    waiting: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
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
        Self { lambda, targets: targets.collect(), waiting: Arc::default() }
    }

    /// Takes a line that a function wrote to its group, and hands it over soon.
    pub fn take(&self, group: &str, line: &LogLine) {
        let Some((target, pattern)) = self.targets.get(group) else { return };
        if !pattern.matches(&line.line) {
            return;
        }
        let id = line.request_id.clone();
        let gathered = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = waiting.entry(id.clone()).or_default();
            entries.push(entry(&line.line));
            entries.len()
        };
        // The first line begins a batch, which takes those with it that come soon after.
        if gathered == 1 {
            let (lambda, waiting) = (Arc::clone(&self.lambda), Arc::clone(&self.waiting));
            let (group, target) = (group.to_owned(), target.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHERED_FOR).await;
                let entries = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                let batch = packed(&group, entries.unwrap_or_default());
                if let Err(error) = lambda.invoke_async(&target, batch) {
                    tracing::warn!(%error, %target, "failed to hand over lines of a log");
                }
            });
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
