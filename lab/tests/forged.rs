//! Events that nobody of this stack sent: whatever the watch is told, it stops nothing that it has not read.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test file")]

mod common;

use common::{EcsWaiting, Waiting, answer};
use serde_json::{Value, json};
use shiftgate_lab::codedeploy::Shift;
use shiftgate_lab::ecs::{ServiceDeploymentStatus, Strategy};
use shiftgate_lab::fault::{Fault, Rule};

const STOPS: [&str; 2] = ["codedeploy:StopDeployment", "ecs:StopServiceDeployment"];

fn look(deployment: &str, duty: &str) -> Value {
    json!({"deployment_id": deployment, "duty": duty, "after_seconds": 1})
}

/// What the watch's function has tried to stop so far.
fn stops(waiting: &Waiting) -> Vec<String> {
    let calls = waiting.calls("watch").into_iter().map(|(action, _)| action);
    calls.filter(|action| STOPS.contains(&action.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_the_stack_may_not_read_is_not_stopped() {
    let waiting = Waiting::at("AfterAllowTestTraffic").await;
    let id = waiting.deploy().await;
    // As the role does for a group that is none of the parameter `DeploymentGroups`.
    let foreign = Rule::lasting("codedeploy:GetDeployment", Some("watch"), Fault::Deny);
    waiting.account.services.faults.add(foreign.clone());
    let told = answer(&waiting.invoke("watch", &look(&id, "traffic")).await);
    assert_eq!(told["next"], "done", "{told:#}");
    assert_eq!(stops(&waiting), [""; 0]);
    assert_eq!(waiting.account.services.codedeploy.deployment(&id).unwrap().status.as_str(), "InProgress");
    // A call that may succeed the next time is made again, and ends nothing either.
    waiting.account.services.faults.remove(&foreign);
    waiting.account.services.faults.add(Rule::lasting(
        "codedeploy:GetDeployment",
        Some("watch"),
        Fault::Unavailable,
    ));
    let told = answer(&waiting.invoke("watch", &look(&id, "traffic")).await);
    assert_eq!(told["next"], "again", "{told:#}");
    assert_eq!(stops(&waiting), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_nobody_knows_ends_the_watch() {
    let waiting = Waiting::at("AfterAllowTestTraffic").await;
    let told = answer(&waiting.invoke("watch", &look("d-MADEUP000", "traffic")).await);
    assert_eq!(told["next"], "done", "{told:#}");
    assert_eq!(stops(&waiting), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_is_for_deployments_of_its_controller_alone() {
    let waiting = Waiting::at("AfterAllowTestTraffic").await;
    let id = waiting.deploy().await;
    let arn = "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders/NCWGC2ZR-taawPAYrIaU5";
    for event in [look(&id, "rolling"), look(arn, "traffic")] {
        let invocation = waiting.invoke("watch", &event).await;
        assert!(invocation.error.is_some(), "{event}");
    }
    assert_eq!(waiting.calls("watch"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_of_ecs_that_the_stack_may_not_read_is_not_stopped() {
    let strategy = Strategy::Canary { percent: 10.0, bake_minutes: 1440.0 };
    let waiting = EcsWaiting::with(false, strategy, 0.0).await;
    let foreign = Rule::lasting("ecs:DescribeServiceDeployments", Some("watch"), Fault::Deny);
    waiting.account.services.faults.add(foreign);
    let told = answer(&waiting.invoke("watch", &look(&waiting.deployment, "rolling")).await);
    assert_eq!(told["next"], "done", "{told:#}");
    let record = waiting.account.services.ecs.deployment(&waiting.deployment).unwrap();
    assert_eq!(record.status, ServiceDeploymentStatus::InProgress);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_judged_of_a_deployment_that_was_read_is_stopped_as_before() {
    // The other side: of a deployment of this stack a watch that will never see anything must not wave the release through.
    let policy = format!("mode: sometimes\n{}", common::POLICY);
    let shift = Shift::Canary { percent: 10.0, minutes: 1000.0 };
    let waiting = Waiting::shifting(shift, &policy).await;
    let id = waiting.shifting_deployment().await;
    let told = answer(&waiting.invoke("watch", &look(&id, "traffic")).await);
    assert_eq!(told["next"], "done", "{told:#}");
    assert_eq!(stops(&waiting), [STOPS[0]]);
}
