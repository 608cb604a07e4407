//! One function: its processes, and the record of each invocation in its log.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    FunctionError, FunctionSpec, Invocation, LogLine, Process, Request, lock,
    sandbox::{Log, Sandbox},
};

/// Faults of the next invocations.
#[derive(Default)]
struct Trouble {
    /// Kill the process so long after it got its event, so many times.
    kill_after: Duration,
    kills: u32,
    /// Give the next process next to no memory.
    starve: bool,
    /// Let the next process take so long to start.
    start_in: Option<Duration>,
}

pub(super) struct Function {
    spec: Mutex<FunctionSpec>,
    /// Warm processes, the one used last at the end.
    idle: Mutex<Vec<Sandbox>>,
    trouble: Mutex<Trouble>,
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
        Self { spec: Mutex::new(spec), idle: Mutex::default(), trouble: Mutex::default(), log }
    }

    pub fn kill_next(&self, after: Duration, times: u32) {
        let mut trouble = lock(&self.trouble);
        (trouble.kill_after, trouble.kills) = (after, times);
    }

    pub fn starve_next(&self) {
        lock(&self.trouble).starve = true;
    }

    /// A warm process would have started already, so there is none.
    pub fn start_slowly(&self, start_in: Duration) {
        lock(&self.idle).clear();
        lock(&self.trouble).start_in = Some(start_in);
    }

    pub fn end_trouble(&self) {
        *lock(&self.trouble) = Trouble::default();
    }

    pub fn update(&self, change: impl FnOnce(&mut FunctionSpec)) {
        change(&mut lock(&self.spec));
    }

    pub fn spec(&self) -> FunctionSpec {
        lock(&self.spec).clone()
    }

    pub fn processes(&self) -> Vec<Process> {
        let name = &lock(&self.spec).name;
        lock(&self.idle).iter().filter_map(|sandbox| sandbox.process(name)).collect()
    }

    /// Serves one event with a warm process, or with a new one.
    pub async fn run(&self, request: &Request) -> Invocation {
        let mut spec = lock(&self.spec).clone();
        if std::mem::take(&mut lock(&self.trouble).starve) {
            spec.memory_mb = 1;
        }
        self.log.write(&request.id, format!("START RequestId: {} Version: $LATEST", request.id));
        let (invocation, usage) = match self.warm(&spec) {
            Some(sandbox) => self.serve(sandbox, request, None).await,
            None => match self.start(&spec, request).await {
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

    async fn start(&self, spec: &FunctionSpec, request: &Request) -> Result<Sandbox, Invocation> {
        let start_in = lock(&self.trouble).start_in.take();
        if let Some(start_in) = start_in {
            tokio::time::sleep(start_in).await;
        }
        Sandbox::start(spec, &self.log, request).await
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
        let kill = self.take_kill();
        let invocation = sandbox.serve(request, kill).await;
        if kill.is_some() && invocation.leaves_process_alive() {
            // It was over before its time had come, such as a question about permissions; the next one is meant.
            lock(&self.trouble).kills += 1;
        }
        let usage = Usage { duration: started.elapsed(), init, peak_megabytes: sandbox.peak_megabytes() };
        if invocation.leaves_process_alive() {
            lock(&self.idle).push(sandbox);
        }
        (invocation, usage)
    }

    fn take_kill(&self) -> Option<Duration> {
        let mut trouble = lock(&self.trouble);
        trouble.kills = trouble.kills.checked_sub(1)?;
        Some(trouble.kill_after)
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
