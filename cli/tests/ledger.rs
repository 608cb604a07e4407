//! `verdicts`, `explain` and `doctor` against the lab, after rollouts with the real functions: what they logged is read as in an
//! account.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test file, which runs on the real clock"
)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shiftgate_lab::account::Account;
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::{Hook, Shift};
use shiftgate_lab::doubts::Doubts;
use shiftgate_lab::ecs::{EcsHook, Stage, Strategy};
use shiftgate_lab::site::{Controller, PAST, Site, SiteSpec};

use lab::{account, common, json_of, said, shiftgate};

/// The shortest periods that there are.
const POLICY: &str = "
metrics: {period: 1s, ingestion_delay: 2s, look_every: 1s}
readiness: {stable_for: 0s, within: 20s}
bake: {for: 2s}
";
/// The calls that the commands may make: all of them read.
const READS: [&str; 5] = [
    "codedeploy:GetDeployment",
    "codedeploy:GetDeploymentTarget",
    "codedeploy:ListDeploymentTargets",
    "logs:DescribeLogGroups",
    "logs:FilterLogEvents",
];

/// A service whose next version answers half of its requests with errors.
async fn broken(account: &Account, name: &str, controller: Controller, policy: &str) -> Site {
    let spec = SiteSpec {
        name: name.to_owned(),
        tasks: 1,
        requests_per_second: 60.0,
        test_listener: true,
        rule: false,
        first_deployment: false,
        past: PAST,
        blue: Behaviour::default(),
        green: Behaviour { errors: 0.5, ..Behaviour::default() },
        controller,
        termination_wait_minutes: 0.0,
        alarms: Vec::new(),
        policy: Some(policy.to_owned()),
        doubts: Doubts::default(),
    };
    Site::start(account, spec).await.unwrap()
}

/// Only the hooks from the shift on: green would not pass the smoke checks.
fn codedeploy(account: &Account, minutes: f64) -> Controller {
    let hook = |event, binary: &str| {
        (event, Hook::Function(account.template.function(binary).unwrap().name.clone()))
    };
    let hooks = BTreeMap::from([
        hook("BeforeInstall", "before-install"),
        hook("BeforeAllowTraffic", "before-allow-traffic"),
        hook("AfterAllowTraffic", "after-allow-traffic"),
    ]);
    Controller::CodeDeploy { shift: Shift::Canary { percent: 30.0, minutes }, hooks }
}

/// Waits until a rollout by CodeDeploy is over, with its rollback and its last verdict.
async fn over(account: &Account, id: &str, verdict: &str) {
    common::wait_until("the deployment and its rollback end", || {
        let record = account.services.codedeploy.deployment(id).unwrap();
        let rollback = record.rolled_back_by.as_ref();
        let undone =
            rollback.is_none_or(|id| account.services.codedeploy.deployment(id).unwrap().status.is_over());
        record.status.is_over() && undone
    })
    .await;
    let pattern =
        format!(r#"{{ $.message = "verdict" && $.deployment_id = "{id}" && $.stage = "{verdict}" }}"#);
    let name = &account.template.function(verdict).unwrap().log_group;
    common::wait_until("the verdict is logged", || {
        let mut request = json!({"logGroupName": name, "filterPattern": pattern});
        loop {
            let answer =
                account.services.logs.handle("FilterLogEvents", request.to_string().as_bytes()).unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            match answer.get("nextToken") {
                _ if answer["events"] != json!([]) => return true,
                Some(token) => request["nextToken"] = token.clone(),
                None => return false,
            }
        }
    })
    .await;
}

/// Checks what was sent, stored and said of verdicts as the ledger has them: the event of each on the bus, its page and evidence
/// in the bucket, and to the topic those that are bad.
async fn everybody_is_told(account: &Account, verdicts: &[Value]) {
    let services = &account.services;
    let ids = |one: &Value| ["deployment_id", "stage", "at"].map(|key| one[key].as_str().unwrap().to_owned());
    let events = || -> BTreeMap<_, _> {
        services.bus.sent().into_iter().map(|event| (ids(&event["detail"]), event)).collect()
    };
    common::wait_until("there is an event for each verdict", || {
        let events = events();
        verdicts.iter().all(|verdict| events.contains_key(&ids(verdict)))
    })
    .await;
    let events = events();
    let (event_schema, evidence_schema) = (schema("verdict-event"), schema("evidence"));
    let sample = std::fs::read_to_string(common::project().join("docs/verdict-event.json")).unwrap();
    let sample: Value = serde_json::from_str(&sample).unwrap();
    let objects = services.buckets.objects(&account.template.buckets[0]);
    for verdict in verdicts {
        let event = &events[&ids(verdict)];
        let detail = &event["detail"];
        event_schema.validate(detail).unwrap_or_else(|error| panic!("{error}: {detail:#}"));
        for key in ["answer", "outcome", "reason", "next_step", "would_have_rolled_back", "application"] {
            assert_eq!(detail[key], verdict[key], "{key} of {detail:#}");
        }
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(event), keys(&sample), "docs/verdict-event.json is a sample of such an event");
        assert_eq!(
            keys(detail),
            keys(&sample["detail"]),
            "docs/verdict-event.json is a sample of such an event"
        );
        assert_eq!((&event["source"], &event["detail-type"]), (&sample["source"], &sample["detail-type"]));
        let key = detail["page"]["key"].as_str().unwrap();
        let page = String::from_utf8(objects[key].content.clone()).unwrap();
        assert!(
            page.starts_with("<!DOCTYPE html>") && objects[key].content_type == "text/html; charset=utf-8"
        );
        let evidence = &objects[&key.replace(".html", ".json")].content;
        let evidence: Value = serde_json::from_slice(evidence).unwrap();
        evidence_schema.validate(&evidence).unwrap_or_else(|error| panic!("{error}: {evidence:#}"));
        assert_eq!(evidence["reason"], verdict["reason"]);
        // What ended the shift, or would have, has the recording of it.
        let judged = verdict["stage"] == "watch" && verdict["answer"] == "Failed";
        assert!(!judged || evidence["rollout"]["recording"].is_object(), "{evidence:#}");
    }
    event_schema.validate(&sample["detail"]).unwrap_or_else(|error| panic!("the sample: {error}"));
    let is_bad = |one: &&Value| one["answer"] == "Failed" || one["would_have_rolled_back"] == true;
    let bad: Vec<&Value> = verdicts.iter().filter(is_bad).collect();
    common::wait_until("the topic is told", || services.topics.published().len() == bad.len()).await;
    for message in services.topics.published() {
        let holds = |text: &Value| message.text.contains(text.as_str().unwrap());
        let of = bad.iter().find(|verdict| holds(&verdict["deployment_id"]) && holds(&verdict["reason"]));
        let verdict = of.unwrap_or_else(|| panic!("no bad verdict has {message:?}"));
        assert!(message.text.contains(verdict["reason"].as_str().unwrap()), "{message:?}");
        let expect =
            if verdict["answer"] == "Failed" { " rolled back" } else { " would have been rolled back" };
        assert!(message.subject.as_ref().unwrap().ends_with(expect), "{message:?}");
    }
}

/// A schema of docs/.
fn schema(name: &str) -> jsonschema::Validator {
    let path = common::project().join(format!("docs/{name}.schema.json"));
    jsonschema::validator_for(&serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_by_codedeploy_are_listed_and_explained() {
    let account = account().await;
    // Half of the smoke checks would fail, too, before there is a look.
    let policy = |mode: &str| {
        format!(
            "{POLICY}mode: {mode}\nsmoke: {{checks: [{{get: /, times: 1, expect: {{status: 200-599}}}}]}}\n"
        )
    };
    let shop = broken(&account, "shop", codedeploy(&account, 60.0), &policy("enforce")).await;
    let quiet = broken(&account, "quiet", codedeploy(&account, 8.0), &policy("observe")).await;
    let deploy =
        |site: &Site| account.services.codedeploy.deploy(&site.application, &site.group, None, None).unwrap();
    let (stopped, observed) = (deploy(&shop), deploy(&quiet));
    // While they go on, one is followed to its end.
    let followed = shiftgate(&account, &["watch", &stopped, "--every", "1"]).await;
    let text = String::from_utf8(followed.stdout).unwrap();
    assert_eq!(followed.status.code(), Some(1), "{text}");
    for part in [
        "BeforeInstall",
        "traffic                      30 % green",
        "watch                        ",
        "AllowTraffic                 Failed",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    over(&account, &stopped, "watch").await;
    over(&account, &observed, "after-allow-traffic").await;
    account.services.calls.lock().unwrap().retain(|call| call.caller != "lab");

    // The ledger.
    let ledger = json_of(&account, &["verdicts", "--since", "1h", "--stack", "lab", "--json"]).await;
    let verdicts = ledger["verdicts"].as_array().unwrap();
    let of = |id: &str, stage: &str| -> Vec<&Value> {
        let is = |verdict: &&Value| verdict["deployment_id"] == id && verdict["stage"] == stage;
        verdicts.iter().filter(is).collect()
    };
    assert_eq!(of(&stopped, "before-install")[0]["answer"], "Succeeded", "{ledger:#}");
    let watch = of(&stopped, "watch");
    assert_eq!(
        (watch.len(), &watch[0]["answer"], &watch[0]["outcome"]),
        (1, &json!("Failed"), &json!("fail"))
    );
    assert_eq!(watch[0]["would_have_rolled_back"], false);
    assert_eq!(
        (&watch[0]["application"], &watch[0]["deployment_group"]),
        (&json!("shop"), &json!("shop-group"))
    );
    let bake = of(&observed, "after-allow-traffic");
    assert_eq!((&bake[0]["answer"], &bake[0]["would_have_rolled_back"]), (&json!("Succeeded"), &json!(true)));
    let times: Vec<&str> = verdicts.iter().map(|verdict| verdict["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by_key(|at| at.parse::<jiff::Timestamp>().unwrap()), "{times:?}");
    let text = said(&account, &["verdicts", "--since", "1h"]).await;
    assert!(text.contains("would have rolled back"), "{text}");
    assert!(text.contains("of them Failed"), "{text}");

    everybody_is_told(&account, verdicts).await;

    // The story of the one that was stopped.
    let text = said(&account, &["explain", &stopped]).await;
    for part in [
        "Stopped".to_owned(),
        "CodeDeploy says: MANUAL_STOP".to_owned(),
        "CodeDeploy rolled back with deployment d-".to_owned(),
        "AllowTraffic".to_owned(),
        "looks: ".to_owned(),
        "Shiftgate stopped it: watch answered Failed, since ".to_owned(),
        "What to do: ".to_owned(),
    ] {
        assert!(text.contains(&part), "no `{part}` in\n{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    said(&account, &["explain", &stopped, "--html", page.to_str().unwrap()]).await;
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<h1>Rolled back</h1>") && page.contains("<svg"), "{page}");
    let story = json_of(&account, &["explain", &stopped, "--json"]).await;
    assert_eq!(story["events"].as_array().unwrap().len(), 8, "{story:#}");
    let log: Vec<&str> =
        story["log"].as_array().unwrap().iter().filter_map(|one| one["at"].as_str()).collect();
    assert!(log.is_sorted_by_key(|at| at.parse::<jiff::Timestamp>().unwrap()), "{log:?}");
    assert!(story["log"].as_array().unwrap().iter().any(|one| one["kind"] == "look"), "{story:#}");

    // Of its rollback, and of the one that was only observed.
    let rollback = account.services.codedeploy.deployment(&stopped).unwrap().rolled_back_by.unwrap();
    let text = said(&account, &["explain", &rollback]).await;
    assert!(text.contains(&format!("is the rollback of {stopped}")), "{text}");
    let text = said(&account, &["explain", &observed]).await;
    assert!(text.contains("would have rolled it back, but for `mode: observe`"), "{text}");

    let calls = account.services.calls.lock().unwrap().clone();
    let called: BTreeSet<&str> =
        calls.iter().filter(|call| call.caller == "lab").map(|call| call.action.as_str()).collect();
    assert_eq!(called.into_iter().collect::<Vec<_>>(), READS);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_is_wired_and_what_is_not() {
    let account = account().await;
    let controller = codedeploy(&account, 10.0);
    let _shop = broken(&account, "shop", controller, POLICY).await;
    let doctor = json_of(&account, &["doctor", "shop/shop-group", "--stack", "lab", "--json"]).await;
    let told: Vec<(&str, &str)> = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["level"].as_str().unwrap(), check["check"].as_str().unwrap()))
        .collect();
    for expect in [
        ("ok", "automatic rollback"),
        ("ok", "deployment style"),
        ("ok", "target groups"),
        ("ok", "test listener"),
        ("ok", "time to act"),
        ("ok", "functions"),
        ("ok", "reach"),
        ("ok", "policy"),
        ("ok", "alarms"),
        // Neither AfterInstall nor AfterAllowTestTraffic has a hook.
        ("warning", "AppSpec"),
    ] {
        assert!(told.contains(&expect), "no {expect:?} in {doctor:#}");
    }
    assert!(told.iter().any(|(_, check)| check.ends_with(", outlook")), "{doctor:#}");
    assert!(!told.iter().any(|(level, _)| *level == "problem" || *level == "not checked"), "{doctor:#}");
    let calls = account.services.calls.lock().unwrap().clone();
    let writes = calls.iter().filter(|call| call.caller == "lab");
    let is_read = |action: &str| {
        let name = action.split(':').nth(1).unwrap();
        ["Get", "List", "Describe"].iter().any(|verb| name.starts_with(verb))
    };
    assert!(writes.clone().count() > 8 && writes.clone().all(|call| is_read(&call.action)), "{calls:?}");

    // An alarm that rings, a policy that is none, another stack: each is a problem.
    let names = shiftgate::policy::load::parameter_names("shop", "shop-group");
    account.services.parameters.put(&names[0], "preflight: {alarms: [nothing]}", false);
    let check = async |arguments: &[&str], expect: &str| {
        let output = shiftgate(&account, arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expect), "no `{expect}` in\n{text}");
    };
    let group = ["doctor", "shop/shop-group"];
    check(&group, "problem      alarms: not found in this account and region: nothing").await;
    account.services.parameters.put(&names[0], "mode: sometimes", false);
    check(&group, "problem      policy: ").await;
    check(&[&group[..], &["--stack", "other"]].concat(), "of the stack lab").await;
    let unknown = shiftgate(&account, &["doctor", "shop/nothing"]).await;
    assert_eq!(unknown.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_and_ends_with_two() {
    let account = account().await;
    let check = async |arguments: &[&str], expect: &str| {
        let output = shiftgate(&account, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expect), "{arguments:?}: {error}");
    };
    check(&["verdicts", "--stack", "nothing"], "there is no log group of the stack nothing").await;
    check(&["explain", "d-NOSUCHONE"], "cannot read deployment d-NOSUCHONE").await;
    let arn = "arn:aws:ecs:eu-west-1:123456789012:service-deployment/lab/shop/NoSuchDeployment00000";
    check(&["explain", arn], "ECS knows no service deployment").await;
    check(&["explain", "d 1"], "is not a deployment id").await;
    let empty = said(&account, &["verdicts"]).await;
    assert!(empty.starts_with("no verdicts: "), "{empty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_deployment_of_ecs_is_explained_by_its_arn() {
    let account = account().await;
    let function = account.template.function("ecs-lifecycle").unwrap();
    let hook = EcsHook::function(&function.name, &[Stage::PreScaleUp, Stage::ProductionTrafficShift]);
    let controller = Controller::Ecs {
        strategy: Strategy::Canary { percent: 30.0, bake_minutes: 1.0 },
        hooks: vec![hook],
        bake_minutes: 0.0,
    };
    let site = broken(&account, "orders", controller, POLICY).await;
    let arn = account.services.ecs.deploy(&site.application, &site.group, None).unwrap();
    let status = || account.services.ecs.deployment(&arn).unwrap().status;
    common::wait_until("ECS rolls back", || {
        status() == shiftgate_lab::ecs::ServiceDeploymentStatus::RollbackSuccessful
    })
    .await;
    let text = said(&account, &["explain", &arn, "--stack", "lab"]).await;
    for part in [
        "of lab/orders by ECS (CANARY): ROLLBACK_SUCCESSFUL",
        "Shiftgate stopped it: PRODUCTION_TRAFFIC_SHIFT answered Failed, since ",
        "ECS gave the traffic back to revision",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let output = shiftgate(&account, &["doctor", "lab/orders", "--stack", "lab"]).await;
    let doctor = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{doctor}");
    for part in [
        "ok           controller: ECS itself, strategy CANARY",
        "ok           lifecycle hook: it names shiftgate-lab-ecs-lifecycle",
        "warning      lifecycle hook: not called at POST_PRODUCTION_TRAFFIC_SHIFT",
        "ok           functions: 1 of those",
        "ok           policy: parameter /shiftgate/lab/orders; valid",
        ", outlook: with ",
    ] {
        assert!(doctor.contains(part), "no `{part}` in\n{doctor}");
    }
    let ledger = said(&account, &["verdicts"]).await;
    let name = arn.rsplit('/').next().unwrap();
    assert!(
        ledger.contains(name) && !ledger.contains("arn:aws:ecs:eu-west-1:123456789012:service-dep"),
        "{ledger}"
    );
}
