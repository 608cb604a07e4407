//! How a backtest is told: a column per policy, then sentences.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::{Value, json};
use shiftgate::backtest::{Backtest, Named, NoWindows, RATIOS, Replayed, Smallest, Window};
use shiftgate::recording::{Answer, Bad, Recording, Verdict};
use shiftgate::verdict::Quantity;
use statrs::distribution::{Beta, ContinuousCDF};

/// The most names that a sentence lists; `--json` has all.
const NAMES: usize = 8;
/// What is left out of an interval on each side, for 95 %.
const TAIL: f64 = 0.025;

/// What is told.
pub struct Told<'a> {
    /// Length of an A/A window in periods.
    pub minutes: u32,
    /// Length of a period in seconds, if all recordings have the same.
    pub period_seconds: Option<u32>,
    /// The A/A windows, or why there are none.
    pub windows: Result<&'a [Window], NoWindows>,
    /// One for each policy.
    pub columns: Vec<Column>,
    /// What the reader should know of how the past was read.
    pub notes: Vec<String>,
}

/// What one policy would have done.
pub struct Column {
    /// Its name.
    pub policy: String,
    /// The rate of false rollbacks that it allows, 0 to 1.
    pub allowed: f64,
    /// What came of it.
    pub backtest: Backtest,
}

/// The length of a period in seconds, if all recordings have the same.
pub fn period_seconds(recordings: &[Named]) -> Option<u32> {
    let mut lengths = recordings.iter().map(|named| match &named.recording {
        Recording::Traffic(traffic) => traffic.period_seconds.get(),
        Recording::Change(change) => change.period_seconds.get(),
    });
    let first = lengths.next()?;
    lengths.all(|length| length == first).then_some(first)
}

impl Column {
    fn rate(&self) -> f64 {
        self.backtest.false_rollbacks.len() as f64 / self.backtest.windows as f64
    }

    fn interval(&self) -> [f64; 2] {
        interval(self.backtest.false_rollbacks.len(), self.backtest.windows)
    }

    fn smallest(&self, gate: Bad) -> Option<&Smallest> {
        self.backtest.smallest.iter().find(|smallest| smallest.gate == gate)
    }
}

/// The exact interval of 95 % for a rate of which `seen` in `of` were seen (Clopper and Pearson 1934), 0 to 1.
fn interval(seen: usize, of: usize) -> [f64; 2] {
    let quantile =
        |a: usize, b: usize, at: f64| Beta::new(a as f64, b as f64).map(|beta| beta.inverse_cdf(at));
    // At either end the law has no shape, and the interval ends there.
    [
        quantile(seen, of - seen + 1, TAIL).unwrap_or(0.0),
        quantile(seen + 1, of - seen, 1.0 - TAIL).unwrap_or(1.0),
    ]
}

impl Told<'_> {
    /// All of it for a program.
    pub fn json(&self) -> Value {
        let column = |column: &Column| {
            let windows = column.backtest.windows > 0;
            json!({
                "policy": column.policy,
                "allowed": column.allowed,
                "false_rollback_rate": windows.then(|| column.rate()),
                "interval_95": windows.then(|| column.interval()),
                "backtest": column.backtest,
            })
        };
        json!({
            "window_minutes": self.minutes,
            "no_windows": self.windows.err().map(|why| why.to_string()),
            "policies": self.columns.iter().map(column).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// The table and the sentences.
    pub fn text(&self) -> String {
        let Some(first) = self.columns.first() else { return String::new() };
        let mut parts = vec![self.table().to_string(), rollouts(&first.backtest)];
        match self.windows {
            Ok(windows) => {
                parts.push(self.quiet(first, windows));
                parts.push(found(first, &self.length()));
            }
            Err(why) => parts.push(format!("no A/A windows: {why}")),
        }
        parts.extend(self.columns.iter().skip(1).map(|other| changes(first, other)));
        for column in self.columns.iter().filter(|column| !column.backtest.not_judged.is_empty()) {
            let gates = column.backtest.not_judged.join(", ");
            parts.push(format!(
                "{}: not judged here, since a recording does not hold it: {gates}",
                column.policy
            ));
        }
        if !self.notes.is_empty() {
            parts.push(format!("note: {}", self.notes.join("\nnote: ")));
        }
        parts.join("\n\n")
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
        let header = self.columns.iter().map(|column| column.policy.clone());
        table.load_style(style).set_header([String::new()].into_iter().chain(header));
        let mut row = |name: &str, cell: &dyn Fn(&Column) -> String| {
            let cells = self.columns.iter().map(cell);
            table.add_row([name.to_owned()].into_iter().chain(cells));
        };
        let number = |verdict| move |column: &Column| column.backtest.number(verdict).to_string();
        row("rollouts", &|column| column.backtest.rollouts.len().to_string());
        row("  rolled back", &number(Verdict::RollBack));
        row("  passed", &number(Verdict::Pass));
        row("  inconclusive", &number(Verdict::Inconclusive));
        if self.windows.is_ok() {
            row(&format!("A/A windows of {}", self.length()), &|column| column.backtest.windows.to_string());
            row("  rolled back", &|column| {
                format!("{} ({})", column.backtest.false_rollbacks.len(), percent(column.rate()))
            });
            row("  interval of 95 %", &|column| range(column.interval()));
            row("  allowed by the policy", &|column| Quantity::share(column.allowed).to_string());
            row("found in 4 windows of 5", &|_| String::new());
            for gate in Bad::ALL
                .into_iter()
                .filter(|gate| self.columns.iter().any(|column| column.smallest(*gate).is_some()))
            {
                row(&format!("  {}", gate.name()), &|column| {
                    column.smallest(gate).map(cell).unwrap_or_default()
                });
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// `15 minutes`, or as many shorter periods.
    fn length(&self) -> String {
        let s = if self.minutes == 1 { "" } else { "s" };
        match self.period_seconds {
            Some(60) => format!("{} minute{s}", self.minutes),
            Some(seconds) => format!("{} period{s} of {seconds} s", self.minutes),
            None => format!("{} period{s}", self.minutes),
        }
    }

    fn quiet(&self, column: &Column, windows: &[Window]) -> String {
        let seen = &column.backtest.false_rollbacks;
        let gates: Vec<&str> = seen.iter().filter_map(|rollback| rollback.gate.as_deref()).collect();
        let by = if gates.is_empty() { String::new() } else { format!(" by {}", counted(&gates)) };
        let [least, _] = column.interval();
        let too_many = if least > column.allowed { too_many(column, windows) } else { too_few(column) };
        format!(
            "{} A/A windows of {} without a release, one zone as green with {} of the requests: {} rolled back{by} ({}, 95 % interval {}; the policy allows {}).{too_many}",
            column.backtest.windows,
            self.length(),
            percent(share_of_green(windows)),
            seen.len(),
            percent(column.rate()),
            range(column.interval()),
            Quantity::share(column.allowed),
        )
    }
}

/// With no false rollback, how many windows it takes until the interval ends below what the policy allows.
fn too_few(column: &Column) -> String {
    let needed = (TAIL.ln() / (1.0 - column.allowed).ln()).ceil();
    if column.backtest.false_rollbacks.is_empty() && (column.backtest.windows as f64) < needed {
        format!(" So few cannot confirm that: {needed} without a rollback would.")
    } else {
        String::new()
    }
}

fn cell(smallest: &Smallest) -> String {
    match (smallest.ratio, smallest.minutes) {
        (Some(ratio), Some(minutes)) => format!("x{ratio} by minute {minutes}"),
        _ => "nothing".to_owned(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn range([from, to]: [f64; 2]) -> String {
    format!("{:.1} to {:.1} %", 100.0 * from, 100.0 * to)
}

/// Green's share of the requests in all windows together.
fn share_of_green(windows: &[Window]) -> f64 {
    let (mut green, mut all) = (0.0, 0.0);
    for window in windows {
        let Recording::Traffic(traffic) = &window.rollout else { continue };
        for minute in &traffic.minutes {
            let requests = [&minute.green, &minute.blue]
                .map(|counts| counts.as_ref().and_then(|counts| counts.requests.count()).unwrap_or(0.0));
            green += requests[0];
            all += requests[0] + requests[1];
        }
    }
    green / all
}

/// What more false rollbacks than chance explains may come from.
fn too_many(column: &Column, windows: &[Window]) -> String {
    let zones = windows.iter().map(|window| window.zone + 1).max().unwrap_or(0);
    let of_zone = |zone: usize| {
        let seen = column.backtest.false_rollbacks.iter().filter(|rollback| rollback.zone == zone).count();
        seen.to_string()
    };
    let by_zone: Vec<String> = (0..zones).map(of_zone).collect();
    format!(
        " That is more than chance. By the zone that was green: {}. A zone that always differs says nothing about releases, which have both colours in every zone; --json tells when each was.",
        by_zone.join(", ")
    )
}

/// `server_errors, outage (2)`: each once, with how often where it is more than once.
fn counted(names: &[&str]) -> String {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let each = sorted.chunk_by(|one, other| one == other).map(|same| match same.len() {
        1 => same[0].to_owned(),
        number => format!("{} ({number})", same[0]),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn rollouts(backtest: &Backtest) -> String {
    let all = backtest.rollouts.len();
    if all == 0 {
        return "No rollouts, only time without a release.".to_owned();
    }
    let s = if all == 1 { "" } else { "s" };
    let rolled_back = |replayed: &&Replayed| replayed.answer.verdict == Verdict::RollBack;
    let which: Vec<String> = backtest
        .rollouts
        .iter()
        .filter(rolled_back)
        .map(|replayed| format!("{} {}", replayed.name, why(&replayed.answer)))
        .collect();
    let which = if which.is_empty() { String::new() } else { format!(" ({})", listed(&which)) };
    format!(
        "{all} rollout{s}: {} would have been rolled back{which}, {} passed, {} inconclusive.",
        backtest.number(Verdict::RollBack),
        backtest.number(Verdict::Pass),
        backtest.number(Verdict::Inconclusive),
    )
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES { format!("{shown} and {} more", names.len() - NAMES) } else { shown }
}

/// `by server_errors in minute 4`.
fn why(answer: &Answer) -> String {
    let gate = answer.gate.as_deref().map(|gate| format!("by {gate} "));
    format!("{}in minute {}", gate.unwrap_or_default(), answer.minute.unwrap_or_default())
}

fn found(column: &Column, length: &str) -> String {
    let sentence = |smallest: &Smallest| {
        let (gate, share) = (smallest.gate.name().replace('_', " "), Quantity::share(smallest.share));
        match (smallest.ratio, smallest.minutes) {
            (Some(ratio), Some(minute)) => {
                format!("x{ratio} of {gate} ({share} of requests), half of the time by minute {minute}")
            }
            _ => format!(
                "nothing up to x{} of {gate} ({share} of requests, found in {})",
                RATIOS[RATIOS.len() - 1],
                percent(smallest.rolled_back)
            ),
        }
    };
    let each: Vec<String> = column.backtest.smallest.iter().map(sentence).collect();
    if each.is_empty() {
        return "It was not looked for regressions: the A/A windows have no bad events that the policy compares.".to_owned();
    }
    format!(
        "With green worse from the first of {length} on, it finds in 4 windows of 5: {}.",
        each.join("; ")
    )
}

/// What another policy would have decided otherwise.
fn changes(first: &Column, other: &Column) -> String {
    let pairs = first.backtest.rollouts.iter().zip(&other.backtest.rollouts);
    let told = |answer: &Answer| match answer.verdict {
        Verdict::RollBack => format!("rolled back {}", why(answer)),
        Verdict::Pass => "passed".to_owned(),
        Verdict::Inconclusive => "inconclusive".to_owned(),
    };
    let changed: Vec<String> = pairs
        .filter(|(one, two)| told(&one.answer) != told(&two.answer))
        .map(|(one, two)| format!("{}: {} instead of {}", one.name, told(&two.answer), told(&one.answer)))
        .collect();
    let name = &other.policy;
    if changed.is_empty() {
        return format!("With {name} every rollout would have ended in the same way and minute.");
    }
    format!("With {name} otherwise: {}.", listed(&changed))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use shiftgate::backtest::{FalseRollback, backtest, windows};
    use shiftgate::policy::{Plan, parse};

    use super::*;

    /// The sample recordings under these policies.
    fn told(columns: &[(&str, &Plan)], minutes: u32) -> (String, Value) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recordings");
        let recordings: Vec<Named> =
            ["healthy", "low-traffic", "outage", "quiet", "regression-x4", "shared-incident"]
                .map(|name| {
                    let json = std::fs::read(format!("{folder}/{name}.json")).unwrap();
                    Named { name: name.to_owned(), recording: Recording::parse(&json).unwrap() }
                })
                .into();
        let windows = windows(&recordings, NonZeroU32::new(minutes).unwrap());
        let column = |(policy, plan): &(&str, &Plan)| Column {
            policy: (*policy).to_owned(),
            allowed: plan.false_rollback_rate,
            backtest: backtest(&recordings, windows.as_deref().unwrap_or_default(), plan, &mut |_| {}),
        };
        let told = Told {
            minutes,
            period_seconds: period_seconds(&recordings),
            windows: windows.as_ref().map(Vec::as_slice).map_err(|why| *why),
            columns: columns.iter().map(column).collect(),
            notes: Vec::new(),
        };
        (told.text(), told.json())
    }

    #[test]
    fn two_policies_are_told_side_by_side() {
        let strict = parse(
            "version: 1\nfalse_rollback_rate: 0.0001%\ntraffic:\n  - {name: server errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount}\n  - {name: latency, metric: TargetResponseTime, statistic: p99, limit: 500ms}\n",
        )
        .unwrap();
        let (text, json) = told(&[("the defaults", &Plan::default()), ("strict.yaml", &strict)], 15);
        insta::assert_snapshot!(text);
        assert_eq!(json["policies"][1]["backtest"]["windows"], 16);
        assert_eq!(json["policies"][0]["false_rollback_rate"], 0.0);
        assert!(json["no_windows"].is_null());
    }

    #[test]
    fn why_there_are_no_windows_is_told() {
        let (text, json) = told(&[("the defaults", &Plan::default())], 241);
        insta::assert_snapshot!(text);
        assert!(json["policies"][0]["false_rollback_rate"].is_null());
        assert!(json["no_windows"].as_str().unwrap().contains("301 minutes"), "{json}");
    }

    #[test]
    fn more_false_rollbacks_than_allowed_are_said_to_be_too_many() {
        let window = |zone: usize| {
            Window {
            recording: "quiet".to_owned(),
            begins_at: 60,
            zone,
            rollout: Recording::parse(
                br#"{"version":1,"kind":"traffic","period_seconds":60,"minutes":[{"blue":{"requests":30},"green":{"requests":10}}]}"#,
            )
            .unwrap(),
        }
        };
        let windows = [0, 1, 2].map(window);
        let rollback = |number: usize| FalseRollback {
            recording: "quiet".to_owned(),
            begins_at: 60,
            zone: number.min(1),
            gate: Some(if number == 0 { "outage" } else { "server_errors" }.to_owned()),
            minute: Some(3),
        };
        let said = |seen: usize| {
            let backtest = Backtest {
                rollouts: Vec::new(),
                windows: 100,
                false_rollbacks: (0..seen).map(rollback).collect(),
                smallest: Vec::new(),
                not_judged: Vec::new(),
            };
            let column = Column { policy: String::new(), allowed: 0.01, backtest };
            let told = Told {
                minutes: 15,
                period_seconds: Some(60),
                windows: Ok(&windows),
                columns: Vec::new(),
                notes: Vec::new(),
            };
            told.quiet(&column, &windows)
        };
        // 0.6 % is below 1 %, 1.1 % is not.
        insta::assert_snapshot!(format!("{}\n{}", said(3), said(4)));
    }

    #[test]
    fn intervals_are_those_of_clopper_and_pearson() {
        // By bisection on the exact tails of the binomial law.
        for (seen, of, expect) in [
            (0, 10, [0.0, 0.308_497_1]),
            (1, 480, [0.000_052_744, 0.011_552_464]),
            (2, 12, [0.020_863, 0.484_138]),
            (12, 12, [0.735_353, 1.0]),
        ] {
            for (end, expect) in interval(seen, of).into_iter().zip(expect) {
                assert!((end - expect).abs() < 2e-6, "{seen} of {of}: {end} instead of {expect}");
            }
        }
    }
}
