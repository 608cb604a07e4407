//! The results as tables.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::results::{Cell, Path, Results, Run, Subject};

/// Name and unit of a figure of a run, and how it is read.
type Figure = (&'static str, fn(&Run) -> Option<f64>);

/// The figures of a run.
const FIGURES: [Figure; 5] = [
    ("init, ms", |run| Some(run.init_ms)),
    ("cold, ms", |run| Some(run.cold_ms)),
    ("warm, ms", |run| Some(run.warm_ms)),
    ("processor, ms", |run| run.cpu_ms),
    ("peak memory, MB", |run| Some(run.peak_kb? as f64 / 1024.0)),
];

/// Medians of the runs, with the quarters in brackets, and how they compare: ours to the floor's, and each peer's to ours.
pub fn runs(results: &Results) -> Table {
    let columns =
        ["calls of", "", "floor", "ours", "Node", "Python", "ours/floor", "Node/ours", "Python/ours"];
    let mut table = table(columns);
    let mut latencies: Vec<u64> = results.cells.iter().map(|cell| cell.latency_ms).collect();
    latencies.sort_unstable();
    latencies.dedup();
    for function in results.functions() {
        for latency in &latencies {
            for (name, figure) in FIGURES {
                let cell = |subject| results.cell(function, subject, *latency);
                let [floor, ours, node, python] =
                    [Subject::Floor, Subject::Ours, Subject::Node, Subject::Python].map(cell);
                let told = |cell: Option<&Cell>| spread(cell, figure);
                table.add_row([
                    function.to_owned(),
                    format!("{latency} ms"),
                    name.to_owned(),
                    told(floor),
                    told(ours),
                    told(node),
                    told(python),
                    ratio(ours, floor, figure),
                    ratio(node, ours, figure),
                    ratio(python, ours, figure),
                ]);
            }
        }
    }
    table
}

/// Sizes of what is deployed.
pub fn programs(results: &Results) -> Table {
    let mut table = table(["subject", "bytes", "zip, bytes", "round trips", "calls"]);
    for program in &results.programs {
        table.add_row([
            program.function.clone(),
            program.subject.to_string(),
            program.bytes.to_string(),
            program.zip_bytes.to_string(),
            program.path.round_trips.to_string(),
            program.path.calls.len().to_string(),
        ]);
    }
    table
}

/// Every path with its calls of AWS, in the order in which they began.
pub fn calls(results: &Results) -> Table {
    let mut table = table(["", "round trips", "calls of AWS before the report, by their begin"]);
    if let Some(last) = table.column_mut(3) {
        last.set_cell_alignment(CellAlignment::Left);
    }
    let timed = results.programs.iter().map(|program| (program.subject.to_string(), &program.path));
    let others = results.others.iter().map(|path| (Subject::Ours.to_string(), path));
    for (subject, Path { name, calls, round_trips, .. }) in timed.chain(others) {
        let operations: Vec<&str> =
            calls.iter().map(|call| call.split_once(':').map_or(call.as_str(), |(_, name)| name)).collect();
        table.add_row([name.clone(), subject, round_trips.to_string(), operations.join(", ")]);
    }
    table
}

fn spread(cell: Option<&Cell>, figure: fn(&Run) -> Option<f64>) -> String {
    let spread = cell.and_then(|cell| cell.spread(figure));
    spread.map_or("-".to_owned(), |it| format!("{:.1} [{:.1}, {:.1}]", it.median, it.lower, it.upper))
}

fn ratio(one: Option<&Cell>, other: Option<&Cell>, figure: fn(&Run) -> Option<f64>) -> String {
    let median = |cell: Option<&Cell>| cell?.spread(figure).map(|spread| spread.median);
    match (median(one), median(other)) {
        (Some(one), Some(other)) if other > 0.0 => format!("{:.2}", one / other),
        _ => "-".to_owned(),
    }
}

fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(std::iter::once("").chain(columns));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
