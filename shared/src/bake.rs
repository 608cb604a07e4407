//! After the shift: green serves everything, and is judged until the policy's time is over.

use std::time::Duration;

use jiff::Timestamp;

use crate::carry::Step;
use crate::change;
use crate::clock;
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::policy::gates::{Gate, Rule};
use crate::policy::plan::Plan;
use crate::preflight;
use crate::readiness::{self, Patience};
use crate::traffic::{self, Span};
use crate::verdict::{Finding, Findings};
use crate::watched;

/// One look after a shift by CodeDeploy, which says when that was.
pub async fn look(release: &mut Release) -> Result<Step, Fault> {
    let (shift_began, shift_ended) = shift(release)?;
    let watched = match watched::look(release, shift_began, shift_ended).await {
        Err(fault) if fault.may_heal() => return Err(fault),
        told => Findings::new().and(watched::NAME, told),
    };
    // What the policy does not forgive is answered at once: the bake could change nothing about it.
    if watched.end_it(release.plan.rules) {
        return Ok(Step::Done(watched));
    }
    Ok(match after_shift(release, shift_began, shift_ended).await? {
        Step::Done(findings) => Step::Done(watched.with(findings)),
        again @ Step::Again { .. } => again,
    })
}

/// One look: judges the shift again (something may have been missed) and the bake so far. Done on a failure, or when the
/// last complete period of the bake has been seen.
pub async fn after_shift(
    release: &mut Release,
    shift_began: Timestamp,
    shift_ended: Timestamp,
) -> Result<Step, Fault> {
    let now = clock::now();
    let bake_ends = after(shift_ended, release.plan.bake_for);
    let during_shift = Span { shift: shift_began, from: shift_began, until: shift_ended };
    let until_now = Span { shift: shift_began, from: shift_ended, until: bake_ends };
    let (of_shift, of_bake) = (of_the_shift_alone(&release.plan), &release.plan.bake);
    let all_in = after(bake_ends, release.plan.sampling.ingestion_delay);
    let done_in = Duration::try_from(all_in.duration_since(now)).unwrap_or_default();
    let patience = if done_in.is_zero() { Patience::Full } else { Patience::InPassing };
    let asked = [(of_shift.as_slice(), during_shift), (of_bake.as_slice(), until_now)];
    let (read, changed, runs, alarms) = tokio::join!(
        traffic::read(release, &asked, now),
        change::look(release, of_bake, until_now, now),
        readiness::green_still_runs(release, patience),
        preflight::alarms_of_policy(release),
    );
    let read = read?;
    let during_shift = traffic::judge(release, &of_shift, during_shift, now, &read).await?;
    let during_bake = traffic::judge(release, of_bake, until_now, now, &read).await?;
    read.leave(&mut release.usually_slow);
    let mut findings = Findings::new().and("readiness", runs).and("alarms", alarms);
    // An all-at-once shift has no period of its own; then there is nothing to say about it.
    if during_shift.window.periods > 0 {
        findings = findings.and("traffic", Ok(named(during_shift.findings, "during the shift")));
    }
    if release.plan.bake_for > Duration::ZERO {
        findings = findings.and("bake", Ok(named(during_bake.findings, "at 100 %"))).and("changes", changed);
    }
    if findings.any_fail() || done_in.is_zero() {
        // The last look is worth repeating: a busy account must not fail a good release.
        if let Some(fault) = findings.passing_fault().filter(|_| !findings.any_fail()) {
            return Err(fault);
        }
        release.recording = during_bake.recording;
        Ok(Step::Done(findings))
    } else {
        Ok(Step::Again { after: release.plan.sampling.look_every.min(done_in), done_in })
    }
}

/// The gates that are judged on the shift alone. Comparisons that the bake has too go on there, with the evidence of the
/// shift; to judge them twice would spend their chance twice.
fn of_the_shift_alone(plan: &Plan) -> Vec<Gate> {
    let goes_on = |gate: &Gate| {
        plan.bake_for > Duration::ZERO
            && matches!(gate.rule, Rule::Compared(_))
            && plan.bake.iter().any(|later| later.rule == gate.rule)
    };
    plan.traffic.iter().filter(|gate| !goes_on(gate)).cloned().collect()
}

fn named(findings: Vec<Finding>, when: &str) -> Vec<Finding> {
    findings
        .into_iter()
        .map(|finding| Finding { check: format!("{}, {when}", finding.check), ..finding })
        .collect()
}

/// When production traffic began to shift, and when all of it had.
fn shift(release: &Release) -> Result<(Timestamp, Timestamp), Fault> {
    let event = release.rollout.event("AllowTraffic");
    event.and_then(|event| event.started.zip(event.ended)).ok_or_else(|| {
        // What CodeDeploy tells of its events may be older than its call of the hook, so it is asked again.
        Fault::new(
            FaultKind::Unavailable,
            format!("deployment {} does not say when its traffic shifted", release.deployment.id),
            "this function serves the hook AfterAllowTraffic; check the AppSpec",
        )
    })
}

fn after(at: Timestamp, more: Duration) -> Timestamp {
    at.saturating_add(more).unwrap_or(Timestamp::MAX)
}
