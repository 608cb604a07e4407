//! One function: its processes, and the record of each invocation in its log.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    FunctionError, FunctionSpec, Invocation, LogLine, Request, lock,
    sandbox::{Log, Sandbox},
};

/// A fault: kill the process in its next invocations.
#[derive(Default)]
struct Kill {
    after: Duration,
    times: u32,
}

pub(super) struct Function {
    spec: Mutex<FunctionSpec>,
    /// Warm processes, the one used last at the end.
    idle: Mutex<Vec<Sandbox>>,
    kill: Mutex<Kill>,
    log: Log,
}

/// What the REPORT line tells beside the invocation's end.
#[derive(Default)]
struct Usage {
    duration: Duration,
    /// Only a process's first invocation has one.
    init: Option<Duration>,
    peak_megabytes: Option<u64>,
}

impl Function {
    pub fn new(spec: FunctionSpec, lines: broadcast::Sender<LogLine>) -> Self {
        let log = Log { function: spec.name.clone(), lines };
        Self { spec: Mutex::new(spec), idle: Mutex::default(), kill: Mutex::default(), log }
    }

    pub fn kill_next(&self, after: Duration, times: u32) {
        *lock(&self.kill) = Kill { after, times };
    }

    pub fn update(&self, change: impl FnOnce(&mut FunctionSpec)) {
        change(&mut lock(&self.spec));
    }

    /// Serves one event with a warm process, or with a new one.
    pub async fn run(&self, request: &Request) -> Invocation {
        let spec = lock(&self.spec).clone();
        self.log.write(&request.id, format!("START RequestId: {} Version: $LATEST", request.id));
        let (invocation, usage) = match self.warm(&spec) {
            Some(sandbox) => self.serve(sandbox, request, None).await,
            None => match Sandbox::start(&spec, &self.log, request).await {
                Ok(sandbox) => {
                    let init = sandbox.init;
                    self.serve(sandbox, request, Some(init)).await
                }
                Err(invocation) => (invocation, Usage::default()),
            },
        };
        self.log.write(&request.id, format!("END RequestId: {}", request.id));
        self.log.write(&request.id, report(&spec, &request.id, &usage, invocation.error.as_ref()));
        invocation
    }

    /// A process that waits for work. Those of an earlier deployment are dropped, which ends them.
    fn warm(&self, spec: &FunctionSpec) -> Option<Sandbox> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find_map(|mut sandbox| sandbox.is_fit_for(spec).then_some(sandbox))
    }

    async fn serve(
        &self,
        mut sandbox: Sandbox,
        request: &Request,
        init: Option<Duration>,
    ) -> (Invocation, Usage) {
        let started = Instant::now();
        let invocation = sandbox.serve(request, self.take_kill()).await;
        let usage = Usage { duration: started.elapsed(), init, peak_megabytes: sandbox.peak_megabytes() };
        if invocation.leaves_process_alive() {
            lock(&self.idle).push(sandbox);
        }
        (invocation, usage)
    }

    fn take_kill(&self) -> Option<Duration> {
        let mut kill = lock(&self.kill);
        kill.times = kill.times.checked_sub(1)?;
        Some(kill.after)
    }
}

fn report(spec: &FunctionSpec, request_id: &str, usage: &Usage, error: Option<&FunctionError>) -> String {
    let milliseconds = usage.duration.as_secs_f64() * 1000.0;
    let init = usage.init.map(|init| format!("\tInit Duration: {:.2} ms", init.as_secs_f64() * 1000.0));
    let status = error.map(|error| match error {
        FunctionError::TimedOut { .. } => "\tStatus: timeout".to_owned(),
        error => format!("\tStatus: error\tError Type: {}", error.error_type()),
    });
    format!(
        "REPORT RequestId: {request_id}\tDuration: {milliseconds:.2} ms\tBilled Duration: {:.0} ms\
         \tMemory Size: {} MB\tMax Memory Used: {} MB{}{}",
        milliseconds.ceil(),
        spec.memory_mb,
        usage.peak_megabytes.unwrap_or_default(),
        init.unwrap_or_default(),
        status.unwrap_or_default(),
    )
}
