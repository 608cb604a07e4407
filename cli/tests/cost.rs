//! bench/counts.json against a rollout that is played: what docs/cost.md is made from must still be so.

#![allow(clippy::unwrap_used, reason = "a test file")]

mod lab;

use shiftgate_bench::cost::counts::Counts;
use shiftgate_bench::cost::rollouts::{SHORT, Way, ways};
use shiftgate_lab::world::{self, Used};

use lab::common::{binaries, project};

/// Minutes of five seconds.
const SPEED: u32 = 12;
/// Metrics of a look: two for what is slow, and of each of four the two versions' and the three zones', and unhealthy targets.
const METRICS_OF_A_LOOK: usize = 24;
/// States of a look: Look, Looked, Pause. The first may come after a pause of its own.
const TRANSITIONS_OF_A_LOOK: usize = 3;
/// Calls of a look, or of waiting once more.
const CALLS_OF_A_LOOK: usize = 8;

#[track_caller]
fn near(what: &str, played: usize, counted: usize, by: usize) {
    assert!(
        played.abs_diff(counted) <= by,
        "{what}: {played} played, {counted} in bench/counts.json. If what functions do has changed, count again: docs/cost.md"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_are_those_of_a_rollout() {
    let way = ways().into_iter().find(|way| way.name == SHORT).unwrap();
    let (played, bill) = world::bill(&way.scenario(SPEED), &project(), binaries()).await.unwrap();
    assert!(played.released, "{played:?}");
    let bill = Way::at_the_pace_of_aws(bill, SPEED);
    let counted = Counts::read(include_str!("../../bench/counts.json")).unwrap().of(SHORT);
    // A machine that is busy with something else may lose a look, or make one more.
    near("transitions", bill.transitions, counted.transitions, TRANSITIONS_OF_A_LOOK + 1);
    let names = |functions: &std::collections::BTreeMap<String, Used>| -> Vec<String> {
        functions.keys().cloned().collect()
    };
    assert_eq!(names(&bill.functions), names(&counted.functions));
    for (name, function) in &bill.functions {
        let counted = &counted.functions[name];
        let looks = usize::from(["watch", "after-allow-traffic"].contains(&name.as_str()));
        near(&format!("{name}: metrics"), function.metrics, counted.metrics, looks * METRICS_OF_A_LOOK);
        near(
            &format!("{name}: invocations"),
            function.invocations,
            counted.invocations,
            usize::from(name == "watch"),
        );
        near(&format!("{name}: calls"), function.round_trips(), counted.round_trips(), CALLS_OF_A_LOOK);
        near(
            &format!("{name}: bytes of log"),
            function.log_bytes,
            counted.log_bytes,
            500 + counted.log_bytes / 4,
        );
        let minute = if name == "after-allow-traffic" { 61 } else { 5 };
        near(
            &format!("{name}: seconds of waiting"),
            function.waited_seconds as usize,
            counted.waited_seconds as usize,
            minute,
        );
    }
    // An outcome may be another, but each verdict makes two metrics, and the answers' age is the last.
    near("custom metrics", bill.custom_metrics.len(), counted.custom_metrics.len(), 2);
}
