//! `run`: plays scenario files and compares outcomes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};
use shiftgate_lab::doubts::Choice;
use shiftgate_lab::scenario::{Expect, Scenario, Way};
use shiftgate_lab::world::{self, Played};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::report;
use crate::show;

/// A scenario that was played.
pub(super) struct Outcome {
    pub(super) name: String,
    expect: Expect,
    /// The policy, if it is not the built-in one.
    policy: Option<Value>,
    pub(super) played: Result<Played>,
    /// What came of it the times before, where it was played again.
    before: Vec<String>,
}

impl Outcome {
    /// What is not as expected.
    pub(super) fn differences(&self) -> Vec<String> {
        match &self.played {
            Ok(played) => played.differences(&self.expect),
            Err(error) => vec![format!("{error:#}")],
        }
    }

    fn is_good(&self) -> bool {
        self.differences().is_empty()
    }
}

/// Reads a scenario file, or tells all its faults.
pub fn read(path: &Path) -> Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    Scenario::read(&text).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        anyhow::anyhow!("{} is not a scenario:{}", path.display(), list.concat())
    })
}

/// How scenarios are played, and what is made of it.
pub struct How {
    /// Print JSON instead of a table.
    pub json: bool,
    /// Scenarios at the same time.
    pub jobs: usize,
    /// How often a scenario is played again that did not end as it must.
    pub retries: usize,
    /// Where recordings go.
    pub record: Option<PathBuf>,
    /// Answers to what nobody has confirmed about AWS, other than those of the files.
    pub choices: Vec<Choice>,
}

impl How {
    /// A scenario file in the world that is asked for.
    pub fn read(&self, path: &Path) -> Result<Scenario> {
        Ok(self.choices.iter().fold(read(path)?, |scenario, choice| scenario.in_doubt(*choice)))
    }
}

/// Plays the files; false when an outcome is not the expected one.
pub async fn run(
    project: &Path,
    binaries: &Path,
    files: &[PathBuf],
    way: Option<Way>,
    how: &How,
) -> Result<bool> {
    if how.jobs == 0 {
        bail!("--jobs must be at least 1");
    }
    if let Some(folder) = &how.record {
        crate::folder::make(folder)?;
    }
    let mut scenarios: Vec<(String, Scenario)> = Vec::new();
    for file in files {
        let scenario = how.read(file)?;
        match way.map_or(Some(scenario.clone()), |way| scenario.in_way(way)) {
            Some(scenario) => scenarios.push((name(file), scenario)),
            None => show::error(&format!("{} does not apply to this way of deploying", name(file))),
        }
    }
    let mut results = play(project, binaries, scenarios.clone(), how).await?;
    for _ in 0..how.retries {
        let again: Vec<usize> = (0..results.len()).filter(|index| !results[*index].is_good()).collect();
        let once_more = again.iter().map(|index| scenarios[*index].clone()).collect();
        for (index, mut outcome) in again.into_iter().zip(play(project, binaries, once_more, how).await?) {
            let before = &results[index];
            outcome.before = [before.before.clone(), vec![before.differences().join("; ")]].concat();
            results[index] = outcome;
        }
    }
    let good = results.iter().filter(|result| result.is_good()).count();
    if how.json {
        show::line(&serde_json::to_string_pretty(&results.iter().map(to_json).collect::<Vec<_>>())?);
    } else {
        show::line(&format!("\n{}", table(&results)));
        // Once more at the end, which is the part of a log that people see.
        for result in &results {
            for before in &result.before {
                show::error(&format!("{}, which was played again: {before}", result.name));
            }
            for difference in result.differences() {
                show::error(&format!("{}: {difference}", result.name));
            }
        }
        show::line(&format!("\n{good} passed, {} failed", results.len() - good));
    }
    Ok(good == results.len())
}

/// Plays scenarios, saves what is to be recorded of each, and tells how it ended.
async fn play(
    project: &Path,
    binaries: &Path,
    scenarios: Vec<(String, Scenario)>,
    how: &How,
) -> Result<Vec<Outcome>> {
    play_all(project, binaries, scenarios, how.jobs, |outcome| {
        record(outcome, how.record.as_deref())?;
        if !how.json {
            let mark = if outcome.is_good() { "as expected" } else { "NOT AS EXPECTED" };
            show::line(&format!("{:<36} {mark}", outcome.name));
        }
        Ok(())
    })
    .await
}

/// Plays scenarios, so many at the same time; tells each outcome when it is there, and all of them in order at the end.
pub(super) async fn play_all(
    project: &Path,
    binaries: &Path,
    scenarios: Vec<(String, Scenario)>,
    jobs: usize,
    mut tell: impl FnMut(&Outcome) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let places = Arc::new(Semaphore::new(jobs));
    let mut running = JoinSet::new();
    for (index, (name, scenario)) in scenarios.into_iter().enumerate() {
        let (project, binaries, places) = (project.to_owned(), binaries.to_owned(), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let (sender, _) = mpsc::unbounded_channel();
            let played = world::play(&scenario, &project, &binaries, sender).await;
            let expect = scenario.expect.unwrap_or_default();
            (index, Outcome { name, expect, policy: scenario.policy, played, before: Vec::new() })
        });
    }
    let mut results = Vec::new();
    while let Some(joined) = running.join_next().await {
        let (index, outcome) = joined?;
        tell(&outcome)?;
        results.push((index, outcome));
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Saves the report, what the functions recorded, and the policy by which they judged; a rollout that ended before it took
/// traffic has no recording.
fn record(outcome: &Outcome, folder: Option<&Path>) -> Result<()> {
    if let (Some(folder), Ok(played)) = (folder, &outcome.played) {
        report::write(played, &folder.join(format!("{}.html", outcome.name)))?;
    }
    let recording = outcome.played.as_ref().ok().and_then(|played| played.recording.as_ref());
    if let Some((folder, recording)) = folder.zip(recording) {
        let policy = outcome.policy.as_ref().map(|policy| ("policy.yaml", policy));
        for (ending, value) in [("json", recording)].into_iter().chain(policy) {
            let file = folder.join(format!("{}.{ending}", outcome.name));
            // JSON is YAML.
            std::fs::write(&file, format!("{value:#}\n"))
                .with_context(|| format!("failed to write {}", file.display()))?;
        }
    }
    Ok(())
}

pub(super) fn name(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn table(results: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        // Not a terminal: a log, which is read in a wide window.
        table.set_width(160);
    }
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "scenario",
        "ended",
        "green",
        "decided by",
        "seconds",
        "bad requests",
        "why",
    ]);
    for result in results {
        let differences = result.differences();
        let row = if let Ok(played) = &result.played {
            let decision = played.decision();
            let ended = format!("{}{}", played.status, if played.rolled_back { ", rolled back" } else { "" });
            let why = if differences.is_empty() {
                decision.map(|verdict| verdict.reason.clone()).unwrap_or_default()
            } else {
                format!("NOT AS EXPECTED: {}", differences.join("; "))
            };
            [
                result.name.clone(),
                ended,
                format!("{} %", played.weight),
                decision.map(|verdict| verdict.stage.clone()).unwrap_or_default(),
                format!("{:.0}", played.seconds),
                format!("{} of {}", played.bad_requests, played.requests),
                why,
            ]
        } else {
            let empty = String::new;
            [
                result.name.clone(),
                "did not play".to_owned(),
                empty(),
                empty(),
                empty(),
                empty(),
                differences.join("; "),
            ]
        };
        table.add_row(row);
    }
    table
}

fn to_json(result: &Outcome) -> Value {
    json!({
        "scenario": result.name,
        "as_expected": result.is_good(),
        "differences": result.differences(),
        "before": result.before,
        "played": result.played.as_ref().ok(),
    })
}
