use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetGroupTuple, TargetHealthReasonEnum, TargetHealthStateEnum,
};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::task::JoinSet;

use super::*;
use crate::load_balancer::{
    Condition, HealthCheck, ListenerKind, LoadBalancerSpec, RuleSpec, Target, TargetGroupSpec,
};
use crate::service::Label;

/// A balancer, and the SDK's client for the API that describes it.
struct World {
    balancer: Arc<LoadBalancer>,
    client: Client,
    _server: JoinSet<()>,
}

fn group(name: &str) -> TargetGroupSpec {
    let health_check = HealthCheck {
        path: "/healthz?deep=1&x=<y>".to_owned(),
        interval: Duration::from_secs(10),
        matcher: "200-299,302".parse().unwrap(),
        ..HealthCheck::default()
    };
    TargetGroupSpec { name: name.to_owned(), health_check, deregistration_delay: Duration::ZERO }
}

/// One rule with each kind of condition, after one with fewer but a greater number.
fn rules() -> Vec<RuleSpec> {
    let texts = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
    let last = RuleSpec {
        listener: ListenerKind::Production,
        priority: 20,
        conditions: vec![Condition::Path(texts(&["/*"]))],
    };
    let first = RuleSpec {
        listener: ListenerKind::Production,
        priority: 10,
        conditions: vec![
            Condition::Path(texts(&["/api/*", "/web/*"])),
            Condition::Host(texts(&["shop.example.com"])),
            Condition::Header { name: "x-test".to_owned(), values: texts(&["yes"]) },
            Condition::Query(vec![(Some("version".to_owned()), "green".to_owned())]),
        ],
    };
    vec![last, first]
}

async fn world() -> World {
    let spec = LoadBalancerSpec {
        name: "shop".to_owned(),
        target_groups: [group("blue"), group("green")],
        test_listener: true,
        rules: rules(),
    };
    let balancer = LoadBalancer::start(spec, Arc::new(|_, _, _, _, _| {})).await.unwrap();
    let balancers = vec![Arc::clone(&balancer)];
    let answer = async move |body: Bytes| match handle(&balancers, &body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(error) => (StatusCode::from_u16(error.status).unwrap(), error_response(&error)),
    };
    let socket = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = client(&format!("http://{}", socket.local_addr().unwrap()));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(socket, Router::new().route("/", post(answer))).await.unwrap() });
    World { balancer, client, _server: server }
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_elasticloadbalancingv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "lab"))
        .endpoint_url(endpoint)
        .http_client(shiftgate::aws::http_client())
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn describes_load_balancers() {
    let world = world().await;
    let World { balancer, client, .. } = &world;
    let described = client.describe_load_balancers().names("shop").send().await.unwrap();
    let [shop] = described.load_balancers() else { panic!("one load balancer") };
    assert_eq!(shop.load_balancer_arn(), Some(balancer.arn.as_str()));
    assert_eq!(shop.dns_name(), Some("127.0.0.1"));
    assert_eq!(shop.availability_zones()[1].zone_name(), Some("eu-west-1b"));
    assert_eq!(shop.created_time().unwrap().secs(), balancer.created.as_second());
    assert!(balancer.arn.ends_with(&balancer.dimension), "{}", balancer.arn);

    let error = client.describe_load_balancers().names("bakery").send().await.unwrap_err();
    assert!(error.into_service_error().is_load_balancer_not_found_exception());
}

#[tokio::test]
async fn describes_listeners_with_one_and_with_two_target_groups() {
    let world = world().await;
    let World { balancer, client, .. } = &world;
    let weights = [("blue".to_owned(), 90), ("green".to_owned(), 10)];
    balancer.set_weights(ListenerKind::Production, &weights).unwrap();

    let described = client.describe_listeners().load_balancer_arn(&balancer.arn).send().await.unwrap();
    let [production, test] = described.listeners() else { panic!("two listeners") };
    assert_eq!(production.port(), Some(i32::from(balancer.production_address().port())));
    assert_eq!(test.port(), Some(i32::from(balancer.test_address().unwrap().port())));

    let [shifting, fixed] = [production, test].map(|listener| &listener.default_actions()[0]);
    assert_eq!(shifting.target_group_arn(), None);
    let told = shifting.forward_config().unwrap().target_groups();
    let told: Vec<_> =
        told.iter().map(|group| (group.target_group_arn().unwrap(), group.weight().unwrap())).collect();
    let [blue, green] = ["blue", "green"].map(|name| balancer.target_group(name).unwrap().arn.as_str());
    assert_eq!(told, [(blue, 90), (green, 10)]);
    assert_eq!(fixed.target_group_arn(), Some(blue));

    let arn = test.listener_arn().unwrap();
    let described = client.describe_listeners().listener_arns(arn).send().await.unwrap();
    assert_eq!(described.listeners(), std::slice::from_ref(test));
    let rules = client.describe_rules().listener_arn(arn).send().await.unwrap();
    assert_eq!(rules.rules()[0].priority(), Some("default"));
    assert_eq!(rules.rules()[0].actions()[0].target_group_arn(), Some(blue));
    let again = client.describe_rules().rule_arns(rules.rules()[0].rule_arn().unwrap()).send().await.unwrap();
    assert_eq!(again.rules(), rules.rules());

    let error = client.describe_listeners().listener_arns("arn:none").send().await.unwrap_err();
    assert!(error.into_service_error().is_listener_not_found_exception());
    let error = client.describe_listeners().send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationError"));
}

#[tokio::test]
async fn describes_rules_with_their_conditions() {
    let world = world().await;
    let World { balancer, client, .. } = &world;
    let listener = balancer.listener(ListenerKind::Production).unwrap();
    let arn = listener.rules[0].arn.clone();
    assert!(arn.starts_with(&listener.arn.replace(":listener/", ":listener-rule/")), "{arn}");
    balancer.set_rule_weights(&arn, &[("blue".to_owned(), 999), ("green".to_owned(), 1)]).unwrap();

    let described = client.describe_rules().listener_arn(&listener.arn).send().await.unwrap();
    let priorities: Vec<_> = described.rules().iter().filter_map(|rule| rule.priority()).collect();
    assert_eq!(priorities, ["10", "20", "default"]);
    let rule = &described.rules()[0];
    assert_eq!((rule.rule_arn(), rule.is_default()), (Some(arn.as_str()), Some(false)));
    let [path, host, header, query] = rule.conditions() else { panic!("four conditions") };
    assert_eq!(path.field(), Some("path-pattern"));
    assert_eq!(path.path_pattern_config().unwrap().values(), ["/api/*", "/web/*"]);
    assert_eq!(host.host_header_config().unwrap().values(), ["shop.example.com"]);
    let header = header.http_header_config().unwrap();
    assert_eq!((header.http_header_name(), header.values()), (Some("x-test"), &["yes".to_owned()][..]));
    let pair = &query.query_string_config().unwrap().values()[0];
    assert_eq!((pair.key(), pair.value()), (Some("version"), Some("green")));
    let weights = rule.actions()[0].forward_config().unwrap().target_groups().iter();
    assert_eq!(weights.filter_map(TargetGroupTuple::weight).collect::<Vec<_>>(), [999, 1]);

    let by_arn = client.describe_rules().rule_arns(&arn).send().await.unwrap();
    assert_eq!(by_arn.rules(), std::slice::from_ref(rule));
    let error = client.describe_rules().rule_arns("arn:none").send().await.unwrap_err();
    assert!(error.into_service_error().is_rule_not_found_exception());
}

#[tokio::test]
async fn describes_target_groups() {
    let world = world().await;
    let World { balancer, client, .. } = &world;
    let by_names = client.describe_target_groups().names("green").names("blue").send().await.unwrap();
    let [green, blue] = by_names.target_groups() else { panic!("two target groups") };
    assert_eq!(blue.health_check_path(), Some("/healthz?deep=1&x=<y>"));
    assert_eq!(blue.matcher().unwrap().http_code(), Some("200-299,302"));
    assert_eq!(blue.health_check_interval_seconds(), Some(10));
    assert_eq!(blue.load_balancer_arns(), std::slice::from_ref(&balancer.arn));
    assert!(green.load_balancer_arns().is_empty());

    let by_balancer = client.describe_target_groups().load_balancer_arn(&balancer.arn).send().await.unwrap();
    assert_eq!(by_balancer.target_groups(), std::slice::from_ref(blue));
    let arn = green.target_group_arn().unwrap();
    let by_arn = client.describe_target_groups().target_group_arns(arn).send().await.unwrap();
    assert_eq!(by_arn.target_groups(), std::slice::from_ref(green));

    let error = client.describe_target_groups().names("red").send().await.unwrap_err();
    assert!(error.into_service_error().is_target_group_not_found_exception());
}

#[tokio::test]
async fn describes_target_health() {
    let world = world().await;
    let World { balancer, client, .. } = &world;
    let address = ([127, 0, 0, 1], 9).into();
    balancer
        .register(
            "green",
            Target {
                id: "10.0.1.7".to_owned(),
                address,
                zone: "eu-west-1a".to_owned(),
                version: Label::Green,
            },
        )
        .unwrap();
    let arn = &balancer.target_group("green").unwrap().arn;
    let all = client.describe_target_health().target_group_arn(arn).send().await.unwrap();
    let [described] = all.target_health_descriptions() else { panic!("one target") };
    assert_eq!(described.target().unwrap().id(), Some("10.0.1.7"));
    assert_eq!(described.target().unwrap().port(), Some(9));
    let health = described.target_health().unwrap();
    assert_eq!(health.state(), Some(&TargetHealthStateEnum::Unused));
    assert_eq!(health.reason(), Some(&TargetHealthReasonEnum::NotInUse));

    let asked = ["10.0.1.7", "10.0.1.8"].map(|id| TargetDescription::builder().id(id).port(9).build());
    let some = client
        .describe_target_health()
        .target_group_arn(arn)
        .set_targets(Some(asked.into()))
        .send()
        .await
        .unwrap();
    let reasons = some
        .target_health_descriptions()
        .iter()
        .map(|described| described.target_health()?.reason().cloned());
    let expected = [TargetHealthReasonEnum::NotInUse, TargetHealthReasonEnum::NotRegistered].map(Some);
    assert_eq!(reasons.collect::<Vec<_>>(), expected);

    let error = client.describe_target_health().target_group_arn("arn:none").send().await.unwrap_err();
    assert!(error.into_service_error().is_target_group_not_found_exception());
}

#[test]
fn errors_are_escaped_and_tell_whose_fault_it_is() {
    let error = handle(&[], b"Action=Describe%3CAll%3E").unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (400, "InvalidAction"));
    let xml = String::from_utf8(error_response(&error)).unwrap();
    assert!(xml.contains("<Type>Sender</Type>") && xml.contains("Describe&lt;All&gt;"), "{xml}");
    assert_eq!(handle(&[], b"").unwrap_err().code, "MissingAction");
    let own = ApiError { status: 500, code: "InternalFailure".to_owned(), message: String::new() };
    assert!(String::from_utf8(error_response(&own)).unwrap().contains("<Type>Receiver</Type>"));
}
