//! One process of a function, measured from its start through its first event to a few more.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::sandbox::{Log, Sandbox};
use super::{FunctionSpec, Invocation, Lambda, Request, memory};
use crate::api::ApiError;

/// What a process did.
#[derive(Clone, Debug)]
pub struct Measured {
    /// When it was started.
    pub started: Instant,
    /// From then to its first request for an event.
    pub init: Duration,
    /// Each event, in order.
    pub events: Vec<Event>,
    /// Time on a processor until the first answer, of the threads that still ran then; where the operating system tells.
    pub cpu: Option<Duration>,
    /// The most resident memory, kB; where the operating system tells.
    pub peak_kb: Option<u64>,
}

/// An event of a process.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the process could have it.
    pub begin: Instant,
    /// When it had answered.
    pub end: Instant,
    /// What it answered.
    pub invocation: Invocation,
}

/// Starts a process of the function, gives it the events one after the other, and ends it. The error is what the first event
/// came to where there was no process that could take it.
pub async fn measure(spec: &FunctionSpec, events: &[Vec<u8>]) -> Result<Measured, Invocation> {
    // Read, so that no full pipe holds the process up, and dropped.
    let log = Log { function: spec.name.clone(), lines: broadcast::channel(1).0 };
    let started = Instant::now();
    let mut sandbox = Sandbox::start(spec, &log, &Request::new(Vec::new())).await?;
    let init = started.elapsed();
    let mut measured = Measured { started, init, events: Vec::new(), cpu: None, peak_kb: None };
    for payload in events {
        let begin = Instant::now();
        let invocation = sandbox.serve(&Request::new(payload.clone()), None).await;
        measured.events.push(Event { begin, end: Instant::now(), invocation });
        measured.cpu = measured.cpu.or_else(|| memory::cpu_time(sandbox.pid()?));
    }
    measured.peak_kb = sandbox.pid().and_then(memory::peak_kb);
    sandbox.end().await;
    Ok(measured)
}

impl Lambda {
    /// How the function `name` is deployed.
    pub fn spec(&self, name: &str) -> Result<FunctionSpec, ApiError> {
        Ok(self.function(name)?.spec())
    }
}
