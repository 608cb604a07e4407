//! The gate between traffic steps: green is held at each step until enough has been seen of it. Every look reads the whole
//! window since the shift began, so evidence gathers over the steps without being kept anywhere.

use std::time::Duration;

use jiff::Timestamp;

use super::Call;
use crate::bake;
use crate::carry::Step;
use crate::clock;
use crate::event::{LifecycleStage, Stage};
use crate::fault::Fault;
use crate::hook::Release;
use crate::metrics::Window;
use crate::preflight;
use crate::report::About;
use crate::rollout::Front;
use crate::shift::{self, Look};
use crate::smoke::{self, Depth};
use crate::verdict::{Caveat, Finding, Findings, Outcome};
use crate::{outlook, traffic};

/// Weights that differ by less than this many percent are the same: a listener knows 1000 weights at most.
const SAME: f64 = 0.5;

/// Before a step. Before the first it is a last look; later, what has been seen so far must not speak against green.
pub async fn before(release: &mut Release, call: &mut Call) -> Result<Step, Fault> {
    // It is not known whether the event tells the weights of the moment or those of the step that comes.
    let green = release.rollout.served.unwrap_or_else(|| weight(release, call));
    if green > 0.0 {
        return so_far(release, call, green).await;
    }
    let outlook = async {
        let is_compared = release.rollout.front() == Front::Application && !release.rollout.is_first;
        if is_compared { outlook::told(release).await } else { Ok(Vec::new()) }
    };
    // Alone: what is timed must not wait for what is worked out.
    let smoke = smoke::checks(release, Depth::Short).await;
    let (alarms, outlook) = tokio::join!(preflight::alarms(release), outlook);
    let findings = Findings::new().and("alarms", alarms).and("smoke", smoke);
    let findings = if findings.any_fail() { findings } else { findings.and("outlook", outlook) };
    Ok(Step::Done(findings))
}

/// At a step: holds green until every gate has passed on what was seen of it, or the policy's time is over.
pub async fn at(release: &mut Release, call: &mut Call) -> Result<Step, Fault> {
    let green = weight(release, call);
    // It is not known whether ECS calls before or after it shifts; without a shift there is nothing to wait for, nor is
    // there without an old version to compare with. With all of the traffic, the stage after the shift waits.
    let nothing_to_see = release.rollout.is_first || !is_served(release, call, green);
    if nothing_to_see || green + SAME >= 100.0 {
        return so_far(release, call, release.rollout.served.unwrap_or(green)).await;
    }
    let now = clock::now();
    let began = began(release, call, green, now).await?;
    let Look { findings, ends } = shift::look(release, &about(release, call), began, now).await?;
    let held = Duration::try_from(now.duration_since(call.since)).unwrap_or_default();
    let steps = release.plan.steps;
    if ends || held >= steps.at_most || (held >= steps.at_least && has_seen(release, call, now, &findings)) {
        return Ok(Step::Done(findings));
    }
    Ok(Step::Again { after: release.plan.sampling.look_every, done_in: steps.at_most.saturating_sub(held) })
}

/// After the last step: the bake.
pub async fn after(release: &mut Release, call: &mut Call) -> Result<Step, Fault> {
    let began = began(release, call, 100.0, clock::now()).await?;
    bake::after_shift(release, began, call.since).await
}

/// Whether there is no gate to wait for, or every gate has passed, and a period of this very step is among what they saw: a
/// green that is good with little traffic may break under more.
fn has_seen(release: &Release, call: &Call, now: Timestamp, findings: &Findings) -> bool {
    let of_step = Window::complete(call.since, Timestamp::MAX, now, &release.plan.sampling);
    release.plan.traffic.is_empty() || (findings.all_pass() && of_step.periods > 0)
}

/// Judges what there is without waiting for more. What cannot be told apart yet is told, and left to the step that waits.
async fn so_far(release: &mut Release, call: &mut Call, green: f64) -> Result<Step, Fault> {
    let judged = format!("no regression so far, at {} % of the traffic", (green * 10.0).round() / 10.0);
    if green <= 0.0 {
        let nothing = Finding::new("traffic", Outcome::Pass, "green has no traffic yet that could be judged");
        return Ok(Step::Done(Findings::new().and("traffic", Ok(vec![nothing]))));
    }
    let now = clock::now();
    let began = began(release, call, green, now).await?;
    let look = shift::look(release, &about(release, call), began, now).await?;
    if look.ends {
        return Ok(Step::Done(look.findings));
    }
    let mut judged = Finding::new("traffic", Outcome::Pass, judged);
    let unclear = Vec::from(look.findings).into_iter().filter(|finding| finding.outcome != Outcome::Pass);
    judged.caveats =
        unclear.map(|finding| Caveat::NotClearYet { check: finding.check, why: finding.summary }).collect();
    Ok(Step::Done(Findings::new().and("traffic", Ok(vec![judged]))))
}

/// When production traffic began to shift. Carried from earlier calls where ECS does that; else it is now when the first
/// step is there, and later what the requests of both versions show.
async fn began(release: &Release, call: &mut Call, green: f64, now: Timestamp) -> Result<Timestamp, Fault> {
    if let Some(began) = call.shift_began {
        return Ok(began);
    }
    let first_step = 100.0 * release.rollout.schedule.first().map_or(1.0, |step| step.share);
    let is_there = call.stage == LifecycleStage::ProductionTrafficShift && is_served(release, call, green);
    let began = if is_there && green <= first_step + SAME {
        call.since
    } else {
        let since = release.deployment.started.unwrap_or(call.since);
        traffic::began(release, since, first_step / 100.0, now).await?.unwrap_or(call.since)
    };
    call.shift_began = Some(began);
    Ok(began)
}

/// Whether the listener already serves what the call asks for; taken for granted where there is no listener to ask.
fn is_served(release: &Release, call: &Call, green: f64) -> bool {
    let asked = call.weight().unwrap_or(green);
    release.rollout.served.is_none_or(|served| served > 0.0 && served + SAME >= asked)
}

/// Green's share of production traffic in percent: what the event says, else what ECS has been asked for.
fn weight(release: &Release, call: &Call) -> f64 {
    call.weight().unwrap_or_else(|| release.rollout.green.tasks.map_or(0.0, |tasks| tasks.weight))
}

fn about(release: &Release, call: &Call) -> About {
    About {
        deployment: Some(release.deployment.clone()),
        ..About::new(Stage::Ecs(call.stage), release.deployment.id.clone(), &release.environment)
    }
}
