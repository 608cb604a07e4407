//! `replay`: a recording through the judge, offline.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::json;
use shiftgate::policy::plan::Plan;
use shiftgate::recording::{
    self, Answer, Bad, Counts, Judged, Recording, Replay, Seen, Tally, Traffic, Verdict,
};
use shiftgate::verdict::{ByChance, Quantity};

use super::policy;
use crate::{plot, show};

/// Judges one recording, and tells minute by minute how.
pub fn one(file: &Path, policy: Option<&Path>, as_json: bool) -> Result<bool> {
    let plan = plan(policy)?;
    let mut bytes = Vec::new();
    open(file)?.read_to_end(&mut bytes).with_context(|| format!("failed to read {}", file.display()))?;
    let recording = Recording::parse(&bytes).map_err(|invalid| anyhow!("{}: {invalid}", file.display()))?;
    let replay = recording::replay(&recording, &plan);
    if as_json {
        show::line(&serde_json::to_string_pretty(&replay)?);
    } else {
        if policy.is_none() {
            show::line("judged by the built-in defaults; --policy names another policy\n");
        }
        show::line(&told(&recording, &replay));
    }
    Ok(true)
}

/// Judges a recording a line, as they come. A line that is none is told on its line, and makes the command fail when
/// all are done.
pub fn lines(file: &Path, policy: Option<&Path>) -> Result<bool> {
    let plan = plan(policy)?;
    let mut input = open(file)?;
    let mut output = io::stdout().lock();
    let (mut line, mut number, mut bad) = (Vec::new(), 0_usize, 0_usize);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(|| format!("failed to read {}", file.display()))?
            == 0
        {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match Recording::parse(&line) {
            Ok(recording) => serde_json::to_string(&recording::judge(&recording, &plan))?,
            Err(invalid) => {
                bad += 1;
                json!({ "error": invalid.to_string(), "line": number }).to_string()
            }
        };
        match writeln!(output, "{answer}") {
            // Whoever reads may have seen enough, as `head` has.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
            written => written.context("failed to write the answers")?,
        }
    }
    if bad > 0 {
        bail!("{}: {bad} of {number} lines could not be judged", file.display());
    }
    Ok(true)
}

/// Prints the JSON Schema.
pub fn schema() -> Result<bool> {
    show::line(&serde_json::to_string_pretty(&recording::schema())?);
    Ok(true)
}

fn plan(policy: Option<&Path>) -> Result<Plan> {
    let Some(file) = policy else { return Ok(Plan::default()) };
    policy::load(file)?.map_err(|()| anyhow!("the policy is not valid"))
}

fn open(file: &Path) -> Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file).with_context(|| format!("failed to read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The whole story: a table, a plot of each gate that had something to say, and the answer.
fn told(recording: &Recording, replay: &Replay) -> String {
    let mut parts = Vec::new();
    match recording {
        Recording::Traffic(traffic) => {
            parts.push(about(traffic));
            let busy: Vec<&Judged> = replay.gates.iter().filter(|gate| busy(gate.gate, traffic)).collect();
            if !traffic.minutes.is_empty() {
                parts.push(table(traffic, &busy, &replay.answer).to_string());
            }
            parts.extend(busy.iter().map(|gate| plot::evidence(gate)));
        }
        Recording::Change(change) => {
            parts.push(format!(
                "{}: {} values, changed at {}",
                change.metric,
                change.values.len(),
                change.change_at
            ));
            parts.extend(replay.change.as_ref().map(|seen| changed(seen, replay.answer.chance)));
        }
    }
    parts.push(answer(replay));
    parts.join("\n\n")
}

fn changed(seen: &Seen, chance: Option<f64>) -> String {
    let [after, before, expected] = [seen.after, seen.before, seen.expected].map(Quantity::plain);
    let by_chance = ByChance { chance: chance.unwrap_or(1.0), allowed: seen.limit };
    format!(
        "{after} after the change, {before} before it, where its past lets expect {expected}: {by_chance} at {} earlier times; up to {} times worse is tolerated",
        seen.times, seen.tolerate
    )
}

fn about(traffic: &Traffic) -> String {
    let planned = traffic.minutes_planned.map(|planned| format!(" of {planned} planned")).unwrap_or_default();
    let length = match traffic.period_seconds.get() {
        60 => String::new(),
        seconds => format!(", each of {seconds} s"),
    };
    let (minutes, history) = (traffic.minutes.len(), traffic.history.len());
    let s = |count| if count == 1 { "" } else { "s" };
    format!("{minutes} minute{}{planned}, {history} minute{} of history{length}", s(minutes), s(history))
}

/// Whether there were bad events to count.
fn busy(gate: Bad, traffic: &Traffic) -> bool {
    let some = |counts: &Counts| matches!(gate.tally(counts), Tally::Of(count) if count > 0.0);
    traffic.minutes.iter().flat_map(|minute| [&minute.blue, &minute.green]).flatten().any(some)
}

/// A line below the header, and no other.
const PLAIN: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

fn table(traffic: &Traffic, gates: &[&Judged], answer: &Answer) -> Table {
    let mut table = Table::new();
    let mut header = vec!["minute".to_owned(), "green".to_owned(), "requests\nblue | green".to_owned()];
    for gate in gates {
        header.push(format!("{}\nblue | green", gate.gate.name()));
        header.push(format!("by chance 1 in\nlimit {}", times(gate.limit)));
    }
    header.push(String::new());
    table.load_style(PLAIN).set_header(header);
    for (index, minute) in traffic.minutes.iter().enumerate() {
        let [blue, green] = [&minute.blue, &minute.green].map(|counts| counts.clone().unwrap_or(NOTHING));
        let mut row =
            vec![(index + 1).to_string(), weight(&blue, &green), both(blue.requests, green.requests)];
        for gate in gates {
            row.push(both(gate.gate.tally(&blue), gate.gate.tally(&green)));
            row.push(gate.evidence[index].map(times).unwrap_or_default());
        }
        row.push(if answer.minute == Some(index + 1) {
            format!("◀ {}", decision(answer))
        } else {
            String::new()
        });
        table.add_row(row);
    }
    let columns = table.column_count();
    for column in table.column_iter_mut().take(columns - 1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// N of a chance of 1 in N, in few characters.
fn times(chance: f64) -> String {
    if chance > 1e-6 { format!("{:.0}", 1.0 / chance) } else { format!("10^{:.0}", -chance.log10().ceil()) }
}

/// A colour without data.
const NOTHING: Counts = Counts {
    requests: Tally::NoData,
    server_errors: Tally::NoData,
    connection_errors: Tally::NoData,
    slow_requests: Tally::NoData,
};

fn both(blue: Tally, green: Tally) -> String {
    format!("{} | {}", count(blue), count(green))
}

fn count(tally: Tally) -> String {
    match tally {
        Tally::NoData => "no data".to_owned(),
        Tally::Absent => "0".to_owned(),
        Tally::Of(count) => count.to_string(),
    }
}

/// Green's share of the traffic.
fn weight(blue: &Counts, green: &Counts) -> String {
    let [blue, green] = [blue.requests, green.requests].map(|tally| match tally {
        Tally::Of(count) => count,
        Tally::Absent | Tally::NoData => 0.0,
    });
    if blue + green > 0.0 { format!("{:.0} %", 100.0 * green / (blue + green)) } else { String::new() }
}

fn decision(answer: &Answer) -> String {
    match (answer.verdict, &answer.gate) {
        (Verdict::RollBack, Some(gate)) => format!("roll back: {gate}"),
        (verdict, _) => verdict.as_str().replace('_', " "),
    }
}

fn answer(replay: &Replay) -> String {
    let answer = &replay.answer;
    let mut text = decision(answer);
    if let Some(minute) = answer.minute {
        text = format!("{text}, in minute {minute}");
    }
    let gate = replay.gates.iter().find(|gate| Some(gate.gate.name()) == answer.gate.as_deref());
    if let (Some(chance), Some(gate)) = (answer.chance, gate) {
        text = format!("{text}: {}", ByChance { chance, allowed: gate.limit });
    }
    for caveat in &answer.caveats {
        text = format!("{text}\n  caveat: {caveat}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Recording {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recordings");
        Recording::parse(&std::fs::read(format!("{folder}/{name}.json")).unwrap()).unwrap()
    }

    #[test]
    fn a_rollout_is_told_minute_by_minute() {
        let recording = sample("regression-x4");
        insta::assert_snapshot!(told(&recording, &recording::replay(&recording, &Plan::default())));
    }

    #[test]
    fn what_has_no_data_is_told_too() {
        let json = br#"{"version":1,"kind":"traffic","period_seconds":60,"minutes":[{"blue":null,"green":{"requests":5,"server_errors":null}}]}"#;
        let recording = Recording::parse(json).unwrap();
        insta::assert_snapshot!(told(&recording, &recording::replay(&recording, &Plan::default())));
    }

    #[test]
    fn the_checked_in_schema_is_the_one_that_is_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recording.schema.json");
        let checked_in: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            checked_in,
            recording::schema(),
            "write it anew: cargo run -- replay --schema > docs/recording.schema.json"
        );
    }
}
