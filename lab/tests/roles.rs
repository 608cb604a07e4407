//! Invariant 9: each role holds exactly what is called, on the resources on which it is called, and nobody but its service
//! may assume it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test file")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{EcsWaiting, POLICY, Waiting, answer, wait_until};
use shiftgate::event::LifecycleStage;
use shiftgate_lab::account::{Account, parameters};
use shiftgate_lab::ecs::Strategy;
use shiftgate_lab::endpoint::Call;
use shiftgate_lab::iam::{self, Role};
use shiftgate_lab::template::Template;

fn calls(account: &Account, function: &str) -> BTreeSet<String> {
    let calls = account.services.calls.lock().unwrap();
    calls.iter().filter(|call| call.caller == function).map(|call| call.action.clone()).collect()
}

/// What all functions call. The permission question makes every function of CodeDeploy's hooks call all that it calls. ECS
/// has all of its stages in one function; the watch and the start of it are exercised by a rolling update that an alarm ends.
async fn all_calls() -> Vec<Call> {
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
    let told = Waiting::told_to_all().await;
    [&codedeploy.account, &native.account, &rolling.account, &released, &told.account]
        .into_iter()
        .flat_map(|account| account.services.calls.lock().unwrap().clone())
        .collect()
}

fn text() -> String {
    std::fs::read_to_string(common::project().join("template.yaml")).unwrap()
}

fn template() -> Template {
    Template::read(&text(), &parameters()).unwrap()
}

/// How the roles of this template differ from the calls.
fn differences(text: &str, parameters: &BTreeMap<String, String>, calls: &[Call]) -> Vec<String> {
    let definition = std::fs::read_to_string(common::project().join("statemachine/watch.asl.json")).unwrap();
    iam::differences(&Template::read(text, parameters).unwrap(), &definition, calls).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_hold_exactly_what_is_called() {
    let calls = all_calls().await;
    assert_eq!(differences(&text(), &parameters(), &calls), [""; 0]);
    too_much_and_too_little_is_told(&calls);
}

/// The same calls beside templates with a mistake each: every one is found, and nothing else.
fn too_much_and_too_little_is_told(calls: &[Call]) {
    let edited = |from: &str, to: &str| {
        let text = text();
        assert!(text.contains(from), "template.yaml has no `{from}`");
        differences(&text.replacen(from, to, 1), &parameters(), calls)
    };
    let with = |name: &str, value: &str| {
        let mut parameters = parameters();
        parameters.insert(name.to_owned(), value.to_owned());
        differences(&text(), &parameters, calls)
    };
    let stop = "codedeploy:StopDeployment";
    let needless =
        edited(stop, "codedeploy:StopDeployment\n                  - codedeploy:ContinueDeployment");
    assert_eq!(needless, ["WatchRole: codedeploy:ContinueDeployment on * is allowed, and never called"]);
    let missing = edited(&format!("                  - {stop}\n"), "");
    assert_eq!(missing, ["WatchRole: codedeploy:StopDeployment on * is called, and not allowed"]);
    let wide = edited(
        "Resource: !GetAtt WatchLogs.Arn",
        "Resource: [!GetAtt WatchLogs.Arn, !GetAtt BeforeInstallLogs.Arn]",
    );
    assert_eq!(wide.len(), 1, "{wide:?}");
    assert!(
        wide[0].starts_with("WatchRole: ") && wide[0].ends_with("is allowed, and never called"),
        "{wide:?}"
    );
    for narrow in [
        edited("Resource: !GetAtt WatchLogs.Arn", "Resource: !GetAtt BeforeInstallLogs.Arn"),
        edited("LogGroup: !Ref WatchLogs", "LogGroup: !Ref BeforeInstallLogs"),
        edited("execution:shiftgate-watch-", "execution:another-"),
        edited("service-deployment/${EcsServices}/*", "service-deployment/${EcsServices}/other-*"),
        edited(
            "Resource: !Ref AlertTopic",
            "Resource: !Sub arn:aws:sns:${AWS::Region}:${AWS::AccountId}:another",
        ),
        edited("Resource: !GetAtt EcsLifecycleFunction.Arn", "Resource: !GetAtt WatchFunction.Arn"),
        edited("Resource: !GetAtt WatchFunction.Arn", "Resource: !GetAtt EcsLifecycleFunction.Arn"),
        edited("events:source: shiftgate", "events:source: other"),
        edited("${ReportBucket.Arn}/reports/*", "${ReportBucket.Arn}/others/*"),
        with("DeploymentGroups", "other/*"),
        with("EcsServices", "other/*"),
        with("SecretParameters", "other/*"),
        with("SmokedFunctions", "none"),
    ] {
        let refused = narrow.iter().any(|line| line.ends_with("is called, and not allowed"));
        let unused = narrow.iter().any(|line| line.ends_with("is allowed, and never called"));
        assert!(refused && unused, "{narrow:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_beyond_the_role_s_is_denied() {
    let policy = POLICY.replace("/shiftgate/token", "/elsewhere/token");
    let waiting = Waiting::with("AfterAllowTestTraffic", &policy, Duration::from_mins(1)).await;
    waiting.account.services.parameters.put("/elsewhere/token", "secret", true);
    let id = waiting.deploy().await;
    let told = answer(&waiting.invoke("after-allow-test-traffic", &waiting.payload(&id)).await);
    assert_eq!(told["answer"], "Failed", "{told:#}");
    assert!(told["report"].as_str().unwrap().contains(":parameter/elsewhere/token"), "{told:#}");
}

/// Who may assume a role: the service, and under which conditions.
fn trusted(role: &Role) -> (String, Vec<String>) {
    let [trust] = role.trust.as_slice() else { panic!("{} is trusted to more than one", role.id) };
    assert!(trust.allows && trust.actions == ["sts:AssumeRole"], "{trust:?}");
    assert_eq!(trust.conditions["aws:SourceAccount"], ["123456789012"], "{}", role.id);
    (trust.services.join(","), trust.conditions.keys().cloned().collect())
}

#[test]
fn each_role_is_trusted_to_its_service_in_this_account() {
    let template = template();
    let account = vec!["aws:SourceAccount".to_owned()];
    for function in &template.functions {
        assert_eq!(trusted(&function.role), ("lambda.amazonaws.com".to_owned(), account.clone()));
    }
    assert_eq!(trusted(&template.ecs_hook_role), ("ecs.amazonaws.com".to_owned(), account));
    let machine = &template.state_machine_role;
    let both = ["aws:SourceAccount", "aws:SourceArn"].map(str::to_owned).to_vec();
    assert_eq!(trusted(machine), ("states.amazonaws.com".to_owned(), both));
    let arn = format!("arn:aws:states:eu-west-1:123456789012:stateMachine:{}", template.state_machine);
    assert_eq!(machine.trust[0].conditions["aws:SourceArn"], [arn]);
}

#[test]
fn each_function_has_a_role_and_a_log_group_of_its_own() {
    let template = template();
    let roles: BTreeSet<&str> = template.functions.iter().map(|function| function.role.id.as_str()).collect();
    assert_eq!(roles.len(), template.functions.len(), "{roles:?}");
    assert_eq!(template.log_groups.len(), template.functions.len());
    for function in &template.functions {
        assert_eq!(function.log_group, format!("/aws/lambda/{}", function.name));
        assert_eq!(template.log_groups.get(&function.log_group), Some(&90), "{}", function.name);
    }
}
