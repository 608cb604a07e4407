//! The engine of the lab's CodeDeploy, and the errors of its API.

#![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods, reason = "a test file")]

mod common;

use std::time::Duration;

use common::{POLICY, Waiting};
use serde_json::{Value, json};
use shiftgate_lab::codedeploy::{Creator, DeploymentRecord, EventStatus, Shift, Status};

/// Calls the API and returns the answer, or the error's name.
fn call(waiting: &Waiting, operation: &str, input: &Value) -> Result<Value, String> {
    let body = input.to_string().into_bytes();
    let output = waiting.account.services.codedeploy.handle(operation, &body).map_err(|error| error.code)?;
    Ok(serde_json::from_slice(&output).unwrap())
}

fn put(waiting: &Waiting, deployment: &str, execution: &str, status: &str) -> Result<Value, String> {
    let input =
        json!({"deploymentId": deployment, "lifecycleEventHookExecutionId": execution, "status": status});
    call(waiting, "PutLifecycleEventHookExecutionStatus", &input)
}

#[tokio::test]
async fn the_report_has_all_seven_errors() {
    let waiting = Waiting::at("AfterInstall").await;
    let id = waiting.deploy().await;
    let mut server =
        DeploymentRecord::new("d-SERVER000", "shop", "shop-group", Shift::AllAtOnce, Creator::User);
    server.platform = "Server";
    waiting.account.services.codedeploy.add_past(server);
    let good = "AfterInstall-execution";
    for (deployment, execution, status, error) in [
        ("", good, "Succeeded", "DeploymentIdRequiredException"),
        ("x-1", good, "Succeeded", "InvalidDeploymentIdException"),
        ("d-NOTTHERE0", good, "Succeeded", "DeploymentDoesNotExistException"),
        ("d-SERVER000", good, "Succeeded", "UnsupportedActionForDeploymentTypeException"),
        (&id, good, "InProgress", "InvalidLifecycleEventHookExecutionStatusException"),
        (&id, "another", "Succeeded", "InvalidLifecycleEventHookExecutionIdException"),
    ] {
        assert_eq!(put(&waiting, deployment, execution, status), Err(error.to_owned()));
    }
    assert!(put(&waiting, &id, good, "Succeeded").is_ok());
    assert_eq!(put(&waiting, &id, good, "Failed"), Err("LifecycleEventAlreadyCompletedException".to_owned()));
}

#[tokio::test]
async fn a_stop_with_rollback_gives_the_traffic_back() {
    let waiting = Waiting::at("AfterAllowTraffic").await;
    let id = waiting.deploy().await;
    assert_eq!(waiting.account.services.codedeploy.deployment(&id).unwrap().green_weight, 100.0);
    call(&waiting, "StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": true})).unwrap();
    waiting.ended(&id).await;
    let record = waiting.account.services.codedeploy.deployment(&id).unwrap();
    assert_eq!((record.status, record.green_weight), (Status::Stopped, 0.0));
    let rollback = waiting.account.services.codedeploy.deployment(&record.rolled_back_by.unwrap()).unwrap();
    assert_eq!((rollback.creator, rollback.rollback_of), (Creator::Rollback, Some(id.clone())));
    let again = call(&waiting, "StopDeployment", &json!({"deploymentId": id}));
    assert_eq!(again, Err("DeploymentAlreadyCompletedException".to_owned()));
    let target =
        call(&waiting, "GetDeploymentTarget", &json!({"deploymentId": id, "targetId": "lab:shop"})).unwrap();
    let sets = &target["deploymentTarget"]["ecsTarget"]["taskSetsInfo"];
    assert_eq!((&sets[0]["trafficWeight"], &sets[1]["trafficWeight"]), (&json!(100.0), &json!(0.0)));
}

#[tokio::test]
async fn a_stop_without_rollback_leaves_the_weights() {
    let waiting = Waiting::at("AfterAllowTraffic").await;
    let id = waiting.deploy().await;
    call(&waiting, "StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": false})).unwrap();
    waiting.ended(&id).await;
    let record = waiting.account.services.codedeploy.deployment(&id).unwrap();
    assert_eq!((record.status, record.green_weight, record.rolled_back_by), (Status::Stopped, 100.0, None));
}

#[tokio::test]
async fn a_silent_hook_times_out() {
    let waiting = Waiting::with("AfterInstall", POLICY, Duration::from_millis(200)).await;
    let id = waiting.deploy().await;
    waiting.ended(&id).await;
    let record = waiting.account.services.codedeploy.deployment(&id).unwrap();
    let (code, message) = record.error.clone().unwrap();
    assert_eq!((record.status, code.as_str()), (Status::Failed, "TIMEOUT"));
    assert!(message.contains("within one hour"), "{message}");
    assert_eq!(waiting.status(&id), Some(EventStatus::Failed));
    assert_eq!(record.event("AllowTraffic").unwrap().status, EventStatus::Skipped);
}

#[tokio::test]
async fn an_alarm_of_the_group_stops_and_rolls_back() {
    let waiting = Waiting::at("BeforeAllowTraffic").await;
    let id = waiting.deploy().await;
    waiting.account.services.cloudwatch.set_alarm_state("group-alarm", true);
    waiting.ended(&id).await;
    let record = waiting.account.services.codedeploy.deployment(&id).unwrap();
    assert_eq!((record.status, record.error.unwrap().0.as_str()), (Status::Stopped, "ALARM_ACTIVE"));
    assert!(record.rolled_back_by.is_some());
}

#[tokio::test]
async fn the_colours_swap_with_every_deployment() {
    let waiting = Waiting::at("AfterAllowTraffic").await;
    let blue_groups = async {
        let mut names = Vec::new();
        for _ in 0..3 {
            let id = waiting.deploy().await;
            put(&waiting, &id, "AfterAllowTraffic-execution", "Succeeded").unwrap();
            waiting.ended(&id).await;
            names.push(
                waiting
                    .account
                    .services
                    .codedeploy
                    .deployment(&id)
                    .unwrap()
                    .blue
                    .unwrap()
                    .target_group
                    .clone(),
            );
        }
        names
    };
    assert_eq!(blue_groups.await, ["shop-one", "shop-two", "shop-one"]);
}

#[tokio::test]
async fn a_group_runs_one_deployment_at_a_time() {
    let waiting = Waiting::at("BeforeInstall").await;
    waiting.deploy().await;
    let second = json!({"applicationName": "shop", "deploymentGroupName": "shop-group"});
    assert_eq!(
        call(&waiting, "CreateDeployment", &second),
        Err("DeploymentLimitExceededException".to_owned())
    );
}
