//! What Shiftgate logged of a rollout.

use serde_json::Value;

use super::story::{Failure, Moment, Story};
use crate::commands::report;
use crate::ledger::{Line, Verdict};
use crate::show;

/// Adds the lines of a log. A look that sees what the one before it saw is not told again.
pub fn add(story: &mut Story, lines: &[Line]) {
    for line in lines {
        let said = &line.said;
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let kind = text("message");
        if kind == "failed" {
            story.failures.push(Failure { what: text("what"), hint: text("hint") });
        }
        story.verdicts.extend(Verdict::of(line));
        let Some(told) = told(line, &kind) else { continue };
        let stage = text("stage");
        let before = story.moments.iter().rev().find(|moment| moment.stage == stage);
        if before.is_none_or(|before| before.text != told) {
            story.moments.push(Moment { at: line.at, stage, kind, text: told });
        }
    }
    let said: Vec<&Value> = lines.iter().map(|line| &line.said).collect();
    story.evidence = report::decisive(&said);
}

/// A line in words; none if people need not read it here.
fn told(line: &Line, kind: &str) -> Option<String> {
    let said = &line.said;
    let text = |key: &str| said[key].as_str().unwrap_or_default();
    Some(match kind {
        "verdict" => {
            let verdict = Verdict::of(line)?;
            format!("{}: {}", verdict.came_to(), verdict.reason.replace('\n', " "))
        }
        "look" => match said["weight"].as_f64() {
            Some(weight) => format!("at {weight} % green {}", show::look(said)),
            None => show::look(said),
        },
        // The time that is left changes with every call.
        "held" => format!("holds: {}", text("why").split(", ").next().unwrap_or_default()),
        "failed" => format!("could not: {}; {}", text("what"), text("hint")),
        "looks crashed" => format!("crashed: {} {}", text("error"), text("cause")),
        "watch over" => format!("ends: {}", text("why")),
        "handed over" => format!("goes on in the execution {}", text("execution")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_told(said: serde_json::Value) -> bool {
        let kind = said["message"].as_str().unwrap_or_default().to_owned();
        told(&Line { at: jiff::Timestamp::UNIX_EPOCH, said }, &kind).is_some()
    }

    #[test]
    fn only_lines_for_people_are_told() {
        for kind in ["verdict", "look", "held", "failed", "looks crashed", "watch over", "handed over"] {
            assert!(is_told(json!({"message": kind})), "{kind}");
        }
        assert!(!is_told(json!({"message": "report", "markdown": "# watch"})));
        assert!(!is_told(json!({"_aws": {}, "DeploymentId": "d-1"})));
    }
}
