//! Backtests: what the judge would have made of past rollouts under a policy, how often it would have rolled back when
//! nothing was released, and which regression it would have found. Pure: the same recordings and plan give the same
//! answer, bit for bit.

mod regression;
#[cfg(test)]
mod tests;
mod windows;

use serde::Serialize;

use crate::policy::gates::Gate;
use crate::policy::plan::Plan;
use crate::recording::{self, Answer, Bad, Recording, Verdict};

pub use regression::{RATIOS, SURE, Smallest};
pub use windows::{NoWindows, Window, windows};

/// A recording, and how the reader knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Name, such as that of its file.
    pub name: String,
    /// What was recorded.
    pub recording: Recording,
}

impl Named {
    /// Whether something was released: a recording may also hold a history alone, for its A/A windows.
    pub fn is_release(&self) -> bool {
        match &self.recording {
            Recording::Traffic(traffic) => !traffic.minutes.is_empty(),
            Recording::Change(_) => true,
        }
    }
}

/// What a policy would have made of the past.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backtest {
    /// The releases, in the order of the recordings.
    pub rollouts: Vec<Replayed>,
    /// The A/A windows that were judged.
    pub windows: usize,
    /// Those of them that were rolled back, in order: each is a false rollback.
    pub false_rollbacks: Vec<FalseRollback>,
    /// The smallest regression that each gate finds in the A/A windows. Gates whose counts no window has are left out.
    pub smallest: Vec<Smallest>,
    /// Names of the policy's gates that no recording can hold, and that are not judged here.
    pub not_judged: Vec<String>,
}

/// A release, judged again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// Name of its recording.
    pub name: String,
    /// What it comes to.
    #[serde(flatten)] // only ever written
    pub answer: Answer,
}

/// An A/A window that was rolled back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FalseRollback {
    /// Name of the recording that it was cut from.
    pub recording: String,
    /// Where it begins: an index into that recording's history, from 0.
    pub begins_at: usize,
    /// The zone that was taken for green: an index into the zones, from 0.
    pub zone: usize,
    /// What rolled back.
    pub gate: Option<String>,
    /// In which minute, from 1.
    pub minute: Option<usize>,
}

/// Judges all releases and A/A windows under a plan. `say` is told how far it is, often.
pub fn backtest(
    recordings: &[Named],
    windows: &[Window],
    plan: &Plan,
    say: &mut dyn FnMut(&str),
) -> Backtest {
    let releases: Vec<&Named> = recordings.iter().filter(|named| named.is_release()).collect();
    let mut rollouts = Vec::with_capacity(releases.len());
    for (index, named) in releases.iter().enumerate() {
        say(&format!("judging rollout {} of {}", index + 1, releases.len()));
        let answer = recording::judge(&named.recording, plan);
        rollouts.push(Replayed { name: named.name.clone(), answer });
    }
    let mut false_rollbacks = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        say(&format!("judging A/A window {} of {}", index + 1, windows.len()));
        false_rollbacks.extend(window.false_rollback(plan));
    }
    Backtest {
        rollouts,
        windows: windows.len(),
        false_rollbacks,
        smallest: gates(plan).filter_map(|bad| regression::smallest(windows, bad, plan, say)).collect(),
        not_judged: not_judged(plan),
    }
}

impl Backtest {
    /// How many releases came to a verdict.
    pub fn number(&self, verdict: Verdict) -> usize {
        self.rollouts.iter().filter(|replayed| replayed.answer.verdict == verdict).count()
    }
}

/// What the plan's comparisons count, each once.
fn gates(plan: &Plan) -> impl Iterator<Item = Bad> {
    let compares = |bad: &Bad| plan.traffic.iter().any(|gate| Bad::compared_by(gate) == Some(*bad));
    Bad::ALL.into_iter().filter(move |bad| compares(bad))
}

fn not_judged(plan: &Plan) -> Vec<String> {
    // Everybody has the built-in limits; they are no news.
    let usual = crate::policy::defaults::gates(crate::rollout::Front::Application);
    let left_out = |gate: &&Gate| Bad::compared_by(gate).is_none() && !usual.contains(gate);
    plan.traffic.iter().filter(left_out).map(|gate| gate.name.clone()).collect()
}
