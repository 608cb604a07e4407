//! Every hook, with the real binary: whatever happens to it, CodeDeploy gets an answer, or Lambda an error. Never
//! silence.

#![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods, reason = "a test file")]

#[path = "common/client.rs"]
mod client;
mod common;

use std::time::Duration;

use client::aws_config;
use common::{HOOKS, POLICY, Waiting, answer, wait_until};
use serde_json::{Value, json};
use shiftgate::aws::Aws;
use shiftgate::environment::Environment;
use shiftgate::event::Stage;
use shiftgate::hook;
use shiftgate_lab::fault::{Fault, Rule};
use shiftgate_lab::lambda::FunctionSpec;

/// The call that asks for the watch.
const WATCH_STATE: &str = "states:DescribeExecution";
/// The call that a bake makes once it has a complete period.
const METRICS: &str = "cloudwatch:GetMetricData";
const REPORT: &str = "codedeploy:PutLifecycleEventHookExecutionStatus";

/// Runs `check` for each of the five hooks, side by side.
async fn for_each_hook(check: impl AsyncFn(&'static str, &'static str)) {
    futures_util::future::join_all(HOOKS.map(|(function, event)| check(function, event))).await;
}

fn rule(action: &str, caller: &str, fault: Fault) -> Rule {
    Rule::lasting(action, Some(caller), fault)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_every_hook_succeeds_and_reports_once() {
    for_each_hook(async |function, event| {
        let waiting = Waiting::at(event).await;
        let id = waiting.deploy().await;
        let answer = answer(&waiting.invoke(function, &waiting.payload(&id)).await);
        assert_eq!(answer["answer"], "Succeeded", "{function}: {answer:#}");
        assert_eq!(answer["reported"], "taken", "{function}");
        assert_eq!(waiting.report(&id), Some(true), "{function}");
        let taken =
            waiting.calls(function).into_iter().filter(|(action, error)| action == REPORT && error.is_none());
        assert_eq!(taken.count(), 1, "{function} reports exactly once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_denied_call_leads_to_failed_or_an_error() {
    for_each_hook(async |function, event| {
        let waiting = Waiting::at(event).await;
        let actions = waiting.account.template.function(function).unwrap().actions();
        for action in actions {
            let denied = rule(&action, function, Fault::Deny);
            waiting.account.services.faults.add(denied.clone());
            let id = waiting.deploy().await;
            if action == METRICS {
                waiting.baked(&id).await;
            }
            let invocation = waiting.invoke(function, &waiting.payload(&id)).await;
            waiting.account.services.faults.remove(&denied);
            let refused =
                waiting.calls(function).contains(&(action.clone(), Some("AccessDeniedException".to_owned())));
            if action == REPORT {
                assert!(invocation.error.is_some(), "{function} without {action} must be an error");
                assert_eq!(waiting.report(&id), None);
                // Lambda's next try, with the permission given back, answers.
                assert_eq!(
                    answer(&waiting.invoke(function, &waiting.payload(&id)).await)["reported"],
                    "taken"
                );
            } else if refused && action != WATCH_STATE {
                let answer = answer(&invocation);
                assert_eq!(answer["answer"], "Failed", "{function} without {action}: {answer:#}");
                assert_eq!(waiting.report(&id), Some(false), "{function} without {action}");
                assert!(
                    answer["report"].as_str().unwrap().contains(&action),
                    "{function}: the report names {action}: {answer:#}"
                );
            } else {
                // Only a bake that outlasts the invocation starts the state machine, only a shift that takes time needs a
                // watch (what it knows of the service is found out without it), and only a function has no service.
                let elsewhere = ["states:StartExecution", WATCH_STATE, "lambda:InvokeFunction"];
                assert!(
                    elsewhere.contains(&action.as_str()),
                    "{function} does not call {action}: {:#?}",
                    answer(&invocation)
                );
            }
            waiting.ended(&id).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_be_started_is_told_and_the_policy_decides() {
    for (policy, answered) in
        [(POLICY.to_owned(), "Failed"), (format!("on_fault: proceed\n{POLICY}"), "Succeeded")]
    {
        let waiting = Waiting::with("BeforeAllowTraffic", &policy, Duration::from_mins(1)).await;
        let action = "states:StartExecution";
        waiting.account.services.faults.add(rule(action, "before-allow-traffic", Fault::Deny));
        let id = waiting.deploy().await;
        let answer = answer(&waiting.invoke("before-allow-traffic", &waiting.payload(&id)).await);
        assert_eq!(answer["answer"], answered, "{answer:#}");
        assert!(answer["report"].as_str().unwrap().contains("cannot start the watch"), "{answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_or_breaks_leads_to_failed_in_time() {
    for_each_hook(async |function, event| {
        let waiting = Waiting::at(event).await;
        let name = waiting.account.template.function(function).unwrap().name.clone();
        waiting.account.services.lambda.update(&name, |spec| spec.timeout = Duration::from_secs(6)).unwrap();
        for fault in [Fault::Hang, Fault::Reset, Fault::Garbage, Fault::ServerError, Fault::Throttle] {
            let broken = rule("elasticloadbalancing:DescribeLoadBalancers", function, fault);
            waiting.account.services.faults.add(broken.clone());
            let id = waiting.deploy().await;
            let answer = answer(&waiting.invoke(function, &waiting.payload(&id)).await);
            waiting.account.services.faults.remove(&broken);
            assert_eq!(answer["answer"], "Failed", "{function} {fault:?}: {answer:#}");
            assert_eq!(waiting.report(&id), Some(false), "{function} {fault:?}");
            waiting.ended(&id).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_throttled_for_a_while_still_arrives() {
    let waiting = Waiting::at("BeforeAllowTraffic").await;
    let id = waiting.deploy().await;
    let busy = rule(REPORT, "before-allow-traffic", Fault::Throttle);
    waiting.account.services.faults.add(busy.clone());
    let payload = waiting.payload(&id);
    let invocation = waiting.invoke("before-allow-traffic", &payload);
    let relief = async {
        let tried = || {
            waiting.calls("before-allow-traffic").iter().filter(|(action, _)| action == REPORT).count() >= 3
        };
        wait_until("three attempts of the report", tried).await;
        waiting.account.services.faults.remove(&busy);
    };
    let (invocation, ()) = tokio::join!(invocation, relief);
    assert_eq!(answer(&invocation)["reported"], "taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_binary_is_called_again_and_reports() {
    for_each_hook(async |function, event| {
        let waiting = Waiting::at(event).await;
        let name = waiting.account.template.function(function).unwrap().name.clone();
        // Its first call to AWS hangs, so that it is killed in the middle of its work for certain.
        let stuck = rule("codedeploy:GetDeployment", function, Fault::Hang);
        waiting.account.services.faults.add(stuck.clone());
        waiting.account.services.lambda.kill_next(&name, Duration::from_millis(300), 1).unwrap();
        let id = waiting.deploy().await;
        waiting
            .account
            .services
            .lambda
            .invoke_async(&name, waiting.payload(&id).to_string().into_bytes())
            .unwrap();
        wait_until("the first call", || !waiting.calls(function).is_empty()).await;
        waiting.account.services.faults.remove(&stuck);
        wait_until("the report of the second attempt", || waiting.report(&id) == Some(true)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbage_event_is_an_error_and_reports_nothing() {
    for_each_hook(async |function, event| {
        let waiting = Waiting::at(event).await;
        let id = waiting.deploy().await;
        for garbage in [
            json!({}),
            json!(null),
            json!("d-1"),
            json!({"DeploymentId": id}),
            json!({"DeploymentId": id, "LifecycleEventHookExecutionId": ""}),
            json!({"DeploymentId": "", "LifecycleEventHookExecutionId": "x"}),
        ] {
            let invocation = waiting.invoke(function, &garbage).await;
            assert!(invocation.error.is_some(), "{function} with {garbage}");
        }
        // Ids of the right form that CodeDeploy does not know: there is nobody to report to.
        let unknown = json!({"DeploymentId": "d-UNKNOWN00", "LifecycleEventHookExecutionId": "x"});
        assert!(waiting.invoke(function, &unknown).await.error.is_some(), "{function}");
        assert_eq!(waiting.report(&id), None, "{function}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_check_is_reported_as_failed() {
    let stages = [
        Stage::BeforeInstall,
        Stage::AfterInstall,
        Stage::AfterAllowTestTraffic,
        Stage::BeforeAllowTraffic,
        Stage::AfterAllowTraffic,
    ];
    for stage in stages {
        let waiting = Waiting::at(stage.lifecycle_event()).await;
        let id = waiting.deploy().await;
        let aws = Aws::new(&aws_config(&waiting.account));
        let panics = async |_: &mut hook::Release, _: &_| -> hook::Ended { panic!("a bug in a check") };
        let answer = hook::handle(stage, &panics, &aws, &Environment::default(), &waiting.payload(&id), 0)
            .await
            .unwrap();
        assert_eq!(answer["answer"], "Failed", "{stage}");
        assert!(answer["reason"].as_str().unwrap().contains("a bug in a check"), "{answer:#}");
        assert_eq!(waiting.report(&id), Some(false), "{stage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_s_switch_lets_everything_go_on_even_where_the_policy_cannot_be_read() {
    for policy in ["mode: sometimes", "mode: enforce\npreflight: {alarms: [nothing]}"] {
        let waiting = Waiting::with("BeforeInstall", policy, Duration::from_mins(1)).await;
        let name = waiting.account.template.function("before-install").unwrap().name.clone();
        let id = waiting.deploy().await;
        let switch = |mode: &str| {
            let mode = mode.to_owned();
            let change =
                |spec: &mut FunctionSpec| drop(spec.environment.insert("SHIFTGATE_MODE".to_owned(), mode));
            waiting.account.services.lambda.update(&name, change).unwrap();
        };
        switch("observe");
        let told = answer(&waiting.invoke("before-install", &waiting.payload(&id)).await);
        assert_eq!(
            (&told["answer"], &told["outcome"]),
            (&json!("Succeeded"), &json!("fail")),
            "{policy}: {told:#}"
        );
        assert_eq!(waiting.report(&id), Some(true), "{policy}");
        waiting.ended(&id).await;
        // What it is switched off for.
        switch("policy");
        let id = waiting.deploy().await;
        let told = answer(&waiting.invoke("before-install", &waiting.payload(&id)).await);
        assert_eq!(told["answer"], "Failed", "{policy}: {told:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_delivery_changes_nothing() {
    let waiting = Waiting::at("BeforeAllowTraffic").await;
    let id = waiting.deploy().await;
    let first = answer(&waiting.invoke("before-allow-traffic", &waiting.payload(&id)).await);
    let second = answer(&waiting.invoke("before-allow-traffic", &waiting.payload(&id)).await);
    assert_eq!((&first["reported"], &second["reported"]), (&json!("taken"), &json!("already_completed")));
    let started: Vec<Option<String>> = waiting
        .calls("before-allow-traffic")
        .into_iter()
        .filter(|(action, _)| action == "states:StartExecution")
        .map(|(_, error)| error)
        .collect();
    // Step Functions itself says that the execution is there, or answers the same one while it runs.
    assert!(started.len() <= 2 && started[0].is_none(), "{started:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_function_at_a_hook_fails_and_names_the_right_one() {
    // Before its own event and after it.
    for (event, wrong, right) in [
        ("AfterAllowTestTraffic", "before-allow-traffic", "after-allow-test-traffic"),
        ("AfterAllowTraffic", "after-install", "after-allow-traffic"),
    ] {
        let waiting = Waiting::at(event).await;
        let id = waiting.deploy().await;
        let answer = answer(&waiting.invoke(wrong, &waiting.payload(&id)).await);
        assert_eq!(answer["answer"], "Failed", "{answer:#}");
        let report = answer["report"].as_str().unwrap();
        assert!(report.contains(&format!("CodeDeploy is at {event}")), "{report}");
        assert!(report.contains(&format!("name the function {right} at {event}")), "{report}");
    }
    let proceed = format!("on_fault: proceed\n{POLICY}");
    let waiting = Waiting::with("AfterAllowTraffic", &proceed, Duration::from_mins(1)).await;
    let id = waiting.deploy().await;
    let answer = answer(&waiting.invoke("after-install", &waiting.payload(&id)).await);
    assert_eq!(answer["answer"], "Succeeded", "the policy decides: {answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bake_longer_than_the_invocation_is_handed_over_and_answered() {
    let policy = POLICY.replace("bake: {for: 2s}", "bake: {for: 8s}");
    let waiting = Waiting::with("AfterAllowTraffic", &policy, Duration::from_mins(1)).await;
    let name = waiting.account.template.function("after-allow-traffic").unwrap().name.clone();
    waiting.account.services.lambda.update(&name, |spec| spec.timeout = Duration::from_secs(9)).unwrap();
    let id = waiting.deploy().await;
    let handed: Value = answer(&waiting.invoke("after-allow-traffic", &waiting.payload(&id)).await);
    assert_eq!(handed["handed_over_to"], format!("{id}-bake"), "{handed:#}");
    assert_eq!(waiting.report(&id), None, "the hook itself has not answered");
    wait_until("the watch's report", || waiting.report(&id) == Some(true)).await;
}
