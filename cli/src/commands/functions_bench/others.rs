//! The calls of the functions that have no peer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shiftgate_bench::functions::Path as Calls;
use tokio::time::Instant;

use super::entry::{calls_of, event, path, spec};
use super::{LOAD, Place, ROUND_TRIPS, TELLING_MS, TIMED};
use crate::commands::serve;

/// Calls that may follow one another in a look of the watch, and in the first one, which finds out what is slow.
const ROUND_TRIPS_OF_A_LOOK: usize = 2;
const ROUND_TRIPS_OF_THE_FIRST_LOOK: usize = 3;
/// And at a stage of ECS. It is answered by what the function returns: as many in all as a hook of CodeDeploy with its report.
const ROUND_TRIPS_OF_A_STAGE: usize = ROUND_TRIPS + 1;
/// And with traffic on green: each call finds out anew what is slow.
const ROUND_TRIPS_OF_A_JUDGED_STAGE: usize = ROUND_TRIPS_OF_A_STAGE + 1;
/// The function that looks while traffic shifts.
const WATCH: &str = "watch";
/// The function of ECS's stages.
const ECS: &str = "ecs-lifecycle";
/// The stages that it is asked at while traffic has not shifted, in the words of the sample events.
const BEFORE_THE_SHIFT: [&str; 7] = [
    "reconcile-service",
    "pre-scale-up",
    "post-scale-up",
    "test-traffic-shift",
    "post-test-traffic-shift",
    "pre-production-traffic-shift",
    "rollback",
];
/// And those with traffic on green.
const AFTER_THE_SHIFT: [&str; 2] = ["production-traffic-shift", "post-production-traffic-shift"];
/// Longest wait for that traffic.
const PATIENCE: Duration = Duration::from_secs(30);
/// After that long with traffic on green its first complete period can be read: two periods and the policy's delay, and a
/// little more. Only then does a look judge, and a bake of no length end at its first look.
const DATA_IS_IN: Duration = Duration::from_secs(25);

/// The calls of each function that has peers, in one invocation of a new process.
pub async fn timed_paths(place: &Place) -> Result<Vec<Calls>> {
    place.meter.set_latency(Duration::from_millis(TELLING_MS));
    let mut paths = Vec::new();
    for (function, waits_at) in serve::WAITING.into_iter().filter(|(name, _)| TIMED.contains(name)) {
        let _site = serve::waiting(&place.project, &place.account, function, waits_at, &LOAD).await?;
        paths.push(one(place, function, function, &event(place, function)?, ROUND_TRIPS).await?.0);
    }
    Ok(paths)
}

/// The calls of each of the others, in one invocation of a new process.
pub async fn paths(place: &Place) -> Result<Vec<Calls>> {
    place.meter.set_latency(Duration::from_millis(TELLING_MS));
    let (mut sites, mut paths) = (Vec::new(), Vec::new());
    for (function, waits_at) in serve::WAITING.into_iter().filter(|(name, _)| !TIMED.contains(name)) {
        sites.push(serve::waiting(&place.project, &place.account, function, waits_at, &LOAD).await?);
    }
    let (deployment, _site) = serve::waiting_ecs(&place.account, &LOAD).await?;
    for stage in BEFORE_THE_SHIFT {
        paths.push(of_stage(place, stage, &Value::Null, ROUND_TRIPS_OF_A_STAGE).await?.0);
    }
    shift(place, &deployment).await?;
    tokio::time::sleep(DATA_IS_IN).await;
    let mut details = Value::Null;
    for stage in AFTER_THE_SHIFT {
        let (path, answer) = of_stage(place, stage, &details, ROUND_TRIPS_OF_A_JUDGED_STAGE).await?;
        details = answer["hookDetails"].clone();
        paths.push(path);
    }
    for function in ["before-install", "after-install", "after-allow-traffic"] {
        paths.push(one(place, function, function, &event(place, function)?, ROUND_TRIPS).await?.0);
    }
    // before-allow-traffic tells the watch what the service is, and each look the next one; the sample does not.
    let told = one(place, WATCH, WATCH, &event(place, WATCH)?, ROUND_TRIPS).await?.1;
    let mut first = told.clone();
    if let Some(first) = first.as_object_mut() {
        first.remove("usually_slow");
    }
    for (name, event, limit) in [
        ("watch, the first look", first, ROUND_TRIPS_OF_THE_FIRST_LOOK),
        ("watch, a later look", told, ROUND_TRIPS_OF_A_LOOK),
    ] {
        paths.push(one(place, WATCH, name, &event, limit).await?.0);
    }
    Ok(paths)
}

/// A stage of ECS, which hands the details of the answer before on.
async fn of_stage(place: &Place, stage: &str, details: &Value, limit: usize) -> Result<(Calls, Value)> {
    let mut event = event(place, &format!("ecs-{stage}"))?;
    if !details.is_null() {
        event["hookDetails"] = details.clone();
    }
    one(place, ECS, &format!("{ECS}, {stage}"), &event, limit).await
}

/// The calls of one invocation, and its answer.
async fn one(
    place: &Place,
    function: &str,
    name: &str,
    event: &Value,
    limit: usize,
) -> Result<(Calls, Value)> {
    let (measured, calls) =
        calls_of(place, &spec(place, function)?, event, 1).await.with_context(|| format!("{name} failed"))?;
    let before = calls.iter().filter(|call| call.reported.is_none());
    let answer = measured.events.first().map(|event| event.invocation.payload.as_slice());
    let answer = serde_json::from_slice(answer.unwrap_or_default())
        .with_context(|| format!("{name} did not answer JSON"))?;
    Ok((path(name, &measured, before, limit), answer))
}

/// Lets the deployment that ECS carries out go on, and waits until green has traffic.
async fn shift(place: &Place, deployment: &str) -> Result<()> {
    let ecs = &place.account.services.ecs;
    let go_on = json!({"serviceDeploymentArn": deployment, "hookId": serve::ECS_PAUSE, "action": "CONTINUE"});
    ecs.handle("ContinueServiceDeployment", go_on.to_string().as_bytes())?;
    let until = Instant::now() + PATIENCE;
    while ecs.deployment(deployment).is_none_or(|record| record.target.production_weight <= 0.0) {
        ensure!(Instant::now() < until, "{deployment} has not shifted within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
