//! The lines at the bottom of the terminal while a deployment goes on: where its traffic goes, what its users get, and how much
//! speaks against green. Pure: what happened goes in, lines come out.

use std::collections::VecDeque;

use console::{measure_text_width, style, truncate_str};
use serde_json::Value;
use shiftgate::verdict::{ByChance, one_in, sign};
use shiftgate_lab::traffic::{Served, Stats};

use crate::plot::eighths_of;

/// Columns of a bar.
const BAR: usize = 30;
/// The columns of the evidence's bar up to its limit, two thirds as in a plot; one column more is the limit's own.
const LIMIT: usize = 20;
/// A column in eighths, filled from the left.
const BLOCKS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// Columns before what a line tells.
pub const MARGIN: usize = 12;
/// How far back the users' error rates go, in seconds.
const WINDOW: f64 = 5.0;
/// What turns while it goes on, a tenth of a second each.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// What is known of a deployment that goes on.
#[derive(Debug, Default)]
pub struct Panel {
    /// What the controller is at.
    pub stage: String,
    /// Green's share of the traffic, in percent.
    pub green: f64,
    /// What the users had got at some second, over a little more than the window.
    users: VecDeque<(f64, Stats)>,
    /// Looks so far.
    looks: usize,
    /// The gate that speaks against green most, as the last look with data saw it.
    strongest: Option<(String, ByChance)>,
    /// Whether it is over.
    pub is_over: bool,
}

impl Panel {
    /// Takes note of what the users have got until this second.
    pub fn users(&mut self, second: f64, stats: Stats) {
        self.users.push_back((second, stats));
        // The last one from before the window is where the window begins.
        while self.users.get(1).is_some_and(|(at, _)| second - at >= WINDOW) {
            self.users.pop_front();
        }
    }

    /// Takes note of a look, by the line that the function logged of it.
    pub fn look(&mut self, line: &Value) {
        self.looks += 1;
        let gates = line["readings"].as_array().into_iter().flatten().filter_map(|reading| {
            let by_chance = &reading["by_chance"];
            let chance = by_chance["chance"].as_f64()?;
            let allowed = by_chance["allowed"].as_f64()?;
            Some((reading["check"].as_str()?.to_owned(), ByChance { chance, allowed }))
        });
        let strength = |by: &ByChance| by.chance.ln() / by.allowed.ln();
        if let Some(strongest) = gates.max_by(|(_, a), (_, b)| strength(a).total_cmp(&strength(b))) {
            self.strongest = Some(strongest);
        }
    }

    /// The lines at this second, each within so many columns.
    pub fn lines(&self, second: f64, columns: usize) -> Vec<String> {
        let frame = SPINNER[(second * 10.0) as usize % SPINNER.len()];
        let busy = if self.is_over { ' ' } else { frame };
        let (bar, words) = self.evidence();
        let lines = [
            String::new(),
            row(&format!("{busy} {second:5.1} s"), &self.told()),
            row("  traffic", &weights(self.green)),
            row("  users", &self.rates()),
            row("  evidence", &bar),
            row("", &words),
        ];
        // A line as wide as the terminal makes some of them begin a new one.
        lines.iter().map(|line| truncate_str(line, columns.saturating_sub(1), "…").into_owned()).collect()
    }

    fn told(&self) -> String {
        match (self.stage.as_str(), self.looks) {
            ("", _) => "starting".to_owned(),
            (stage, 0) => stage.to_owned(),
            (stage, 1) => format!("{stage}, 1 look at green"),
            (stage, looks) => format!("{stage}, {looks} looks at green"),
        }
    }

    /// What the users got of each version within the window.
    fn rates(&self) -> String {
        let (Some((from, first)), Some((until, last))) = (self.users.front(), self.users.back()) else {
            return style("no requests yet").dim().to_string();
        };
        let stats = *last - *first;
        let blue = style(format!("blue {}", rate(stats.blue))).blue();
        let green = style(format!("green {}", rate(stats.green)));
        let green = if stats.green.bad > 0 { green.red() } else { green.green() };
        format!("bad answers in {:.0} s: {blue}   {green}", (until - from).min(WINDOW))
    }

    /// A bar of what speaks against green, and the same in words.
    fn evidence(&self) -> (String, String) {
        let Some((gate, by)) = &self.strongest else {
            return (
                gauge(1.0, 0.5),
                style("no data to judge yet: metrics need their time to come in").dim().to_string(),
            );
        };
        let words = style(format!("{gate}: chance {}, limit {}", sign(by.chance), one_in(by.allowed)));
        let words = if by.chance <= by.allowed { words.red().bold() } else { words };
        (gauge(by.chance, by.allowed), words.to_string())
    }
}

/// A line broken between words so that it fits into so many columns. Where it goes on, it is so far from the edge.
pub fn wrapped(text: &str, columns: usize, margin: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last().map_or(0, |line| measure_text_width(line));
        if line > margin && line + measure_text_width(word.trim_end()) >= columns {
            lines.push(" ".repeat(margin));
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

/// A line with its label.
fn row(label: &str, text: &str) -> String {
    format!("{label}{}{text}", " ".repeat(MARGIN.saturating_sub(measure_text_width(label))))
}

/// Green's share of the traffic as a bar, and in words.
fn weights(green: f64) -> String {
    let full = ((green / 100.0 * BAR as f64).round() as usize).min(BAR);
    let bar = style("█".repeat(full)).green();
    let rest = style("░".repeat(BAR - full)).blue();
    let green = green.round();
    format!("{bar}{rest}  green {green:>3} %, blue {:>3} %", 100.0 - green)
}

/// How much of it was bad; as wide whatever it was.
fn rate(served: Served) -> String {
    let Served { requests, bad } = served;
    if requests == 0 {
        return format!("{:>15}", "no requests");
    }
    format!("{:>5.1} % of {requests:>4}", 100.0 * bad as f64 / requests as f64)
}

/// A chance on a logarithmic scale, from 1 at the left; the line is the limit at which green is rolled back.
fn gauge(chance: f64, limit: f64) -> String {
    let filled = eighths_of(chance, limit, LIMIT, BAR - 1);
    let cells = |from: usize, until: usize| -> String {
        (from..until).map(|cell| BLOCKS[filled.saturating_sub(8 * cell).min(8)]).collect()
    };
    let (before, beyond) = (cells(0, LIMIT), cells(LIMIT, BAR - 1));
    let [before, beyond] =
        [before, beyond].map(|part| if chance <= limit { style(part).red() } else { style(part).yellow() });
    format!("{before}{}{beyond}  {}", style("│").bold(), style("green is rolled back from │ on").dim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stats(blue: (u64, u64), green: (u64, u64)) -> Stats {
        let served = |(requests, bad)| Served { requests, bad };
        Stats { blue: served(blue), green: served(green), ..Stats::default() }
    }

    fn reading(check: &str, chance: f64, allowed: f64) -> Value {
        json!({"check": check, "value": "5 %", "by_chance": {"chance": chance, "allowed": allowed}})
    }

    fn canary() -> Panel {
        let mut panel = Panel { stage: "AllowTraffic".to_owned(), green: 10.0, ..Panel::default() };
        panel.users(10.0, stats((1000, 0), (100, 0)));
        panel.users(15.0, stats((1849, 0), (196, 5)));
        let outage = json!({"check": "outage", "value": "5 %", "by_chance": null});
        let errors = reading("server errors", 1.0 / 40.0, 1.0 / 222.0);
        panel.look(&json!({"readings": [outage, reading("slow requests", 1.0, 1.0 / 444.0), errors]}));
        panel
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| console::strip_ansi_codes(line).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_deployment_is_shown_at_a_glance() {
        insta::assert_snapshot!(plain(&canary().lines(15.2, 80)[1..]).join("\n"), @r"
    ⠹  15.2 s   AllowTraffic, 1 look at green
      traffic   ███░░░░░░░░░░░░░░░░░░░░░░░░░░░  green  10 %, blue  90 %
      users     bad answers in 5 s: blue   0.0 % of  849   green   5.2 % of   96
      evidence  █████████████▋      │           green is rolled back from │ on
                server errors: chance 1 in 40, limit 1 in 222
    ");
    }

    #[test]
    fn before_anything_is_known_the_lines_are_there_too() {
        insta::assert_snapshot!(plain(&Panel::default().lines(0.0, 80)[1..]).join("\n"), @r"
    ⠋   0.0 s   starting
      traffic   ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  green   0 %, blue 100 %
      users     no requests yet
      evidence                      │           green is rolled back from │ on
                no data to judge yet: metrics need their time to come in
    ");
    }

    #[test]
    fn no_line_reaches_the_edge_of_the_terminal() {
        let mut panel = canary();
        panel.stage = "POST_PRODUCTION_TRAFFIC_SHIFT".to_owned();
        panel.look(&json!({"readings": [reading("connection errors", 1e-9, 1.0 / 1333.0)]}));
        for columns in [2, 13, 40, 80, 120] {
            let lines = panel.lines(123.4, columns);
            assert_eq!(lines.len(), 6);
            for line in &lines {
                assert!(measure_text_width(line) < columns, "{columns}: {line}");
            }
        }
        // Nothing is cut where a terminal has the usual 80.
        assert_eq!(plain(&panel.lines(1.0, 80)), plain(&panel.lines(1.0, 200)));
    }

    #[test]
    fn what_happened_is_broken_between_words() {
        let text = "   2.3 s  after-install                Succeeded: green runs and its targets are healthy";
        assert_eq!(wrapped(text, 120, MARGIN), text);
        let lines = wrapped(text, 60, MARGIN);
        assert_eq!(
            lines,
            "   2.3 s  after-install                Succeeded: green\n            runs and its targets are healthy"
        );
        for line in lines.lines() {
            assert!(measure_text_width(line) < 60, "{line}");
        }
        assert_eq!(wrapped("one two three", 9, 0), "one two\nthree");
        // A word that fits nowhere is left whole.
        assert_eq!(wrapped("arn:aws:lambda:eu-west-1", 10, MARGIN), "arn:aws:lambda:eu-west-1");
    }

    #[test]
    fn nothing_moves_sideways_when_numbers_grow() {
        let place = |panel: &Panel, line: usize, what: &str| {
            let text = plain(&panel.lines(1.0, 80))[line].clone();
            text.find(what).map(|at| text[..at].chars().count())
        };
        let mut later = canary();
        later.users(19.0, stats((1849, 0), (196, 5)));
        later.users(21.0, stats((3000, 1000), (196, 5)));
        later.green = 100.0;
        for (line, what) in [(2, "blue"), (3, "green")] {
            assert_eq!(place(&canary(), line, what), place(&later, line, what), "{what}");
        }
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut panel = Panel::default();
        for second in 0..60_u32 {
            let (requests, bad) = (10 * u64::from(second), u64::from(second.min(50)));
            panel.users(f64::from(second), stats((requests, bad), (0, 0)));
        }
        assert_eq!(panel.rates(), "bad answers in 5 s: blue   0.0 % of   50   green     no requests");
    }

    #[test]
    fn the_gate_that_is_nearest_to_its_limit_is_shown_and_kept_while_looks_have_no_data() {
        let mut panel = canary();
        // Less probable, and yet farther from its own limit.
        let near = reading("server errors", 0.02, 0.01);
        panel.look(&json!({"readings": [reading("latency", 0.015, 1e-6), near]}));
        let words = "server errors: chance 1 in 50, limit 1 in 100";
        assert_eq!(panel.evidence().1, words);
        panel.look(&json!({"readings": []}));
        assert_eq!(panel.evidence().1, words);
    }

    #[test]
    fn only_evidence_that_reaches_the_limit_crosses_the_line() {
        let filled = |chance| {
            let gauge = gauge(chance, 0.01);
            let beyond = gauge.split('│').nth(1).unwrap_or_default().contains('█');
            (gauge.chars().filter(|char| *char == '█').count(), beyond)
        };
        assert_eq!(filled(1.0), (0, false));
        assert_eq!(filled(0.1), (10, false));
        assert_eq!(filled(0.010_001), (19, false));
        assert_eq!(filled(0.01), (20, false));
        assert_eq!(filled(0.001), (29, true));
        assert_eq!(filled(0.0), (29, true));
    }
}
