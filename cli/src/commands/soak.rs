//! `shiftgate bench soak`: releases without a pause, through function processes that are never replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use shiftgate_lab::injection::{Arena, Case, Quality, Subject, judge};
use shiftgate_lab::lambda::Process;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::show;

/// Invocations after which a process has everything that it keeps.
const WARM: u64 = 10;
/// Growth that is none: a buffer that was never as full before.
const SLACK_KB: u64 = 2048;
/// Sockets more than before that are no leak: a connection that is about to be closed, and one that took its place.
const SLACK_SOCKETS: usize = 3;

/// The processes that served longest: as they were once warm, and as they are now.
type Watched = BTreeMap<(String, u32), (Process, Process)>;

/// Plays good and bad releases in turn on `accounts` accounts at once; true when nothing grew and nothing was wrong.
pub async fn run(project: &Path, binaries: &Path, length: Duration, accounts: u8) -> Result<bool> {
    let started = Instant::now();
    let mut players = JoinSet::new();
    for _ in 0..accounts {
        players.spawn(play(project.to_owned(), binaries.to_owned(), started + length));
    }
    let (mut rollouts, mut wrong, mut watched) = (0, 0, Watched::new());
    while let Some(played) = players.join_next().await {
        let played = played.context("a player of the lab broke")??;
        rollouts += played.rollouts;
        wrong += played.wrong;
        watched.extend(played.watched);
    }
    let grown = table(&watched);
    show::line(&format!(
        "{rollouts} rollouts in {} s on {accounts} accounts; {wrong} not as they should be, {grown} processes grew",
        started.elapsed().as_secs()
    ));
    Ok(wrong == 0 && grown == 0)
}

struct Played {
    rollouts: usize,
    wrong: usize,
    watched: Watched,
}

async fn play(project: PathBuf, binaries: PathBuf, until: Instant) -> Result<Played> {
    let arena = Arena::start(&project, &binaries).await?;
    let mut played = Played { rollouts: 0, wrong: 0, watched: Watched::new() };
    while Instant::now() < until {
        for subject in Subject::ALL {
            // Bad ones among them, so that both answers are given.
            let quality = if played.rollouts % 3 == 2 { Quality::Bad } else { Quality::Good };
            let case = Case { seed: played.rollouts as u64, ..Case::undisturbed(subject, quality) };
            let seen = arena.play(&case).await.with_context(|| format!("the lab failed: {case}"))?;
            let violations = judge(&case, &seen);
            if !violations.is_empty() {
                played.wrong += 1;
                show::line(&format!("{violations:?}: {case}\n    {}", seen.reasons));
            }
            played.rollouts += 1;
        }
        for process in arena.processes().into_iter().filter(|process| process.served >= WARM) {
            let key = (process.function.clone(), process.pid);
            let entry = played.watched.entry(key).or_insert_with(|| (process.clone(), process.clone()));
            entry.1 = process;
        }
    }
    Ok(played)
}

/// Prints the longest-lived process of each function; the number of processes that grew.
fn table(watched: &Watched) -> usize {
    let mut longest: BTreeMap<&str, &(Process, Process)> = BTreeMap::new();
    for ((function, _), seen) in watched {
        let known = longest.entry(function).or_insert(seen);
        if seen.1.served > known.1.served {
            *known = seen;
        }
    }
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "function",
        "invocations",
        "memory warm",
        "memory at the end",
        "sockets warm",
        "at the end",
    ]);
    for (function, (warm, now)) in &longest {
        table.add_row([
            (*function).to_owned(),
            now.served.to_string(),
            format!("{} kB", warm.resident_kb),
            format!("{} kB", now.resident_kb),
            warm.sockets.to_string(),
            now.sockets.to_string(),
        ]);
    }
    show::line(&table.to_string());
    watched.values().filter(|(warm, now)| has_grown(warm, now)).count()
}

fn has_grown(warm: &Process, now: &Process) -> bool {
    now.resident_kb > warm.resident_kb + warm.resident_kb / 5 + SLACK_KB
        || now.sockets > warm.sockets + SLACK_SOCKETS
}
