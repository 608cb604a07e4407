//! Lambda: runs the real function binaries, each behind the real Runtime API.
//!
//! A function is a program that asks the Runtime API for its next event, answers it, and asks again. So the lab
//! starts the very binaries that are deployed, and treats them as Lambda does: one event at a time for each process,
//! warm processes used again, a process killed at its timeout or over its memory, two retries of asynchronous events.

mod concurrency;
mod function;
mod invocation;
mod measured;
mod memory;
mod runtime_api;
mod sandbox;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::body::Bytes;
use tokio::{
    sync::{broadcast, oneshot},
    task::JoinSet,
};

use crate::api::{ACCOUNT, ApiError, REGION};
use crate::function_site::AliasedFunction;
use concurrency::Concurrency;
pub use concurrency::Executions;
use function::Function;
pub use invocation::{FunctionError, Invocation};
pub use measured::{Event, Measured, measure};

/// Lines that a slow reader of [`Lambda::logs`] may lag behind before it loses the oldest.
const LOG_LINES_KEPT: usize = 4096;

/// A function as it is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Name without account or region.
    pub name: String,
    /// The program to run: Lambda's `bootstrap`.
    pub binary: PathBuf,
    /// Environment variables of the function, AWS credentials among them.
    pub environment: BTreeMap<String, String>,
    /// Longest run of one invocation.
    pub timeout: Duration,
    /// Resident memory over which the process is killed, in MB (enforced on Linux only).
    pub memory_mb: u64,
    /// Id of the VPC that it is in. Only told: the lab has no networks.
    pub vpc: Option<String>,
}

/// One line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Name of the function.
    pub function: String,
    /// The invocation during which the line was written.
    pub request_id: String,
    /// The line without its line break: what the function wrote, or Lambda's START, END and REPORT.
    pub line: String,
}

/// A warm process of a function, at this instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name of the function.
    pub function: String,
    /// The operating system's number.
    pub pid: u32,
    /// Invocations that it has served.
    pub served: u64,
    /// Resident memory in kB.
    pub resident_kb: u64,
    /// Open sockets.
    pub sockets: usize,
}

/// The HTTP answer to `POST /2015-03-31/functions/{name}/invocations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeAnswer {
    /// HTTP status: 200, 202 or 204.
    pub status: u16,
    /// Value of the header `X-Amz-Function-Error`, present when the function failed.
    pub function_error: Option<&'static str>,
    /// What the function answered; empty unless the caller waited for it.
    pub body: Vec<u8>,
    /// Value of the header `X-Amz-Executed-Version`, if the function has versions and the caller waited for it.
    pub executed_version: Option<String>,
}

/// One event on its way to a function. A retry has the same id.
#[derive(Clone, Debug)]
struct Request {
    id: String,
    payload: Bytes,
}

impl Request {
    fn new(payload: Vec<u8>) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), payload: payload.into() }
    }
}

/// All functions of the pretended account. Their processes die when this is dropped.
pub struct Lambda {
    functions: BTreeMap<String, Arc<Function>>,
    /// Pretended functions with versions; no program belongs to them.
    aliased: std::sync::Mutex<BTreeMap<String, Arc<AliasedFunction>>>,
    retry_delays: [Duration; 2],
    concurrency: Arc<Concurrency>,
    logs: broadcast::Sender<LogLine>,
    /// Invocations run on when their caller goes away, but not when the lab does.
    running: std::sync::Mutex<JoinSet<()>>,
}

impl Lambda {
    /// Deploys `functions`. An asynchronous event that fails is tried again after each of `retry_delays`
    /// (AWS: one minute, then two).
    pub fn new(functions: Vec<FunctionSpec>, retry_delays: [Duration; 2]) -> Arc<Self> {
        let (logs, _) = broadcast::channel(LOG_LINES_KEPT);
        let functions = functions
            .into_iter()
            .map(|spec| (spec.name.clone(), Arc::new(Function::new(spec, logs.clone()))))
            .collect();
        Arc::new(Self {
            functions,
            aliased: std::sync::Mutex::default(),
            retry_delays,
            concurrency: Arc::default(),
            logs,
            running: std::sync::Mutex::default(),
        })
    }

    /// Makes a pretended function known to the Invoke call. It hides a program of the same name.
    pub fn add(&self, function: Arc<AliasedFunction>) {
        lock(&self.aliased).insert(function.name.clone(), function);
    }

    /// From now on the account may have so many executions at once.
    pub fn limit_concurrency(&self, executions: usize) {
        self.concurrency.set_limit(executions);
    }

    /// The executions so far.
    pub fn executions(&self) -> Executions {
        self.concurrency.executions()
    }

    /// The log lines of all functions from now on.
    pub fn logs(&self) -> broadcast::Receiver<LogLine> {
        self.logs.subscribe()
    }

    /// Invokes the function `name` (a name or an ARN) and waits for its answer.
    pub async fn invoke(&self, name: &str, payload: Vec<u8>) -> Result<Invocation, ApiError> {
        let function = self.function(name)?;
        let place = self.concurrency.take()?;
        let (answer, answered) = oneshot::channel();
        self.spawn(async move {
            let _place = place;
            // A caller that went away does not stop the function.
            let _ = answer.send(function.run(&Request::new(payload)).await);
        });
        answered.await.map_err(|_| cut_off())
    }

    /// Hands an event to the function `name` and does not wait. A failed event is tried twice more, unchanged, unless the
    /// function is only pretended. The receiver is told when it first ends with an error; else its sender goes away.
    pub fn invoke_async(&self, name: &str, payload: Vec<u8>) -> Result<oneshot::Receiver<()>, ApiError> {
        let (failure, failures) = oneshot::channel();
        let (bare, qualifier) = name_and_qualifier(name);
        if let Some(function) = self.aliased(bare) {
            function.check(qualifier)?;
            let qualifier = qualifier.map(str::to_owned);
            self.spawn(async move {
                if function.invoke(qualifier.as_deref(), &payload).await.is_ok_and(|answer| answer.failed) {
                    let _ = failure.send(());
                }
            });
            return Ok(failures);
        }
        self.begin(name, payload, failure)?;
        Ok(failures)
    }

    /// The same for a program, and waits until it has answered or every try has failed; the last of the invocations is what
    /// counts.
    pub async fn deliver(&self, name: &str, payload: Vec<u8>) -> Result<Vec<Invocation>, ApiError> {
        let (unheard, _) = oneshot::channel();
        self.begin(name, payload, unheard)?.await.map_err(|_| cut_off())
    }

    /// Serves an asynchronous event in the background. `failure` is told when the first try fails.
    fn begin(
        &self,
        name: &str,
        payload: Vec<u8>,
        failure: oneshot::Sender<()>,
    ) -> Result<oneshot::Receiver<Vec<Invocation>>, ApiError> {
        let function = self.function(name)?;
        let retry_delays = self.retry_delays;
        let (ended, served) = oneshot::channel();
        let concurrency = Arc::clone(&self.concurrency);
        self.spawn(async move {
            let run = async |request: &Request| {
                let _place = concurrency.wait().await;
                function.run(request).await
            };
            let request = Request::new(payload);
            let mut invocations = vec![run(&request).await];
            if invocations.iter().any(|first| first.error.is_some()) {
                let _ = failure.send(());
            }
            for delay in retry_delays {
                if invocations.last().is_none_or(|last| last.error.is_none()) {
                    break;
                }
                tokio::time::sleep(delay).await;
                invocations.push(run(&request).await);
            }
            // Callers of an asynchronous event seldom wait.
            let _ = ended.send(invocations);
        });
        Ok(served)
    }

    /// Answers the Invoke call. `invocation_type` is the header `X-Amz-Invocation-Type`, empty when absent; `qualifier` the
    /// query's, which may also stand behind the name. A function that is a program has one version under any qualifier.
    pub async fn handle_invoke(
        &self,
        name: &str,
        qualifier: Option<&str>,
        invocation_type: &str,
        body: Vec<u8>,
    ) -> Result<InvokeAnswer, ApiError> {
        let payload = checked_payload(body)?;
        let (bare, qualifier) = (bare_name(name), agreed_qualifier(name, qualifier)?);
        let unheard =
            |status| InvokeAnswer { status, function_error: None, body: Vec::new(), executed_version: None };
        match invocation_type {
            "" | "RequestResponse" => {
                let (failed, body, executed_version) = if let Some(function) = self.aliased(bare) {
                    let answer = function.invoke(qualifier, &payload).await?;
                    (answer.failed, answer.payload.to_string().into_bytes(), Some(answer.version))
                } else {
                    let invocation = self.invoke(bare, payload).await?;
                    (invocation.error.is_some(), invocation.payload, None)
                };
                let function_error = failed.then_some("Unhandled");
                Ok(InvokeAnswer { status: 200, function_error, body, executed_version })
            }
            "Event" => {
                let full = qualifier.map(|qualifier| format!("{bare}:{qualifier}"));
                self.invoke_async(full.as_deref().unwrap_or(bare), payload)?;
                Ok(unheard(202))
            }
            "DryRun" => {
                match self.aliased(bare) {
                    Some(function) => function.check(qualifier)?,
                    None => drop(self.function(bare)?),
                }
                Ok(unheard(204))
            }
            other => Err(ApiError::client(
                "InvalidParameterValueException",
                format!("invocation type {other:?} is none of RequestResponse, Event, DryRun"),
            )),
        }
    }

    /// The answer to `GET /2015-03-31/functions/{name}/configuration`, as far as somebody has asked for it. Credentials and
    /// the like, which Lambda adds to the environment of a process, are no part of it.
    pub fn configuration(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        let spec = self.spec(name)?;
        let environment: BTreeMap<&String, &String> =
            spec.environment.iter().filter(|(name, _)| !name.starts_with("AWS_")).collect();
        let described = serde_json::json!({
            "FunctionName": spec.name,
            "FunctionArn": function_arn(&spec.name),
            "Timeout": spec.timeout.as_secs(),
            "MemorySize": spec.memory_mb,
            "Environment": {"Variables": environment},
            "VpcConfig": {
                "SubnetIds": spec.vpc.iter().map(|_| "subnet-1").collect::<Vec<_>>(),
                "SecurityGroupIds": spec.vpc.iter().map(|_| "sg-1").collect::<Vec<_>>(),
                "VpcId": spec.vpc.clone().unwrap_or_default(),
            },
            "Version": "$LATEST",
            "State": "Active",
        });
        Ok(described.to_string().into_bytes())
    }

    /// A fault: kills the process `after` this long in each of the next `times` invocations of the function `name` that last
    /// as long.
    pub fn kill_next(&self, name: &str, after: Duration, times: u32) -> Result<(), ApiError> {
        self.function(name)?.kill_next(after, times);
        Ok(())
    }

    /// The processes of all functions that wait for work.
    pub fn processes(&self) -> Vec<Process> {
        self.functions.values().flat_map(|function| function.processes()).collect()
    }

    /// A fault: the next process of the function `name` has next to no memory, and dies of it.
    pub fn starve_next(&self, name: &str) -> Result<(), ApiError> {
        self.function(name)?.starve_next();
        Ok(())
    }

    /// A fault: the function `name` has no warm process, and the next one takes so long to start.
    pub fn start_slowly(&self, name: &str, start_in: Duration) -> Result<(), ApiError> {
        self.function(name)?.start_slowly(start_in);
        Ok(())
    }

    /// Takes back what is left of the faults above.
    pub fn end_trouble(&self) {
        self.functions.values().for_each(|function| function.end_trouble());
    }

    /// Changes how the function `name` is deployed (environment, timeout, binary). As on Lambda, the next invocation
    /// starts a new process.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut FunctionSpec)) -> Result<(), ApiError> {
        self.function(name)?.update(change);
        Ok(())
    }

    fn aliased(&self, bare_name: &str) -> Option<Arc<AliasedFunction>> {
        lock(&self.aliased).get(bare_name).cloned()
    }

    fn function(&self, name: &str) -> Result<Arc<Function>, ApiError> {
        let name = bare_name(name);
        self.functions.get(name).cloned().ok_or_else(|| ApiError {
            status: 404,
            code: "ResourceNotFoundException".to_owned(),
            message: format!("Function not found: {}", function_arn(name)),
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = lock(&self.running);
        while running.try_join_next().is_some() {} // else the set keeps every finished invocation
        running.spawn(task);
    }
}

fn cut_off() -> ApiError {
    ApiError {
        status: 500,
        code: "ServiceException".to_owned(),
        message: "the invocation was cut off".to_owned(),
    }
}

/// The ARN of the function `name`.
pub fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// The name in a name or (partial) ARN, without version or alias.
fn bare_name(name_or_arn: &str) -> &str {
    name_and_qualifier(name_or_arn).0
}

/// The name in a name or (partial) ARN, and the version or alias behind it.
fn name_and_qualifier(name_or_arn: &str) -> (&str, Option<&str>) {
    // Names may end in `function`, too.
    let name = name_or_arn.rsplit_once(":function:").map_or(name_or_arn, |(_, name)| name);
    name.split_once(':').map_or((name, None), |(name, qualifier)| (name, Some(qualifier)))
}

/// The version or alias that a call means.
fn agreed_qualifier<'a>(name: &'a str, queried: Option<&'a str>) -> Result<Option<&'a str>, ApiError> {
    match (name_and_qualifier(name).1, queried) {
        (Some(named), Some(queried)) if named != queried => Err(ApiError::client(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        (named, queried) => Ok(named.or(queried)),
    }
}

/// Lambda accepts JSON only, and takes no payload for an empty object.
fn checked_payload(body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    if body.is_empty() {
        return Ok(b"{}".to_vec());
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        Ok(_) => Ok(body),
        Err(error) => Err(ApiError::client(
            "InvalidRequestContentException",
            format!("Could not parse request body into json: {error}"),
        )),
    }
}

/// Nothing here leaves shared data half changed, so a lock that a panic poisoned is as good as any.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
