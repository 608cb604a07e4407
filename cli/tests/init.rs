//! `init` against the lab: services with much traffic, little and none, deployed in each way.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test file, which runs on the real clock"
)]

mod lab;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use shiftgate::policy::defaults;
use shiftgate::policy::gates::{Compared, Events, Rule, SlowerThan};
use shiftgate::policy::plan::{Mode, Plan};
use shiftgate_lab::account::Account;
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::Shift;
use shiftgate_lab::doubts::Doubts;
use shiftgate_lab::ecs::{EcsHook, Stage, Strategy};
use shiftgate_lab::site::{Controller, Site, SiteSpec};

use lab::{account, json_of, said, shiftgate};

/// The lab's minutes are a second long for CodeDeploy, and CloudWatch's are minutes.
const CANARY: Shift = Shift::Canary { percent: 10.0, minutes: 15.0 };
const HOURS: u64 = 3;

/// A service of which CloudWatch knows three hours, one in fifty of whose requests fails.
fn spec(name: &str, requests_per_second: f64, controller: Controller) -> SiteSpec {
    SiteSpec {
        name: name.to_owned(),
        tasks: 1,
        requests_per_second,
        test_listener: true,
        rule: false,
        first_deployment: false,
        past: Duration::from_hours(HOURS),
        blue: Behaviour { errors: 0.02, ..Behaviour::default() },
        green: Behaviour::default(),
        controller,
        termination_wait_minutes: 0.0,
        alarms: Vec::new(),
        policy: None,
        doubts: Doubts::default(),
    }
}

fn codedeploy() -> Controller {
    Controller::CodeDeploy { shift: CANARY, hooks: BTreeMap::new() }
}

/// Runs `init` of a service, checks what it has written as `policy check` does, and returns what it prints and the plan.
async fn written(account: &Account, name: &str, folder: &Path) -> (Value, Plan) {
    let file = folder.join(format!("{}.yaml", name.replace('/', "-")));
    let file = file.to_str().unwrap();
    let told = json_of(account, &["init", name, "--stack", "lab", "--out", file, "--json"]).await;
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(told["policy"], text.as_str(), "{told:#}");
    assert!(said(account, &["policy", "check", file]).await.ends_with(": valid\n"));
    let plan = shiftgate::policy::parse(&text).unwrap();
    assert_eq!(plan.rules.mode, Mode::Observe, "{text}");
    (told, plan)
}

fn slower_than(plan: &Plan) -> SlowerThan {
    let slow = plan.traffic.iter().find_map(|gate| match &gate.rule {
        Rule::Compared(Compared { events: Events::Slow { than, .. }, .. }) => Some(*than),
        _ => None,
    });
    slow.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_measured_decides_what_is_written() {
    let account = account().await;
    let _busy = Site::start(&account, spec("busy", 20.0, codedeploy())).await.unwrap();
    let _quiet = Site::start(&account, spec("quiet", 0.05, codedeploy())).await.unwrap();
    let new = SiteSpec { first_deployment: true, ..spec("new", 0.0, codedeploy()) };
    let _new = Site::start(&account, new).await.unwrap();
    account.services.calls.lock().unwrap().clear();
    let folder = tempfile::tempdir().unwrap();

    let (told, plan) = written(&account, "busy/busy-group", folder.path()).await;
    let measured = &told["measured"];
    let is_near = |key: &str, expect: f64, by: f64| {
        let value = measured.pointer(key).and_then(Value::as_f64).unwrap();
        assert!((value - expect).abs() <= by, "{key}: {told:#}");
    };
    is_near("/requests_per_minute/usual_hour", 1200.0, 20.0);
    is_near("/requests_per_minute/quiet_hour", 1200.0, 40.0);
    is_near("/bad/server errors", 0.02, 0.002);
    is_near("/minutes_known", 60.0 * HOURS as f64, 3.0);
    // One in a hundred is slow, in hours that are alike.
    is_near("/bad/slow requests", 0.01, 0.005);
    assert_eq!((plan.bake_for, slower_than(&plan)), (defaults::BAKE, SlowerThan::Usual));
    assert_eq!(plan.traffic, Plan::default().traffic);
    let text = told["policy"].as_str().unwrap();
    assert!(
        text.contains("#   server errors: finds a regression")
            && text.contains("gives no reason to change it"),
        "{text}"
    );
    let hooks = told["hooks"]["text"].as_str().unwrap();
    assert!(hooks.contains("  - BeforeInstall: CodeDeployHook_lab_before-install\n"), "{hooks}");
    assert_eq!(told["notes"], serde_json::json!([]), "{told:#}");
    let put = told["next"][1].as_str().unwrap();
    assert!(
        put.starts_with("aws ssm put-parameter --name /shiftgate/busy/busy-group --type String --overwrite")
    );

    // Three requests a minute.
    let (told, plan) = written(&account, "quiet/quiet-group", folder.path()).await;
    let p99 = told["measured"]["p99_seconds"].as_f64().unwrap();
    let SlowerThan::Limit(limit) = slower_than(&plan) else { panic!("{told:#}") };
    assert!(p99 <= limit && limit <= 1.2 * p99, "{limit}: {told:#}");
    let text = told["policy"].as_str().unwrap();
    // Whether there is a bake that is long enough is for chance to say.
    let is_longer = plan.bake_for > defaults::BAKE && text.contains("is the shortest that finds it");
    assert!(is_longer || text.contains("there is too little traffic"), "{text}");

    // A group that has released nothing.
    let (told, plan) = written(&account, "new/new-group", folder.path()).await;
    assert_eq!(told["measured"]["requests_per_minute"], Value::Null, "{told:#}");
    assert_eq!(plan.traffic, Plan::default().traffic);
    let text = told["policy"].as_str().unwrap();
    assert!(text.contains("CloudWatch knows no request"), "{text}");

    let calls = account.services.calls.lock().unwrap().clone();
    let is_read =
        |action: &str| ["Get", "List", "Describe"].iter().any(|verb| action.contains(&format!(":{verb}")));
    let mut of_init = calls.iter().filter(|call| call.caller == "lab");
    assert!(of_init.all(|call| is_read(&call.action)), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_ecs_gets_its_lifecycle_hook_and_a_function_two_hooks() {
    let account = account().await;
    let function = account.template.function("ecs-lifecycle").unwrap();
    let controller = Controller::Ecs {
        strategy: Strategy::Canary { percent: 10.0, bake_minutes: 5.0 },
        hooks: vec![EcsHook::function(&function.name, &[Stage::PreScaleUp])],
        bake_minutes: 0.0,
    };
    let _orders = Site::start(&account, spec("orders", 10.0, controller)).await.unwrap();
    let lambda = Controller::Lambda { shift: CANARY, hooks: BTreeMap::new() };
    let _mail = Site::start(&account, spec("mail", 10.0, lambda)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    let (told, plan) = written(&account, "lab/orders", folder.path()).await;
    let requests = told["measured"]["requests_per_minute"]["usual_hour"].as_f64().unwrap();
    assert!((requests - 600.0).abs() < 20.0, "{told:#}");
    assert_eq!(plan.traffic, Plan::default().traffic);
    let hook = told["hooks"]["text"].as_str().unwrap();
    assert!(
        hook.contains("HookTargetArn: !ImportValue lab-EcsLifecycleHook")
            && hook.contains("- PRODUCTION_TRAFFIC_SHIFT")
    );
    assert!(told["policy"].as_str().unwrap().contains("the ECS service lab/orders"), "{told:#}");
    // The stack is that of the hook that is there.
    let file = folder.path().join("again.yaml");
    let text = said(&account, &["init", "lab/orders", "--out", file.to_str().unwrap()]).await;
    assert!(text.contains("!ImportValue lab-EcsHookRole"), "{text}");
    assert!(text.contains("shiftgate doctor lab/orders --stack lab"), "{text}");

    let (told, _) = written(&account, "mail/mail-group", folder.path()).await;
    let expect = "Hooks:\n  - BeforeAllowTraffic: CodeDeployHook_lab_before-allow-traffic\n  - AfterAllowTraffic: CodeDeployHook_lab_after-allow-traffic";
    assert_eq!(told["hooks"]["text"], expect);
    assert_eq!(told["measured"]["finds"]["usual_hour"][0]["gate"], "errors", "{told:#}");
    let requests = told["measured"]["requests_per_minute"]["usual_hour"].as_f64().unwrap();
    assert!((requests - 600.0).abs() < 20.0, "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_overwritten_and_what_is_missing_is_told() {
    let account = account().await;
    let policy = SiteSpec { policy: Some("mode: observe".to_owned()), ..spec("shop", 5.0, codedeploy()) };
    let _shop = Site::start(&account, policy).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, "mine").unwrap();
    let arguments = ["init", "shop/shop-group", "--since", "30m", "--out", file.to_str().unwrap()];
    let refused = shiftgate(&account, &arguments).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(
        error.contains("policy.yaml is there already, and was not changed") && error.contains("--force"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    // A group that is not there loses nothing either.
    let unknown = ["init", "shop/nothing", "--force", "--out", file.to_str().unwrap()];
    let unknown = shiftgate(&account, &unknown).await;
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{error}");
    assert!(error.contains("shop/nothing is neither a deployment group nor an ECS service"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let text = said(&account, &[&arguments[..], &["--force"]].concat()).await;
    for part in [
        "policy.yaml: written, a policy for the deployment group shop/shop-group",
        "a minute",
        "note: parameter /shiftgate/shop/shop-group has a policy for it now",
        // There is no stack of the name that is taken where nobody says one.
        "note: the stack shiftgate has no function in this account and region",
        "  - AfterAllowTraffic: CodeDeployHook_shiftgate_after-allow-traffic",
        "shiftgate doctor shop/shop-group --stack shiftgate",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# yaml-language-server: $schema="));
}
