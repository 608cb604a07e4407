//! `bench functions`: the hook functions beside the same in Node and Python, and beside the least that Rust can do.

mod entry;
mod others;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use shiftgate_bench::functions::{self, Cell, Path as Calls, Program, Results, Subject, deflated};
use shiftgate_bench::judge::Check;
use shiftgate_lab::account::Account;
use shiftgate_lab::meter::Meter;

use self::entry::Entry;
use super::bench::{tell, write};
use super::serve::{self, Load};
use crate::show;

/// What a call of AWS takes, ms.
const LATENCIES_MS: [u64; 3] = [0, 5, 20];
/// At which of them calls are told apart: those that are made at once overlap, and nothing else does.
const TELLING_MS: u64 = 20;
/// The functions that there are peers of.
const TIMED: [&str; 2] = ["after-allow-test-traffic", "before-allow-traffic"];
/// Calls that may follow one another before a report.
const ROUND_TRIPS: usize = 3;
/// Where the peers are, in the project.
const PEERS: &str = "bench/peers";

/// As many smoke requests as the peers send, and periods in which an hour of the past is minutes. Nothing is waited for, neither
/// the service nor a check that must last: what is measured is the function. Few users, whom the lab serves in the same process.
const LOAD: Load = Load {
    requests_per_second: 5.0,
    response_ms: 0.0,
    policy: "
metrics: {period: 5s, ingestion_delay: 10s}
smoke: {checks: [{get: /health, times: 20}]}
readiness: {stable_for: 0s, within: 30s}
bake: {for: 0s}
",
};

/// What is asked for.
#[derive(clap::Args)]
pub struct Arguments {
    /// Processes of each function, subject and latency; the checks are meant for 20 and more
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure no times: count the calls of each stage in one invocation, and write them here, by stage and action
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "without_peers", "svg", "json"])]
    calls: Option<PathBuf>,
    /// Leave Node and Python out, which bench/peers/install installs the libraries of
    #[arg(long)]
    without_peers: bool,
    /// Where to write the chart
    #[arg(long, value_name = "FILE", default_value = "target/bench-functions.svg")]
    svg: PathBuf,
    /// Where to write all numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures; false when something does not hold that must. `found` tells the project's folder and that of the binaries.
pub async fn run(found: impl FnOnce() -> Result<(PathBuf, PathBuf)>, arguments: &Arguments) -> Result<bool> {
    if !arguments.without_peers && arguments.calls.is_none() {
        installed(&crate::functions::project()?)?;
    }
    let (project, binaries) = found()?;
    let account = Account::start(&serve::spec(&project, &binaries, 0)).await?;
    let meter = Meter::start(account.services.clone()).await.context("failed to start the meter")?;
    let place = Place { account, meter, project, binaries };
    if let Some(file) = &arguments.calls {
        return counted(&place, file).await;
    }
    let results = measured(&place, arguments).await?;
    let checks = functions::checks(&results);
    show::line("\nmedian [lower quarter, upper quarter] of the processes");
    show::line(&functions::runs(&results).to_string());
    show::line("\nwhat is deployed");
    show::line(&functions::programs(&results).to_string());
    show::line("\nthe way to the report");
    show::line(&functions::calls(&results).to_string());
    show::line("");
    checks.iter().for_each(tell);
    if cfg!(debug_assertions) {
        show::line("this is a debug build: run it with `cargo run --release`, or its figures say nothing");
    }
    write(&arguments.svg, &functions::chart(&results).context("failed to draw the chart")?)?;
    if let Some(file) = &arguments.json {
        let all = json!({ "version": 1, "runs": arguments.runs, "results": results, "checks": checks });
        write(file, &all.to_string())?;
    }
    Ok(checks.iter().all(Check::holds))
}

/// Counts the calls of each stage; false where too many of them follow one another.
async fn counted(place: &Place, file: &Path) -> Result<bool> {
    let paths = [others::timed_paths(place).await?, others::paths(place).await?].concat();
    let results = Results { others: paths, ..Results::default() };
    show::line(&functions::calls(&results).to_string());
    let check = functions::in_sequence(&results);
    tell(&check);
    let mut counts: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for path in &results.others {
        let of_stage = counts.entry(&path.name).or_default();
        path.calls.iter().for_each(|action| *of_stage.entry(action).or_default() += 1);
    }
    write(file, &serde_json::to_string_pretty(&counts)?)?;
    Ok(check.holds())
}

/// Fails with what to do when the peers' libraries are not there.
fn installed(project: &Path) -> Result<()> {
    let peers = project.join(PEERS);
    let libraries = ["node/node_modules/@aws-sdk", "python/.venv/bin/python"];
    ensure!(
        libraries.iter().all(|library| peers.join(library).exists()),
        "the peers are not installed: run {PEERS}/install, or leave them out with --without-peers"
    );
    Ok(())
}

/// Where it is measured.
struct Place {
    account: Account,
    meter: Meter,
    project: PathBuf,
    binaries: PathBuf,
}

async fn measured(place: &Place, arguments: &Arguments) -> Result<Results> {
    let subjects = Subject::ALL
        .into_iter()
        .filter(|subject| !arguments.without_peers || !matches!(subject, Subject::Node | Subject::Python));
    let (mut sites, mut entries) = (Vec::new(), Vec::new());
    for (function, event) in serve::WAITING.into_iter().filter(|(function, _)| TIMED.contains(function)) {
        sites.push(serve::waiting(&place.project, &place.account, function, event, &LOAD).await?);
        for subject in subjects.clone() {
            entries.push(Entry::new(place, function, subject)?);
        }
    }
    let (cells, paths) = timed(place, &entries, arguments.runs as usize).await?;
    let mut results = Results { cells, ..Results::default() };
    for (entry, path) in entries.iter().zip(paths) {
        results.programs.push(Program {
            function: entry.function.to_owned(),
            subject: entry.subject,
            bytes: entry.deployed.len(),
            zip_bytes: deflated(&entry.deployed).context("failed to deflate")?,
            path: path.context("a function was never measured")?,
        });
    }
    results.others = others::paths(place).await?;
    Ok(results)
}

/// Runs of all entries at each latency, in turn, so that whatever else the machine does meets all alike; and of each entry the
/// calls of the run in which most followed one another.
async fn timed(place: &Place, entries: &[Entry], runs: usize) -> Result<(Vec<Cell>, Vec<Option<Calls>>)> {
    // Once without being counted: what is wrong shows at once, and all files have been read before.
    for entry in entries {
        entry.run(place).await?;
    }
    let bar = show::Cells::new(LATENCIES_MS.len() * runs * entries.len());
    let (mut cells, mut paths) = (Vec::new(), vec![None; entries.len()]);
    for latency_ms in LATENCIES_MS {
        place.meter.set_latency(Duration::from_millis(latency_ms));
        let mut here: Vec<Cell> = entries.iter().map(|entry| entry.cell(latency_ms)).collect();
        for _ in 0..runs {
            for ((entry, cell), path) in entries.iter().zip(&mut here).zip(&mut paths) {
                let (run, made) = entry.run(place).await?;
                cell.runs.push(run);
                let more = |known: &Calls| known.round_trips < made.round_trips;
                if latency_ms == TELLING_MS && path.as_ref().is_none_or(more) {
                    *path = Some(made);
                }
                bar.done(&format!("{}, {}, {latency_ms} ms", entry.function, entry.subject));
            }
        }
        cells.extend(here);
    }
    bar.clear();
    Ok((cells, paths))
}
