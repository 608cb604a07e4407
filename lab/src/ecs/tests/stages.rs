//! The stages of each strategy, and the switches that change their order.

use super::*;

#[tokio::test(start_paused = true)]
async fn blue_green_goes_through_all_stages() {
    let world = World::new(
        |service| {
            everywhere(service);
            service.bake_minutes = 5.0;
        },
        |_, _| succeeded(),
    )
    .await;
    let started = Instant::now();
    let played = world.play().await;
    assert_eq!(
        played.told,
        [
            "PRE_SCALE_UP",
            "hook SUCCEEDED",
            "SCALE_UP",
            "POST_SCALE_UP",
            "hook SUCCEEDED",
            "TEST_TRAFFIC_SHIFT",
            "test 100",
            "hook SUCCEEDED",
            "POST_TEST_TRAFFIC_SHIFT",
            "hook SUCCEEDED",
            "PRE_PRODUCTION_TRAFFIC_SHIFT",
            "hook SUCCEEDED",
            "PRODUCTION_TRAFFIC_SHIFT",
            "production 100",
            "hook SUCCEEDED",
            "POST_PRODUCTION_TRAFFIC_SHIFT",
            "hook SUCCEEDED",
            "BAKE_TIME",
            "CLEAN_UP",
        ]
    );
    assert_eq!(started.elapsed().as_secs(), 300);
    let record = &played.record;
    assert_eq!((record.status, &record.status_reason), (ServiceDeploymentStatus::Successful, &None));
    assert_eq!((record.target.production_weight, record.source[0].production_weight), (100.0, 0.0));
    assert_eq!(world.counts(&record.target.revision), (2, 0));
    assert_eq!(world.counts(&record.source[0].revision), (0, 0));
    assert_eq!(world.sent(), ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"]);
    assert_eq!(
        world.called(),
        [
            "PRE_SCALE_UP -/-",
            "POST_SCALE_UP -/-",
            "TEST_TRAFFIC_SHIFT 100/-",
            "POST_TEST_TRAFFIC_SHIFT -/-",
            "PRE_PRODUCTION_TRAFFIC_SHIFT -/0",
            "PRODUCTION_TRAFFIC_SHIFT -/100",
            "POST_PRODUCTION_TRAFFIC_SHIFT -/-",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn canary_and_linear_ask_at_every_step_and_bake_between() {
    let canary = Strategy::Canary { percent: 0.1, bake_minutes: 10.0 };
    let linear = Strategy::Linear { step_percent: 40.0, step_bake_minutes: 6.0 };
    for (strategy, minutes, expected) in [
        (canary, 10, vec!["PRE 0", "AT 0.1", "PRE 0.1", "AT 100"]),
        (linear, 12, vec!["PRE 0", "AT 40", "PRE 40", "AT 80", "PRE 80", "AT 100"]),
    ] {
        let stages = [Stage::PreProductionTrafficShift, Stage::ProductionTrafficShift];
        let world = World::new(
            |service| {
                service.strategy = strategy;
                service.hooks = vec![EcsHook::function("gate", &stages)];
            },
            |_, _| succeeded(),
        )
        .await;
        let started = Instant::now();
        let played = world.play().await;
        assert_eq!(played.record.status, ServiceDeploymentStatus::Successful);
        assert_eq!(started.elapsed().as_secs(), minutes * 60, "no bake after 100 %");
        let short = |call: String| {
            call.replace("PRE_PRODUCTION_TRAFFIC_SHIFT -/", "PRE ")
                .replace("PRODUCTION_TRAFFIC_SHIFT -/", "AT ")
        };
        assert_eq!(world.called().into_iter().map(short).collect::<Vec<_>>(), expected);
        // What is not green's is blue's, without the noise of binary fractions.
        let details = world.event(1)["executionDetails"].clone();
        let blue = &details["productionTrafficWeights"][&played.record.source[0].revision];
        assert_eq!(blue.to_string(), if minutes == 10 { "99.9" } else { "60" });
    }
}

#[test]
fn steps_add_up() {
    let steps = |step_percent| Strategy::Linear { step_percent, step_bake_minutes: 1.0 }.steps();
    assert_eq!(steps(30.0), [(30.0, 1.0), (60.0, 1.0), (90.0, 1.0), (100.0, 0.0)]);
    assert_eq!(steps(33.3).iter().map(|step| step.0).collect::<Vec<_>>(), [33.3, 66.6, 99.9, 100.0]);
    assert_eq!(steps(100.0), [(100.0, 0.0)]);
    for (percent, weights) in [
        (0.0, (0, 100)),
        (100.0, (100, 0)),
        (10.0, (10, 90)),
        (0.1, (1, 999)),
        (99.9, (999, 1)),
        (33.3, (333, 667)),
    ] {
        assert_eq!(engine::forward_weights(percent), weights, "{percent}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_place_of_the_production_hook_is_a_switch() {
    for (place, expected) in [
        (ProductionHook::BeforeShift, ["hook", "production", "bake", "hook", "production", "bake"]),
        (ProductionHook::AfterShift, ["production", "hook", "bake", "production", "hook", "bake"]),
        (ProductionHook::AfterBake, ["production", "bake", "hook", "production", "bake", "hook"]),
    ] {
        let world = World::new(
            |service| {
                service.strategy = Strategy::Canary { percent: 10.0, bake_minutes: 10.0 };
                service.hooks = vec![EcsHook::function("gate", &[Stage::ProductionTrafficShift])];
                service.doubts.production_hook = place;
            },
            |_, _| succeeded(),
        )
        .await;
        let mut seen: Vec<(Instant, &str)> = Vec::new();
        world
            .play_with(|happening, _| match happening {
                EcsHappening::Weight { test: false, .. } => seen.push((Instant::now(), "production")),
                EcsHappening::HookAnswered { .. } => seen.push((Instant::now(), "hook")),
                _ => {}
            })
            .await;
        // The bake is where ten minutes pass; after the last step none do.
        let mut order: Vec<&str> = Vec::new();
        for (index, (at, what)) in seen.iter().enumerate() {
            if index > 0 && at.duration_since(seen[index - 1].0) >= Duration::from_mins(10) {
                order.push("bake");
            }
            order.push(what);
        }
        let mut expected = expected.to_vec();
        let last_bake = expected.iter().rposition(|what| *what == "bake").unwrap();
        expected.remove(last_bake);
        assert_eq!(order, expected, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_pre_production_hook_and_its_name_are_switches() {
    let canary = Strategy::Canary { percent: 10.0, bake_minutes: 1.0 };
    for (last, shown_as, strategy, expected) in [
        (LastStepHook::Called, StageBeforeStep::Shown, canary, 2),
        (LastStepHook::LeftOut, StageBeforeStep::NotShown, canary, 1),
        (LastStepHook::LeftOut, StageBeforeStep::NotShown, Strategy::BlueGreen, 1),
    ] {
        let world = World::new(
            |service| {
                service.strategy = strategy;
                service.hooks = vec![EcsHook::function("gate", &[Stage::PreProductionTrafficShift])];
                service.doubts.last_step_hook = last;
                service.doubts.stage_before_step = shown_as;
            },
            // Each is asked twice, and the stage is looked at in between.
            |_, before| {
                if before % 2 == 0 { Ok(json!({"hookStatus": "IN_PROGRESS"})) } else { succeeded() }
            },
        )
        .await;
        let mut shown = Vec::new();
        world
            .play_with(|happening, arn| {
                let EcsHappening::HookAnswered { answer, .. } = happening else { return };
                if answer == "IN_PROGRESS" {
                    let input = json!({"serviceDeploymentArns": [arn]});
                    let seen = world.call("DescribeServiceDeployments", &input).unwrap();
                    shown.push(seen["serviceDeployments"][0]["lifecycleStage"].as_str().unwrap().to_owned());
                }
            })
            .await;
        let name = match shown_as {
            StageBeforeStep::Shown => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            StageBeforeStep::NotShown => "PRODUCTION_TRAFFIC_SHIFT",
        };
        assert_eq!(shown, vec![name; expected], "{last:?} {strategy:?}");
        assert_eq!(world.event(0)["lifecycleStage"], "PRE_PRODUCTION_TRAFFIC_SHIFT");
    }
}

#[tokio::test(start_paused = true)]
async fn weights_are_written_as_the_switch_says() {
    for (numbers, expected) in [
        (EventWeights::Integers, ["0", "100"]),
        (EventWeights::Fractions, ["0.1", "100.0"]),
        (EventWeights::AsNeeded, ["0.1", "100"]),
    ] {
        let world = World::new(
            |service| {
                service.strategy = Strategy::Canary { percent: 0.1, bake_minutes: 1.0 };
                service.hooks = vec![EcsHook::function("gate", &[Stage::ProductionTrafficShift])];
                service.doubts.event_weights = numbers;
            },
            |_, _| succeeded(),
        )
        .await;
        world.play().await;
        let seen = [0, 1].map(|index| world.called()[index].rsplit_once('/').unwrap().1.to_owned());
        assert_eq!(seen, expected, "{numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_weights_before_a_step_are_a_switch() {
    for (told, expected) in
        [(WeightsBeforeStep::Current, ["0", "10"]), (WeightsBeforeStep::Requested, ["10", "100"])]
    {
        let world = World::new(
            |service| {
                service.strategy = Strategy::Canary { percent: 10.0, bake_minutes: 1.0 };
                service.hooks = vec![EcsHook::function("gate", &[Stage::PreProductionTrafficShift])];
                service.doubts.weights_before_step = told;
            },
            |_, _| succeeded(),
        )
        .await;
        world.play().await;
        let seen = [0, 1].map(|index| world.called()[index].rsplit_once('/').unwrap().1.to_owned());
        assert_eq!(seen, expected, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_has_no_source_and_no_way_back() {
    let world = World::empty(everywhere, |_, _| succeeded());
    let played = world.play().await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::Successful);
    assert!(played.record.source.is_empty());
    // The next one has a source.
    assert_eq!(world.play().await.record.source[0].revision, played.record.target.revision);

    let world =
        World::empty(
            everywhere,
            |event, _| if is_at(event, Stage::PostScaleUp) { failed() } else { succeeded() },
        );
    let played = world.play().await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::RollbackFailed);
    assert_eq!(
        played.record.status_reason.as_deref(),
        Some("No rollback candidate was found to run the rollback.")
    );
    assert_eq!(played.record.rollback, None);
    assert_eq!(world.counts(&played.record.target.revision), (0, 0));
    assert_eq!(world.sent(), ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_FAILED"]);
}
