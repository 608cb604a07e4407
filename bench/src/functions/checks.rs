//! What must hold, from the results.

use super::results::{Cell, Path, Program, Results, Run, Subject};
use crate::judge::Check;

/// Bytes in a megabyte: the smaller of its two meanings, as `.ci/release` has it.
const MEGABYTE: f64 = 1e6;

const FLOOR: &[Subject] = &[Subject::Floor];
const PEERS: &[Subject] = &[Subject::Node, Subject::Python];

/// How our median may compare with another one.
#[derive(Debug, Clone, Copy)]
enum Ratio {
    /// Ours over theirs.
    AtMost(f64),
    /// Theirs over ours.
    AtLeast(f64),
}

/// All checks.
pub fn checks(results: &Results) -> Vec<Check> {
    let cold = |run: &Run| Some(run.cold_ms);
    let warm = |run: &Run| Some(run.warm_ms);
    vec![
        beside(
            results,
            "1. a cold invocation, calls that take no time: at most 1.3 x the floor",
            (0, cold),
            FLOOR,
            Ratio::AtMost(1.3),
        ),
        beside(
            results,
            "2. the same: Node and Python take at least 8 x as long",
            (0, cold),
            PEERS,
            Ratio::AtLeast(8.0),
        ),
        beside(
            results,
            "3. a warm invocation, calls of 5 ms: at most 1.2 x the floor",
            (5, warm),
            FLOOR,
            Ratio::AtMost(1.2),
        ),
        memory(results),
        beside(
            results,
            "5. peak memory: at most a third of each peer's",
            (0, peak_mb),
            PEERS,
            Ratio::AtLeast(3.0),
        ),
        zip(results),
        in_sequence(results),
    ]
}

/// The most resident memory, MB.
fn peak_mb(run: &Run) -> Option<f64> {
    Some(run.peak_kb? as f64 / 1024.0)
}

fn check(what: &str, asked: impl Iterator<Item = Result<(), String>>) -> Check {
    let held: Vec<_> = asked.collect();
    let missed = held.iter().filter_map(|held| held.clone().err()).collect();
    Check { what: what.to_owned(), asked: held.len(), missed }
}

/// Our median of a figure, where a call takes so many milliseconds, beside that of each of the `others`.
fn beside(
    results: &Results,
    what: &str,
    (latency_ms, figure): (u64, fn(&Run) -> Option<f64>),
    others: &[Subject],
    ratio: Ratio,
) -> Check {
    let median = |cell: &Cell| cell.spread(figure).map(|spread| spread.median);
    let theirs =
        results.cells.iter().filter(|cell| cell.latency_ms == latency_ms && others.contains(&cell.subject));
    let asked = theirs.filter_map(|cell| {
        let ours = median(results.cell(&cell.function, Subject::Ours, latency_ms)?)?;
        let theirs = median(cell)?;
        let (holds, is) = match ratio {
            Ratio::AtMost(limit) => (ours <= limit * theirs, ours / theirs),
            Ratio::AtLeast(limit) => (theirs >= limit * ours, theirs / ours),
        };
        let why = || {
            let Cell { function, subject, .. } = cell;
            format!("{function}: ours {ours:.1}, {subject} {theirs:.1}: {is:.2} x")
        };
        Some(if holds { Ok(()) } else { Err(why()) })
    });
    check(what, asked)
}

fn memory(results: &Results) -> Check {
    let ours = results.cells.iter().filter(|cell| cell.subject == Subject::Ours);
    let asked = ours.filter_map(|cell| {
        let most = cell.runs.iter().filter_map(peak_mb).reduce(f64::max)?;
        let why = || format!("{}, calls of {} ms: {most:.1} MB", cell.function, cell.latency_ms);
        Some(if most < 40.0 { Ok(()) } else { Err(why()) })
    });
    check("4. peak memory: less than 40 MB in every run", asked)
}

fn zip(results: &Results) -> Check {
    let ours = results.programs.iter().filter(|program| program.subject == Subject::Ours);
    let asked = ours.map(|program: &Program| {
        let size = program.zip_bytes as f64 / MEGABYTE;
        if size < 4.0 { Ok(()) } else { Err(format!("{}: {size:.2} MB", program.function)) }
    });
    check("6. zip file: less than 4 MB", asked)
}

/// Whether not too many calls of AWS follow one another.
pub fn in_sequence(results: &Results) -> Check {
    let timed = results.programs.iter().filter(|program| program.subject == Subject::Ours);
    let asked = timed.map(|program| &program.path).chain(&results.others).map(|path: &Path| {
        let Path { name, round_trips, limit, .. } = path;
        if round_trips <= limit { Ok(()) } else { Err(format!("{name}: {round_trips}, allowed {limit}")) }
    });
    check(
        "7. calls of AWS one after the other: at most 3 before the report (of a stage of ECS 4, and 5 where it judges), at most 2 in a look of the watch (3 in the first)",
        asked,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = "before-allow-traffic";

    fn cell(subject: Subject, latency_ms: u64, cold_ms: f64, warm_ms: f64, peak_mb: u64) -> Cell {
        let run = Run { init_ms: 1.0, cold_ms, warm_ms, cpu_ms: None, peak_kb: Some(peak_mb * 1024) };
        Cell { function: FUNCTION.to_owned(), subject, latency_ms, runs: vec![run; 3] }
    }

    fn path(round_trips: usize, limit: usize) -> Path {
        Path { name: FUNCTION.to_owned(), calls: Vec::new(), round_trips, limit }
    }

    fn results(cells: Vec<Cell>) -> Results {
        Results { cells, ..Results::default() }
    }

    fn hold(results: &Results, which: usize, asked: usize, missed: &[&str]) {
        let check = checks(results).swap_remove(which - 1);
        assert_eq!(check.asked, asked, "{}", check.what);
        assert_eq!(check.missed, missed, "{}", check.what);
    }

    #[test]
    fn a_cold_invocation_is_held_against_the_floor_and_the_peers() {
        let with = |ours: f64| {
            let cell = |subject, cold| cell(subject, 0, cold, 1.0, 10);
            results(vec![
                cell(Subject::Ours, ours),
                cell(Subject::Floor, 10.0),
                cell(Subject::Node, 104.0),
                cell(Subject::Python, 1000.0),
            ])
        };
        hold(&with(13.0), 1, 1, &[]);
        hold(&with(13.0), 2, 2, &[]);
        hold(&with(13.1), 1, 1, &["before-allow-traffic: ours 13.1, floor 10.0: 1.31 x"]);
        hold(&with(13.1), 2, 2, &["before-allow-traffic: ours 13.1, Node 104.0: 7.94 x"]);
    }

    #[test]
    fn a_warm_invocation_is_held_against_the_floor_where_calls_take_5_ms() {
        let with = |latency, ours| {
            results(vec![
                cell(Subject::Ours, latency, 1.0, ours, 10),
                cell(Subject::Floor, latency, 1.0, 10.0, 10),
            ])
        };
        hold(&with(5, 12.0), 3, 1, &[]);
        hold(&with(5, 13.0), 3, 1, &["before-allow-traffic: ours 13.0, floor 10.0: 1.30 x"]);
        hold(&with(20, 13.0), 3, 0, &[]);
    }

    #[test]
    fn memory_has_a_limit_and_is_held_against_the_peers() {
        let with = |ours| {
            results(vec![cell(Subject::Ours, 0, 1.0, 1.0, ours), cell(Subject::Node, 0, 1.0, 1.0, 90)])
        };
        hold(&with(30), 4, 1, &[]);
        hold(&with(30), 5, 1, &[]);
        hold(&with(31), 5, 1, &["before-allow-traffic: ours 31.0, Node 90.0: 2.90 x"]);
        hold(&with(40), 4, 1, &["before-allow-traffic, calls of 0 ms: 40.0 MB"]);
    }

    #[test]
    fn sizes_and_round_trips_have_limits() {
        let program = |subject, zip_bytes, round_trips| Program {
            function: FUNCTION.to_owned(),
            subject,
            bytes: 2 * zip_bytes,
            zip_bytes,
            path: path(round_trips, 3),
        };
        let limit = 4_000_000;
        let mut all = Results {
            programs: vec![program(Subject::Ours, limit - 1, 3), program(Subject::Node, 2 * limit, 7)],
            others: vec![path(2, 2)],
            ..Results::default()
        };
        hold(&all, 6, 1, &[]);
        hold(&all, 7, 2, &[]);
        all.programs[0] = program(Subject::Ours, limit, 4);
        all.others.push(path(3, 2));
        hold(&all, 6, 1, &["before-allow-traffic: 4.00 MB"]);
        hold(&all, 7, 3, &["before-allow-traffic: 4, allowed 3", "before-allow-traffic: 3, allowed 2"]);
    }
}
