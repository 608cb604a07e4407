//! Step Functions: runs state machines (standard workflows, `JSONPath` dialect) and answers its API.
//!
//! The same definition is deployed and run here. So that it means the same in both places, whatever the lab does not
//! know in a definition is an error when the machine is created.

mod choice;
mod definition;
mod execution;
mod operations;
mod path;
mod run;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    api::{ACCOUNT, ApiError, REGION},
    lambda::Lambda,
    quota::Quotas,
};
use definition::Definition;
use execution::{Execution, Status};

/// Why a task failed, as the Amazon States Language tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    /// The error's name, such as `States.Timeout` or `CodeDeploy.InvalidDeploymentIdException`.
    pub error: String,
    /// What happened; of a Lambda function, its answer.
    pub cause: String,
}

impl TaskError {
    /// An error with this name and cause.
    pub fn new(error: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { error: error.into(), cause: cause.into() }
    }
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.error, self.cause)
    }
}

impl std::error::Error for TaskError {}

/// Invokes a Lambda function: name or ARN, and payload.
pub type Invoke = Arc<dyn Fn(String, Value) -> BoxFuture<'static, Result<Value, TaskError>> + Send + Sync>;

/// Calls another service: its name (`codedeploy`), the action (`putLifecycleEventHookExecutionStatus`), and the
/// parameters as the definition writes them (`DeploymentId`).
pub type CallAws =
    Arc<dyn Fn(String, String, Value) -> BoxFuture<'static, Result<Value, TaskError>> + Send + Sync>;

/// An [`Invoke`] by the lab's Lambda, with the error names that Step Functions gives.
pub fn invoke_by(lambda: Arc<Lambda>) -> Invoke {
    Arc::new(move |function, payload| {
        let lambda = lambda.clone();
        Box::pin(async move {
            let invocation = lambda
                .invoke(&function, payload.to_string().into_bytes())
                .await
                .map_err(|error| TaskError::new(format!("Lambda.{}", error.code), error.message))?;
            let answer = String::from_utf8_lossy(&invocation.payload);
            if let Some(error) = &invocation.error {
                return Err(TaskError::new(error.error_type(), answer));
            }
            serde_json::from_str(&answer).map_err(|_| TaskError::new("Lambda.Unknown", answer))
        })
    })
}

/// What tasks can call.
struct Services {
    invoke: Invoke,
    call_aws: CallAws,
    quotas: OnceLock<Arc<Quotas>>,
}

/// A state machine that was created.
struct Machine {
    name: String,
    /// The definition's text as it was given, without substitutions.
    text: String,
    definition: Definition,
    created: Timestamp,
}

impl Machine {
    fn arn(&self) -> String {
        format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{}", self.name)
    }

    fn role_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.name)
    }
}

/// All state machines and executions of the pretended account. Executions end when this is dropped.
pub struct StateMachines {
    services: Arc<Services>,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    /// Oldest first.
    executions: Mutex<Vec<Started>>,
    running: Mutex<JoinSet<()>>,
}

/// An execution and its task.
#[derive(Clone)]
struct Started {
    execution: Arc<Execution>,
    task: AbortHandle,
}

impl StateMachines {
    /// Executions by name, with whether they still run; oldest first.
    pub fn executions(&self) -> Vec<(String, bool)> {
        let executions = lock(&self.executions);
        let seen = executions.iter().map(|started| &started.execution);
        seen.map(|execution| (execution.name.clone(), execution.is_running())).collect()
    }

    /// States that all executions have entered: what AWS bills.
    pub fn transitions(&self) -> usize {
        let executions: Vec<_> =
            lock(&self.executions).iter().map(|started| Arc::clone(&started.execution)).collect();
        executions.iter().map(|execution| execution.transitions()).sum()
    }

    /// No state machines yet; tasks will call these services.
    pub fn new(invoke: Invoke, call_aws: CallAws) -> Arc<Self> {
        Arc::new(Self {
            services: Arc::new(Services { invoke, call_aws, quotas: OnceLock::new() }),
            machines: Mutex::default(),
            executions: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// Transitions take from these quotas from now on.
    pub fn limit(&self, quotas: Arc<Quotas>) {
        // The first ones hold.
        drop(self.services.quotas.set(quotas));
    }

    /// Creates (or replaces) the machine `name` and returns its ARN. `${Name}` in the definition becomes the value of
    /// `Name` in `substitutions`, as SAM's `DefinitionSubstitutions` do.
    pub fn create(
        &self,
        name: &str,
        definition: &str,
        substitutions: &BTreeMap<String, String>,
    ) -> anyhow::Result<String> {
        let machine = Arc::new(Machine {
            name: name.to_owned(),
            text: definition.to_owned(),
            definition: Definition::load(definition, substitutions)?,
            created: Timestamp::now(),
        });
        let arn = machine.arn();
        lock(&self.machines).insert(arn.clone(), machine);
        Ok(arn)
    }

    /// Ends the executions of this name, as somebody does who stops them by hand.
    pub fn abort(&self, name: &str) {
        for started in lock(&self.executions).iter().filter(|started| started.execution.name == name) {
            started.abort(None, Some("stopped by hand".to_owned()));
        }
    }

    /// Starts the execution, or finds the one that the same call started before.
    fn start(&self, execution: Execution) -> Result<Arc<Execution>, ApiError> {
        let mut executions = lock(&self.executions); // held to the end: two equal calls must not both start one
        if let Some(Started { execution: earlier, .. }) = find(&executions, &execution.arn()) {
            if earlier.is_running() && earlier.input == execution.input {
                return Ok(earlier.clone());
            }
            let message = format!("Execution Already Exists: '{}'", earlier.arn());
            return Err(ApiError::client("ExecutionAlreadyExists", message));
        }
        let execution = Arc::new(execution);
        let (of_task, services) = (execution.clone(), self.services.clone());
        let mut running = lock(&self.running);
        while running.try_join_next().is_some() {} // else the set keeps every finished execution
        let task = running.spawn(async move { run::run(&of_task, &services).await });
        executions.push(Started { execution: execution.clone(), task });
        Ok(execution)
    }
}

impl Started {
    fn abort(&self, error: Option<String>, cause: Option<String>) {
        self.execution.end(Status::Aborted { error, cause });
        self.task.abort();
    }
}

fn find<'a>(executions: &'a [Started], arn: &str) -> Option<&'a Started> {
    executions.iter().find(|started| started.execution.arn() == arn)
}

/// Nothing here leaves shared data half changed, so a lock that a panic poisoned is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
