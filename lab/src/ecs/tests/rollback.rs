//! The way back: failed hooks, stops, alarms, the circuit breaker.

#![expect(clippy::float_cmp, reason = "weights are set and not computed")]

use super::*;

#[tokio::test(start_paused = true)]
async fn the_shifts_hooks_are_asked_again_on_the_way_back() {
    let world = World::new(everywhere, |event, _| {
        if is_at(event, Stage::PostProductionTrafficShift) { failed() } else { succeeded() }
    })
    .await;
    let played = world.play().await;
    let from = played.told.iter().position(|told| told == "rolling back").unwrap();
    assert_eq!(
        played.told[from..],
        [
            "rolling back",
            "PRODUCTION_TRAFFIC_SHIFT",
            "production 0",
            "hook SUCCEEDED",
            "TEST_TRAFFIC_SHIFT",
            "test 0",
            "hook SUCCEEDED",
            "CLEAN_UP",
        ]
    );
    assert_eq!(world.called()[7..], ["PRODUCTION_TRAFFIC_SHIFT -/0", "TEST_TRAFFIC_SHIFT 0/-"]);
    let record = played.record;
    assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful);
    let blue = &record.source[0].revision;
    for (index, kind) in [(7, "productionTrafficWeights"), (8, "testTrafficWeights")] {
        let event = world.event(index);
        assert!(is_rollback(&event), "{event}");
        assert_eq!(event["executionDetails"]["targetServiceRevisionArn"], record.target.revision);
        assert_eq!(event["executionDetails"][kind][blue], 100);
    }
    assert_eq!(&record.rollback.as_ref().unwrap().revision, blue);
    assert_eq!((world.counts(blue), world.counts(&record.target.revision)), ((2, 0), (0, 0)));
    assert_eq!(
        world.sent(),
        [
            "SERVICE_DEPLOYMENT_IN_PROGRESS",
            "SERVICE_DEPLOYMENT_FAILED",
            "SERVICE_DEPLOYMENT_IN_PROGRESS",
            "SERVICE_DEPLOYMENT_COMPLETED"
        ]
    );
    let events = world.events.lock().unwrap();
    assert_eq!(events[0]["detail"]["deploymentId"], events[1]["detail"]["deploymentId"]);
    assert_ne!(events[1]["detail"]["deploymentId"], events[2]["detail"]["deploymentId"]);
    assert_eq!(events[1]["detail"]["eventType"], "ERROR");
    assert_eq!(events[1]["detail"]["reason"], record.status_reason.unwrap());
    assert_eq!(events[0]["resources"], json!(["arn:aws:ecs:eu-west-1:123456789012:service/lab/shop"]));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_on_the_way_back_fails_the_rollback() {
    let world = World::new(everywhere, |event, _| {
        if is_at(event, Stage::PostTestTrafficShift) || is_rollback(event) { failed() } else { succeeded() }
    })
    .await;
    let played = world.play().await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::RollbackFailed);
    let reason = played.record.status_reason.unwrap();
    assert!(reason.contains("TEST_TRAFFIC_SHIFT lifecycle hook(s) failed."), "{reason}");
    assert_eq!(played.record.target.test_weight, 0.0, "traffic went back before the hook was asked");
    assert_eq!(world.called().last().unwrap(), "TEST_TRAFFIC_SHIFT 0/-");

    // Two revisions are active now, which the next deployment begins with.
    let next = world.play().await;
    assert_eq!(next.told[0], "RECONCILE_SERVICE");
    assert_eq!(next.record.source.len(), 2);
    let failed = &played.record.target.revision;
    assert_eq!(world.counts(failed), (0, 0));
    assert_eq!(next.record.rollback_candidate(), Some(played.record.source[0].revision.as_str()));
}

#[tokio::test(start_paused = true)]
async fn reconcile_tells_both_weights() {
    let world = World::new(
        |service| {
            service.hooks = vec![EcsHook::function("gate", &[Stage::ReconcileService, Stage::PostScaleUp])];
        },
        |_, before| if before == 0 { Ok(json!({"hookStatus": "IN_PROGRESS"})) } else { succeeded() },
    )
    .await;
    world
        .play_with(|happening, arn| {
            if let EcsHappening::HookAnswered { .. } = happening {
                let input = json!({"serviceDeploymentArn": arn, "stopType": "ABORT"});
                world.call("StopServiceDeployment", &input).unwrap();
            }
        })
        .await;
    let played = world.play().await;
    assert_eq!(world.called(), ["POST_SCALE_UP -/-", "RECONCILE_SERVICE 0/0", "POST_SCALE_UP -/-"]);
    let weights = world.event(1)["executionDetails"]["productionTrafficWeights"].clone();
    assert_eq!(weights.as_object().unwrap().len(), 3);
    assert_eq!(weights[played.record.rollback_candidate().unwrap()], 100);
}

#[tokio::test(start_paused = true)]
async fn a_stop_rolls_back_from_every_stage() {
    let canary = Strategy::Canary { percent: 10.0, bake_minutes: 10.0 };
    for at in Stage::ALL.into_iter().filter(|at| !matches!(at, Stage::ReconcileService | Stage::CleanUp)) {
        let world = World::new(
            |service| {
                everywhere(service);
                service.strategy = canary;
                service.bake_minutes = 5.0;
                // Else the stage is over before anybody can stop it.
                if at == Stage::ScaleUp {
                    service.next_version.accepting = false;
                }
            },
            move |event, _| {
                let waits = is_at(event, at) && !is_rollback(event);
                if waits { Ok(json!({"hookStatus": "IN_PROGRESS"})) } else { succeeded() }
            },
        )
        .await;
        let mut stops = Vec::new();
        let played = world
            .play_with(|happening, arn| match happening {
                EcsHappening::Stage { stage, ended: false, .. } if *stage == at && stops.is_empty() => {
                    stops = vec![world.stop(arn), world.stop(arn)];
                    let seen = world.ecs.deployment(arn).unwrap().status;
                    assert_eq!(seen, ServiceDeploymentStatus::RollbackRequested);
                }
                _ => {}
            })
            .await;
        let record = played.record;
        assert_eq!(
            stops,
            [Ok(json!({"serviceDeploymentArn": record.arn})), Err("ConflictException".to_owned())]
        );
        assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful, "{at:?}");
        assert_eq!(record.target.production_weight, 0.0);
        assert_eq!(world.counts(&record.target.revision), (0, 0));
        assert_eq!(world.counts(&record.source[0].revision), (2, 0));
        assert_eq!(world.stop(&record.arn), Err("ConflictException".to_owned()), "it is over");
        let back: Vec<String> = (0..world.called().len())
            .filter(|&index| is_rollback(&world.event(index)))
            .map(|index| world.event(index)["lifecycleStage"].as_str().unwrap().to_owned())
            .collect();
        let expected: &[&str] = match at {
            Stage::ProductionTrafficShift | Stage::PostProductionTrafficShift | Stage::BakeTime => {
                &["PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT"]
            }
            Stage::TestTrafficShift | Stage::PostTestTrafficShift | Stage::PreProductionTrafficShift => {
                &["TEST_TRAFFIC_SHIFT"]
            }
            _ => &[],
        };
        assert_eq!(back, expected, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_leaves_everything_as_it_is() {
    let world = World::new(
        |service| {
            everywhere(service);
            service.strategy = Strategy::Canary { percent: 10.0, bake_minutes: 10.0 };
        },
        |_, _| succeeded(),
    )
    .await;
    let played = world
        .play_with(|happening, arn| {
            if let EcsHappening::Weight { test: false, .. } = happening {
                let input = json!({"serviceDeploymentArn": arn, "stopType": "ABORT"});
                world.call("StopServiceDeployment", &input).unwrap();
            }
        })
        .await;
    let record = played.record;
    assert_eq!(record.status, ServiceDeploymentStatus::Stopped);
    assert!(record.stopped.is_some() && record.rollback.is_none());
    assert_eq!(record.target.production_weight, 10.0);
    assert_eq!(
        (world.counts(&record.target.revision), world.counts(&record.source[0].revision)),
        ((2, 0), (2, 0))
    );
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_rings_at_the_start_is_ignored_for_good() {
    let alarms = |rollback| EcsAlarms { names: vec!["old".to_owned(), "new".to_owned()], rollback };
    let world = |rollback| {
        World::new(
            move |service| {
                service.alarms = Some(alarms(rollback));
                service.bake_minutes = 10.0;
            },
            |_, _| succeeded(),
        )
    };
    let quiet = world(true).await;
    quiet.cloudwatch.set_alarm_state("old", true);
    let record = quiet
        .play_with(|happening, _| {
            if let EcsHappening::Stage { stage: Stage::PostScaleUp, ended: false, .. } = happening {
                // It falls silent and rings again.
                quiet.cloudwatch.set_alarm_state("old", false);
            }
            if let EcsHappening::Stage { stage: Stage::BakeTime, ended: false, .. } = happening {
                quiet.cloudwatch.set_alarm_state("old", true);
            }
        })
        .await
        .record;
    assert_eq!(record.status, ServiceDeploymentStatus::Successful);
    assert_eq!(record.alarms, MonitorStatus::MonitoringComplete);

    for (rollback, status) in
        [(true, ServiceDeploymentStatus::RollbackSuccessful), (false, ServiceDeploymentStatus::Stopped)]
    {
        let loud = world(rollback).await;
        loud.cloudwatch.set_alarm_state("old", true);
        let record = loud
            .play_with(|happening, _| {
                if let EcsHappening::Stage { stage: Stage::BakeTime, ended: false, .. } = happening {
                    loud.cloudwatch.set_alarm_state("new", true);
                }
            })
            .await
            .record;
        assert_eq!((record.status, record.alarms), (status, MonitorStatus::Triggered));
        assert_eq!(record.triggered, ["new"]);
        assert!(record.status_reason.unwrap().contains("new"));
        assert_eq!(record.target.production_weight, if rollback { 0.0 } else { 100.0 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_circuit_breaker_opens_when_green_does_not_run() {
    for (breaker, status) in [
        (Some(CircuitBreaker { rollback: true }), ServiceDeploymentStatus::RollbackSuccessful),
        (Some(CircuitBreaker { rollback: false }), ServiceDeploymentStatus::Stopped),
        (None, ServiceDeploymentStatus::RollbackSuccessful),
    ] {
        let world = World::new(
            |service| {
                service.next_version.accepting = false;
                service.circuit_breaker = breaker;
                service.doubts.failed_event = FailedEvent::WithCircuitBreaker;
            },
            |_, _| succeeded(),
        )
        .await;
        let started = Instant::now();
        let record = world.play().await.record;
        assert_eq!(record.status, status, "{breaker:?}");
        let reason = record.status_reason.clone().unwrap();
        let sends = world.sent().contains(&"SERVICE_DEPLOYMENT_FAILED".to_owned());
        assert_eq!(sends, breaker.is_some(), "the switch");
        if let Some(breaker) = breaker {
            let what = if breaker.rollback { "rolled back" } else { "stopped" };
            assert_eq!(
                reason,
                format!("Service deployment {what} because the circuit breaker threshold was exceeded.")
            );
            assert_eq!((record.circuit_breaker, record.failures), (MonitorStatus::Triggered, 4));
            assert_eq!(
                world.events.lock().unwrap()[1]["detail"]["reason"],
                "ECS deployment circuit breaker: task failed to start."
            );
            assert!(started.elapsed() < Duration::from_mins(1));
        } else {
            assert!(started.elapsed() > Duration::from_hours(1), "nothing else ends it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn which_hooks_a_rollback_calls_and_what_they_may_answer_are_switches() {
    for (stages, answer, called, status) in [
        (RollbackStages::BothShifts, FailedInRollback::BreaksIt, 1, ServiceDeploymentStatus::RollbackFailed),
        (
            RollbackStages::BothShifts,
            FailedInRollback::Ignored,
            2,
            ServiceDeploymentStatus::RollbackSuccessful,
        ),
        (
            RollbackStages::Production,
            FailedInRollback::Ignored,
            1,
            ServiceDeploymentStatus::RollbackSuccessful,
        ),
    ] {
        let world = World::new(
            |service| {
                everywhere(service);
                (service.doubts.rollback_stages, service.doubts.failed_in_rollback) = (stages, answer);
            },
            |event, _| {
                let fails = is_at(event, Stage::PostProductionTrafficShift) || is_rollback(event);
                if fails { failed() } else { succeeded() }
            },
        )
        .await;
        let record = world.play().await.record;
        assert_eq!(record.status, status, "{stages:?} {answer:?}");
        let on_the_way_back =
            world.calls.lock().unwrap().iter().filter(|(_, event)| is_rollback(event)).count();
        assert_eq!(on_the_way_back, called, "{stages:?} {answer:?}");
    }
}
