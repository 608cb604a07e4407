//! `try`: one scenario, live, with the report at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use shiftgate::report::markdown;
use shiftgate_lab::world::{self, Played};
use tokio::sync::mpsc;

use super::scenarios::{name, read};
use super::{browser, report};
use crate::Controller;
use crate::show::{self, Live};

/// Where scenarios are.
const FOLDER: &str = "scenarios";
/// What `try` plays without a name.
const SCENARIO: &str = "canary-green-errors";
const ECS_SCENARIO: &str = "ecs-canary-errors";

/// The file of a scenario, or of a controller's usual one. A name that no file has is told with those that are meant, perhaps.
pub fn file(project: &Path, scenario: Option<&str>, controller: Controller) -> Result<PathBuf> {
    let usual = match controller {
        Controller::Codedeploy => SCENARIO,
        Controller::Ecs => ECS_SCENARIO,
    };
    let wanted = scenario.unwrap_or(usual);
    let files = files(project)?;
    if let Some(file) = files.iter().find(|file| name(file) == wanted) {
        return Ok(file.clone());
    }
    let similar: Vec<String> = files
        .iter()
        .map(|file| name(file))
        .filter(|name| wanted.split('-').any(|word| name.contains(word)))
        .collect();
    let perhaps =
        if similar.is_empty() { String::new() } else { format!("; perhaps {}", similar.join(", ")) };
    bail!("there is no scenario `{wanted}`{perhaps}; `try --list` prints all of them")
}

/// Prints every scenario with the first sentence of what it is about.
pub fn list(project: &Path) -> Result<bool> {
    for file in files(project)? {
        let scenario = read(&file)?;
        show::line(&format!("{:<34} {}", name(&file), first_sentence(&scenario.about)));
    }
    Ok(true)
}

fn first_sentence(about: &str) -> String {
    let words = about.split_whitespace().collect::<Vec<_>>().join(" ");
    words.split_once(". ").map_or_else(|| words.clone(), |(first, _)| format!("{first}."))
}

/// All scenario files, by name.
fn files(project: &Path) -> Result<Vec<PathBuf>> {
    let folder = project.join(FOLDER);
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    Ok(files)
}

/// How long a frame of the live view stands.
const FRAME: Duration = Duration::from_millis(100);

/// Where the page is written that is opened and not wanted anywhere.
const PAGE: &str = "target/try.html";

/// What to do with the report, besides printing it.
#[derive(clap::Args)]
pub struct How {
    /// Where to write the report as a page for the browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Open that page in the browser; without `--html` it is target/try.html
    #[arg(long)]
    open: bool,
}

/// Plays a scenario, and writes its report where that is asked for; false when it did not end as it must.
pub async fn run(project: &Path, binaries: &Path, file: &Path, how: &How) -> Result<bool> {
    let scenario = read(file)?;
    show::paragraph(&scenario.about);
    show::line("");
    let (sender, mut progress) = mpsc::unbounded_channel();
    let spectator = tokio::spawn(async move {
        let mut live = Live::new();
        let mut frames = tokio::time::interval(FRAME);
        loop {
            tokio::select! {
                step = progress.recv() => match step {
                    Some(step) => live.show(&step),
                    None => break,
                },
                _ = frames.tick() => live.draw(),
            }
        }
        live.finish();
    });
    let played = world::play(&scenario, project, binaries, sender).await?;
    spectator.await?;
    tell(&played, &name(file));
    page(&played, project, how).await?;
    let differences = scenario.expect.as_ref().map(|expect| played.differences(expect)).unwrap_or_default();
    for difference in &differences {
        show::error(&format!("not as expected: {difference}"));
    }
    Ok(differences.is_empty())
}

/// Writes the report as a page, and opens it, where that is asked for. That there is no browser changes nothing of how it ends.
async fn page(played: &Played, project: &Path, how: &How) -> Result<()> {
    let usual = || how.open.then(|| project.join(PAGE));
    let Some(page) = how.html.clone().or_else(usual) else { return Ok(()) };
    if !report::write(played, &page)? {
        show::error("there is no page: no function came to a verdict");
        return Ok(());
    }
    show::line(&format!("\nThe report as a page: {}", page.display()));
    if how.open
        && let Err(why) = browser::open(&page).await
    {
        show::error(&format!("{why:#}; open the page yourself"));
    }
    Ok(())
}

fn tell(played: &Played, scenario: &str) {
    let other = match scenario {
        SCENARIO => "  cargo run -- try --controller ecs      the same, carried out by ECS itself",
        ECS_SCENARIO => "  cargo run -- try                       the same, carried out by CodeDeploy",
        _ => "  cargo run -- try                       the usual one: a canary that answers with errors",
    };
    if let Some(evidence) = played.evidence() {
        show::prose(&format!("\n{}\n", markdown(&evidence)));
    }
    show::prose(&ended(played));
    show::line(&format!(
        "\nThis was {FOLDER}/{scenario}.yaml, with the real function binaries. Go on:
{other}
  cargo run -- try --list                other scenarios, and what they are about
  cargo run -- run scenarios/*.yaml      all scenarios, and what comes of them
  cargo run -- policy explain            what is gated without a policy, and within which limits
  cargo run -- serve                     keep the lab up for cargo lambda and the AWS CLI
  sam build && sam deploy                your own account"
    ));
}

/// What became of the release, and of its users.
fn ended(played: &Played) -> String {
    let how = match played.decision() {
        Some(decision) => format!(
            "{} by {} at {} % of traffic",
            if played.rolled_back { "green was rolled back" } else { "the release was stopped" },
            decision.stage,
            played.weight
        ),
        None if played.released => "green was released".to_owned(),
        None => format!("the release ended as {}", played.status),
    };
    format!(
        "{how}, {:.0} s after the deployment began; {} of {} requests were bad.",
        played.seconds, played.bad_requests, played.requests
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn a_scenario_is_found_by_its_name_and_a_controller_has_its_usual_one() {
        let found = |scenario, controller| name(&file(&project(), scenario, controller).unwrap());
        assert_eq!(found(None, Controller::Codedeploy), SCENARIO);
        assert_eq!(found(None, Controller::Ecs), ECS_SCENARIO);
        assert_eq!(found(Some("shared-incident"), Controller::Codedeploy), "shared-incident");
    }

    #[test]
    fn a_name_that_is_no_scenario_is_told_with_similar_ones() {
        let why = file(&project(), Some("shared"), Controller::Codedeploy).unwrap_err().to_string();
        assert_eq!(
            why,
            "there is no scenario `shared`; perhaps shared-incident; `try --list` prints all of them"
        );
        let why = file(&project(), Some("nothing"), Controller::Codedeploy).unwrap_err().to_string();
        assert_eq!(why, "there is no scenario `nothing`; `try --list` prints all of them");
    }

    #[test]
    fn the_first_sentence_says_what_a_scenario_is_about() {
        assert_eq!(first_sentence("  One\n  thing. Another.\n"), "One thing.");
        assert_eq!(first_sentence("Only this"), "Only this");
    }
}
