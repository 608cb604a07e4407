//! What the functions recorded of a rollout, judged again offline: it must come to what they said.

use serde_json::Value;
use shiftgate::policy::load;
use shiftgate::policy::plan::Plan;
use shiftgate::recording::{self, Recording, Replay, Verdict};

/// Evidence may differ by so much (a ratio), since a log has fewer digits than the judge.
const DIGITS: f64 = 1e-6;

/// How the replay of a recording differs from the verdict beside it in the log; `None` when it does not.
///
/// Only what a recording holds is compared: the comparisons with blue, and the outage lane.
pub fn difference(verdict: &Value, recorded: &Value, policy: Option<&Value>) -> Option<String> {
    match again(recorded, policy) {
        Ok(replay) => compared(verdict, &replay),
        Err(why) => Some(format!("its recording cannot be judged: {why}")),
    }
}

fn again(recorded: &Value, policy: Option<&Value>) -> Result<Replay, String> {
    let plan = policy.map_or_else(|| Ok(Plan::default()), |policy| load::parse(&policy.to_string()));
    let plan = plan.map_err(|_| "its policy is invalid".to_owned())?;
    let recording =
        Recording::parse(recorded.to_string().as_bytes()).map_err(|invalid| invalid.to_string())?;
    Ok(recording::replay(&recording, &plan))
}

fn compared(verdict: &Value, replay: &Replay) -> Option<String> {
    let failed: Vec<&Value> = verdict["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["outcome"] == "fail" && (has_chance(finding) || is(finding, "outage")))
        .collect();
    let answer = &replay.answer;
    if answer.verdict != Verdict::RollBack {
        let what = failed.first().map(|finding| finding["check"].to_string())?;
        return Some(format!("{what} failed, but the replay says {}", answer.verdict.as_str()));
    }
    let gate = answer.gate.as_deref().unwrap_or_default();
    let name = replay.gates.iter().find(|judged| judged.gate.name() == gate);
    let name = name.map_or(gate, |judged| judged.name.as_str());
    let Some(finding) = failed.iter().find(|finding| is(finding, name)) else {
        return Some(format!("{name} did not fail, but the replay rolls back for it"));
    };
    let minute = finding["periods"].as_u64().filter(|_| has_chance(finding));
    if minute.is_some() && minute != answer.minute.map(|minute| minute as u64) {
        return Some(format!(
            "{name} failed in minute {minute:?}, in the replay in minute {:?}",
            answer.minute
        ));
    }
    // Slow requests are counted among answers, but recorded among requests.
    let [seen, replayed] = [finding["by_chance"]["chance"].as_f64(), answer.chance];
    let differs =
        |(one, other): (f64, f64)| (one.ln() - other.ln()).abs() > DIGITS * other.ln().abs().max(1.0);
    (gate != "slow_requests" && seen.zip(replayed).is_some_and(differs))
        .then(|| format!("{name}: a chance of {seen:?}, in the replay {replayed:?}"))
}

fn has_chance(finding: &Value) -> bool {
    finding["by_chance"].is_object()
}

/// Whether a finding is of this check, during the shift or after it.
fn is(finding: &Value, name: &str) -> bool {
    let check = finding["check"].as_str().unwrap_or_default();
    check.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recorded(bad: f64) -> Value {
        let counts = |requests: f64, bad: f64| json!({"requests": requests, "server_errors": bad});
        json!({
            "version": 1, "kind": "traffic", "period_seconds": 5, "minutes_planned": 3,
            "history": vec![counts(1000.0, 1.0); 30],
            "minutes": [{"blue": counts(900.0, 1.0), "green": counts(100.0, bad)}],
        })
    }

    fn verdict(check: &str, chance: f64) -> Value {
        let finding =
            json!({"check": check, "outcome": "fail", "periods": 1, "by_chance": {"chance": chance}});
        json!({"findings": [finding, {"check": "alarms", "outcome": "fail"}]})
    }

    #[test]
    fn a_verdict_and_its_replay_agree_or_it_is_told_how_they_do_not() {
        let chance = again(&recorded(20.0), None).unwrap().answer.chance.unwrap();
        let told = |verdict: &Value, bad: f64| difference(verdict, &recorded(bad), None).unwrap_or_default();
        assert_eq!(told(&verdict("server errors, during the shift", chance), 20.0), "");
        assert_eq!(told(&json!({"findings": []}), 0.0), "");
        assert_eq!(
            told(&verdict("server errors", chance), 0.0),
            "\"server errors\" failed, but the replay says inconclusive"
        );
        assert_eq!(
            told(&json!({"findings": []}), 20.0),
            "server errors did not fail, but the replay rolls back for it"
        );
        assert!(
            told(&verdict("server errors", chance * 2.0), 20.0).starts_with("server errors: a chance of")
        );
        assert!(told(&verdict("server errors", chance), -1.0).starts_with("its recording cannot be judged"));
    }
}
