//! `bench cost`: what Shiftgate costs on AWS.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use shiftgate_bench::cost::chart::chart;
use shiftgate_bench::cost::counts::{Counts, FILE};
use shiftgate_bench::cost::rollouts::{Way, ways};
use shiftgate_bench::cost::tables;
use shiftgate_lab::world;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bench::write;
use crate::{functions, show};

/// What is asked for.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print this document with its tables renewed: docs/cost.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where to write the chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Play the rollouts, and write what is counted, in place of bench/counts.json for example
    #[arg(long, value_name = "FILE")]
    count: Option<PathBuf>,
    /// How many times as fast as on AWS they are played: 1, 2, 6 or 12
    #[arg(long, requires = "count", default_value_t = 12)]
    speed: u32,
    /// Rollouts at the same time
    #[arg(long, requires = "count", default_value_t = 3)]
    jobs: usize,
}

/// Tells what rollouts cost; `found` is asked for the project and the functions' binaries when there is something to play.
pub async fn run(found: impl FnOnce() -> Result<(PathBuf, PathBuf)>, arguments: &Arguments) -> Result<bool> {
    if let Some(file) = &arguments.count {
        ensure!(
            [1, 2, 6, 12].contains(&arguments.speed),
            "--speed is 1, 2, 6 or 12: CloudWatch has no other periods"
        );
        ensure!(arguments.jobs > 0, "--jobs must be at least 1");
        let (project, binaries) = found()?;
        let counts = count(&project, &binaries, arguments.speed, arguments.jobs).await?;
        write(file, &format!("{}\n", serde_json::to_string_pretty(&counts)?))?;
        return Ok(true);
    }
    let file = functions::project()?.join(FILE);
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let counts = Counts::read(&text).with_context(|| format!("{} does not hold counts", file.display()))?;
    if let Some(file) = &arguments.svg {
        write(file, &chart(&counts).context("failed to draw the chart")?)?;
    }
    match &arguments.markdown {
        Some(file) => {
            let document = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            let renewed = tables::renewed(&document, &counts);
            let renewed = renewed.map_err(|why| anyhow!("failed to renew {}: {why}", file.display()))?;
            show::line(renewed.trim_end());
        }
        None if arguments.svg.is_none() => show::line(tables::all(&counts).trim_end()),
        None => {}
    }
    Ok(true)
}

/// Plays all ways, each in an account of its own.
async fn count(project: &Path, binaries: &Path, speed: u32, jobs: usize) -> Result<Counts> {
    let places = Arc::new(Semaphore::new(jobs));
    let mut playing = JoinSet::new();
    for way in ways() {
        let (project, binaries, places) = (project.to_owned(), binaries.to_owned(), Arc::clone(&places));
        playing.spawn(async move {
            let _place = places.acquire_owned().await;
            let (played, bill) = world::bill(&way.scenario(speed), &project, &binaries).await?;
            let why = played.decision().map_or("", |verdict| verdict.reason.as_str());
            ensure!(played.released, "{} was not released: {} {why}", way.name, played.status);
            anyhow::Ok((way.name.to_owned(), Way::at_the_pace_of_aws(bill, speed)))
        });
    }
    let mut ways = BTreeMap::new();
    while let Some(played) = playing.join_next().await {
        let (name, bill) = played??;
        show::error(&format!("counted: {name}"));
        ways.insert(name, bill);
    }
    Ok(Counts { speed, ways })
}
