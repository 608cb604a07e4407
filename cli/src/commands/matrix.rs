//! `run --way all`: every scenario in every way of deploying, as a table.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use shiftgate_lab::scenario::{Scenario, Way};

use super::scenarios::{How, Outcome, name, play_all};
use crate::show;

/// Plays the files in all ways; false when an outcome is not the expected one.
pub async fn run(project: &Path, binaries: &Path, files: &[PathBuf], how: &How) -> Result<bool> {
    if how.jobs == 0 {
        bail!("--jobs must be at least 1");
    }
    if how.retries > 0 {
        bail!("--retries is not for `--way all`, which tells what came of each the first time");
    }
    let mut scenarios: Vec<(String, Scenario)> = Vec::new();
    for file in files {
        let scenario = how.read(file)?;
        scenarios
            .extend(Way::ALL.into_iter().filter_map(|way| Some((key(file, way), scenario.in_way(way)?))));
    }
    let outcomes = play_all(project, binaries, scenarios, how.jobs, |outcome| {
        let differences = outcome.differences();
        let mark = if differences.is_empty() { "as expected".to_owned() } else { differences.join("; ") };
        show::error(&format!("{:<56} {mark}", outcome.name));
        Ok(())
    })
    .await?;
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(std::iter::once("scenario").chain(Way::ALL.map(Way::name)));
    for file in files {
        let cell = |way: Way| {
            let found = outcomes.iter().find(|outcome| outcome.name == key(file, way));
            found.map_or_else(|| "does not apply".to_owned(), told)
        };
        table.add_row(std::iter::once(name(file)).chain(Way::ALL.map(cell)));
    }
    show::line(&table.to_string());
    Ok(outcomes.iter().all(|outcome| outcome.differences().is_empty()))
}

fn key(file: &Path, way: Way) -> String {
    format!("{}, {}", name(file), way.name())
}

/// What came of it, who decided it, and after how many seconds.
fn told(outcome: &Outcome) -> String {
    let Ok(played) = &outcome.played else { return "DID NOT PLAY".to_owned() };
    let what = match (played.released, played.rolled_back) {
        (true, _) => "released",
        (false, true) => "rolled back",
        (false, false) => "stopped",
    };
    let by = played.decision().map(|verdict| format!(" by {}", verdict.stage)).unwrap_or_default();
    let mark = if outcome.differences().is_empty() { "" } else { "NOT AS EXPECTED: " };
    format!("{mark}{what}{by}, {:.0} s", played.seconds)
}
