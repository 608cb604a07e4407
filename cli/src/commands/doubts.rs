//! `run --doubts`: every scenario under the settings that it does not have by itself, one at a time, as a table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use shiftgate_lab::doubts::{Choice, Doubt};
use shiftgate_lab::scenario::Scenario;

use super::scenarios::{Outcome, name, play_all, read};
use crate::show;

/// The doubts of these names; `all` stands for all of them.
pub fn named(names: &[String]) -> Result<Vec<&'static Doubt>> {
    const ALL: &[Doubt] = &Doubt::ALL;
    if names.iter().any(|name| name == "all") {
        return Ok(ALL.iter().collect());
    }
    let found = |name: &String| Doubt::named(name).with_context(|| format!("there is no doubt {name}"));
    names.iter().map(found).collect()
}

/// Prints the questions with their settings.
pub fn list() -> bool {
    for doubt in &Doubt::ALL {
        let [usual, others @ ..] = doubt.settings else { continue };
        show::line(&format!(
            "{}\n  {}\n  {usual} (usual), {}",
            doubt.name,
            doubt.question,
            others.join(", ")
        ));
    }
    true
}

/// Plays the files under each other setting of the doubts that can matter for them; false when an outcome is not the
/// expected one.
pub async fn run(
    project: &Path,
    binaries: &Path,
    files: &[PathBuf],
    doubts: &[&'static Doubt],
    jobs: usize,
) -> Result<bool> {
    if jobs == 0 {
        bail!("--jobs must be at least 1");
    }
    let read = |file: &PathBuf| Ok((name(file), read(file)?));
    let scenarios: Vec<(String, Scenario)> = files.iter().map(read).collect::<Result<_>>()?;
    let plays: Vec<(Choice, &str, Scenario)> =
        doubts.iter().flat_map(|doubt| plays_of(doubt, &scenarios)).collect();
    let worlds =
        plays.iter().map(|(choice, name, scenario)| (key(*choice, name), scenario.clone())).collect();
    let outcomes = play_all(project, binaries, worlds, jobs, |outcome| {
        show::error(&format!("{:<64} {}", outcome.name, mark(outcome)));
        Ok(())
    })
    .await?;
    let rows: Vec<(Choice, &str, &Outcome)> =
        plays.iter().zip(&outcomes).map(|((choice, name, _), outcome)| (*choice, *name, outcome)).collect();
    show::line(&table(doubts, &rows).to_string());
    Ok(outcomes.iter().all(|outcome| outcome.differences().is_empty()))
}

fn plays_of<'a>(
    doubt: &'static Doubt,
    scenarios: &'a [(String, Scenario)],
) -> impl Iterator<Item = (Choice, &'a str, Scenario)> {
    let it_matters = scenarios.iter().filter(|(_, scenario)| doubt.can_matter_for(scenario));
    it_matters.flat_map(|(name, scenario)| {
        doubt.others(scenario).map(move |choice| (choice, name.as_str(), scenario.in_doubt(choice)))
    })
}

fn key(choice: Choice, name: &str) -> String {
    format!("{choice}, {name}")
}

fn mark(outcome: &Outcome) -> String {
    let differences = outcome.differences();
    if differences.is_empty() { "as expected".to_owned() } else { differences.join("; ") }
}

/// A row for each setting that was played, and one for each doubt that can matter for none of the scenarios.
fn table(doubts: &[&'static Doubt], outcomes: &[(Choice, &str, &Outcome)]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["doubt", "setting", "as expected", "not as expected"]);
    for doubt in doubts {
        let of_doubt = || outcomes.iter().filter(|(choice, ..)| choice.doubt == *doubt);
        if of_doubt().next().is_none() {
            table.add_row([doubt.name, "", "no function meets it here", ""]);
        }
        for setting in doubt.settings {
            let played: Vec<_> = of_doubt().filter(|(choice, ..)| choice.setting == *setting).collect();
            if played.is_empty() {
                continue;
            }
            let failed: Vec<&str> = played
                .iter()
                .filter(|(.., outcome)| !outcome.differences().is_empty())
                .map(|(_, name, _)| *name)
                .collect();
            let good = format!("{} of {}", played.len() - failed.len(), played.len());
            table.add_row([doubt.name, setting, &good, &failed.join(", ")]);
        }
    }
    table
}
