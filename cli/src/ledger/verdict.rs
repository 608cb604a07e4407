//! A verdict as the log has it. What is missing is empty: logs of older and newer versions are read, too.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Line;

/// What one hook, or the watch, came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// When.
    pub at: Timestamp,
    /// CodeDeploy application; the cluster where ECS deploys.
    pub application: String,
    /// Deployment group; the service where ECS deploys.
    pub group: String,
    /// The deployment's id or ARN.
    pub deployment: String,
    /// Which hook or stage.
    pub stage: String,
    /// `Succeeded` or `Failed`: what the controller was told.
    pub answer: String,
    /// `pass`, `inconclusive` or `fail`: what was seen.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// What to do, where the log says it.
    pub next_step: Option<String>,
    /// Whether only the policy's `mode: observe` let it go on.
    pub would_have_rolled_back: bool,
    /// Whether it stopped the release, or would have.
    pub was_bad: bool,
}

impl Verdict {
    /// Reads a line; none if it is no verdict.
    pub fn of(line: &Line) -> Option<Self> {
        let said = &line.said;
        if said["message"] != "verdict" {
            return None;
        }
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let at = said["at"].as_str().and_then(|at| at.parse().ok()).unwrap_or(line.at);
        let (answer, outcome) = (text("answer"), text("outcome"));
        let caveats = said["caveats"].as_array().map(Vec::as_slice).unwrap_or_default();
        let observed = caveats.iter().any(|caveat| caveat["kind"] == "observed");
        // Both the field and, in logs from before it, the caveat of a bad outcome.
        let would_have_rolled_back = said["would_have_rolled_back"].as_bool().unwrap_or(false)
            || (observed && outcome == "fail" && answer != "Failed");
        Some(Self {
            at,
            application: text("application"),
            group: text("deployment_group"),
            deployment: text("deployment_id"),
            stage: text("stage"),
            was_bad: answer == "Failed" || would_have_rolled_back,
            reason: text("reason"),
            next_step: next_step(said),
            answer,
            outcome,
            would_have_rolled_back,
        })
    }

    /// What came of it, in words.
    pub fn came_to(&self) -> String {
        match (self.would_have_rolled_back, self.answer.as_str()) {
            (true, answer) => format!("{answer} (would have rolled back)"),
            (false, answer) => answer.to_owned(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "at": self.at.to_string(),
            "application": self.application,
            "deployment_group": self.group,
            "deployment_id": self.deployment,
            "stage": self.stage,
            "answer": self.answer,
            "outcome": self.outcome,
            "reason": self.reason,
            "next_step": self.next_step,
            "would_have_rolled_back": self.would_have_rolled_back,
        })
    }
}

/// What to do: as the verdict says it, else the hint of its first check that could not be made.
fn next_step(said: &Value) -> Option<String> {
    let findings = said["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let hint = || findings.iter().find_map(|finding| finding["fault"]["hint"].as_str());
    said["next_step"].as_str().or_else(hint).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: Value) -> Option<Verdict> {
        Verdict::of(&Line { at: Timestamp::UNIX_EPOCH, said })
    }

    #[test]
    fn a_bad_verdict_under_observe_is_told_apart_however_the_log_says_it() {
        let check = |said: Value, expect: (bool, bool)| {
            let verdict = read(said.clone()).unwrap();
            assert_eq!((verdict.would_have_rolled_back, verdict.was_bad), expect, "{said}");
        };
        let observed = json!([{"kind": "few_requests"}, {"kind": "observed"}]);
        check(json!({"message": "verdict", "answer": "Succeeded", "outcome": "pass"}), (false, false));
        check(json!({"message": "verdict", "answer": "Failed", "outcome": "fail"}), (false, true));
        check(
            json!({"message": "verdict", "answer": "Succeeded", "outcome": "fail", "caveats": observed}),
            (true, true),
        );
        check(
            json!({"message": "verdict", "answer": "Succeeded", "outcome": "pass", "caveats": observed}),
            (false, false),
        );
        check(
            json!({"message": "verdict", "answer": "Succeeded", "would_have_rolled_back": true}),
            (true, true),
        );
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_no_verdict_is_none() {
        let bare = read(json!({"message": "verdict"})).unwrap();
        assert_eq!((bare.at, bare.reason.as_str(), bare.next_step), (Timestamp::UNIX_EPOCH, "", None));
        assert_eq!(read(json!({"message": "look"})), None);
        assert_eq!(read(json!("verdict")), None);
    }

    #[test]
    fn its_own_time_and_next_step_come_first() {
        let hint = json!([{"check": "alarms"}, {"check": "smoke", "fault": {"hint": "allow it"}}]);
        let said = json!({"message": "verdict", "at": "2026-11-01T10:00:00Z", "findings": hint});
        let verdict = read(said.clone()).unwrap();
        assert_eq!(verdict.at.to_string(), "2026-11-01T10:00:00Z");
        assert_eq!(verdict.next_step.as_deref(), Some("allow it"));
        let mut said = said;
        said["next_step"] = json!("deploy again");
        assert_eq!(read(said).unwrap().next_step.as_deref(), Some("deploy again"));
    }
}
