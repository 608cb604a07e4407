//! `backtest` against the lab: a rollout that was stopped, the rollback behind it, and the quiet minutes before.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test file, which runs on the real clock"
)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use shiftgate_lab::account::Account;
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::Shift;
use shiftgate_lab::doubts::{Doubts, FinishedEvents};
use shiftgate_lab::site::{Controller, PAST, Site, SiteSpec};

use lab::{account_of, common, shiftgate};

/// The shortest periods that there are.
const POLICY: &str = "version: 1\nmetrics: {period: 1s, ingestion_delay: 2s}\n";
/// How long traffic shifts before somebody stops it, in such periods about as many.
const SHIFT: Duration = Duration::from_secs(6);
/// The calls that `backtest` may make: all of them read.
const READS: [&str; 8] = [
    "cloudwatch:GetMetricData",
    "codedeploy:GetDeployment",
    "codedeploy:GetDeploymentGroup",
    "codedeploy:GetDeploymentTarget",
    "codedeploy:ListDeployments",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTargetGroups",
];

/// A service in three zones, one in a hundred of whose requests fail; of its next version every fourth does.
async fn shop(doubts: Doubts) -> (Account, Site) {
    let account = account_of(Duration::from_mins(1), doubts).await;
    let failing = |errors: f64| Behaviour { errors, ..Behaviour::default() };
    let site = Site::start(
        &account,
        SiteSpec {
            name: "shop".to_owned(),
            tasks: 3,
            requests_per_second: 150.0,
            test_listener: true,
            rule: false,
            first_deployment: false,
            past: PAST,
            blue: failing(0.01),
            green: failing(0.25),
            controller: Controller::CodeDeploy {
                shift: Shift::Canary { percent: 30.0, minutes: 60.0 },
                hooks: BTreeMap::new(),
            },
            termination_wait_minutes: 0.0,
            alarms: Vec::new(),
            policy: None,
            doubts,
        },
    )
    .await
    .unwrap();
    (account, site)
}

/// Deploys the next version and stops it in the middle of its shift; returns its id.
async fn stopped_rollout(account: &Account, site: &Site) -> String {
    let codedeploy = &account.services.codedeploy;
    let id = codedeploy.deploy(&site.application, &site.group, None, None).unwrap();
    let shifting = || codedeploy.deployment(&id).unwrap().green_weight > 0.0;
    common::wait_until("traffic shifts", shifting).await;
    tokio::time::sleep(SHIFT).await;
    let stop = json!({"deploymentId": id, "autoRollbackEnabled": true});
    codedeploy.handle("StopDeployment", stop.to_string().as_bytes()).unwrap();
    common::wait_until("the rollback ends", || {
        let rollback = codedeploy.deployment(&id).unwrap().rolled_back_by;
        rollback.is_some_and(|rollback| codedeploy.deployment(&rollback).unwrap().status.is_over())
    })
    .await;
    // What was counted last must be old enough.
    tokio::time::sleep(Duration::from_secs(3)).await;
    id
}

async fn backtest(account: &Account, arguments: &[&str]) -> Output {
    shiftgate(account, &[&["backtest"], arguments].concat()).await
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_deployment_group_is_read_judged_and_saved() {
    let (account, site) = shop(Doubts::default()).await;
    let id = stopped_rollout(&account, &site).await;
    let folder = tempfile::tempdir().unwrap();
    let (policy, saved) = (folder.path().join("policy.yaml"), folder.path().join("saved"));
    std::fs::write(&policy, POLICY).unwrap();
    let [policy, saved] = [&policy, &saved].map(|path| path.to_str().unwrap());

    let group = ["--deployment-group", "shop/shop-group", "--since", "1h", "--policy", policy];
    account.services.calls.lock().unwrap().clear();
    let read = json_of(&backtest(&account, &[&group[..], &["--save", saved, "--json"]].concat()).await);
    let called: BTreeSet<String> =
        account.services.calls.lock().unwrap().iter().map(|call| call.action.clone()).collect();
    assert_eq!(called.iter().map(String::as_str).collect::<Vec<_>>(), READS);

    let of_policy = &read["policies"][0]["backtest"];
    let rollouts = of_policy["rollouts"].as_array().unwrap();
    // Neither the rollback nor the deployment that brought the old version is a rollout.
    assert_eq!(rollouts.len(), 1, "{read:#}");
    assert!(rollouts[0]["name"].as_str().unwrap().starts_with(&format!("{id}-20")), "{read:#}");
    assert_eq!(
        (&rollouts[0]["verdict"], &rollouts[0]["gate"]),
        (&json!("roll_back"), &json!("server_errors")),
        "{read:#}"
    );
    // Six minutes of past in periods of a second: an hour of them before the first window.
    let windows = of_policy["windows"].as_u64().unwrap();
    assert!((15..=25).contains(&windows), "{read:#}");
    assert!(of_policy["false_rollbacks"].as_array().unwrap().len() <= 1, "{read:#}");
    let smallest = &of_policy["smallest"][0];
    assert_eq!(smallest["gate"], "server_errors");
    assert!((2.0..=10.0).contains(&smallest["ratio"].as_f64().unwrap()), "{read:#}");
    // The deployment that brought the old version shifted at once, and so did the rollback.
    let notes: Vec<&str> = read["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("d-PASTSHOP was left out: no complete period"), "{notes:?}");
    assert!(notes[1].contains("the median p99 of the whole time"), "{notes:?}");

    // Without AWS the same comes of what was saved, and nothing is saved over it.
    let mut again =
        json_of(&backtest(&account, &["--recordings", saved, "--policy", policy, "--json"]).await);
    assert_eq!(&again["policies"][0].take(), &read["policies"][0]);
    let refused = backtest(&account, &[&group[..], &["--save", saved]].concat()).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_whose_lifecycle_events_are_gone_is_told() {
    let gone = Doubts { finished_events: FinishedEvents::Gone, ..Doubts::default() };
    let (account, site) = shop(gone).await;
    let id = stopped_rollout(&account, &site).await;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let group = ["--deployment-group", "shop/shop-group", "--since", "1h", "--json", "--policy"];
    let read = json_of(&backtest(&account, &[&group[..], &[policy.to_str().unwrap()]].concat()).await);
    assert_eq!(read["policies"][0]["backtest"]["rollouts"], json!([]), "{read:#}");
    let told = format!("{id} was left out: CodeDeploy tells nothing of its lifecycle events");
    assert!(read["notes"].as_array().unwrap().contains(&json!(told)), "{read:#}");
}
