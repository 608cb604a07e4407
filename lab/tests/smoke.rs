//! Smoke checks against a service of the lab: where requests may go, and how secrets are read.

#![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods, reason = "a test file")]

#[path = "common/client.rs"]
mod client;
mod common;

use std::time::Duration;

use client::aws_config;
use common::{Waiting, answer};
use shiftgate::aws::Aws;
use shiftgate::environment::Environment;
use shiftgate::event::{HookEvent, Stage};
use shiftgate::hook::{self, Ended, Release};
use shiftgate::smoke::{self, Depth};
use shiftgate::verdict::Findings;

const FUNCTION: &str = "after-allow-test-traffic";
const SECRET: &str = "/aws/reference/secretsmanager/shop/token";
/// Three checks that need two secrets, each more than once.
const POLICY: &str = r"
smoke:
  checks:
    - {get: /, headers: {x-token: {ssm: /shiftgate/token}, x-other: {ssm: /aws/reference/secretsmanager/shop/token}}}
    - {get: /, headers: {x-token: {ssm: /shiftgate/token}}}
    - {get: /, headers: {x-token: {ssm: /aws/reference/secretsmanager/shop/token}}}
";

async fn waiting(event: &'static str) -> Waiting {
    let waiting = Waiting::with(event, POLICY, Duration::from_mins(1)).await;
    waiting.account.services.parameters.put(SECRET, "kept elsewhere", true);
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_not_called_unless_the_operator_lists_it() {
    let waiting = Waiting::at("AfterAllowTestTraffic").await;
    let name = waiting.account.template.function(FUNCTION).unwrap().name.clone();
    let unlisted = |hosts: &str| {
        let hosts = hosts.to_owned();
        let set = |spec: &mut shiftgate_lab::lambda::FunctionSpec| {
            drop(spec.environment.insert("SHIFTGATE_ALLOWED_HOSTS".to_owned(), hosts));
        };
        waiting.account.services.lambda.update(&name, set).unwrap();
    };
    for hosts in ["", "localhost,shop.example"] {
        unlisted(hosts);
        let id = waiting.deploy().await;
        let answer = answer(&waiting.invoke(FUNCTION, &waiting.payload(&id)).await);
        assert_eq!(answer["answer"], "Failed", "{answer:#}");
        let report = answer["report"].as_str().unwrap();
        assert!(report.contains("smoke checks do not call 127.0.0.1, a loopback address"), "{report}");
        assert!(report.contains("AllowedHosts"), "{report}");
        waiting.ended(&id).await;
    }
}

/// Twice in one invocation, as the watch does within a look.
async fn smoke_twice(release: &mut Release, _: &HookEvent) -> Ended {
    let first = smoke::checks(release, Depth::Full).await;
    Ended::Findings(Findings::new().and("smoke", first).and("again", smoke::still_answers(release).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_secret_is_read_once_per_invocation() {
    let waiting = waiting("AfterAllowTestTraffic").await;
    let id = waiting.deploy().await;
    let aws = Aws::new(&aws_config(&waiting.account));
    let environment = Environment { allowed_hosts: vec!["127.0.0.1".to_owned()], ..Environment::default() };
    let stage = Stage::AfterAllowTestTraffic;
    let payload = waiting.payload(&id);
    let handled = hook::handle(stage, &smoke_twice, &aws, &environment, &payload, 0).await.unwrap();
    assert_eq!(handled["answer"], "Succeeded", "{handled:#}");
    let read = waiting
        .calls("lab")
        .into_iter()
        .filter(|(action, _)| action == "ssm:GetParameter")
        .collect::<Vec<_>>();
    assert_eq!(read.len(), 2, "the two secrets: {read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_secrets_manager_needs_its_own_permission() {
    let waiting = waiting("BeforeInstall").await;
    let id = waiting.deploy().await;
    let answer = answer(&waiting.invoke("before-install", &waiting.payload(&id)).await);
    assert_eq!(answer["answer"], "Failed", "{answer:#}");
    let report = answer["report"].as_str().unwrap();
    for function in [FUNCTION, "before-allow-traffic", "watch"] {
        assert!(report.contains(&format!("{function}, ssm:GetParameter: ")), "{report}");
    }
    assert!(report.contains("AWS denies ssm:GetParameter or secretsmanager:GetSecretValue"), "{report}");
    assert!(report.contains(SECRET) && !report.contains("kept elsewhere"), "{report}");
}
