//! May this release start: no alarm is ringing.

use aws_sdk_cloudwatch::types::{AlarmType, StateValue};

use crate::aws;
use crate::fault::Fault;
use crate::hook::Release;
use crate::verdict::{Finding, Outcome};

/// Name of the finding.
const NAME: &str = "alarms";
/// Alarm names that one call takes.
const NAMES_PER_CALL: usize = 100;

/// The alarms of the deployment group and of the policy must exist and not be in ALARM.
pub async fn alarms(release: &Release) -> Result<Vec<Finding>, Fault> {
    let mut wanted: Vec<String> =
        release.rollout.alarms.iter().chain(&release.plan.alarms).cloned().collect();
    wanted.sort();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(vec![Finding::new(
            NAME,
            Outcome::Pass,
            "neither the deployment nor the policy names an alarm",
        )]);
    }
    let mut states: Vec<(String, Option<StateValue>)> = Vec::new();
    for names in wanted.chunks(NAMES_PER_CALL) {
        let output = release
            .aws
            .cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .max_records(NAMES_PER_CALL as i32)
            .send()
            .await
            .map_err(|error| aws::fault("cloudwatch:DescribeAlarms", "read the alarms", error))?;
        let metric = output.metric_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        let composite =
            output.composite_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        states.extend(
            metric.chain(composite).filter_map(|(name, state)| Some((name?.to_owned(), state.cloned()))),
        );
    }
    Ok(vec![finding(&wanted, &states)])
}

fn finding(wanted: &[String], states: &[(String, Option<StateValue>)]) -> Finding {
    let state = |name: &String| states.iter().find(|(known, _)| known == name);
    let ringing: Vec<&str> = wanted
        .iter()
        .filter(|name| state(name).is_some_and(|(_, state)| *state == Some(StateValue::Alarm)))
        .map(String::as_str)
        .collect();
    let missing: Vec<&str> = wanted.iter().filter(|name| state(name).is_none()).map(String::as_str).collect();
    if !ringing.is_empty() {
        return Finding::new(NAME, Outcome::Fail, format!("in ALARM: {}", ringing.join(", ")));
    }
    if !missing.is_empty() {
        return Finding::new(
            NAME,
            Outcome::Fail,
            format!("not found in this account and region: {}", missing.join(", ")),
        );
    }
    Finding::new(NAME, Outcome::Pass, format!("none of {} is in ALARM", wanted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ringing_or_missing_alarm_fails() {
        let wanted = ["a".to_owned(), "b".to_owned()];
        let state = |name: &str, state| (name.to_owned(), Some(state));
        let ok = finding(&wanted, &[state("a", StateValue::Ok), state("b", StateValue::InsufficientData)]);
        assert_eq!(ok.outcome, Outcome::Pass);
        let ringing = finding(&wanted, &[state("a", StateValue::Ok), state("b", StateValue::Alarm)]);
        assert_eq!((ringing.outcome, ringing.summary.as_str()), (Outcome::Fail, "in ALARM: b"));
        let missing = finding(&wanted, &[state("a", StateValue::Ok)]);
        assert_eq!(missing.outcome, Outcome::Fail);
        assert!(missing.summary.contains(": b"), "{}", missing.summary);
    }
}
