//! A subject's function, and what one process of it comes to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shiftgate_bench::functions::{Cell, Interval, Path as Calls, Run, Spread, Subject, round_trips};
use shiftgate_lab::lambda::{FunctionSpec, Invocation, Measured, measure};
use shiftgate_lab::meter::Metered;
use tokio::time::Instant;

use super::{PEERS, Place, ROUND_TRIPS};
use crate::commands::serve;

/// Events after the first.
const WARM: usize = 3;
/// Memory of every subject, MB: enough for each.
const MEMORY_MB: u64 = 512;

/// A subject's function, ready to be measured.
pub struct Entry {
    /// The function.
    pub function: &'static str,
    /// Whose.
    pub subject: Subject,
    /// What is deployed of it.
    pub deployed: Vec<u8>,
    spec: FunctionSpec,
    event: Value,
}

impl Entry {
    /// Finds the program and the sample event.
    pub fn new(place: &Place, function: &'static str, subject: Subject) -> Result<Self> {
        let peers = place.project.join(PEERS);
        let (binary, deployed) = match subject {
            Subject::Ours => rust(place.binaries.join(function)),
            Subject::Floor => rust(place.binaries.join(format!("floor-{function}"))),
            Subject::Node => script(&peers.join("node"), function, ["rollout.mjs", "index.mjs"]),
            Subject::Python => script(&peers.join("python"), function, ["rollout.py", "app.py"]),
        };
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))
        };
        let deployed: Vec<Vec<u8>> = deployed.iter().map(read).collect::<Result<_>>()?;
        let caller = format!("{subject}-{function}");
        let mut spec = spec(place, function)?;
        spec.binary = binary;
        if subject != Subject::Ours {
            // A caller of its own, whom the role of ours does not bind.
            spec.environment.insert("AWS_ACCESS_KEY_ID".to_owned(), caller);
        }
        Ok(Self { function, subject, deployed: deployed.concat(), spec, event: event(place, function)? })
    }

    /// Where its runs go.
    pub fn cell(&self, latency_ms: u64) -> Cell {
        Cell { function: self.function.to_owned(), subject: self.subject, latency_ms, runs: Vec::new() }
    }

    /// One process from its start to its end, and the calls before its first report.
    pub async fn run(&self, place: &Place) -> Result<(Run, Calls)> {
        let name = format!("{}, {}", self.function, self.subject);
        let (measured, calls) = calls_of(place, &self.spec, &self.event, 1 + WARM)
            .await
            .with_context(|| format!("{name} failed"))?;
        let reports: Vec<&Metered> = calls.iter().filter(|call| call.reported.is_some()).collect();
        let answers: Vec<_> = measured.events.iter().map(|event| told(&event.invocation)).collect();
        // A function that gives up early would look quick.
        ensure!(
            reports.len() == answers.len()
                && reports.iter().all(|report| report.reported.as_deref() == Some("Succeeded")),
            "{name} should report Succeeded once for each event; it answered {}",
            answers.join(" and ")
        );
        let warm = measured.events.iter().zip(&reports).skip(1);
        let warm = Spread::of(warm.map(|(event, report)| ms(event.begin, report.end)).collect());
        let run = Run {
            init_ms: measured.init.as_secs_f64() * 1000.0,
            cold_ms: ms(measured.started, reports[0].end),
            warm_ms: warm.map_or(0.0, |spread| spread.median),
            cpu_ms: measured.cpu.map(|cpu| cpu.as_secs_f64() * 1000.0),
            peak_kb: measured.peak_kb,
        };
        let until = reports[0].begin;
        let before = calls.iter().filter(|call| call.reported.is_none() && call.begin < until);
        Ok((run, path(self.function, &measured, before, ROUND_TRIPS)))
    }
}

/// What a Rust program is started by and what is deployed of it.
fn rust(binary: PathBuf) -> (PathBuf, Vec<PathBuf>) {
    (binary.clone(), vec![binary])
}

/// The same of a peer: the source that both functions share, and the function's own.
fn script(folder: &Path, function: &str, [shared, own]: [&str; 2]) -> (PathBuf, Vec<PathBuf>) {
    let function = folder.join(function);
    (function.join("bootstrap"), vec![folder.join(shared), function.join(own)])
}

/// The function of ours, calling AWS through the meter.
pub fn spec(place: &Place, function: &str) -> Result<FunctionSpec> {
    let account = &place.account;
    let deployed = account.template.function(function);
    let deployed = deployed.with_context(|| format!("template.yaml has no {function}"))?;
    let mut spec = account.services.lambda.spec(&deployed.name)?;
    spec.memory_mb = MEMORY_MB;
    let meter = format!("http://{}", place.meter.address);
    spec.environment.insert("AWS_ENDPOINT_URL".to_owned(), meter);
    Ok(spec)
}

/// The sample event of this name.
pub fn event(place: &Place, name: &str) -> Result<Value> {
    serve::sample(&place.project.join("events").join(format!("{name}.json")))
}

/// Gives a new process an event so many times; what it did, and its calls by their end.
pub async fn calls_of(
    place: &Place,
    spec: &FunctionSpec,
    event: &Value,
    times: usize,
) -> Result<(Measured, Vec<Metered>)> {
    place.meter.take();
    let events = vec![event.to_string().into_bytes(); times];
    let measured = measure(spec, &events).await.map_err(|failed| anyhow::anyhow!(told(&failed)))?;
    let failed = measured.events.iter().find(|event| event.invocation.error.is_some());
    ensure!(failed.is_none(), "{}", failed.map(|event| told(&event.invocation)).unwrap_or_default());
    let caller = spec.environment.get("AWS_ACCESS_KEY_ID");
    let calls = place.meter.take().into_iter().filter(|call| Some(&call.caller) == caller);
    Ok((measured, calls.collect()))
}

/// What some calls of a process come to.
pub fn path<'a>(
    name: &str,
    measured: &Measured,
    calls: impl Iterator<Item = &'a Metered>,
    limit: usize,
) -> Calls {
    let mut calls: Vec<&Metered> = calls.collect();
    calls.sort_by_key(|call| call.begin);
    let since = |at: Instant| at.duration_since(measured.started);
    let intervals: Vec<Interval> =
        calls.iter().map(|call| Interval { begin: since(call.begin), end: since(call.end) }).collect();
    Calls {
        name: name.to_owned(),
        calls: calls.iter().map(|call| call.action.clone()).collect(),
        round_trips: round_trips(&intervals),
        limit,
    }
}

fn told(invocation: &Invocation) -> String {
    String::from_utf8_lossy(&invocation.payload).into_owned()
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
