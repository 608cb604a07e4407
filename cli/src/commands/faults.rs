//! `shiftgate faults`: releases gated while things go wrong on purpose.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use shiftgate_lab::account::parameters;
use shiftgate_lab::injection::{Arena, Case, Observed, Violation, could_not_report, judge, matrix};
use shiftgate_lab::template::Template;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::show;

/// Cases that an account plays before a new one takes its place: its past grows with each.
const CASES_OF_AN_ACCOUNT: usize = 100;
/// Longest play of one case; no function has as much time.
const LONGEST: Duration = Duration::from_mins(3);
/// Cases between two lines of progress.
const PROGRESS: usize = 250;

/// Which cases are played.
#[derive(clap::Args)]
pub struct Arguments {
    /// Play every call with every fault in every function
    #[arg(long)]
    matrix: bool,
    /// Of the matrix, only every n-th case
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Play so many cases with several faults at once
    #[arg(long, value_name = "CASES", default_value_t = 0)]
    random: u64,
    /// Seed of the first of them; the next ones count on from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only cases with this text in their line, such as "watch" or "GetMetricData throttle"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Cases at the same time
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Print every case with what came of it
    #[arg(long)]
    verbose: bool,
}

/// What came of all cases.
#[derive(Default)]
struct Tally {
    played: usize,
    unheard: usize,
    violations: BTreeMap<Violation, usize>,
    lab: usize,
}

/// Plays the cases; true when nothing is wrong with any of them.
pub async fn run(project: &Path, binaries: &Path, arguments: &Arguments) -> Result<bool> {
    let cases = cases(project, arguments)?;
    let (all, started) = (cases.len(), Instant::now());
    show::line(&format!("{all} cases, {} at a time", arguments.jobs));
    let cases = Arc::new(Mutex::new(cases));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut workers = JoinSet::new();
    for _ in 0..arguments.jobs {
        let worker = Worker {
            project: project.to_owned(),
            binaries: binaries.to_owned(),
            cases: Arc::clone(&cases),
            tally: Arc::clone(&tally),
            verbose: arguments.verbose,
        };
        workers.spawn(worker.run());
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker of the lab broke")??;
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(tally.show(started.elapsed()))
}

fn cases(project: &Path, arguments: &Arguments) -> Result<VecDeque<Case>> {
    let path = project.join("template.yaml");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let template = Template::read(&text, &parameters())?;
    let mut cases = Vec::new();
    if arguments.matrix {
        cases.extend(matrix(&template).into_iter().step_by(arguments.every as usize));
    }
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.random);
    cases.extend(seeds.map(|seed| Case::random(&template, seed)));
    if let Some(text) = &arguments.only {
        cases.retain(|case| case.to_string().contains(text.as_str()));
    }
    Ok(cases.into())
}

struct Worker {
    project: PathBuf,
    binaries: PathBuf,
    cases: Arc<Mutex<VecDeque<Case>>>,
    tally: Arc<Mutex<Tally>>,
    verbose: bool,
}

impl Worker {
    async fn run(self) -> Result<()> {
        loop {
            let arena = Arena::start(&self.project, &self.binaries).await?;
            for _ in 0..CASES_OF_AN_ACCOUNT {
                let Some(case) = self.next() else { return Ok(()) };
                let played = timeout(LONGEST, arena.play(&case)).await;
                let played = played.unwrap_or_else(|_| Err(anyhow::anyhow!("the play did not end")));
                let broken = played.is_err();
                self.note(&case, played);
                if broken {
                    // Whatever it was, the next case shall not suffer from it.
                    break;
                }
            }
        }
    }

    fn next(&self) -> Option<Case> {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn note(&self, case: &Case, played: Result<Observed>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.played += 1;
        match played {
            Ok(seen) => {
                let violations = judge(case, &seen);
                tally.unheard += usize::from(could_not_report(case, &seen) && seen.passed.is_none());
                for violation in &violations {
                    *tally.violations.entry(*violation).or_default() += 1;
                }
                if self.verbose || !violations.is_empty() {
                    show::line(&told(case, &violations, &seen));
                }
            }
            Err(error) => {
                tally.lab += 1;
                show::line(&format!("the lab failed: {case}\n    {error:#}"));
            }
        }
        if tally.played.is_multiple_of(PROGRESS) {
            let wrong: usize = tally.violations.values().sum();
            show::line(&format!("{} played, {wrong} violations", tally.played));
        }
    }
}

fn told(case: &Case, violations: &[Violation], seen: &Observed) -> String {
    let verdict = if violations.is_empty() { "ok".to_owned() } else { format!("{violations:?}") };
    let passed = match seen.passed {
        Some(true) => "passed",
        Some(false) => "failed",
        None => "no answer",
    };
    let reasons: Vec<String> = seen.reasons.lines().take(6).map(shorter).collect();
    let reasons = [String::new()].into_iter().chain(reasons).collect::<Vec<_>>().join(
        "
    ",
    );
    format!("{verdict}: {case}\n    {passed}; invocations {:?}{reasons}", seen.invocations)
}

fn shorter(line: &str) -> String {
    line.chars().take(400).collect()
}

impl Tally {
    fn show(&self, took: Duration) -> bool {
        let of = |violation| self.violations.get(&violation).copied().unwrap_or_default();
        let lines = [
            ("cases played", self.played),
            ("hooks without an answer and without an error", of(Violation::Unreported)),
            ("invocations beyond their time", of(Violation::OutOfBudget)),
            ("effects that took place twice", of(Violation::DoubleEffect)),
            ("wrong verdicts", of(Violation::WrongVerdict)),
            ("good releases rolled back for no reason", of(Violation::WrongStop)),
            ("secrets or panics in a log", of(Violation::Leak)),
            ("loops that did not end", of(Violation::EndlessWatch)),
            ("faults of the lab itself", self.lab),
            ("reports that AWS refused for good (each an error of the function)", self.unheard),
        ];
        for (what, count) in lines {
            show::line(&format!("{count:>7}  {what}"));
        }
        show::line(&format!("in {} s", took.as_secs()));
        self.violations.is_empty() && self.lab == 0
    }
}
