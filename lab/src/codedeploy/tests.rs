//! The engine on the Lambda platform, and how the API tells of it. Time is paused: CodeDeploy's minutes pass as soon as
//! nothing else can happen. What the engine does on ECS is tried with a real balancer, in the crate's `tests` folder.

use serde_json::{Value, json};

use super::*;
use crate::application::Behaviour;
use crate::doubts::*;
use crate::function_site::{AliasedFunction, Meter};

const HOOKS: [&str; 2] = ["BeforeAllowTraffic", "AfterAllowTraffic"];
const CANARY: Shift = Shift::Canary { percent: 10.0, minutes: 5.0 };

/// A function `shop` whose alias points to version 1, its deployment group, and a function that both hooks call.
struct World {
    codedeploy: Arc<CodeDeploy>,
    cloudwatch: Arc<CloudWatch>,
    function: Arc<AliasedFunction>,
    hook: Arc<AliasedFunction>,
    told: broadcast::Receiver<Happening>,
}

impl World {
    fn new(shift: Shift, change: impl FnOnce(&mut Group)) -> Self {
        let cloudwatch = Arc::new(CloudWatch::new(Duration::ZERO));
        let quick = Behaviour { latency_ms: 0.0, ..Behaviour::default() };
        let function = |name: &str| {
            let meter = Meter::new(name, "live", Arc::clone(&cloudwatch));
            Arc::new(AliasedFunction::new(name, "live", &quick, meter))
        };
        let (hook, function) = (function("hook"), function("shop"));
        let lambda = Lambda::new(Vec::new(), [Duration::ZERO; 2]);
        lambda.add(Arc::clone(&hook));
        let pace = Pace { minute: Duration::from_mins(1), hook_timeout: Duration::from_hours(1) };
        let codedeploy = CodeDeploy::new(pace, Arc::clone(&cloudwatch), lambda);
        let mut group = Group {
            application: "shop".to_owned(),
            name: "shop-group".to_owned(),
            target: Target::Function(FunctionTarget {
                function: Arc::clone(&function),
                next_version: Some(Behaviour::default()),
            }),
            shift,
            hooks: HOOKS.map(|event| (event, Hook::Function("hook".to_owned()))).into(),
            alarms: vec!["group-alarm".to_owned()],
            auto_rollback: AutoRollback { on_failure: true, on_alarm: true },
            doubts: Doubts::default(),
            last_successful: None,
        };
        change(&mut group);
        codedeploy.add_group(group);
        let told = codedeploy.happenings();
        Self { codedeploy, cloudwatch, function, hook, told }
    }

    /// The same without hooks.
    fn unhooked(shift: Shift) -> Self {
        Self::new(shift, |group| group.hooks.clear())
    }

    fn group(&self) -> Group {
        self.codedeploy.lock().groups[0].clone()
    }

    fn deploy(&self) -> String {
        self.codedeploy.deploy("shop", "shop-group", None, None).unwrap()
    }

    fn call(&self, operation: &str, input: &Value) -> Result<Value, String> {
        let output = self.codedeploy.handle(operation, input.to_string().as_bytes());
        output.map(|output| serde_json::from_slice(&output).unwrap()).map_err(|error| error.code)
    }

    fn record(&self, id: &str) -> DeploymentRecord {
        self.codedeploy.deployment(id).unwrap()
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}");
    }

    /// Reports for a hook as soon as it was called.
    async fn report(&self, id: &str, event: &str, status: &str) {
        let execution = || self.record(id).event(event).and_then(|event| event.execution_id.clone());
        self.until("the hook is called", || execution().is_some()).await;
        let input =
            json!({"deploymentId": id, "lifecycleEventHookExecutionId": execution(), "status": status});
        self.call("PutLifecycleEventHookExecutionStatus", &input).unwrap();
    }

    async fn shifted(&self, id: &str, weight: f64) {
        self.until("the traffic shifts", || self.record(id).green_weight >= weight).await;
    }

    fn stop(&self, id: &str, roll_back: bool) -> Result<Value, String> {
        self.call("StopDeployment", &json!({"deploymentId": id, "autoRollbackEnabled": roll_back}))
    }

    /// Waits until the deployment and its rollback are over.
    async fn over(&self, id: &str) -> DeploymentRecord {
        let is_over = |id: &str| self.record(id).status.is_over();
        self.until("the deployment ends", || {
            is_over(id) && self.record(id).rolled_back_by.is_none_or(|rollback| is_over(&rollback))
        })
        .await;
        // A rollback begins right after the end of what it undoes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.record(id)
    }

    fn target(&self, id: &str) -> Value {
        let input = json!({"deploymentId": id, "targetId": "shop"});
        self.call("GetDeploymentTarget", &input).unwrap()["deploymentTarget"].clone()
    }

    fn info(&self, id: &str) -> Value {
        self.target(id)["lambdaTarget"]["lambdaFunctionInfo"].clone()
    }

    /// How often the hooks' function was called.
    fn calls(&self) -> u64 {
        // CloudWatch reads as of the last whole millisecond.
        std::thread::sleep(Duration::from_millis(2));
        let dimensions = json!([{"Name": "FunctionName", "Value": "hook"}]);
        let metric =
            json!({"Namespace": "AWS/Lambda", "MetricName": "Invocations", "Dimensions": dimensions});
        let now = jiff::Timestamp::now().as_second();
        let input = json!({
            "MetricDataQueries": [{"Id": "m", "MetricStat": {"Metric": metric, "Period": 7200, "Stat": "Sum"}}],
            "StartTime": now - 3600, "EndTime": now + 120,
        });
        let body = input.to_string();
        let answer =
            self.cloudwatch.handle(crate::cloudwatch::Protocol::Json, "GetMetricData", body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
        answer["MetricDataResults"][0]["Values"][0].as_f64().unwrap_or(0.0) as u64
    }

    /// What was told of a deployment since the last time.
    fn told_of(&mut self, id: &str) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(happening) = self.told.try_recv() {
            match happening {
                Happening::Event { deployment, event, status } if deployment == id => {
                    told.push(format!("{event} {}", status.as_str()));
                }
                Happening::Weight { deployment, green } if deployment == id => {
                    told.push(format!("{green} %"));
                }
                Happening::Ended { deployment, status, .. } if deployment == id => {
                    told.push(status.as_str().to_owned());
                }
                _ => {}
            }
        }
        told
    }
}

fn statuses(target: &Value) -> Vec<(&str, &str)> {
    let events = target["lambdaTarget"]["lifecycleEvents"].as_array().unwrap().iter();
    events
        .map(|event| (event["lifecycleEventName"].as_str().unwrap(), event["status"].as_str().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_whole_shift_lies_between_the_two_hooks() {
    let mut world = World::new(CANARY, |_| {});
    let id = world.deploy();
    world.report(&id, HOOKS[0], "Succeeded").await;
    world.shifted(&id, 10.0).await;
    assert_eq!(world.function.additional(), Some(("2".to_owned(), 0.1)));
    assert_eq!(
        world.info(&id),
        json!({
            "functionName": "shop", "functionAlias": "live", "currentVersion": "1", "targetVersion": "2",
            "targetVersionWeight": 0.1,
        })
    );
    world.report(&id, HOOKS[1], "Succeeded").await;
    let record = world.over(&id).await;
    assert_eq!((record.status, record.rolled_back_by), (Status::Succeeded, None));
    assert_eq!(
        world.told_of(&id),
        [
            "BeforeAllowTraffic InProgress",
            "BeforeAllowTraffic Succeeded",
            "AllowTraffic InProgress",
            "10 %",
            "100 %",
            "AllowTraffic Succeeded",
            "AfterAllowTraffic InProgress",
            "AfterAllowTraffic Succeeded",
            "Succeeded",
        ]
    );
    assert_eq!((world.function.live(), world.function.additional()), ("2".to_owned(), None));
    assert_eq!(world.info(&id)["targetVersionWeight"], 1.0);
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_linear_shift_takes_every_step() {
    let world = World::unhooked(Shift::Linear { percent: 10.0, minutes: 1.0 });
    let id = world.deploy();
    let began = tokio::time::Instant::now();
    for step in 1..=10_u32 {
        world.shifted(&id, f64::from(10 * step)).await;
        let weight = world.info(&id)["targetVersionWeight"].as_f64().unwrap();
        assert!((weight - f64::from(step) / 10.0).abs() < 1e-9, "{weight}");
        assert_eq!(began.elapsed().as_secs() / 60, u64::from(step - 1));
    }
    assert_eq!(world.over(&id).await.status, Status::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_mid_shift_gives_the_alias_back_and_calls_no_hook() {
    let mut world = World::new(CANARY, |_| {});
    let id = world.deploy();
    world.report(&id, HOOKS[0], "Succeeded").await;
    world.shifted(&id, 10.0).await;
    world.stop(&id, true).unwrap();
    let record = world.over(&id).await;
    assert_eq!((record.status, record.error.unwrap().0.as_str()), (Status::Stopped, "MANUAL_STOP"));
    assert_eq!((world.function.live(), world.function.additional()), ("1".to_owned(), None));
    let target = world.target(&id);
    assert_eq!(
        statuses(&target),
        [("BeforeAllowTraffic", "Succeeded"), ("AllowTraffic", "Failed"), ("AfterAllowTraffic", "Skipped")]
    );
    assert_eq!(world.info(&id)["targetVersionWeight"], 0.0);

    let rollback = record.rolled_back_by.unwrap();
    let about = world.call("GetDeployment", &json!({"deploymentId": rollback})).unwrap();
    let about = &about["deploymentInfo"];
    assert_eq!(about["creator"], "codeDeployRollback");
    assert_eq!(about["status"], "Succeeded");
    assert_eq!(about["deploymentConfigName"], "CodeDeployDefault.LambdaAllAtOnce");
    assert_eq!(about["rollbackInfo"]["rollbackTriggeringDeploymentId"], id);
    let info = world.info(&rollback);
    assert_eq!((&info["currentVersion"], &info["targetVersion"]), (&json!("2"), &json!("1")));
    assert_eq!(info["targetVersionWeight"], 1.0);
    // It tells that its events succeeded, but only the deployment itself has called a hook.
    let target = world.target(&rollback);
    assert!(statuses(&target).iter().all(|(_, status)| *status == "Succeeded"));
    assert_eq!(world.calls(), 1);
    assert_eq!(world.hook.live(), "1");
    assert_eq!(world.told_of(&rollback).last().map(String::as_str), Some("Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_rollback_leaves_an_alias_that_cannot_be_deployed() {
    let world = World::unhooked(CANARY);
    let id = world.deploy();
    world.shifted(&id, 10.0).await;
    world.stop(&id, false).unwrap();
    assert_eq!(world.over(&id).await.rolled_back_by, None);
    assert_eq!(world.function.additional(), Some(("2".to_owned(), 0.1)));

    let next = world.deploy();
    let record = world.over(&next).await;
    let (code, message) = record.error.unwrap();
    assert_eq!((record.status, code.as_str()), (Status::Failed, "INVALID_LAMBDA_CONFIGURATION"));
    assert!(message.contains("shop:live"), "{message}");
    assert_eq!(record.rolled_back_by, None);
    assert!(record.events.iter().all(|event| event.status == EventStatus::Skipped));
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_ends_it_before_the_alias_moves() {
    let world = World::new(CANARY, |_| {});
    let id = world.deploy();
    world.report(&id, HOOKS[0], "Failed").await;
    let record = world.over(&id).await;
    assert_eq!(record.error.unwrap().0, "HOOK_EXECUTION_FAILURE");
    assert_eq!((record.status, record.green_weight), (Status::Failed, 0.0));
    assert!(record.rolled_back_by.is_some());
    assert_eq!((world.function.live(), world.function.additional()), ("1".to_owned(), None));
    assert_eq!(world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_of_the_group_and_a_silent_hook_end_it_too() {
    let world = World::unhooked(CANARY);
    let id = world.deploy();
    world.shifted(&id, 10.0).await;
    world.cloudwatch.set_alarm_state("group-alarm", true);
    let record = world.over(&id).await;
    assert_eq!((record.status, record.error.unwrap().0.as_str()), (Status::Stopped, "ALARM_ACTIVE"));
    assert_eq!((world.function.live(), world.function.additional()), ("1".to_owned(), None));

    let world = World::new(CANARY, |_| {});
    let id = world.deploy();
    let record = world.over(&id).await;
    assert_eq!((record.status, record.error.unwrap().0.as_str()), (Status::Failed, "TIMEOUT"));
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_has_hooks_and_no_shift() {
    let first = |group: &mut Group| {
        if let Target::Function(target) = &mut group.target {
            target.next_version = None;
        }
    };
    let mut world = World::new(CANARY, first);
    let id = world.deploy();
    world.report(&id, HOOKS[0], "Succeeded").await;
    world.report(&id, HOOKS[1], "Succeeded").await;
    assert_eq!(world.over(&id).await.status, Status::Succeeded);
    assert!(world.told_of(&id).iter().all(|told| told != "10 %"));
    let info = world.info(&id);
    assert_eq!((&info["currentVersion"], &info["targetVersion"]), (&json!("1"), &json!("1")));

    let world = World::new(CANARY, first);
    let id = world.deploy();
    world.report(&id, HOOKS[0], "Failed").await;
    assert_eq!(world.over(&id).await.rolled_back_by, None, "there is nothing to go back to");
}

#[tokio::test(start_paused = true)]
async fn every_deployment_begins_where_the_last_one_ended() {
    let world = World::unhooked(Shift::AllAtOnce);
    for (current, target) in [("1", "2"), ("2", "3")] {
        let id = world.deploy();
        world.over(&id).await;
        let info = world.info(&id);
        assert_eq!((&info["currentVersion"], &info["targetVersion"]), (&json!(current), &json!(target)));
        assert_eq!(world.function.live(), target);
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_tells_of_a_function_and_of_no_service() {
    let world = World::new(CANARY, |_| {});
    let named = json!({"applicationName": "shop", "deploymentGroupName": "shop-group"});
    let with = |config: &str| {
        let mut input = named.clone();
        input["deploymentConfigName"] = format!("CodeDeployDefault.{config}").into();
        input
    };
    let ecs = world.call("CreateDeployment", &with("ECSCanary10Percent5Minutes"));
    assert_eq!(ecs, Err("InvalidComputePlatformException".to_owned()));
    let unknown = world.call("CreateDeployment", &with("LambdaLinear10PercentEvery1Minutes"));
    assert_eq!(unknown, Err("DeploymentConfigDoesNotExistException".to_owned()));
    let made = world.call("CreateDeployment", &with("LambdaLinear10PercentEvery1Minute")).unwrap();
    let id = made["deploymentId"].as_str().unwrap().to_owned();
    let of_it = json!({"deploymentId": id});
    let too_early = world.call("ListDeploymentTargets", &of_it);
    assert_eq!(too_early, Err("DeploymentNotStartedException".to_owned()));
    world.report(&id, HOOKS[0], "Succeeded").await;

    let about = &world.call("GetDeployment", &of_it).unwrap()["deploymentInfo"];
    assert_eq!(about["computePlatform"], "Lambda");
    assert_eq!(about["deploymentConfigName"], "CodeDeployDefault.LambdaLinear10PercentEvery1Minute");
    assert_eq!(world.call("ListDeploymentTargets", &of_it).unwrap(), json!({"targetIds": ["shop"]}));
    let target = world.target(&id);
    assert_eq!(target["deploymentTargetType"], "LambdaTarget");
    assert_eq!(target.get("ecsTarget"), None);
    let about = &target["lambdaTarget"];
    assert_eq!(about["deploymentId"], id);
    assert_eq!((&about["targetId"], &about["status"]), (&json!("shop"), &json!("InProgress")));
    assert_eq!(about["targetArn"], "arn:aws:lambda:eu-west-1:123456789012:function:shop");
    assert!(about["lastUpdatedAt"].is_f64());
    let other = json!({"deploymentId": id, "targetId": "lab:shop"});
    let other = world.call("GetDeploymentTarget", &other);
    assert_eq!(other, Err("DeploymentTargetDoesNotExistException".to_owned()));

    world.report(&id, HOOKS[1], "Succeeded").await;
    world.over(&id).await;
    let group = &world.call("GetDeploymentGroup", &named).unwrap()["deploymentGroupInfo"];
    assert_eq!(group["computePlatform"], "Lambda");
    assert_eq!(group["deploymentConfigName"], "CodeDeployDefault.LambdaCanary10Percent5Minutes");
    assert_eq!(group["alarmConfiguration"]["alarms"], json!([{"name": "group-alarm"}]));
    assert_eq!(group["lastSuccessfulDeployment"]["deploymentId"], id);
    for absent in ["ecsServices", "loadBalancerInfo", "blueGreenDeploymentConfiguration"] {
        assert_eq!(group.get(absent), None, "{absent}");
    }
}

/// How a deployment ends whose hooks' function fails, and after how many of CodeDeploy's seconds.
async fn with_a_hook_that_fails(hook_errors: HookErrors) -> (String, u64) {
    let world = World::new(CANARY, |group| group.doubts.hook_errors = hook_errors);
    world.hook.behave("1", &Behaviour { errors: 1.0, latency_ms: 0.0, ..Behaviour::default() });
    let began = tokio::time::Instant::now();
    let id = world.deploy();
    world.until("it ends", || world.record(&id).status.is_over()).await;
    (world.record(&id).error.unwrap().0, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn whether_an_error_of_a_hook_is_noticed_is_a_switch() {
    let (code, seconds) = with_a_hook_that_fails(HookErrors::Unnoticed).await;
    assert_eq!((code.as_str(), seconds / 60), ("TIMEOUT", 60));
    let (code, seconds) = with_a_hook_that_fails(HookErrors::Noticed).await;
    assert_eq!((code.as_str(), seconds / 60), ("HOOK_EXECUTION_FAILURE", 0));
}

#[tokio::test(start_paused = true)]
async fn how_often_a_hook_is_called_is_a_switch() {
    for (delivery, before, after) in [(HookDelivery::Once, 1, 1), (HookDelivery::Repeated, 2, 3)] {
        let world = World::new(CANARY, |group| {
            group.doubts.hook_delivery = delivery;
            // Whatever a hook is called by, an alias behind its name is understood.
            group.hooks = [(
                "BeforeAllowTraffic",
                Hook::Function(format!("{}:live", crate::lambda::function_arn("hook"))),
            )]
            .into();
        });
        let id = world.deploy();
        let execution = || world.record(&id).event(HOOKS[0]).and_then(|event| event.execution_id.clone());
        world.until("the hook waits", || execution().is_some()).await;
        world.until("it is called", || world.calls() >= before).await;
        assert_eq!(world.calls(), before, "{delivery:?}");
        world.report(&id, HOOKS[0], "Succeeded").await;
        world.over(&id).await;
        assert_eq!(world.calls(), after, "{delivery:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_weight_of_a_function_and_the_events_of_a_finished_deployment_are_switches() {
    for (weights, events, weight, left) in [
        (FunctionWeights::Fraction, FinishedEvents::Readable, 0.1, 3),
        (FunctionWeights::Percent, FinishedEvents::Gone, 10.0, 0),
    ] {
        let world = World::new(CANARY, |group| {
            group.hooks.clear();
            (group.doubts.function_weights, group.doubts.finished_events) = (weights, events);
        });
        let id = world.deploy();
        world.shifted(&id, 10.0).await;
        assert_eq!(world.info(&id)["targetVersionWeight"], weight);
        assert_eq!(statuses(&world.target(&id)).len(), 3);
        world.over(&id).await;
        assert_eq!(statuses(&world.target(&id)).len(), left);
    }
}

#[test]
fn events_may_be_told_as_they_stood_a_while_ago() {
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let mut record =
        DeploymentRecord::new("d-1", "shop", "shop-group", CANARY, Creator::User).on(Platform::Lambda);
    for (event, (started, ended)) in record.events.iter_mut().zip([(10, 20), (20, 30)]) {
        event.status = EventStatus::Succeeded;
        (event.started, event.ended) = (Some(at(started)), Some(at(ended)));
    }
    let told = |second| {
        let record = record.clone().seen_at(at(second));
        record.events.iter().map(|event| event.status.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(5), "Pending Pending Pending");
    assert_eq!(told(15), "InProgress Pending Pending");
    assert_eq!(told(25), "Succeeded InProgress Pending");
    assert_eq!(told(30), "Succeeded Succeeded Pending");
}

#[tokio::test]
async fn a_rollback_calls_the_hooks_of_a_service_if_the_switch_says_so() {
    let service = Arc::new(crate::service::Service::new("lab", "shop", None));
    let live = service.start(crate::service::Label::Blue, "one", 1, &Behaviour::default()).await.unwrap();
    let of_service = Target::Service(ServiceTarget {
        service,
        live,
        target_groups: ["one".to_owned(), "two".to_owned()],
        next_version: Behaviour::default(),
        termination_wait_minutes: 0.0,
        listener_rules: ListenerRules::default(),
    });
    for (rollback_hooks, calls) in [(RollbackHooks::Called, true), (RollbackHooks::NotCalled, false)] {
        let mut group = World::new(CANARY, |_| {}).group();
        group.doubts.rollback_hooks = rollback_hooks;
        assert!(!group.calls_hooks_in_rollback(), "of a function they are never called");
        group.target = of_service.clone();
        assert_eq!(group.calls_hooks_in_rollback(), calls);
    }
}
