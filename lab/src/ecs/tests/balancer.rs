//! With a real balancer, and so in real time: rules get the weights, and the two target groups take turns.

use super::*;
use crate::load_balancer::{
    Condition, HealthCheck, ListenerKind, LoadBalancer, LoadBalancerSpec, RuleSpec, TargetGroupSpec,
};

fn group(name: &str) -> TargetGroupSpec {
    let health_check = HealthCheck {
        path: "/health".to_owned(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        ..HealthCheck::default()
    };
    TargetGroupSpec { name: name.to_owned(), health_check, deregistration_delay: Duration::ZERO }
}

async fn world(change: impl FnOnce(&mut EcsService)) -> (World, Arc<LoadBalancer>) {
    let rule = |listener| RuleSpec {
        listener,
        priority: 1,
        conditions: vec![Condition::Path(vec!["/shop/*".to_owned()])],
    };
    let spec = LoadBalancerSpec {
        name: "shop".to_owned(),
        target_groups: [group("one"), group("two")],
        test_listener: true,
        rules: vec![rule(ListenerKind::Production), rule(ListenerKind::Test)],
    };
    let balancer = LoadBalancer::start(spec, Arc::new(|_, _, _, _, _| {})).await.unwrap();
    let rule = |kind| Route::Rule(balancer.listener(kind).unwrap().rules[0].arn.clone());
    let routing = Routing {
        target_groups: ["one".to_owned(), "two".to_owned()],
        production: rule(ListenerKind::Production),
        test: Some(rule(ListenerKind::Test)),
    };
    let service = Arc::new(Service::new("lab", "shop", Some(Arc::clone(&balancer))));
    let behaviour = Behaviour { latency_ms: 0.0, ..Behaviour::default() };
    let live = service.start(Label::Blue, "one", 2, &behaviour).await.unwrap();
    let mut spec = EcsService::new(service, Some(live), 2);
    spec.routing = Some(routing);
    spec.next_version = behaviour;
    change(&mut spec);
    let pace = EcsPace {
        minute: Duration::from_millis(10),
        default_delay: Duration::from_millis(5),
        hook_timeout: Duration::from_secs(10),
        stage_timeout: Duration::from_secs(10),
    };
    (World::paced(pace, spec, |_, _| succeeded()), balancer)
}

fn weights(balancer: &LoadBalancer, kind: ListenerKind) -> Vec<(String, u32)> {
    let rule = &balancer.listener(kind).unwrap().rules[0];
    rule.forwards().into_iter().map(|(group, weight)| (group.name.clone(), weight)).collect()
}

fn pair(one: u32, two: u32) -> Vec<(String, u32)> {
    vec![("one".to_owned(), one), ("two".to_owned(), two)]
}

#[tokio::test]
async fn rules_get_the_weights_and_the_groups_take_turns() {
    let (world, balancer) =
        world(|service| service.strategy = Strategy::Canary { percent: 0.1, bake_minutes: 1.0 }).await;
    assert_eq!(weights(&balancer, ListenerKind::Production), pair(100, 0));
    let mut seen = Vec::new();
    let look = |happening: &EcsHappening, seen: &mut Vec<_>| {
        if let EcsHappening::Weight { test, .. } = happening {
            let kind = if *test { ListenerKind::Test } else { ListenerKind::Production };
            seen.push((*test, weights(&balancer, kind)));
        }
    };
    let first = world.play_with(|happening, _| look(happening, &mut seen)).await.record;
    assert_eq!(first.status, ServiceDeploymentStatus::Successful, "{:?}", first.status_reason);
    assert_eq!(seen.len(), 3, "test, canary, everything");
    assert_eq!(seen[0], (true, pair(0, 100)));
    assert_eq!(weights(&balancer, ListenerKind::Production), pair(0, 100));

    let input = json!({"serviceRevisionArns": [first.target.revision, first.source[0].revision]});
    let revisions = world.call("DescribeServiceRevisions", &input).unwrap();
    let arn = |name: &str| balancer.target_group(name).unwrap().arn.clone();
    let rule = balancer.listener(ListenerKind::Production).unwrap().rules[0].arn.clone();
    let [green, blue] = [0, 1].map(|index| revisions["serviceRevisions"][index].clone());
    assert_eq!(
        green["resolvedConfiguration"],
        json!({"loadBalancers": [{"targetGroupArn": arn("two"), "productionListenerRule": rule}]})
    );
    assert_eq!(blue["resolvedConfiguration"], Value::Null, "it has no tasks any more");
    let advanced = &green["loadBalancers"][0]["advancedConfiguration"];
    assert_eq!(advanced["productionListenerRule"], rule);
    assert_eq!(advanced["alternateTargetGroupArn"], arn("two"));
    assert!(advanced["testListenerRule"].as_str().unwrap().contains(":listener-rule/app/shop/"));

    let second = world.play().await.record;
    assert_eq!(second.status, ServiceDeploymentStatus::Successful, "{:?}", second.status_reason);
    assert_eq!(weights(&balancer, ListenerKind::Production), pair(100, 0));
    assert_eq!(weights(&balancer, ListenerKind::Test), pair(100, 0));
}

#[tokio::test]
async fn a_green_that_is_not_healthy_gets_no_traffic() {
    let (world, balancer) = world(|service| {
        service.next_version.healthy = false;
        service.circuit_breaker = Some(CircuitBreaker { rollback: true });
    })
    .await;
    let played = world.play().await;
    assert_eq!(played.record.status, ServiceDeploymentStatus::RollbackSuccessful);
    assert!(!played.told.iter().any(|told| told.starts_with("production")), "{:?}", played.told);
    assert_eq!(weights(&balancer, ListenerKind::Production), pair(100, 0));
}

#[tokio::test]
async fn a_rolling_deployment_stays_in_its_group_and_waits_for_health() {
    let (world, balancer) = world(|service| {
        service.strategy = Strategy::Rolling { minimum_healthy_percent: 100, maximum_percent: 200 };
    })
    .await;
    let record = world.play().await.record;
    assert_eq!(record.status, ServiceDeploymentStatus::Successful, "{:?}", record.status_reason);
    assert_eq!(world.ecs.revision(&record.target.revision).unwrap().target_group.as_deref(), Some("one"));
    let states: Vec<_> = balancer.health("one").unwrap().iter().map(|target| target.state.as_str()).collect();
    assert_eq!(states, ["healthy", "healthy"]);
    assert!(balancer.health("two").unwrap().is_empty());
    let seen =
        world.call("DescribeServiceRevisions", &json!({"serviceRevisionArns": [record.target.revision]}));
    let revision = &seen.unwrap()["serviceRevisions"][0];
    let group = balancer.target_group("one").unwrap().arn.clone();
    assert_eq!(revision["resolvedConfiguration"], json!({"loadBalancers": [{"targetGroupArn": group}]}));
    assert_eq!(revision["loadBalancers"][0]["advancedConfiguration"], Value::Null);
}
