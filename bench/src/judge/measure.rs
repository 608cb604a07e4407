//! Plays the cells and counts what every judge makes of them.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::oracle;
use super::ours;
use super::peers::{PEERS, Peer, limit};
use super::simulate::Rollout;
use super::world::{Cell, Mode, Onset, Release};

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judge {
    /// Knows the regression; compares the colours.
    Concurrent,
    /// Knows the regression and the level of every minute.
    Informed,
    /// A rule of another tool.
    Peer(Peer),
}

impl Judge {
    /// All of them, as the tables show them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Concurrent, Self::Informed].into_iter().chain(PEERS.map(Self::Peer))
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrent => f.write_str("oracle a"),
            Self::Informed => f.write_str("oracle b"),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

/// What a judge made of all runs of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tally {
    /// Rollouts that were simulated.
    pub runs: usize,
    /// Those that were rolled back.
    pub rolled_back: usize,
    /// The minute (from 1) of the median of all runs, where at least half were rolled back.
    pub median: Option<usize>,
    /// Bad requests that green served until it was rolled back or the window was over, on average.
    pub served: f64,
}

impl Tally {
    fn new(judged: &[Judged]) -> Self {
        let mut minutes: Vec<usize> = judged.iter().filter_map(|judged| judged.minute).collect();
        minutes.sort_unstable();
        let served: f64 = judged.iter().map(|judged| judged.served).sum();
        Self {
            runs: judged.len(),
            rolled_back: minutes.len(),
            median: minutes.get(judged.len().saturating_sub(1) / 2).copied(),
            served: served / judged.len() as f64,
        }
    }

    /// Percent that were rolled back.
    pub fn percent(&self) -> f64 {
        100.0 * self.rolled_back as f64 / self.runs as f64
    }
}

/// Another judge on the same rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Beside {
    /// Who.
    pub judge: Judge,
    /// What it made of them.
    pub tally: Tally,
    /// How many more bad requests green served under our judge, on average; below 0 they are fewer.
    pub ours_served_more: f64,
    /// The standard error of that, from the differences run by run.
    pub error: f64,
}

/// One cell, with our judge in one mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What the cell is called.
    pub name: String,
    /// The cell.
    pub cell: Cell,
    /// What our judge was told of the past; the others need nothing.
    pub mode: Mode,
    /// Bad requests that green would serve in the whole window, on average.
    pub unwatched: f64,
    /// Our judge.
    pub ours: Tally,
    /// The others, in the order of [`Judge::all`].
    pub others: Vec<Beside>,
}

impl Row {
    /// What another judge made of the same rollouts.
    pub fn beside(&self, judge: Judge) -> Option<&Beside> {
        self.others.iter().find(|beside| beside.judge == judge)
    }

    /// Minutes from the onset of the regression to a tally's median.
    pub fn delay(&self, tally: &Tally) -> Option<usize> {
        tally.median.map(|minute| minute.saturating_sub(self.cell.onset.before()))
    }
}

/// What one judge made of one rollout.
#[derive(Debug, Clone, Copy)]
struct Judged {
    minute: Option<usize>,
    served: f64,
}

/// What all judges made of one rollout.
struct Played {
    /// Ours, in every mode.
    ours: Vec<Judged>,
    /// The others, in the order of [`Judge::all`].
    others: Vec<Judged>,
    /// Bad requests of green in the whole window.
    unwatched: f64,
}

/// The modes in which our judge is measured. What it costs to know less shows in good releases and in large regressions;
/// the others are for what one can do at best.
fn modes(cell: &Cell) -> &'static [Mode] {
    match cell.release {
        Release::Good => &Mode::ALL,
        Release::Worse(times) if times >= 10.0 && cell.onset == Onset::AtOnce => &Mode::ALL,
        Release::Worse(_) | Release::Outage => &[Mode::Zones],
    }
}

/// Simulates `runs` rollouts of each cell and judges them; calls `done` after each cell. The result depends on the
/// cells and the number of runs alone.
pub fn measure(cells: &[Cell], runs: usize, mut done: impl FnMut(&Cell)) -> Vec<Row> {
    cells
        .iter()
        .flat_map(|cell| {
            let rows = rows(cell, runs);
            done(cell);
            rows
        })
        .collect()
}

fn rows(cell: &Cell, runs: usize) -> Vec<Row> {
    let modes = modes(cell);
    // In the order of the runs, whichever thread played them.
    let played: Vec<Played> = (0..runs).into_par_iter().map(|run| play(cell, run, modes)).collect();
    let unwatched = played.iter().map(|played| played.unwatched).sum::<f64>() / runs as f64;
    let row = |(index, mode): (usize, &Mode)| {
        let ours: Vec<Judged> = played.iter().map(|played| played.ours[index]).collect();
        let other = |(index, judge): (usize, Judge)| {
            let theirs: Vec<Judged> = played.iter().map(|played| played.others[index]).collect();
            beside(judge, &ours, &theirs)
        };
        Row {
            name: cell.name(),
            cell: *cell,
            mode: *mode,
            unwatched,
            ours: Tally::new(&ours),
            others: Judge::all().enumerate().map(other).collect(),
        }
    };
    modes.iter().enumerate().map(row).collect()
}

fn play(cell: &Cell, run: usize, modes: &[Mode]) -> Played {
    let rollout = Rollout::new(cell, run);
    let metric = cell.setting.metric;
    let events = rollout.subject(metric);
    let judged = |minute: Option<usize>| Judged { minute, served: events.served(minute) };
    let tolerate = ours::comparison(metric).tolerate;
    let other = |judge: Judge| {
        judged(match judge {
            Judge::Concurrent => oracle::concurrent(cell, &events.window, tolerate),
            Judge::Informed => oracle::informed(cell, &events.window, tolerate),
            Judge::Peer(peer) => peer.judge(&events.window, limit(metric)),
        })
    };
    Played {
        ours: modes.iter().map(|mode| judged(ours::judge(&rollout, *mode))).collect(),
        others: Judge::all().map(other).collect(),
        unwatched: events.served(None),
    }
}

fn beside(judge: Judge, ours: &[Judged], theirs: &[Judged]) -> Beside {
    let differences = || ours.iter().zip(theirs).map(|(ours, theirs)| ours.served - theirs.served);
    let runs = ours.len() as f64;
    let mean = differences().sum::<f64>() / runs;
    let squares: f64 = differences().map(|difference| (difference - mean).powi(2)).sum();
    let error = (squares / (runs - 1.0).max(1.0) / runs).sqrt();
    Beside { judge, tally: Tally::new(theirs), ours_served_more: mean, error }
}

#[cfg(test)]
mod tests {
    use super::super::cells::cells;
    use super::*;

    fn judged(minutes: &[Option<usize>]) -> Vec<Judged> {
        minutes.iter().map(|minute| Judged { minute: *minute, served: minute.unwrap_or(20) as f64 }).collect()
    }

    #[test]
    fn a_median_is_of_all_runs() {
        let check = |minutes: &[Option<usize>], expect: Option<usize>| {
            assert_eq!(Tally::new(&judged(minutes)).median, expect, "{minutes:?}");
        };
        check(&[Some(3), Some(1), Some(2)], Some(2));
        check(&[Some(3), None, Some(2)], Some(3));
        check(&[Some(3), None, None], None);
        check(&[Some(3), Some(4), None, None], Some(4));
        let tally = Tally::new(&judged(&[Some(3), Some(4), None, None]));
        assert_eq!((tally.percent(), tally.served), (50.0, 11.75));
    }

    #[test]
    fn differences_are_taken_run_by_run() {
        let (ours, theirs) = (judged(&[Some(1), Some(5), None]), judged(&[Some(2), Some(6), Some(12)]));
        let beside = beside(Judge::Concurrent, &ours, &theirs);
        assert!((beside.ours_served_more - 2.0).abs() < 1e-12); // -1, -1, 8
        assert!((beside.error - 3.0).abs() < 1e-12); // deviation sqrt(54 / 2) = 5.196, by sqrt 3
    }

    #[test]
    fn the_same_runs_give_the_same_rows_on_any_number_of_threads() {
        let cells = cells(Some("1200/min canary 0.08 % shared x12"));
        let all = measure(&cells, 8, |_| {});
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| measure(&cells, 8, |_| {})), all);
        assert_eq!(all.len(), 6, "two cells in three modes");
        assert_eq!(all[3].name, "1200/min canary 0.08 % shared x12");
        assert_eq!(all[3].ours.runs, 8);
        assert!(all[3].ours.rolled_back >= 6);
    }
}
