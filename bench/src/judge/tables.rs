//! The rows of the benchmark as tables.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::measure::{Judge, Row, Tally};
use super::world::Mode;

/// Good releases that were rolled back, in percent; a line per setting.
pub fn false_rollbacks(rows: &[Row]) -> Table {
    let peers: Vec<Judge> = Judge::all().filter(|judge| matches!(judge, Judge::Peer(_))).collect();
    let modes = Mode::ALL.iter().map(|mode| format!("ours, {mode}"));
    let mut table = table(modes.chain(peers.iter().map(Judge::to_string)));
    for line in rows.chunk_by(|a, b| a.name == b.name).filter(|line| line[0].cell.is_good()) {
        let ours = line.iter().map(|row| percent(&row.ours));
        let others = peers
            .iter()
            .map(|judge| line[0].beside(*judge).map_or(String::new(), |peer| percent(&peer.tally)));
        table.add_row(std::iter::once(line[0].cell.setting.to_string()).chain(ours).chain(others));
    }
    table
}

/// Regressions that were caught, in percent, with the minute of the median of all runs; and how many times as long as
/// the concurrent oracle we take from the onset.
pub fn caught(rows: &[Row]) -> Table {
    let mut table = table(
        ["ours", "/ oracle a"]
            .map(str::to_owned)
            .into_iter()
            .chain(Judge::all().map(|judge| judge.to_string())),
    );
    let shown = |tally: &Tally| {
        let minute = tally.median.map_or("-".to_owned(), |minute| minute.to_string());
        format!("{:.0}@{minute}", tally.percent())
    };
    for row in rows.iter().filter(|row| !row.cell.is_good()) {
        let oracle = row.beside(Judge::Concurrent).and_then(|oracle| row.delay(&oracle.tally));
        let times = match (row.delay(&row.ours), oracle) {
            (Some(ours), Some(oracle)) if oracle > 0 => format!("{:.1}", ours as f64 / oracle as f64),
            _ => "-".to_owned(),
        };
        let others = row.others.iter().map(|beside| shown(&beside.tally));
        table.add_row([name(row), shown(&row.ours), times].into_iter().chain(others));
    }
    table
}

/// Bad requests that green served until it was rolled back or the window was over, on average.
pub fn bad_requests(rows: &[Row]) -> Table {
    let mut table =
        table(std::iter::once("ours".to_owned()).chain(Judge::all().map(|judge| judge.to_string())));
    let shown = |served: f64| if served < 100.0 { format!("{served:.1}") } else { format!("{served:.0}") };
    for row in rows.iter().filter(|row| !row.cell.is_good()) {
        let others = row.others.iter().map(|beside| shown(beside.tally.served));
        table.add_row([name(row), shown(row.ours.served)].into_iter().chain(others));
    }
    table
}

fn table(columns: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(std::iter::once(String::new()).chain(columns));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(tally: &Tally) -> String {
    format!("{:.1}", tally.percent())
}

fn name(row: &Row) -> String {
    if row.mode == Mode::Zones { row.name.clone() } else { format!("{}, {}", row.name, row.mode) }
}
