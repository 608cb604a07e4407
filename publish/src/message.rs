//! What the topic is told: text for people, as an e-mail shows it.

use std::fmt::Write;

use shiftgate::report::Evidence;
use shiftgate::report::verdict_event::Page;
use shiftgate_report::links;

/// Characters that SNS takes in a subject.
const LONGEST_SUBJECT: usize = 99;
/// Bytes that SNS takes in a message, with room for what it adds.
const LONGEST: usize = 250_000;

/// What an e-mail has as its subject: one line of ASCII.
pub fn subject(evidence: &Evidence) -> String {
    let text = format!("Shiftgate: {} {}", evidence.name(), evidence.headline());
    let plain = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
    plain.take(LONGEST_SUBJECT).collect()
}

/// The verdict in words: what happened, why, what to do, what was seen, and where there is more.
pub fn text(evidence: &Evidence, page: Option<&Page>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, evidence, page);
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

fn write(text: &mut String, evidence: &Evidence, page: Option<&Page>) -> std::fmt::Result {
    writeln!(text, "{}: {}\n", evidence.name(), evidence.headline())?;
    writeln!(text, "Why: {}", evidence.reason)?;
    writeln!(text, "What to do: {}\n", evidence.next_step)?;
    writeln!(text, "Answer: {}, by {}, at {:.0}", evidence.answer.as_str(), evidence.stage, evidence.at)?;
    writeln!(text, "Deployment: {}", evidence.deployment_id)?;
    if let Some(configuration) = &evidence.configuration {
        writeln!(text, "Configuration: {configuration}")?;
    }
    if let Some(weight) = evidence.rollout.as_ref().and_then(|rollout| rollout.weight) {
        writeln!(text, "Traffic on the new version: {weight} %")?;
    }
    writeln!(text, "Policy: {}", evidence.policy.as_deref().unwrap_or("not read"))?;
    if !evidence.findings.is_empty() {
        writeln!(text, "\nWhat was seen:")?;
    }
    for finding in &evidence.findings {
        writeln!(text, "- {}: {}: {}", finding.check, finding.outcome, finding.summary)?;
    }
    for caveat in &evidence.caveats {
        writeln!(text, "- note: {caveat}")?;
    }
    writeln!(text)?;
    if let Some(page) = page {
        writeln!(text, "The report: {}", page.url)?;
    }
    for link in links(evidence) {
        writeln!(text, "{}: {}", link.name, link.url)?;
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::store;

    /// The evidence of a release that the watch rolled back.
    pub fn failed() -> Evidence {
        let sample = include_str!("../../docs/verdict-event.json");
        let mut detail: serde_json::Value = serde_json::from_str(sample).unwrap();
        let mut detail = detail["detail"].take();
        detail["rollout"]["recording"] = serde_json::json!({
            "version": 1, "kind": "traffic", "period_seconds": 60,
            "history": [{"requests": 990, "server_errors": 1}],
            "minutes": [{"blue": {"requests": 900, "server_errors": 0}, "green": {"requests": 100, "server_errors": 5}}],
        });
        Evidence::from_log(detail, None).unwrap()
    }

    #[test]
    fn the_message_says_what_why_and_what_to_do() {
        let evidence = failed();
        let page = store::page("reports-1", &store::key(&evidence), evidence.region.as_deref());
        insta::assert_snapshot!(format!("{}\n\n{}", subject(&evidence), text(&evidence, Some(&page))));
    }

    #[test]
    fn a_subject_is_one_line_that_sns_takes() {
        let long = Evidence { application: Some("ünlang\n".repeat(30)), ..failed() };
        let subject = subject(&long);
        assert_eq!(subject.len(), LONGEST_SUBJECT);
        assert!(subject.starts_with("Shiftgate: ?nlang?") && subject.is_ascii(), "{subject}");
    }

    #[test]
    fn a_message_is_never_longer_than_sns_takes() {
        let long = Evidence { reason: "ü".repeat(LONGEST), ..failed() };
        assert!(text(&long, None).len() <= LONGEST);
    }
}
