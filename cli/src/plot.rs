//! Evidence over time, drawn with blocks.

use shiftgate::recording::Judged;
use shiftgate::verdict::one_in;

/// Height in lines; the limit is drawn at two thirds of it.
const LINES: usize = 6;
/// Lines up to the limit.
const LIMIT: usize = 4;
/// The most columns that a plot has.
const COLUMNS: usize = 72;
/// The most columns that a minute has.
const WIDEST: usize = 3;
/// A line in eighths.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A gate's evidence after each minute, on a logarithmic scale: the higher, the less chance explains it. The line is the
/// limit at which it rolls back; minutes without data are gaps.
pub fn evidence(gate: &Judged) -> String {
    let minutes = gate.evidence.len();
    // Long recordings take several minutes a column, and show the largest evidence of them.
    let grouped = minutes.div_ceil(COLUMNS).max(1);
    let width = (COLUMNS / minutes.max(1)).clamp(1, WIDEST);
    let limit = format!("limit {}", one_in(gate.limit));
    let margin = limit.chars().count();
    let heights: Vec<Option<usize>> = gate
        .evidence
        .chunks(grouped)
        .map(|chunk| {
            chunk.iter().copied().flatten().reduce(f64::min).map(|chance| eighths(chance, gate.limit))
        })
        .collect();
    let mut lines = vec![format!("{}, minute by minute", gate.gate.name())];
    for line in (0..LINES).rev() {
        let at_limit = line + 1 == LIMIT;
        let cells: String = heights
            .iter()
            .map(|height| {
                let filled = height.map_or(0, |height| height.saturating_sub(8 * line).min(8));
                let cell = if filled == 0 && at_limit { '▔' } else { BLOCKS[filled] };
                String::from(cell).repeat(width)
            })
            .collect();
        let label = if at_limit { limit.as_str() } else { "" };
        lines.push(format!("{label:>margin$} │{}", cells.trim_end()));
    }
    let axis = width * heights.len();
    lines.push(format!("{:>margin$} └{}", one_in(1.0), "─".repeat(axis)));
    lines.push(format!("{:>margin$}  1{minutes:>width$}", "", width = axis.saturating_sub(1)));
    lines.join("\n")
}

/// The height of a chance.
fn eighths(chance: f64, limit: f64) -> usize {
    eighths_of(chance, limit, LIMIT, LINES)
}

/// How far a chance goes on a logarithmic scale, in eighths of a cell, where its limit is after `at` cells and there are
/// `most`. Evidence beyond them ends there.
pub fn eighths_of(chance: f64, limit: f64, at: usize, most: usize) -> usize {
    let share = chance.ln() / limit.ln();
    let eighths = (share * (8 * at) as f64).clamp(0.0, (8 * most) as f64).round() as usize;
    // At or above the line only what is at or above the limit.
    if chance > limit { eighths.min(8 * at - 1) } else { eighths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_the_limit_reaches_its_line() {
        assert_eq!(eighths(0.01, 0.01), 8 * LIMIT);
        assert_eq!(eighths(0.010_001, 0.01), 8 * LIMIT - 1);
        assert_eq!(eighths(1.0, 0.01), 0);
        assert_eq!(eighths(1e-300, 0.01), 8 * LINES);
    }
}
