//! One process of a function, from its start to its end.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::broadcast,
    time::{Instant, sleep, timeout},
};

use super::{
    FunctionError, FunctionSpec, Invocation, LogLine, Process, Request, lock, memory,
    runtime_api::{Event, RuntimeApi, Told},
};
use crate::api::REGION;

/// How long Lambda lets a process take until it asks for its first event.
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// Where a function's log lines go.
#[derive(Clone)]
pub(super) struct Log {
    pub function: String,
    pub lines: broadcast::Sender<LogLine>,
}

impl Log {
    pub fn write(&self, request_id: &str, line: String) {
        // That nobody listens is no error.
        let _ = self.lines.send(LogLine {
            function: self.function.clone(),
            request_id: request_id.to_owned(),
            line,
        });
    }
}

/// A process that can serve one event at a time. It is killed when this is dropped.
pub(super) struct Sandbox {
    spec: FunctionSpec,
    child: Child,
    runtime_api: RuntimeApi,
    /// The request whose event the process has, for its log lines.
    request_id: Arc<Mutex<String>>,
    /// From the process's start to its first request for an event.
    pub init: Duration,
    /// Events that it got.
    served: u64,
}

impl Sandbox {
    /// Starts a process and waits until it is ready. The error is what the waiting `request` comes to.
    pub async fn start(spec: &FunctionSpec, log: &Log, request: &Request) -> Result<Self, Invocation> {
        let started = Instant::now();
        let mut sandbox = Self::spawn(spec, log, request).await.map_err(|error| {
            let reason = format!("{}: {error}", spec.binary.display());
            Invocation::broken(&request.id, FunctionError::NotStarted { reason })
        })?;
        sandbox.ready(&request.id).await?;
        sandbox.init = started.elapsed();
        Ok(sandbox)
    }

    async fn spawn(spec: &FunctionSpec, log: &Log, request: &Request) -> std::io::Result<Self> {
        let runtime_api = RuntimeApi::start().await?;
        let mut child = command(spec)
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let request_id = Arc::new(Mutex::new(request.id.clone()));
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(copy_lines(stdout, log.clone(), request_id.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(copy_lines(stderr, log.clone(), request_id.clone()));
        }
        Ok(Self { spec: spec.clone(), child, runtime_api, request_id, init: Duration::ZERO, served: 0 })
    }

    async fn ready(&mut self, request_id: &str) -> Result<(), Invocation> {
        tokio::select! {
            biased; // a process that says what went wrong, and then exits, has said what went wrong
            told = self.runtime_api.told.recv() => match told {
                Some(Told::InitError(body)) => Err(Invocation::unhandled(&body)),
                _ => Ok(()),
            },
            error = exit(&mut self.child) => Err(Invocation::broken(request_id, error)),
            () = sleep(INIT_LIMIT) => {
                Err(Invocation::broken(request_id, FunctionError::TimedOut { after: INIT_LIMIT }))
            }
        }
    }

    /// Whether this process runs the function as it is deployed now.
    pub fn is_fit_for(&mut self, spec: &FunctionSpec) -> bool {
        self.spec == *spec && matches!(self.child.try_wait(), Ok(None))
    }

    /// What the process holds now; none where the operating system does not tell.
    pub fn process(&self, function: &str) -> Option<Process> {
        let pid = self.child.id()?;
        let resident_kb = memory::resident_kb(pid)?;
        let sockets = memory::sockets(pid)?;
        Some(Process { function: function.to_owned(), pid, served: self.served, resident_kb, sockets })
    }

    /// The most memory that the process ever held, in MB.
    pub fn peak_megabytes(&self) -> Option<u64> {
        memory::peak_megabytes(self.child.id())
    }

    /// The process's number; none once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends the process, and waits until it is gone.
    pub async fn end(mut self) {
        // One that has ended by itself is gone, too.
        drop(self.child.kill().await);
    }

    /// Gives the process the event of `request` and waits for the end of it. `kill_after` is a fault.
    pub async fn serve(&mut self, request: &Request, kill_after: Option<Duration>) -> Invocation {
        lock(&self.request_id).clone_from(&request.id);
        self.served += 1;
        let event = Event::new(request.clone(), &self.spec.name, self.spec.timeout);
        // A process that is gone shows by its exit.
        let _ = self.runtime_api.events.send(event);
        let error = tokio::select! {
            biased; // an answer counts, even if the process died over it
            invocation = answer(&mut self.runtime_api, &request.id) => return invocation,
            error = cut_off(&self.spec, self.child.id(), kill_after) => error,
            error = exit(&mut self.child) => error,
        };
        Invocation::broken(&request.id, error)
    }
}

/// What the process answers to the event `request_id`.
async fn answer(runtime_api: &mut RuntimeApi, request_id: &str) -> Invocation {
    while let Some(told) = runtime_api.told.recv().await {
        match told {
            Told::Answer(id, body) if id == request_id => return Invocation::answered(&body),
            Told::Error(id, body) if id == request_id => return Invocation::unhandled(&body),
            Told::Ready | Told::InitError(_) | Told::Answer(..) | Told::Error(..) => {}
        }
    }
    std::future::pending().await // the server is gone, and only time can tell
}

/// The limits of an invocation, and the fault that a scenario asked for: whichever comes first.
async fn cut_off(spec: &FunctionSpec, pid: Option<u32>, kill_after: Option<Duration>) -> FunctionError {
    let killed = async {
        match kill_after {
            Some(after) => sleep(after).await,
            None => memory::exceeded(pid, spec.memory_mb).await,
        }
    };
    match timeout(spec.timeout, killed).await {
        Ok(()) => FunctionError::Exited { reason: "signal: killed".to_owned() },
        Err(_) => FunctionError::TimedOut { after: spec.timeout },
    }
}

async fn exit(child: &mut Child) -> FunctionError {
    match child.wait().await {
        Ok(status) => FunctionError::exited(status),
        Err(error) => FunctionError::Exited { reason: error.to_string() },
    }
}

/// The program in the environment that Lambda gives it, and in nothing of ours.
fn command(spec: &FunctionSpec) -> Command {
    let stream =
        format!("{}/[$LATEST]{}", jiff::Zoned::now().strftime("%Y/%m/%d"), uuid::Uuid::new_v4().simple());
    let mut command = Command::new(&spec.binary);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin")
        .env("TZ", ":UTC")
        .envs(&spec.environment)
        .env("_HANDLER", "bootstrap")
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_LAMBDA_FUNCTION_NAME", &spec.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", spec.memory_mb.to_string())
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", spec.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", stream);
    command
}

/// Ends with the pipe, that is with the process.
async fn copy_lines(pipe: impl AsyncRead + Unpin, log: Log, request_id: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request_id = lock(&request_id).clone();
        log.write(&request_id, line);
    }
}
