//! `try`: the default scenario, live, with the report at the end.

use std::path::Path;

use anyhow::Result;
use shiftgate_lab::world::{self, Played};
use tokio::sync::mpsc;

use super::report;
use super::scenarios::read;
use crate::Controller;
use crate::show::{self, Live};

/// What `try` plays.
const SCENARIO: &str = "scenarios/canary-green-errors.yaml";
const ECS_SCENARIO: &str = "scenarios/ecs-canary-errors.yaml";

/// Plays the default scenario of a controller, and writes its report where that is asked for; false when it did not end as it
/// must.
pub async fn run(
    project: &Path,
    binaries: &Path,
    controller: Controller,
    html: Option<&Path>,
) -> Result<bool> {
    let file = match controller {
        Controller::Codedeploy => SCENARIO,
        Controller::Ecs => ECS_SCENARIO,
    };
    let scenario = read(&project.join(file))?;
    show::line(scenario.about.trim());
    show::line("");
    let (sender, mut progress) = mpsc::unbounded_channel();
    let spectator = tokio::spawn(async move {
        let mut live = Live::new();
        while let Some(step) = progress.recv().await {
            live.show(&step);
        }
        live.finish();
    });
    let played = world::play(&scenario, project, binaries, sender).await?;
    spectator.await?;
    tell(&played, file);
    if let Some(html) = html {
        report::write(&played, html)?;
        show::line(&format!("\nThe report as a page: {}", html.display()));
    }
    let differences = scenario.expect.as_ref().map(|expect| played.differences(expect)).unwrap_or_default();
    for difference in &differences {
        show::error(&format!("not as expected: {difference}"));
    }
    Ok(differences.is_empty())
}

fn tell(played: &Played, file: &str) {
    let other = if file == SCENARIO {
        "  cargo run -- try --controller ecs      the same, carried out by ECS itself"
    } else {
        "  cargo run -- try                       the same, carried out by CodeDeploy"
    };
    if let Some(decision) = played.decision() {
        let report = played.reports.iter().find(|(stage, _)| *stage == decision.stage);
        show::line(&format!("\n{}", report.map(|(_, report)| report.as_str()).unwrap_or_default()));
        let how = if played.rolled_back { "green was rolled back" } else { "the release was stopped" };
        show::line(&format!(
            "{how} by {} at {} % of traffic, {:.0} s after the deployment began; {} of {} requests were bad.",
            decision.stage, played.weight, played.seconds, played.bad_requests, played.requests
        ));
    }
    show::line(&format!(
        "\nThis was {file}, with the real function binaries. Go on:
{other}
  cargo run -- run scenarios/*.yaml      all scenarios, and what comes of them
  cargo run -- policy explain            what is gated without a policy, and within which limits
  cargo run -- serve                     keep the lab up for cargo lambda and the AWS CLI
  sam build && sam deploy                your own account"
    ));
}
