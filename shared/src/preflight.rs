//! May this release start: no alarm is ringing, and whatever else must be there before anything is started.

use aws_sdk_cloudwatch::types::{AlarmType, StateValue};

use crate::aws;
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::readiness;
use crate::verdict::{Finding, Findings, Outcome};

/// IAM action, for faults.
const ACTION: &str = "cloudwatch:DescribeAlarms";
/// Name of the finding.
const NAME: &str = "alarms";
/// Alarm names that one call takes.
const NAMES_PER_CALL: usize = 100;

/// Before anything is started: no alarm rings, there is an old version to go back to, and the functions have their
/// permissions.
pub async fn may_start(
    release: &Release,
    permissions: impl Future<Output = Result<Vec<Finding>, Fault>>,
) -> Findings {
    let (alarms, old_version, permissions) =
        tokio::join!(alarms(release), readiness::blue_is_healthy(release), permissions);
    Findings::new().and("alarms", alarms).and("old version", old_version).and("permissions", permissions)
}

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
        let mut pages = release
            .aws
            .cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .max_records(NAMES_PER_CALL as i32)
            .into_paginator()
            .send();
        for number in 0.. {
            let Some(page) = pages.next().await else { break };
            aws::limit_pages(ACTION, number)?;
            let page = page.map_err(|error| aws::fault(ACTION, "read the alarms", error))?;
            let metric = page.metric_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
            let composite =
                page.composite_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
            states.extend(
                metric.chain(composite).filter_map(|(name, state)| Some((name?.to_owned(), state.cloned()))),
            );
        }
    }
    understood(&states)?;
    Ok(vec![finding(&wanted, &states)])
}

/// The same while traffic shifts, and after: only if the policy names alarms, since CodeDeploy and ECS act on the deployment's own.
pub async fn alarms_of_policy(release: &Release) -> Result<Vec<Finding>, Fault> {
    if release.plan.alarms.is_empty() { Ok(Vec::new()) } else { alarms(release).await }
}

/// A state that is none of the three says nothing about the service.
fn understood(states: &[(String, Option<StateValue>)]) -> Result<(), Fault> {
    let known = [StateValue::Alarm, StateValue::Ok, StateValue::InsufficientData];
    let unknown = states.iter().find(|(_, state)| !state.as_ref().is_some_and(|state| known.contains(state)));
    unknown.map_or(Ok(()), |(name, state)| {
        let state = state.as_ref().map_or("no state", StateValue::as_str);
        Err(Fault::new(
            FaultKind::Unavailable,
            format!("CloudWatch says {state} of the alarm {name} ({ACTION}), which nobody knows here"),
            "look at the alarm in the console; a newer Shiftgate may know its state",
        ))
    })
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
    fn a_state_that_nobody_knows_is_a_fault() {
        let state = |state: &str| [("a".to_owned(), Some(StateValue::from(state)))];
        for known in ["OK", "ALARM", "INSUFFICIENT_DATA"] {
            assert!(understood(&state(known)).is_ok(), "{known}");
        }
        let fault = understood(&state("MUTED")).unwrap_err();
        assert!(fault.what.contains("MUTED of the alarm a"), "{fault}");
        assert!(understood(&[("a".to_owned(), None)]).is_err());
    }

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
