//! The engine of the lab's CodeDeploy, and the errors of its API.

#![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods, reason = "a test file")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{POLICY, Waiting, wait_until};
use serde_json::{Value, json};
use shiftgate_lab::codedeploy::{Creator, DeploymentRecord, EventStatus, Platform, Shift, Status};
use shiftgate_lab::doubts::{ListenerRules, StopInTerminationWait};
use shiftgate_lab::load_balancer::{ListenerKind, TargetGroup};

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
    server.platform = Platform::Server;
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
async fn a_stop_in_the_termination_wait_is_a_switch() {
    for (setting, expected) in [
        (StopInTerminationWait::Accepted, Status::Stopped),
        (StopInTerminationWait::Refused, Status::Succeeded),
    ] {
        let waiting = Waiting::changed("AfterAllowTraffic", |spec| {
            spec.doubts.stop_in_termination_wait = setting;
            // Three seconds of this account's minutes.
            spec.termination_wait_minutes = 15.0;
        })
        .await;
        let id = waiting.deploy().await;
        put(&waiting, &id, "AfterAllowTraffic-execution", "Succeeded").unwrap();
        let through = || waiting.status(&id) == Some(EventStatus::Succeeded);
        wait_until("the termination wait", through).await;
        let stop =
            call(&waiting, "StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": true}));
        waiting.ended(&id).await;
        let record = waiting.account.services.codedeploy.deployment(&id).unwrap();
        assert_eq!(record.status, expected, "{setting:?}: {stop:?}");
        assert_eq!(record.green_weight, if stop.is_ok() { 0.0 } else { 100.0 });
        assert!(stop.is_ok() || stop == Err("DeploymentAlreadyCompletedException".to_owned()));
    }
}

#[tokio::test]
async fn what_is_shifted_of_a_listener_with_a_rule_is_a_switch() {
    for (listener_rules, expected) in [(ListenerRules::DefaultAction, 0), (ListenerRules::All, 100)] {
        let waiting = Waiting::changed("AfterAllowTraffic", |spec| {
            (spec.rule, spec.doubts.listener_rules) = (true, listener_rules);
        })
        .await;
        let id = waiting.deploy().await;
        let services = &waiting.account.services;
        let green = services.codedeploy.deployment(&id).unwrap().green.unwrap().target_group.clone();
        let balancer = services.balancers.lock().unwrap()[0].clone();
        let listener = balancer.listener(ListenerKind::Production).unwrap();
        let of_green = |groups: Vec<(_, u32)>| {
            let named = |(group, weight): (Arc<TargetGroup>, u32)| (group.name == green).then_some(weight);
            groups.into_iter().find_map(named).unwrap_or(0)
        };
        assert_eq!(of_green(listener.forwards()), 100, "the default action is shifted anyway");
        assert_eq!(of_green(listener.rules[0].forwards()), expected, "{listener_rules:?}");
    }
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

#[tokio::test]
async fn deployments_are_listed_by_group_status_and_time_in_pages() {
    let waiting = Waiting::at("AfterInstall").await;
    let id = waiting.deploy().await;
    let day = |day: i64| jiff::Timestamp::from_second(86_400 * day).unwrap();
    for number in 0..250 {
        let id = format!("d-OLD{number:03}");
        let mut record = DeploymentRecord::new(&id, "shop", "shop-group", Shift::AllAtOnce, Creator::User);
        record.created = day(number);
        record.status = if number % 2 == 0 { Status::Succeeded } else { Status::Stopped };
        waiting.account.services.codedeploy.add_past(record);
    }
    let of_group = json!({"applicationName": "shop", "deploymentGroupName": "shop-group"});
    let listed = |more: Value| {
        let mut input = of_group.clone();
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call(&waiting, "ListDeployments", &input)
    };
    let ids =
        |answer: &Value| -> Vec<String> { serde_json::from_value(answer["deployments"].clone()).unwrap() };
    // All of them: the one that waits, the one that brought the old version, and the old ones.
    let mut all = Vec::new();
    let mut page = listed(json!({})).unwrap();
    loop {
        all.extend(ids(&page));
        assert!(ids(&page).len() <= 100);
        let Some(token) = page.get("nextToken") else { break };
        page = listed(json!({"nextToken": token})).unwrap();
    }
    assert_eq!(all.len(), 252);
    assert_eq!(
        (&all[0], &all[1], &all[2], &all[251]),
        (&id, &"d-PASTSHOP".to_owned(), &"d-OLD249".to_owned(), &"d-OLD000".to_owned())
    );
    let range = |from: i64, to: i64| json!({"start": 86_400 * from, "end": 86_400 * to});
    let stopped = json!({"includeOnlyStatuses": ["Stopped", "Failed"], "createTimeRange": range(10, 14)});
    assert_eq!(ids(&listed(stopped).unwrap()), ["d-OLD013", "d-OLD011"]);
    let open = json!({"createTimeRange": {"start": 86_400 * 248}, "includeOnlyStatuses": ["Succeeded"]});
    assert_eq!(ids(&listed(open).unwrap()), ["d-PASTSHOP", "d-OLD248"]);
    for (input, error) in [
        (json!({"includeOnlyStatuses": ["Done"]}), "InvalidDeploymentStatusException"),
        (json!({"createTimeRange": range(2, 1)}), "InvalidTimeRangeException"),
        (json!({"nextToken": "?"}), "InvalidNextTokenException"),
        (json!({"deploymentGroupName": null}), "DeploymentGroupNameRequiredException"),
        (json!({"applicationName": null}), "ApplicationNameRequiredException"),
        (json!({"applicationName": "other"}), "ApplicationDoesNotExistException"),
        (json!({"deploymentGroupName": "other"}), "DeploymentGroupDoesNotExistException"),
    ] {
        assert_eq!(listed(input), Err(error.to_owned()));
    }
}
