//! What functions are told, and what comes of what they answer.

use super::*;

fn at(stage: Stage) -> impl FnOnce(&mut EcsService) {
    move |service| service.hooks = vec![EcsHook::function("gate", &[stage])]
}

#[tokio::test(start_paused = true)]
async fn a_function_is_told_exactly_this() {
    let world = World::new(at(Stage::ProductionTrafficShift), |_, _| succeeded()).await;
    let record = world.play().await.record;
    let mut event = world.event(0);
    let execution = event["executionId"].take();
    assert!(uuid::Uuid::parse_str(execution.as_str().unwrap()).is_ok(), "{execution}");
    let (green, blue) = (&record.target.revision, &record.source[0].revision);
    assert_eq!(
        event,
        json!({
            "executionId": null,
            "lifecycleStage": "PRODUCTION_TRAFFIC_SHIFT",
            "resourceArn": record.arn,
            "executionDetails": {
                "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/lab/shop",
                "targetServiceRevisionArn": green,
                "testTrafficWeights": {},
                "productionTrafficWeights": {green: 100, blue: 0},
            },
        })
    );
    let id =
        record.arn.strip_prefix("arn:aws:ecs:eu-west-1:123456789012:service-deployment/lab/shop/").unwrap();
    assert_eq!(id.len(), 21);
    assert!(green.starts_with("arn:aws:ecs:eu-west-1:123456789012:service-revision/lab/shop/"), "{green}");
    assert_eq!(record.hooks.len(), 1);
    assert_eq!(record.hooks[0].status, HookStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn in_progress_is_asked_again_with_what_it_returned() {
    let world = World::new(
        |service| {
            at(Stage::PostScaleUp)(service);
            service.hooks[0].details = Some(json!({"policy": "strict", "round": 0}));
        },
        |_, before| match before {
            0 => Ok(json!({"hookStatus": "IN_PROGRESS", "callBackDelay": 7, "hookDetails": {"round": 1}})),
            1 => Ok(json!({"hookStatus": "IN_PROGRESS", "hookDetails": {"baseline": [1.5]}})),
            _ => Ok(json!({"hookStatus": "SUCCEEDED", "hookDetails": {"ignored": true}})),
        },
    )
    .await;
    let played = world.play().await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::Successful);
    let details = [0, 1, 2].map(|index| world.event(index)["hookDetails"].clone());
    assert_eq!(
        details,
        [
            json!({"policy": "strict", "round": 0}),
            json!({"policy": "strict", "round": 1}),
            json!({"policy": "strict", "round": 1, "baseline": [1.5]}),
        ]
    );
    let times: Vec<Instant> = world.calls.lock().unwrap().iter().map(|call| call.0).collect();
    assert_eq!(times[1].duration_since(times[0]).as_secs(), 7);
    assert_eq!(times[2].duration_since(times[1]).as_secs(), 30, "the default delay");
    assert_eq!(world.event(0)["executionId"], world.event(2)["executionId"]);
}

#[tokio::test(start_paused = true)]
async fn how_far_returned_details_are_carried_is_a_switch() {
    for (carried, expected) in [
        (HookDetails::Never, [Value::Null, Value::Null, Value::Null]),
        (HookDetails::WithinStage, [Value::Null, json!({"seen": 1}), Value::Null]),
        (HookDetails::WholeDeployment, [Value::Null, json!({"seen": 1}), json!({"seen": 1})]),
    ] {
        let world = World::new(
            |service| {
                service.hooks = vec![EcsHook::function("gate", &[Stage::PreScaleUp, Stage::PostScaleUp])];
                service.doubts.hook_details = carried;
            },
            |_, before| match before {
                0 => Ok(json!({"hookStatus": "IN_PROGRESS", "hookDetails": {"seen": 1}})),
                _ => succeeded(),
            },
        )
        .await;
        world.play().await;
        assert_eq!([0, 1, 2].map(|index| world.event(index)["hookDetails"].clone()), expected, "{carried:?}");
        // Of the deployment before nothing is left.
        world.play().await;
        assert_eq!(world.event(3)["hookDetails"], Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn whether_the_delay_is_read_is_a_switch() {
    for (call_back_delay, seconds) in [(CallBackDelay::Read, 7), (CallBackDelay::Unread, 30)] {
        let world = World::new(
            |service| {
                service.hooks = vec![EcsHook::function("gate", &[Stage::PreScaleUp])];
                service.doubts.call_back_delay = call_back_delay;
            },
            |_, before| match before {
                0 => Ok(json!({"hookStatus": "IN_PROGRESS", "callBackDelay": 7})),
                _ => succeeded(),
            },
        )
        .await;
        world.play().await;
        let times: Vec<Instant> = world.calls.lock().unwrap().iter().map(|call| call.0).collect();
        assert_eq!(times[1].duration_since(times[0]).as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn bad_answers_roll_back_with_the_words_of_ecs() {
    const GATE: &str = "arn:aws:lambda:eu-west-1:123456789012:function:gate";
    let null =
        format!("ECS was unable to parse the response from {GATE} due to: HookStatus must not be null.");
    let error = |name: &str, cause: &str| Err(TaskError::new(name, cause));
    for (answer, detail) in [
        (failed(), format!("Lifecycle hook target {GATE} returned FAILED status.")),
        (error("Oops", "{\"errorType\": \"Oops\"}"), null.clone()),
        (error("Sandbox.Timedout", "{}"), null.clone()),
        (error("Lambda.Unknown", "<html>"), null.clone()),
        (Ok(Value::Null), null.clone()),
        (Ok(json!("SUCCEEDED")), null.clone()),
        (Ok(json!({"hookStatus": "MAYBE"})), null.clone()),
        (Ok(json!({"hookstatus": "SUCCEEDED"})), null),
    ] {
        let given = answer.clone();
        let world = World::new(at(Stage::PreScaleUp), move |_, _| given.clone()).await;
        let record = world.play().await.record;
        assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful, "{answer:?}");
        let reason =
            format!("Service deployment rolled back because PRE_SCALE_UP lifecycle hook(s) failed. {detail}");
        assert_eq!(record.status_reason.as_deref(), Some(reason.as_str()), "{answer:?}");
        assert_eq!(record.rollback.unwrap().reason, reason);
        assert_eq!(record.hooks[0].status, HookStatus::Failed);
        assert_eq!(
            world.calls.lock().unwrap().len(),
            1,
            "nothing had shifted, so nothing is asked in the rollback"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_too_long_rolls_back_or_goes_on() {
    let in_progress = |_: &Value, _| Ok(json!({"hookStatus": "IN_PROGRESS"}));
    for (on_timeout, status) in [
        (TimeoutAction::Rollback, ServiceDeploymentStatus::RollbackSuccessful),
        (TimeoutAction::Continue, ServiceDeploymentStatus::Successful),
    ] {
        let world = World::new(
            |service| {
                at(Stage::PostScaleUp)(service);
                service.hooks[0].timeout_minutes = Some(3.0);
                service.hooks[0].on_timeout = on_timeout;
            },
            in_progress,
        )
        .await;
        let started = Instant::now();
        let record = world.play().await.record;
        assert_eq!((record.status, record.hooks[0].status), (status, HookStatus::TimedOut));
        assert_eq!(started.elapsed().as_secs(), 180);
    }
    let world = World::new(at(Stage::PostScaleUp), in_progress).await;
    let started = Instant::now();
    world.play().await;
    assert_eq!(started.elapsed().as_secs(), 24 * 3600, "the limit of a hook without one of its own");
}

#[tokio::test(start_paused = true)]
async fn hooks_of_a_stage_run_side_by_side_and_one_decides() {
    let world = World::new(
        |service| {
            let hook = |details: Value| {
                let mut hook = EcsHook::function("gate", &[Stage::PreScaleUp]);
                hook.details = Some(details);
                hook
            };
            service.hooks = vec![hook(json!({"slow": true})), hook(json!({"slow": false}))];
        },
        |event, _| {
            if event["hookDetails"]["slow"] == true {
                Ok(json!({"hookStatus": "IN_PROGRESS"}))
            } else {
                failed()
            }
        },
    )
    .await;
    let started = Instant::now();
    let record = world.play().await.record;
    assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(started.elapsed().as_secs(), 0, "the slow one is not waited for");
    assert_eq!(world.calls.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_for_its_answer() {
    for (action, status) in [
        ("CONTINUE", ServiceDeploymentStatus::Successful),
        ("ROLLBACK", ServiceDeploymentStatus::RollbackSuccessful),
    ] {
        let world = World::new(
            |service| service.hooks = vec![EcsHook::wait("ecs-pause-1", Stage::PostTestTrafficShift)],
            |_, _| panic!("there is no function"),
        )
        .await;
        let ecs = Arc::clone(&world.ecs);
        let mut answered = None;
        let played = world
            .play_with(|happening, arn| {
                let EcsHappening::Stage { stage: Stage::PostTestTrafficShift, ended: false, .. } = happening
                else {
                    return;
                };
                // The hook opens right after its stage begins.
                let (ecs, arn) = (Arc::clone(&ecs), arn.to_owned());
                answered = Some(tokio::spawn(async move {
                    let input = |hook: &str| {
                        json!({"serviceDeploymentArn": arn, "hookId": hook, "action": action}).to_string()
                    };
                    let other = ecs.handle("ContinueServiceDeployment", input("ecs-pause-2").as_bytes());
                    assert_eq!(other.unwrap_err().code, "InvalidParameterException");
                    let hook = || ecs.deployment(&arn).unwrap().hooks.first().cloned();
                    while hook().is_none() {
                        tokio::task::yield_now().await;
                    }
                    assert_eq!(hook().unwrap().status, HookStatus::AwaitingAction);
                    ecs.handle("ContinueServiceDeployment", input("ecs-pause-1").as_bytes()).unwrap();
                }));
            })
            .await;
        answered.unwrap().await.unwrap();
        assert_eq!(played.record.status, status);
    }
}
