//! Every lifecycle stage of ECS, with the real binary: whatever happens to it, ECS gets an answer that it can read, and
//! never a failed one while it rolls back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test file")]

#[path = "common/client.rs"]
mod client;
mod common;

use std::time::Duration;

use client::aws_config;
use common::{EcsWaiting, POLICY, answer, wait_until};
use serde_json::{Value, json};
use shiftgate::aws::Aws;
use shiftgate::carry::Step;
use shiftgate::ecs::{self, Call};
use shiftgate::environment::Environment;
use shiftgate::event::LifecycleStage as At;
use shiftgate::fault::Fault as ShiftgateFault;
use shiftgate::hook::Release;
use shiftgate_lab::fault::{Fault, Rule};

const FUNCTION: &str = "ecs-lifecycle";
const DESCRIBE: &str = "ecs:DescribeServiceDeployments";
const SUCCEEDED: &str = "SUCCEEDED";
const FAILED: &str = "FAILED";
const IN_PROGRESS: &str = "IN_PROGRESS";

/// The stages at which an answer ends it; the other two hold green.
const HELD: [At; 2] = [At::ProductionTrafficShift, At::PostProductionTrafficShift];

fn rule(action: &str, fault: Fault) -> Rule {
    Rule::lasting(action, Some(FUNCTION), fault)
}

/// The answer to an event, which must be one that ECS can read.
async fn ask(waiting: &EcsWaiting, event: &Value) -> Value {
    let answer = answer(&waiting.invoke(FUNCTION, event).await);
    let status = answer["hookStatus"].as_str().unwrap_or_default();
    assert!([SUCCEEDED, FAILED, IN_PROGRESS].contains(&status), "{answer:#}");
    if status == IN_PROGRESS {
        assert!(answer["callBackDelay"].as_u64().is_some_and(|delay| delay > 0), "{answer:#}");
        assert_eq!(answer["hookDetails"]["shiftgate"]["version"], 1, "{answer:#}");
    }
    answer
}

/// Asks at every stage, with the event changed, and holds the answers against what is expected.
async fn check(
    waiting: &EcsWaiting,
    case: &str,
    change: impl Fn(At, &mut Value),
    expect: impl Fn(At) -> &'static str,
) {
    for stage in At::ALL {
        let mut event = waiting.event(stage);
        change(stage, &mut event);
        let answer = ask(waiting, &event).await;
        assert_eq!(answer["hookStatus"], expect(stage), "{case} at {}: {answer:#}", stage.as_str());
    }
}

fn held_or_succeeded(stage: At) -> &'static str {
    if HELD.contains(&stage) { IN_PROGRESS } else { SUCCEEDED }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_goes_on_or_is_held() {
    let waiting = EcsWaiting::start(false).await;
    check(&waiting, "normal", |_, _| {}, held_or_succeeded).await;
    // What is not known yet is tolerated.
    let mut event = waiting.event(At::PreScaleUp);
    event["lifecycleStage"] = "PRE_COFFEE_BREAK".into();
    event["executionDetails"]["novelty"] = json!([1, 2]);
    let answer = ask(&waiting, &event).await;
    assert_eq!(answer["hookStatus"], SUCCEEDED);
    assert!(answer["reason"].as_str().unwrap().contains("PRE_COFFEE_BREAK"), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_has_nothing_to_be_compared_with_and_goes_on() {
    let waiting = EcsWaiting::start(true).await;
    check(
        &waiting,
        "first deployment",
        |_, event| {
            for weights in ["productionTrafficWeights", "testTrafficWeights"] {
                let green =
                    event["executionDetails"]["targetServiceRevisionArn"].as_str().unwrap().to_owned();
                if event["executionDetails"][weights].as_object().is_some_and(|weights| !weights.is_empty()) {
                    event["executionDetails"][weights] = json!({green: 100});
                }
            }
        },
        |stage| if stage == At::PostProductionTrafficShift { IN_PROGRESS } else { SUCCEEDED },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_never_answered_failed() {
    let waiting = EcsWaiting::start(false).await;
    let turned = |stage: At, event: &mut Value| {
        let execution = &mut event["executionDetails"];
        let green = execution["targetServiceRevisionArn"].as_str().unwrap().to_owned();
        let weights = json!({green: 0, "blue": 100});
        match stage {
            At::TestTrafficShift => execution["testTrafficWeights"] = weights,
            At::ProductionTrafficShift => execution["productionTrafficWeights"] = weights,
            _ => {}
        }
    };
    // Known by the weights alone: no call is needed, so none can go wrong.
    waiting.account.services.faults.add(rule("*", Fault::Deny));
    for stage in At::ALL.into_iter().filter(|stage| stage.runs_in_rollback()) {
        let mut event = waiting.event(stage);
        turned(stage, &mut event);
        event["resourceArn"] = "nonsense".into();
        let answer = ask(&waiting, &event).await;
        assert_eq!(answer["hookStatus"], SUCCEEDED, "{}: {answer:#}", stage.as_str());
    }
    // Neither the weights nor ECS tell which way it goes: at these stages it may be a rollback.
    check(
        &waiting,
        "denied, without weights",
        |_, event| {
            for weights in ["productionTrafficWeights", "testTrafficWeights"] {
                event["executionDetails"][weights] = json!({"green": "ten"});
            }
        },
        |stage| if stage.runs_in_rollback() { SUCCEEDED } else { FAILED },
    )
    .await;
    waiting.account.services.faults.remove(&rule("*", Fault::Deny));
    // Known by the status, at every stage.
    waiting.stop().await;
    check(&waiting, "rolled back", |_, _| {}, |_| SUCCEEDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_stopped_while_a_hook_fails_is_left_alone() {
    let waiting = EcsWaiting::start(false).await;
    // An alarm rings, so the answer would be failed; but by then the deployment is being rolled back.
    waiting.account.services.cloudwatch.set_alarm_state("quiet", true);
    let event = waiting.event(At::PreScaleUp);
    assert_eq!(ask(&waiting, &event).await["hookStatus"], FAILED);
    waiting.stop().await;
    assert_eq!(ask(&waiting, &event).await["hookStatus"], SUCCEEDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_told_and_answered() {
    let waiting = EcsWaiting::start(false).await;
    for garbage in [json!(null), json!("x"), json!({}), json!([]), json!({"lifecycleStage": 7})] {
        assert_eq!(ask(&waiting, &garbage).await["hookStatus"], FAILED, "{garbage}");
    }
    check(
        &waiting,
        "no deployment",
        |_, event| event["resourceArn"] = "arn:aws:ecs:eu-west-1:123456789012:service/lab/shop".into(),
        |_| FAILED,
    )
    .await;
    check(
        &waiting,
        "another region and partition",
        |_, event| {
            let arn = event["resourceArn"].as_str().unwrap();
            event["resourceArn"] = arn.replace("arn:aws:ecs:eu-west-1", "arn:aws-cn:ecs:cn-north-1").into();
        },
        |_| FAILED,
    )
    .await;
    check(
        &waiting,
        "a deployment that ECS does not know",
        |_, event| {
            let arn = event["resourceArn"].as_str().unwrap();
            event["resourceArn"] = format!("{arn}X").into();
        },
        |_| FAILED,
    )
    .await;
    // Odd, but the rest of the event is enough.
    for (key, odd) in [
        ("hookDetails", json!("written by hand")),
        ("hookDetails", json!({"shiftgate": {"version": 99}})),
        ("hookDetails", json!({"shiftgate": ["written by hand"]})),
    ] {
        let mut event = waiting.event(At::ProductionTrafficShift);
        event[key] = odd.clone();
        assert_eq!(ask(&waiting, &event).await["hookStatus"], IN_PROGRESS, "{odd}");
    }
    check(
        &waiting,
        "no weights",
        |_, event| {
            event["executionDetails"]["productionTrafficWeights"] = json!({});
            event["executionDetails"]["testTrafficWeights"] = json!({});
        },
        held_or_succeeded,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_the_hook_s_details_is_used_and_a_wrong_one_is_told() {
    let waiting = EcsWaiting::start(false).await;
    let mut event = waiting.event(At::PreScaleUp);
    event["hookDetails"] = json!({"policy": {"version": 1, "trafic": []}});
    let answer = ask(&waiting, &event).await;
    assert_eq!(answer["hookStatus"], FAILED);
    assert!(answer["reason"].as_str().unwrap().contains("did you mean `traffic`"), "{answer:#}");
    event["hookDetails"] = json!({"policy": "mode: observe\npreflight: {alarms: [missing]}"});
    assert_eq!(ask(&waiting, &event).await["hookStatus"], SUCCEEDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_call_fails_and_names_the_action() {
    let waiting = EcsWaiting::start(false).await;
    for action in [DESCRIBE, "ecs:DescribeServiceRevisions", "elasticloadbalancing:DescribeRules"] {
        waiting.account.services.faults.add(rule(action, Fault::Deny));
        for stage in At::ALL {
            let answer = ask(&waiting, &waiting.event(stage)).await;
            assert_eq!(answer["hookStatus"], FAILED, "{action} at {}: {answer:#}", stage.as_str());
            assert!(answer["reason"].as_str().unwrap().contains(action), "{answer:#}");
        }
        waiting.account.services.faults.remove(&rule(action, Fault::Deny));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_may_heal_is_tried_again_and_at_last_failed_in_time() {
    let waiting = EcsWaiting::start(false).await;
    let name = waiting.account.template.function(FUNCTION).unwrap().name.clone();
    waiting.account.services.lambda.update(&name, |spec| spec.timeout = Duration::from_secs(6)).unwrap();
    for fault in [Fault::Hang, Fault::Throttle] {
        waiting.account.services.faults.add(rule(DESCRIBE, fault));
        let stages = At::ALL.map(async |stage: At| {
            let (mut event, stage) = (waiting.event(stage), stage.as_str());
            for tries in 1..=3 {
                let answer = ask(&waiting, &event).await;
                assert_eq!(answer["hookStatus"], IN_PROGRESS, "{fault:?} at {stage}: {answer:#}");
                assert_eq!(answer["hookDetails"]["shiftgate"]["tries"], tries, "{answer:#}");
                event["hookDetails"] = answer["hookDetails"].clone();
            }
            let answer = ask(&waiting, &event).await;
            assert_eq!(answer["hookStatus"], FAILED, "{fault:?} at {stage}: {answer:#}");
        });
        futures_util::future::join_all(stages).await;
        waiting.account.services.faults.remove(&rule(DESCRIBE, fault));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_answer() {
    let waiting = EcsWaiting::start(false).await;
    let aws = Aws::new(&aws_config(&waiting.account));
    let panics =
        async |_: &mut Release, _: &mut Call| -> Result<Step, ShiftgateFault> { panic!("a bug in a check") };
    for stage in At::ALL {
        let answer =
            ecs::handle(&panics, &aws, &Environment::default(), &waiting.event(stage), 0).await.unwrap();
        assert_eq!(answer["hookStatus"], FAILED, "{}", stage.as_str());
        assert!(answer["reason"].as_str().unwrap().contains("a bug in a check"), "{answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn green_is_held_no_longer_than_the_policy_says() {
    let waiting = EcsWaiting::start(false).await;
    let mut event = waiting.event(At::ProductionTrafficShift);
    let held = ask(&waiting, &event).await;
    assert_eq!(held["hookStatus"], IN_PROGRESS);
    event["hookDetails"] = held["hookDetails"].clone();
    let since = event["hookDetails"]["shiftgate"]["since"].as_i64().unwrap();
    event["hookDetails"]["shiftgate"]["since"] = (since - 3600).into();
    // Without users nothing was seen, and the policy lets it go on.
    let answer = ask(&waiting, &event).await;
    assert_eq!(answer["hookStatus"], SUCCEEDED, "{answer:#}");
}

/// Without a load balancer there are tasks, and the metrics that a policy names.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_load_balancer_is_judged_by_its_tasks() {
    let waiting = EcsWaiting::without_load_balancer(None, POLICY).await;
    check(&waiting, "no load balancer", |_, _| {}, held_or_succeeded).await;
    let (_, report) = waiting.told(&waiting.event(At::PostTestTrafficShift)).await;
    assert!(report.contains("the service has no load balancer"), "{report}");
    // After its time the step ends, and says what was not looked at.
    let mut event = waiting.event(At::ProductionTrafficShift);
    event["hookDetails"] = ask(&waiting, &event).await["hookDetails"].clone();
    let since = event["hookDetails"]["shiftgate"]["since"].as_i64().unwrap();
    event["hookDetails"]["shiftgate"]["since"] = (since - 60).into();
    let (answer, report) = waiting.told(&event).await;
    assert_eq!(answer["hookStatus"], SUCCEEDED, "{answer:#}");
    assert!(
        report.contains("2 of green's 2 tasks run") && report.contains("nothing tells green from blue"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_the_service_has_no_metric_for_is_told() {
    let gate = "traffic: [{name: errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount}]";
    let waiting = EcsWaiting::without_load_balancer(None, gate).await;
    let answer = ask(&waiting, &waiting.event(At::PreScaleUp)).await;
    assert_eq!(answer["hookStatus"], FAILED, "{answer:#}");
    assert!(
        answer["reason"].as_str().unwrap().contains("the gate `errors` needs {target_group}"),
        "{answer:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn service_connect_says_by_which_header_green_is_reached() {
    let connect = json!({
        "enabled": true,
        "services": [{"portName": "http", "clientAliases": [{"port": 80, "testTrafficRules": {
            "header": {"name": "x-canary", "value": {"exact": "please"}},
        }}]}],
    });
    let waiting = EcsWaiting::without_load_balancer(Some(connect), POLICY).await;
    let (answer, report) = waiting.told(&waiting.event(At::PostTestTrafficShift)).await;
    assert_eq!(answer["hookStatus"], SUCCEEDED, "{answer:#}");
    assert!(report.contains("the header x-canary: please"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_rolling_update_that_wants_it_is_watched() {
    let waiting = EcsWaiting::start(false).await;
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/ecs-rolling-update.json")).unwrap();
    event["resources"] = json!(["arn:aws:ecs:eu-west-1:123456789012:service/lab/shop"]);
    let told = answer(&waiting.invoke(FUNCTION, &event).await);
    assert!(told["reason"].as_str().unwrap().contains("gated by its lifecycle hooks"), "{told:#}");
    // Lambda tries again, and tells people.
    event["resources"] = json!(["arn:aws:ecs:eu-west-1:123456789012:service/lab/unknown"]);
    let failed = waiting.invoke(FUNCTION, &event).await.error.unwrap().to_string();
    assert!(failed.contains("was not found"), "{failed}");
    for (resources, part) in [(json!(["nonsense"]), "is no service"), (json!(null), "is no service")] {
        event["resources"] = resources;
        let told = answer(&waiting.invoke(FUNCTION, &event).await);
        assert!(told["reason"].as_str().unwrap().contains(part), "{told:#}");
    }
    event["detail"]["eventName"] = "SERVICE_DEPLOYMENT_COMPLETED".into();
    let told = answer(&waiting.invoke(FUNCTION, &event).await);
    assert_eq!(told["watch"], "not started", "{told:#}");
    wait_until("the deployment still waits", || waiting.is_waiting()).await;
}
