//! Invariant 9: each function's role holds exactly the actions that it calls.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test file")]

mod common;

use std::collections::BTreeSet;

use common::{EcsWaiting, Waiting, answer, wait_until};
use shiftgate::event::LifecycleStage;
use shiftgate_lab::account::Account;
use shiftgate_lab::ecs::Strategy;

fn calls(account: &Account, function: &str) -> BTreeSet<String> {
    let calls = account.services.calls.lock().unwrap();
    calls.iter().filter(|call| call.caller == function).map(|call| call.action.clone()).collect()
}

/// The permission question makes every function of CodeDeploy's hooks call all that it calls. ECS has all of its stages in
/// one function; the watch and the start of it are exercised by a rolling update that an alarm ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_roles_hold_exactly_what_is_called() {
    let codedeploy = Waiting::at("BeforeInstall").await;
    let id = codedeploy.deploy().await;
    let told = answer(&codedeploy.invoke("before-install", &codedeploy.payload(&id)).await);
    assert_eq!(told["answer"], "Succeeded", "{told:#}");

    let native = EcsWaiting::start(false).await;
    for stage in LifecycleStage::ALL {
        native.invoke("ecs-lifecycle", &native.event(stage)).await;
    }

    let rolling = Strategy::Rolling { minimum_healthy_percent: 50, maximum_percent: 200 };
    let rolling = EcsWaiting::with(false, rolling, 20.0).await;
    wait_until("the watch has looked", || {
        calls(&rolling.account, "watch").contains("cloudwatch:GetMetricData")
    })
    .await;
    rolling.account.services.cloudwatch.set_alarm_state("quiet", true);
    wait_until("the watch stops the update", || {
        calls(&rolling.account, "watch").contains("ecs:StopServiceDeployment")
    })
    .await;

    let (released, _site) = common::released_function().await;

    for function in &codedeploy.account.template.functions {
        let called: BTreeSet<String> = [&codedeploy.account, &native.account, &rolling.account, &released]
            .into_iter()
            .flat_map(|account| calls(account, &function.binary))
            .collect();
        assert_eq!(called, function.actions, "{}", function.binary);
    }
}
