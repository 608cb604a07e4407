use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::http::testing::{eventually, get};
use super::*;
use crate::application::{Application, Behaviour};
use crate::service::Label;
use crate::traffic::{Served, Traffic};

/// Everything that was recorded: metric, dimensions, value.
#[derive(Default)]
struct Recorded(Mutex<Vec<(String, String, f64)>>);

impl Recorded {
    fn recorder(self: &Arc<Self>) -> Recorder {
        let recorded = Arc::clone(self);
        Arc::new(move |namespace, metric, dimensions, _, value| {
            assert_eq!(namespace, "AWS/ApplicationELB");
            let names: Vec<_> = dimensions.iter().map(|(name, _)| *name).collect();
            recorded.0.lock().unwrap().push((
                metric.to_owned(),
                format!("{} {dimensions:?}", names.join(",")),
                value,
            ));
        })
    }

    /// Sum of a metric over one dimension set, of the group with this name.
    fn sum(&self, metric: &str, names: &str, group: &str) -> f64 {
        let recorded = self.0.lock().unwrap();
        let chosen = recorded.iter().filter(|(recorded, dimensions, _)| {
            recorded == metric && dimensions.starts_with(&format!("{names} ")) && dimensions.contains(group)
        });
        chosen.map(|(_, _, value)| value).sum()
    }
}

struct World {
    balancer: Arc<LoadBalancer>,
    recorded: Arc<Recorded>,
    blue: Application,
    green: Application,
}

fn group(name: &str) -> TargetGroupSpec {
    let health_check = HealthCheck {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(200),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..HealthCheck::default()
    };
    TargetGroupSpec { name: name.to_owned(), health_check, deregistration_delay: Duration::ZERO }
}

fn target(version: Label, application: &Application) -> Target {
    Target {
        id: "10.0.0.1".to_owned(),
        address: application.address(),
        zone: "eu-west-1a".to_owned(),
        version,
    }
}

fn fast() -> Behaviour {
    Behaviour { latency_ms: 0.0, ..Behaviour::default() }
}

/// Requests to `/green` have a rule of their own.
fn rules() -> Vec<RuleSpec> {
    let conditions = vec![Condition::Path(vec!["/green*".to_owned()])];
    vec![RuleSpec { listener: ListenerKind::Production, priority: 1, conditions }]
}

/// A balancer with one target in each group, blue in use and healthy.
async fn world() -> World {
    let recorded = Arc::new(Recorded::default());
    let spec = LoadBalancerSpec {
        name: "shop".to_owned(),
        target_groups: [group("blue"), group("green")],
        test_listener: true,
        rules: rules(),
    };
    let balancer = LoadBalancer::start(spec, recorded.recorder()).await.unwrap();
    let blue = Application::start("blue", fast()).await.unwrap();
    let green = Application::start("green", fast()).await.unwrap();
    balancer.register("blue", target(Label::Blue, &blue)).unwrap();
    balancer.register("green", target(Label::Green, &green)).unwrap();
    let world = World { balancer, recorded, blue, green };
    world.wait_for("blue", TargetState::Healthy).await;
    world
}

impl World {
    async fn wait_for(&self, group: &str, state: TargetState) {
        eventually(state.as_str(), async || self.balancer.health(group).unwrap()[0].state == state).await;
    }

    fn shift(&self, blue: u32, green: u32) {
        let weights = [("blue".to_owned(), blue), ("green".to_owned(), green)];
        self.balancer.set_weights(ListenerKind::Production, &weights).unwrap();
    }

    async fn ask(&self) -> u16 {
        get(self.balancer.production_address(), "/").await.unwrap().0
    }

    fn sum(&self, metric: &str, group: &str) -> f64 {
        self.recorded.sum(metric, "LoadBalancer,TargetGroup", group)
    }
}

#[tokio::test]
async fn users_learn_which_version_they_got_whoever_answers() {
    let world = world().await;
    world.shift(50, 50);
    world.wait_for("green", TargetState::Healthy).await;
    let users = Traffic::start(world.balancer.production_address(), 500.0);
    eventually("both answer", async || {
        let stats = users.stats();
        stats.blue.requests >= 20 && stats.green.requests >= 20
    })
    .await;
    let stats = users.stats();
    assert_eq!((stats.blue.bad, stats.green.bad), (0, 0));

    world.green.set(Behaviour { errors: 1.0, ..fast() });
    eventually("green's errors", async || users.stats().green.bad >= 20).await;
    // Nobody but the balancer can answer now.
    world.green.set(Behaviour { accepting: false, ..fast() });
    world.blue.set(Behaviour { accepting: false, ..fast() });
    eventually("blue's errors", async || users.stats().blue.bad >= 20).await;

    let (all, blue, green) = (users.stats(), users.stats().blue, users.stats().green);
    assert!(blue.bad <= blue.requests && green.bad <= green.requests, "{blue:?} {green:?}");
    assert!(blue.bad > 0 && all.errors > 0);
    let seconds = Served { requests: 5, bad: 3 } - Served { requests: 2, bad: 1 };
    assert_eq!(seconds, Served { requests: 3, bad: 2 });
}

#[tokio::test]
async fn a_group_is_checked_once_a_listener_forwards_to_it() {
    let world = world().await;
    assert_eq!(world.balancer.health("green").unwrap()[0].state, TargetState::Unused);
    assert!(world.balancer.target_group("red").is_err());

    world.shift(100, 0);
    world.wait_for("green", TargetState::Healthy).await;
    eventually("counts are recorded", async || world.sum("HealthyHostCount", "green") >= 1.0).await;

    world.green.set(Behaviour { healthy: false, ..fast() });
    world.wait_for("green", TargetState::Unhealthy).await;
    let reason = world.balancer.health("green").unwrap()[0].reason.clone().unwrap();
    assert_eq!(reason.0, "Target.ResponseCodeMismatch");
    eventually("counts are recorded", async || world.sum("UnHealthyHostCount", "green") >= 1.0).await;
    assert!(world.sum("RequestCount", "").abs() < 0.5, "health checks are no requests");
}

#[tokio::test]
async fn a_slow_health_check_times_out() {
    let world = world().await;
    world.blue.set(Behaviour { latency_ms: 60_000.0, ..fast() });
    world.wait_for("blue", TargetState::Unhealthy).await;
    assert_eq!(world.balancer.health("blue").unwrap()[0].reason.clone().unwrap().0, "Target.Timeout");
}

#[tokio::test]
async fn requests_follow_the_weights_and_are_counted() {
    let world = world().await;
    world.shift(50, 50);
    world.wait_for("green", TargetState::Healthy).await;
    for _ in 0..200 {
        assert_eq!(world.ask().await, 200);
    }
    let (blue, green) = (world.sum("RequestCount", "blue"), world.sum("RequestCount", "green"));
    assert!((blue + green - 200.0).abs() < 0.5);
    // Six standard deviations of a binomial distribution.
    assert!((58.0..142.0).contains(&green), "{green}");
    assert!((world.sum("HTTPCode_Target_2XX_Count", "green") - green).abs() < 0.5);
    assert!(world.sum("TargetResponseTime", "green") > 0.0);
    let zoned = world.recorded.sum("RequestCount", "AvailabilityZone,LoadBalancer,TargetGroup", "eu-west-1a");
    let together = world.recorded.sum("RequestCount", "LoadBalancer", "app/shop/");
    assert!((zoned - 200.0).abs() < 0.5 && (together - 200.0).abs() < 0.5);

    world.shift(0, 100);
    world.green.set(Behaviour { errors: 1.0, ..fast() });
    assert_eq!(world.ask().await, 500);
    assert!((world.sum("HTTPCode_Target_5XX_Count", "green") - 1.0).abs() < 0.5);
    assert!((world.sum("RequestCount", "blue") - blue).abs() < 0.5, "weight 0 gets nothing");
}

#[tokio::test]
async fn the_balancer_answers_when_no_target_does() {
    let world = world().await;
    let address = world.blue.address();
    world.blue.set(Behaviour { accepting: false, ..fast() });
    eventually("blue is gone", async || get(address, "/").await.is_err()).await;
    world.wait_for("blue", TargetState::Unhealthy).await;
    assert_eq!(world.ask().await, 502, "fails open to the only target");
    assert!((world.sum("TargetConnectionErrorCount", "blue") - 1.0).abs() < 0.5);

    world.balancer.deregister("blue", "10.0.0.1").unwrap();
    assert_eq!(world.ask().await, 503);
    assert!((world.recorded.sum("HTTPCode_ELB_5XX_Count", "LoadBalancer", "app/shop/") - 2.0).abs() < 0.5);
    assert!(
        (world.sum("RequestCount", "blue") - 1.0).abs() < 0.5,
        "a request without a target is not counted"
    );
}

#[tokio::test]
async fn listeners_have_their_own_weights() {
    let world = world().await;
    world.balancer.set_weights(ListenerKind::Test, &[("green".to_owned(), 1)]).unwrap();
    assert_eq!(world.balancer.weights(ListenerKind::Production), [("blue".to_owned(), 1)]);
    let test = world.balancer.test_address().unwrap();
    assert!(get(test, "/").await.unwrap().1.contains("green"));
    assert!(get(world.balancer.production_address(), "/").await.unwrap().1.contains("blue"));

    for weights in [vec![], vec![("red".to_owned(), 1)], vec![("green".to_owned(), 1_000)]] {
        assert!(world.balancer.set_weights(ListenerKind::Test, &weights).is_err(), "{weights:?}");
    }
    assert_eq!(world.balancer.weights(ListenerKind::Test), [("green".to_owned(), 1)]);
}

#[tokio::test]
async fn requests_reach_the_target_whole() {
    use http_body_util::{BodyExt, Full};
    let world = world().await;
    let request = hyper::Request::put(format!("http://{}/echo?a=1", world.balancer.production_address()))
        .header("host", "shop.example.com")
        .header("te", "trailers")
        .body(Full::<hyper::body::Bytes>::from("ping"))
        .unwrap();
    let response = super::http::client(0).request(request).await.unwrap();
    let echoed: serde_json::Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(echoed["method"], "PUT");
    assert_eq!(echoed["query"], "a=1");
    assert_eq!(echoed["body"], "ping");
    assert_eq!(echoed["headers"]["host"], "shop.example.com");
    assert_eq!(echoed["headers"]["te"], serde_json::Value::Null);
}

#[tokio::test]
async fn stops_when_dropped() {
    let world = world().await;
    let address = world.balancer.production_address();
    drop(world.balancer);
    eventually("it stops", async || get(address, "/").await.is_err()).await;
}

#[tokio::test]
async fn a_rule_takes_its_requests_and_keeps_its_group_in_use() {
    let world = world().await;
    let balancer = &world.balancer;
    let arn = balancer.listener(ListenerKind::Production).unwrap().rules[0].arn.clone();
    let group = |name: &str| balancer.target_group(name).unwrap();
    assert!(!group("green").in_use(), "at first a rule forwards to the first group");
    balancer.set_rule_weights(&arn, &[("green".to_owned(), 1)]).unwrap();
    assert!(group("green").in_use() && group("blue").in_use());
    world.wait_for("green", TargetState::Healthy).await;

    let asked = async |path: &str| get(balancer.production_address(), path).await.unwrap().1;
    assert!(asked("/green/7").await.contains("green"));
    assert!(asked("/blue").await.contains("blue"));

    balancer.set_rule_weights(&arn, &[("blue".to_owned(), 1)]).unwrap();
    assert!(!group("green").in_use(), "nothing names it any more");
    assert!(asked("/green/7").await.contains("blue"));
    assert_eq!(
        balancer.set_rule_weights("arn:none", &[("blue".to_owned(), 1)]).unwrap_err().code,
        "RuleNotFound"
    );
}
