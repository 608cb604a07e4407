//! `report`: the evidence of a verdict as a page, as Markdown, or as one line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::Value;
use shiftgate::report::evidence::schema;
use shiftgate::report::{Evidence, markdown, verdict_event};
use shiftgate_lab::world::Played;
use shiftgate_report::page;

use crate::show;

/// What to make of which evidence.
#[derive(Args)]
pub struct Arguments {
    /// Log lines of a function, or evidence alone, JSON; `-` for standard input
    #[arg(required_unless_present_any = ["schema", "event_schema"])]
    file: Option<PathBuf>,
    /// Write a page for the browser instead of printing Markdown
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one line, as for a chat
    #[arg(long, conflicts_with = "html")]
    line: bool,
    /// Print the JSON Schema of evidence
    #[arg(long, exclusive = true)]
    schema: bool,
    /// Print the JSON Schema of the `detail` of the event that is sent of a verdict
    #[arg(long, exclusive = true)]
    event_schema: bool,
}

/// Makes the report of the last verdict in the file.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let Some(file) = &arguments.file else {
        let schema = if arguments.event_schema { verdict_event::schema() } else { schema() };
        show::line(&serde_json::to_string_pretty(&schema)?);
        return Ok(true);
    };
    let mut text = String::new();
    let mut input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).with_context(|| format!("failed to read {}", file.display()))?)
    };
    input.read_to_string(&mut text).with_context(|| format!("failed to read {}", file.display()))?;
    let evidence = last(&text).map_err(|why| anyhow!("{}: {why}", file.display()))?;
    match &arguments.html {
        Some(html) => save(&evidence, html)?,
        None if arguments.line => show::line(&evidence.line()),
        None => show::line(&markdown(&evidence)),
    }
    Ok(true)
}

/// Writes the report of a scenario, if it came to a verdict; says whether it did.
pub fn write(played: &Played, html: &Path) -> Result<bool> {
    let Some(evidence) = played.evidence() else { return Ok(false) };
    save(&evidence, html)?;
    Ok(true)
}

/// Writes a page, and the folder that it is in.
pub(super) fn save(evidence: &Evidence, html: &Path) -> Result<()> {
    crate::folder::of(html)?;
    std::fs::write(html, page(evidence)).with_context(|| format!("failed to write {}", html.display()))
}

/// The evidence of the verdict among the log lines of one deployment that ended it, or would have; else of the last. `None` when there
/// is none, or when it is of a version that this one cannot read.
pub(super) fn decisive(lines: &[&Value]) -> Option<Evidence> {
    let ends = |line: &&Value| line["answer"] == "Failed" || line["would_have_rolled_back"] == true;
    let at = lines
        .iter()
        .position(|line| is(line, "verdict") && ends(line))
        .or_else(|| lines.iter().rposition(|line| is(line, "verdict")))?;
    evidence(lines, at).ok()
}

/// The evidence of the last verdict among log lines, or one document. Lines that are no JSON are not ours: Lambda writes some of
/// its own.
fn last(text: &str) -> Result<Evidence, String> {
    if let Ok(whole) = serde_json::from_str::<Value>(text) {
        return Evidence::from_log(whole, None).map_err(|error| no_evidence(&error));
    }
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().collect();
    let at = lines.iter().rposition(|line| is(line, "verdict")).ok_or("no line is a verdict of Shiftgate")?;
    evidence(&lines, at)
}

fn is(line: &Value, kind: &str) -> bool {
    line["message"] == kind
}

/// The evidence of the verdict on that line.
fn evidence(lines: &[&Value], at: usize) -> Result<Evidence, String> {
    Evidence::on_line(lines, at).map_err(|error| no_evidence(&error))
}

fn no_evidence(error: &serde_json::Error) -> String {
    format!("this is no evidence of Shiftgate: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verdict as a function logs it.
    fn verdict(reason: &str) -> String {
        serde_json::json!({
            "level": "ERROR", "message": "verdict", "version": 1, "at": "2026-11-24T10:00:00Z", "stage": "watch",
            "deployment_id": "d-1", "controller": "codedeploy", "outcome": "fail", "answer": "Failed",
            "would_have_rolled_back": false, "reason": reason, "next_step": "Mend it.", "findings": [], "caveats": [],
            "duration_ms": 7,
        })
        .to_string()
    }

    #[test]
    fn the_last_verdict_among_other_lines_is_taken() {
        let text = format!("START RequestId\n{}\nnot ours\n{}\nEND\n", verdict("first"), verdict("second"));
        assert_eq!(last(&text).unwrap().reason, "second");
        assert_eq!(last(&verdict("alone")).unwrap().reason, "alone");
    }

    #[test]
    fn the_verdict_that_ended_a_rollout_tells_it() {
        let line = |answer: &str, reason: &str| {
            let mut line: Value = serde_json::from_str(&verdict(reason)).unwrap();
            line["answer"] = answer.into();
            line
        };
        let (before, bad, after) =
            (line("Succeeded", "before"), line("Failed", "bad"), line("Succeeded", "after"));
        assert_eq!(decisive(&[&before, &bad, &after]).unwrap().reason, "bad");
        assert_eq!(decisive(&[&before, &after]).unwrap().reason, "after");
        assert_eq!(decisive(&[&serde_json::json!({"message": "look"})]), None);
    }

    #[test]
    fn what_is_no_evidence_is_told() {
        assert!(last("START RequestId\n").unwrap_err().contains("no line is a verdict"));
        assert!(last("{\"message\": \"verdict\"}").unwrap_err().contains("missing field"));
    }

    #[test]
    fn the_checked_in_schema_is_the_one_that_is_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/evidence.schema.json");
        let checked_in: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            checked_in,
            serde_json::to_value(schema()).unwrap(),
            "write it anew: cargo run -- report --schema > docs/evidence.schema.json"
        );
    }
}
