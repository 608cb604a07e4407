//! The record of one execution: its status and its history.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Machine, TaskError, lock};
use crate::api::{ACCOUNT, REGION};

/// AWS ends an execution at this many events, so a loop that would not end there must not end well here.
const EVENT_LIMIT: usize = 25_000;

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    Running,
    Succeeded(Value),
    Failed(TaskError),
    TimedOut,
    Aborted { error: Option<String>, cause: Option<String> },
}

impl Status {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded(_) => "SUCCEEDED",
            Self::Failed(_) => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted { .. } => "ABORTED",
        }
    }
}

pub(super) struct Execution {
    pub name: String,
    pub machine: Arc<Machine>,
    /// The input as the caller wrote it.
    pub input: String,
    pub started: Timestamp,
    record: Mutex<Record>,
}

struct Record {
    status: Status,
    stopped: Option<Timestamp>,
    events: Vec<Value>,
}

impl Execution {
    pub fn new(name: String, machine: Arc<Machine>, input: String) -> Self {
        let record = Record { status: Status::Running, stopped: None, events: Vec::new() };
        let execution = Self { name, machine, input, started: Timestamp::now(), record: Mutex::new(record) };
        let details = json!({"input": execution.input, "roleArn": execution.machine.role_arn()});
        execution.push("ExecutionStarted", "executionStartedEventDetails", details);
        execution
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:states:{REGION}:{ACCOUNT}:execution:{}:{}", self.machine.name, self.name)
    }

    pub fn is_running(&self) -> bool {
        lock(&self.record).status == Status::Running
    }

    /// Adds an event to the history of a running execution. `details_field` is where its kind has its details.
    pub fn push(&self, kind: &str, details_field: &str, details: Value) {
        let mut record = lock(&self.record);
        if record.status == Status::Running {
            push(&mut record.events, kind, details_field, details);
        }
    }

    /// An error once the history is as long as it may get.
    pub fn check_history(&self) -> Result<(), TaskError> {
        if lock(&self.record).events.len() < EVENT_LIMIT {
            return Ok(());
        }
        let cause = format!("The execution reached the maximum number of history events ({EVENT_LIMIT}).");
        Err(TaskError::new("States.Runtime", cause))
    }

    /// States that it has entered, and tasks that were tried again.
    pub fn transitions(&self) -> usize {
        let record = lock(&self.record);
        let of_kind = |ending: &str| {
            record
                .events
                .iter()
                .filter(|event| event["type"].as_str().is_some_and(|kind| kind.ends_with(ending)))
                .count()
        };
        let entered = of_kind("StateEntered");
        entered + of_kind("TaskScheduled").saturating_sub(of_kind("TaskStateEntered"))
    }

    /// Ends the execution, unless it has ended.
    pub fn end(&self, status: Status) {
        let mut record = lock(&self.record);
        if record.status != Status::Running {
            return;
        }
        let (kind, field, details) = match &status {
            Status::Running => return,
            Status::Succeeded(output) => (
                "ExecutionSucceeded",
                "executionSucceededEventDetails",
                json!({"output": output.to_string()}),
            ),
            Status::Failed(TaskError { error, cause }) => {
                ("ExecutionFailed", "executionFailedEventDetails", json!({"error": error, "cause": cause}))
            }
            Status::TimedOut => ("ExecutionTimedOut", "executionTimedOutEventDetails", json!({})),
            Status::Aborted { error, cause } => {
                let details = without_nulls(json!({"error": error, "cause": cause}));
                ("ExecutionAborted", "executionAbortedEventDetails", details)
            }
        };
        push(&mut record.events, kind, field, details);
        record.status = status;
        record.stopped = Some(Timestamp::now());
    }

    /// As `ListExecutions` shows it.
    pub fn summary(&self) -> Value {
        let record = lock(&self.record);
        without_nulls(json!({
            "executionArn": self.arn(),
            "stateMachineArn": self.machine.arn(),
            "name": self.name,
            "status": record.status.name(),
            "startDate": seconds(self.started),
            "stopDate": record.stopped.map(seconds),
        }))
    }

    /// As `DescribeExecution` shows it.
    pub fn description(&self) -> Value {
        let mut description = self.summary();
        let details = match lock(&self.record).status.clone() {
            Status::Running | Status::TimedOut => json!({}),
            Status::Succeeded(output) => {
                json!({"output": output.to_string(), "outputDetails": {"included": true}})
            }
            Status::Failed(TaskError { error, cause }) => json!({"error": error, "cause": cause}),
            Status::Aborted { error, cause } => json!({"error": error, "cause": cause}),
        };
        description["input"] = json!(self.input);
        description["inputDetails"] = json!({"included": true});
        if let (Some(description), Value::Object(details)) = (description.as_object_mut(), details) {
            description.extend(details);
        }
        without_nulls(description)
    }

    /// Seconds since the epoch when the execution ended.
    pub fn stopped(&self) -> Option<f64> {
        lock(&self.record).stopped.map(seconds)
    }

    /// The events, oldest first, as `GetExecutionHistory` shows them.
    pub fn history(&self) -> Vec<Value> {
        lock(&self.record).events.clone()
    }
}

fn push(events: &mut Vec<Value>, kind: &str, details_field: &str, details: Value) {
    let id = events.len() + 1;
    let timestamp = seconds(Timestamp::now());
    let mut event = json!({"id": id, "previousEventId": id - 1, "timestamp": timestamp, "type": kind});
    event[details_field] = details;
    events.push(event);
}

/// AWS leaves out what is not there; clients may take a null for a fault.
fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

/// An instant as the protocol writes it: seconds since the epoch, with a fraction.
pub(super) fn seconds(instant: Timestamp) -> f64 {
    instant.as_millisecond() as f64 / 1000.0
}
