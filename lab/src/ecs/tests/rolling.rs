//! Rolling deployments.

use super::*;

fn rolling(minimum_healthy_percent: u32, maximum_percent: u32) -> impl FnOnce(&mut EcsService) {
    move |service| {
        service.strategy = Strategy::Rolling { minimum_healthy_percent, maximum_percent };
        service.desired = 4;
        service.bake_minutes = 5.0;
        everywhere(service);
    }
}

async fn world(minimum: u32, maximum: u32, change: impl FnOnce(&mut EcsService)) -> World {
    let service = Arc::new(Service::new("lab", "shop", None));
    let live = service.start(Label::Blue, "", 4, &Behaviour::default()).await.unwrap();
    let both = |service: &mut EcsService| {
        rolling(minimum, maximum)(service);
        change(service);
    };
    World::of(EcsService::new(service, Some(live), 4), both, |_, _| panic!("no hook runs"))
}

/// Plays, and looks at the tasks all the time: the fewest that were ready, and the most that there were.
async fn watched(world: &World) -> (Played, usize, usize) {
    let (mut fewest, mut most) = (usize::MAX, 0);
    let watch = async {
        loop {
            let sets = {
                let state = world.ecs.lock();
                let tasks = state.revisions.values().filter_map(|revision| revision.tasks.clone());
                tasks.collect::<Vec<_>>()
            };
            fewest = fewest.min(sets.iter().map(|set| world.service.readiness(set).ready).sum());
            most = most.max(sets.iter().map(|set| set.desired()).sum());
            // Finer than the engine's own looks.
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    };
    let played = tokio::select! {
        played = world.play() => played,
        () = watch => unreachable!(),
    };
    (played, fewest, most)
}

#[tokio::test(start_paused = true)]
async fn green_replaces_blue_within_the_limits() {
    for (minimum, maximum, fewest, most) in
        [(100, 200, 4, 8), (50, 100, 2, 4), (100, 125, 4, 5), (75, 150, 3, 6)]
    {
        let world = world(minimum, maximum, |_| {}).await;
        let (played, seen_fewest, seen_most) = watched(&world).await;
        assert_eq!(played.record.status, ServiceDeploymentStatus::Successful, "{minimum} {maximum}");
        assert_eq!(played.told, ["SCALE_UP", "BAKE_TIME", "CLEAN_UP"]);
        assert_eq!((seen_fewest, seen_most), (fewest, most), "{minimum} {maximum}");
        assert_eq!(world.counts(&played.record.target.revision), (4, 0));
        assert_eq!(world.counts(&played.record.source[0].revision), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_brings_blue_s_tasks_back() {
    let world = world(50, 100, |_| {}).await;
    let stop_when_baking = world
        .play_with(|happening, arn| {
            if let EcsHappening::Stage { stage: Stage::BakeTime, ended: false, .. } = happening {
                world.stop(arn).unwrap();
            }
        })
        .await;
    let record = stop_when_baking.record;
    assert_eq!(record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(world.counts(&record.source[0].revision), (4, 0));
    assert_eq!(world.counts(&record.target.revision), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_run_never_replace_blue() {
    let world = world(100, 150, |service| {
        service.next_version.accepting = false;
        service.circuit_breaker = Some(CircuitBreaker { rollback: true });
    })
    .await;
    let (played, fewest, _) = watched(&world).await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert_eq!(fewest, 4);
    assert_eq!(world.counts(&played.record.source[0].revision), (4, 0));
    let seen = world.call("DescribeServices", &json!({"cluster": "lab", "services": ["shop"]})).unwrap();
    assert_eq!(seen["services"][0]["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(seen["services"][0]["runningCount"], 4);
}
