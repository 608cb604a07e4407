//! `doctor` against the lab: one misconfiguration at a time, each of which it must find with the right fix.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test file, which runs on the real clock"
)]

mod lab;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shiftgate_lab::account::Account;
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::cloudwatch::Protocol;
use shiftgate_lab::codedeploy::{Group, Hook, Shift, Target};
use shiftgate_lab::doubts::Doubts;
use shiftgate_lab::ecs::{EcsHook, EcsService, HookTarget, Route, Stage, Strategy};
use shiftgate_lab::fault::{Fault, Rule};
use shiftgate_lab::lambda::FunctionSpec;
use shiftgate_lab::site::{CLUSTER, Controller, PAST, Site, SiteSpec};

use common::HOOKS;
use lab::{account, common, shiftgate};

/// Periods short enough for the lab's history of a few minutes.
const POLICY: &str = "
metrics: {period: 5s, ingestion_delay: 10s, look_every: 5s}
preflight: {alarms: [quiet]}
bake: {for: 10s}
";
/// The stages at which Shiftgate is called in deployments by ECS.
const STAGES: [Stage; 6] = [
    Stage::PreScaleUp,
    Stage::PostScaleUp,
    Stage::PostTestTrafficShift,
    Stage::PreProductionTrafficShift,
    Stage::ProductionTrafficShift,
    Stage::PostProductionTrafficShift,
];

/// The command that turns the rollback on.
const ROLLBACK: &str = "--current-deployment-group-name shop-group --auto-rollback-configuration enabled=true,events=DEPLOYMENT_FAILURE";

/// What doctor must say of a seed.
struct Case {
    seed: &'static str,
    level: &'static str,
    check: &'static str,
    /// Part of what it has seen.
    seen: &'static str,
    /// Parts of the fix.
    fix: &'static [&'static str],
    /// Another check that is a problem then.
    also: &'static str,
    sow: Box<dyn Fn(&World)>,
}

/// A healthy deployment group or service, and how it was before anything was sown.
struct World {
    account: Account,
    site: Site,
    group: Option<Group>,
    service: Option<EcsService>,
    functions: Vec<String>,
}

impl World {
    async fn start(spec: impl FnOnce(&Account) -> SiteSpec) -> Self {
        let account = account().await;
        for name in ["quiet", "group-alarm"] {
            account.services.cloudwatch.set_alarm_state(name, false);
        }
        let site = Site::start(&account, spec(&account)).await.unwrap();
        let (mut group, mut service) = (None, None);
        let _ = account
            .services
            .codedeploy
            .change_group(&site.application, &site.group, |it| group = Some(it.clone()));
        let _ = account.services.ecs.change_service(CLUSTER, &site.group, |it| service = Some(it.clone()));
        let functions = account.template.functions.iter().map(|function| function.name.clone()).collect();
        Self { account, site, group, service, functions }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.site.application, self.site.group)
    }

    fn parameter(&self) -> String {
        format!("/shiftgate/{}", self.name())
    }

    fn put_policy(&self, text: &str) {
        self.account.services.parameters.put(&self.parameter(), text, false);
    }

    fn delete_policy(&self) {
        let body = json!({"Name": self.parameter()}).to_string();
        self.account.services.parameters.handle("DeleteParameter", body.as_bytes()).unwrap();
    }

    fn change(&self, change: impl FnOnce(&mut Group)) {
        let codedeploy = &self.account.services.codedeploy;
        codedeploy.change_group(&self.site.application, &self.site.group, change).unwrap();
    }

    fn change_service(&self, change: impl FnOnce(&mut EcsService)) {
        self.account.services.ecs.change_service(CLUSTER, &self.site.group, change).unwrap();
    }

    /// Another function at a hook of the AppSpec; none for a hook that is left out.
    fn hook(&self, event: &'static str, function: Option<&str>) {
        self.change(|group| match function {
            Some(function) => drop(group.hooks.insert(event, Hook::Function(function.to_owned()))),
            None => drop(group.hooks.remove(event)),
        });
    }

    fn function(&self, name: &str, change: impl FnOnce(&mut FunctionSpec)) {
        self.account.services.lambda.update(name, change).unwrap();
    }

    fn internal(&self, internal: bool) {
        for balancer in self.account.services.balancers.lock().unwrap().iter() {
            balancer.set_internal(internal);
        }
    }

    /// An alarm on the balancer's errors, in the controller's configuration.
    fn alarm(&self, name: &str, dimensions: &Value) {
        let alarm = json!({
            "AlarmName": name, "Namespace": "AWS/ApplicationELB", "MetricName": "HTTPCode_Target_5XX_Count",
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 10.0,
            "ComparisonOperator": "GreaterThanThreshold", "Dimensions": dimensions,
        });
        let (cloudwatch, body) = (&self.account.services.cloudwatch, alarm.to_string());
        cloudwatch.handle(Protocol::Json, "PutMetricAlarm", body.as_bytes()).unwrap();
        self.change(|group| group.alarms.push(name.to_owned()));
    }

    /// The balancer and its first target group as dimensions have them.
    fn dimensions(&self) -> [Value; 2] {
        let balancers = self.account.services.balancers.lock().unwrap();
        let group = balancers[0].target_group(&format!("{}-one", balancers[0].name)).unwrap();
        [("LoadBalancer", &balancers[0].dimension), ("TargetGroup", &group.dimension)]
            .map(|(name, value)| json!({"Name": name, "Value": value}))
    }

    fn fault(&self, action: &str, fault: Fault) {
        self.account.services.faults.add(Rule::lasting(action, Some("lab"), fault));
    }

    /// Everything as it was.
    fn reset(&self, functions: &BTreeMap<String, FunctionSpec>) {
        self.account.services.faults.clear();
        self.put_policy(POLICY);
        self.internal(false);
        for (name, before) in functions {
            self.function(name, |spec| spec.clone_from(before));
        }
        if let Some(before) = &self.group {
            self.change(|group| group.clone_from(before));
        }
        if let Some(before) = &self.service {
            self.change_service(|service| service.clone_from(before));
        }
        self.account.services.cloudwatch.set_alarm_state("quiet", false);
        self.account.services.cloudwatch.set_alarm_state("group-alarm", false);
    }

    /// What doctor says, and how it ends.
    async fn doctor(&self) -> (Value, Option<i32>, String) {
        let output = shiftgate(&self.account, &["doctor", &self.name(), "--stack", "lab", "--json"]).await;
        let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (told, output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Sows each seed, hears doctor, and takes the seed out again. Between the seeds nothing may be left of the last one.
    async fn finds(&self, cases: Vec<Case>) {
        let mut functions = BTreeMap::new();
        for name in &self.functions {
            self.function(name, |spec| drop(functions.insert(name.clone(), spec.clone())));
        }
        self.reset(&functions);
        let (healthy, ..) = self.doctor().await;
        let wrong: Vec<&Value> = findings(&healthy).iter().filter(|check| check["level"] != "ok").collect();
        assert!(wrong.is_empty() && !findings(&healthy).is_empty(), "before any seed: {healthy:#}");
        let mut failures = Vec::new();
        for case in cases {
            (case.sow)(self);
            let (told, status, error) = self.doctor().await;
            if let Err(why) = case.is_told(&told, status) {
                failures.push(format!("{}: {why} in {told:#}{error}", case.seed));
            }
            self.reset(&functions);
        }
        assert!(failures.is_empty(), "{}", failures.join("\n\n"));
        let (after, ..) = self.doctor().await;
        let levels =
            |told: &Value| findings(told).iter().map(|check| check["level"].clone()).collect::<Vec<_>>();
        assert_eq!(levels(&after), levels(&healthy), "a seed was left: {after:#}");
    }
}

impl Case {
    fn is_told(&self, told: &Value, status: Option<i32>) -> Result<(), String> {
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let found = findings(told).iter().find(|check| {
            check["check"] == self.check
                && check["level"] == self.level
                && text(check, "seen").contains(self.seen)
        });
        let found =
            found.ok_or_else(|| format!("no {} of {} with `{}`", self.level, self.check, self.seen))?;
        let fix = text(found, "fix");
        if let Some(part) = self.fix.iter().find(|part| !fix.contains(**part)) {
            return Err(format!("the fix lacks `{part}`: {fix}"));
        }
        let problems: Vec<String> = findings(told)
            .iter()
            .filter(|check| check["level"] == "problem")
            .map(|check| text(check, "check"))
            .collect();
        if problems.iter().any(|check| check != self.check && check != self.also) {
            return Err(format!("other problems than the seed's: {problems:?}"));
        }
        let expect = i32::from(!problems.is_empty());
        if status == Some(expect) { Ok(()) } else { Err(format!("it ends with {status:?}")) }
    }

    /// The same where another check cannot but be a problem, too.
    fn and(self, also: &'static str) -> Self {
        Self { also, ..self }
    }
}

fn findings(told: &Value) -> &[Value] {
    told["checks"].as_array().map_or(&[], Vec::as_slice)
}

/// A seed: what must be told of it (level, check, part of what was seen), what the fix must name, and how it is sown.
fn seed(
    what: &'static str,
    (level, check, seen): (&'static str, &'static str, &'static str),
    fix: &'static [&'static str],
    sow: impl Fn(&World) + 'static,
) -> Case {
    Case { seed: what, level, check, seen, fix, also: "", sow: Box::new(sow) }
}

/// A service with nothing to complain about.
fn spec(name: &str, controller: Controller) -> SiteSpec {
    SiteSpec {
        name: name.to_owned(),
        tasks: 1,
        requests_per_second: 60.0,
        test_listener: true,
        rule: false,
        first_deployment: false,
        past: PAST,
        blue: Behaviour::default(),
        green: Behaviour::default(),
        controller,
        termination_wait_minutes: 5.0,
        alarms: vec!["group-alarm".to_owned()],
        policy: Some(POLICY.to_owned()),
        doubts: Doubts::default(),
    }
}

/// All five hooks, and a shift that is long enough.
fn codedeploy(account: &Account) -> Controller {
    let name = |binary: &str| account.template.function(binary).unwrap().name.clone();
    let hooks = HOOKS.map(|(binary, event)| (event, Hook::Function(name(binary)))).into();
    Controller::CodeDeploy { shift: Shift::Canary { percent: 30.0, minutes: 10.0 }, hooks }
}

fn of_function(account: &Account) -> Controller {
    let name = |binary: &str| account.template.function(binary).unwrap().name.clone();
    let hooks = HOOKS[3..].iter().map(|(binary, event)| (*event, Hook::Function(name(binary)))).collect();
    Controller::Lambda { shift: Shift::Canary { percent: 10.0, minutes: 15.0 }, hooks }
}

fn ecs(account: &Account) -> Controller {
    let function = account.template.function("ecs-lifecycle").unwrap();
    Controller::Ecs {
        strategy: Strategy::Canary { percent: 30.0, bake_minutes: 1.0 },
        hooks: vec![EcsHook::function(&function.name, &STAGES)],
        bake_minutes: 0.0,
    }
}

/// The stack's function for a stage.
fn of_lab(stage: &str) -> String {
    format!("CodeDeployHook_lab_{stage}")
}

/// Of the deployment group itself.
fn of_group() -> Vec<Case> {
    vec![
        seed(
            "rollback off",
            ("problem", "automatic rollback", "it is off for DEPLOYMENT_FAILURE"),
            &["aws deploy update-deployment-group --application-name shop", ROLLBACK],
            |world| {
                world.change(|group| {
                    (group.auto_rollback.on_failure, group.auto_rollback.on_alarm) = (false, false);
                });
            },
        ),
        seed(
            "rollback on alarms only",
            ("problem", "automatic rollback", "DEPLOYMENT_FAILURE"),
            &[ROLLBACK],
            |world| {
                world.change(|group| group.auto_rollback.on_failure = false);
            },
        ),
        seed(
            "no rollback when the group's alarm rings",
            ("warning", "automatic rollback", "it is off for DEPLOYMENT_STOP_ON_ALARM"),
            &["events=DEPLOYMENT_FAILURE,DEPLOYMENT_STOP_ON_ALARM"],
            |world| world.change(|group| group.auto_rollback.on_alarm = false),
        ),
        seed(
            "blue ends with the last hook",
            ("warning", "termination wait", "blue ends"),
            &["terminationWaitTimeInMinutes", "5 or more"],
            |world| {
                world.change(|group| match &mut group.target {
                    Target::Service(target) => target.termination_wait_minutes = 0.0,
                    Target::Function(_) => panic!("a service is deployed"),
                });
            },
        ),
        seed(
            "all at once",
            ("warning", "time to act", "shifts all traffic at once"),
            &["deploymentConfigName", "CodeDeployDefault.ECSCanary10Percent15Minutes"],
            |world| world.change(|group| group.shift = Shift::AllAtOnce),
        ),
        seed(
            "shift shorter than metrics need",
            ("warning", "time to act", "CodeDeployDefault.ECSCanary10Percent5Minutes shifts for 5 minutes"),
            &["deploymentConfigName", "CodeDeployDefault.ECSCanary10Percent15Minutes"],
            |world| world.change(|group| group.shift = Shift::Canary { percent: 10.0, minutes: 5.0 }),
        ),
        seed(
            "a configuration of their own that is too short",
            ("warning", "time to act", "Canary50Percent2Minutes"),
            &["deploymentConfigName"],
            |world| world.change(|group| group.shift = Shift::Canary { percent: 50.0, minutes: 2.0 }),
        ),
    ]
}

/// Of the AppSpec and the functions that it names.
fn of_hooks() -> Vec<Case> {
    vec![
        seed(
            "the function of another event",
            ("problem", "AppSpec", "AfterInstall names CodeDeployHook_lab_before-install"),
            &["- AfterInstall: CodeDeployHook_lab_after-install"],
            |world| world.hook("AfterInstall", Some(&of_lab("before-install"))),
        ),
        seed(
            "the watch as a hook",
            ("problem", "AppSpec", "BeforeAllowTraffic names CodeDeployHook_lab_watch"),
            &["- BeforeAllowTraffic: CodeDeployHook_lab_before-allow-traffic"],
            |world| world.hook("BeforeAllowTraffic", Some(&of_lab("watch"))),
        ),
        seed(
            "a function of another stack",
            ("problem", "AppSpec", "of the stack prod"),
            &["- BeforeInstall: CodeDeployHook_lab_before-install"],
            |world| world.hook("BeforeInstall", Some("CodeDeployHook_prod_before-install")),
        )
        .and("functions"),
        seed(
            "a function that is not there",
            ("problem", "functions", "there is no CodeDeployHook_lab_befor-install"),
            &["sam deploy", "CodeDeployHook_lab_befor-install"],
            |world| world.hook("BeforeInstall", Some(&of_lab("befor-install"))),
        ),
        seed(
            "a function that the limited role may not invoke",
            ("warning", "AppSpec", "not called CodeDeployHook_*"),
            &["AWSCodeDeployRoleForECSLimited", "lambda:InvokeFunction"],
            |world| world.hook("BeforeInstall", Some("shiftgate-lab-ecs-lifecycle")),
        ),
        seed(
            "no hook before the shift",
            ("problem", "AppSpec", "no hook at BeforeAllowTraffic"),
            &[
                "add `- BeforeAllowTraffic: CodeDeployHook_lab_before-allow-traffic` to the Hooks of the AppSpec",
            ],
            |world| world.hook("BeforeAllowTraffic", None),
        ),
        seed(
            "no hook after the shift",
            ("warning", "AppSpec", "no hook at AfterAllowTraffic"),
            &["add `- AfterAllowTraffic: CodeDeployHook_lab_after-allow-traffic`"],
            |world| world.hook("AfterAllowTraffic", None),
        ),
        seed(
            "a timeout that was cut",
            ("warning", "functions", "CodeDeployHook_lab_after-install is ended after 3 s"),
            &[
                "aws lambda update-function-configuration --function-name CodeDeployHook_lab_after-install --timeout 900",
            ],
            |world| world.function(&of_lab("after-install"), |spec| spec.timeout = Duration::from_secs(3)),
        ),
        seed(
            "a policy in a function's environment",
            ("warning", "functions", "CodeDeployHook_lab_watch has a policy in SHIFTGATE_POLICY"),
            &["take the variable SHIFTGATE_POLICY from CodeDeployHook_lab_watch"],
            |world| {
                let policy = ("SHIFTGATE_POLICY".to_owned(), "mode: observe".to_owned());
                world.function(&of_lab("watch"), |spec| spec.environment.extend([policy]));
            },
        ),
        seed(
            "no state machine to start",
            ("warning", "functions", "no SHIFTGATE_STATE_MACHINE_ARN: nothing starts the watch"),
            &["SHIFTGATE_STATE_MACHINE_ARN of CodeDeployHook_lab_before-allow-traffic"],
            |world| {
                world.function(&of_lab("before-allow-traffic"), |spec| {
                    spec.environment.remove("SHIFTGATE_STATE_MACHINE_ARN");
                });
            },
        ),
        seed(
            "an internal balancer and functions in no VPC",
            ("problem", "reach", "CodeDeployHook_lab_after-allow-test-traffic"),
            &["SubnetIds", "SecurityGroupIds", "vpc-0c0ffee0c0ffee000"],
            |world| world.internal(true),
        ),
        seed(
            "functions in another VPC",
            ("warning", "reach", "in another VPC"),
            &["SubnetIds", "vpc-0c0ffee0c0ffee000"],
            |world| {
                world.internal(true);
                for stage in ["after-allow-test-traffic", "before-allow-traffic"] {
                    world.function(&of_lab(stage), |spec| spec.vpc = Some("vpc-other".to_owned()));
                }
            },
        ),
    ]
}

/// Of the policy.
fn of_policy() -> Vec<Case> {
    vec![
        seed(
            "a policy that is none",
            ("problem", "policy", "line 2, bake.for"),
            &["shiftgate policy check FILE", "aws ssm put-parameter"],
            |world| world.put_policy("mode: observe\nbake: {for: soon}\n"),
        ),
        seed(
            "a key that there is not",
            ("problem", "policy", "parameter /shiftgate/shop/shop-group is invalid"),
            &["docs/policy-reference.md"],
            |world| world.put_policy("smokes: {}\n"),
        ),
        seed(
            "the policy under another name",
            ("warning", "policy", "/shiftgate/shop_shop-group, which no function reads"),
            &["aws ssm put-parameter --type String --name /shiftgate/shop/shop-group"],
            |world| {
                world.delete_policy();
                world.account.services.parameters.put("/shiftgate/shop_shop-group", POLICY, false);
            },
        ),
        seed(
            "the policy under the service's name",
            ("warning", "policy", "/shiftgate/lab/shop, which no function reads"),
            &["--name /shiftgate/shop/shop-group"],
            |world| {
                world.delete_policy();
                world.account.services.parameters.put("/shiftgate/lab/shop", POLICY, false);
            },
        ),
    ]
}

/// Of the alarms, the metrics and the calls.
fn of_alarms() -> Vec<Case> {
    vec![
        seed(
            "an alarm that there is not",
            ("problem", "alarms", "not found in this account and region: nothing"),
            &["make the alarm nothing", "preflight.alarms of the policy"],
            |world| world.put_policy(&POLICY.replace("[quiet]", "[nothing]")),
        ),
        seed(
            "an alarm that rings",
            ("problem", "alarms", "in ALARM: quiet"),
            &["quiet", "preflight.alarms"],
            |world| {
                world.account.services.cloudwatch.set_alarm_state("quiet", true);
            },
        ),
        seed(
            "an alarm of the group that rings",
            ("problem", "alarms", "in ALARM: group-alarm"),
            &["group-alarm", "alarmConfiguration of the deployment group"],
            |world| world.account.services.cloudwatch.set_alarm_state("group-alarm", true),
        ),
        seed(
            "the same alarm in the group and the policy",
            ("warning", "alarm overlap", "group-alarm is in alarmConfiguration"),
            &["take group-alarm out of preflight.alarms"],
            |world| world.put_policy(&POLICY.replace("[quiet]", "[group-alarm]")),
        ),
        seed(
            "an alarm that the test listener rings",
            (
                "warning",
                "alarm overlap",
                "errors-of-all watches HTTPCode_Target_5XX_Count of the whole load balancer",
            ),
            &["take errors-of-all out of alarmConfiguration of the deployment group"],
            |world| {
                let [balancer, _] = world.dimensions();
                world.alarm("errors-of-all", &json!([balancer]));
            },
        ),
        seed(
            "an alarm that follows no colour",
            ("warning", "alarm overlap", "which is blue's in every other release"),
            &["take errors-of-one out of alarmConfiguration of the deployment group"],
            |world| world.alarm("errors-of-one", &json!(world.dimensions())),
        ),
        seed(
            "a gate whose metric has no data",
            (
                "warning",
                "metric data",
                "orders failed: CloudWatch has no data of Shop FailedOrders with Service=shopp",
            ),
            &[
                "`dimensions` of the gate `orders failed` under `traffic`",
                "aws cloudwatch list-metrics --namespace Shop",
            ],
            |world| {
                let gate = "traffic: [{name: orders failed, namespace: Shop, metric: FailedOrders, statistic: Sum, dimensions: {Service: shopp}, limit: 3}]";
                world.put_policy(&format!("{POLICY}{gate}\n"));
            },
        ),
        seed(
            "a call that is denied",
            ("not checked", "alarms", "AWS denies cloudwatch:DescribeAlarms"),
            &["allow it to the role whose credentials the environment has"],
            |world| world.fault("cloudwatch:DescribeAlarms", Fault::Deny),
        ),
        seed(
            "credentials that have expired on the way",
            ("not checked", "alarms", "ExpiredToken"),
            &["log in again", "aws sso login"],
            |world| world.fault("cloudwatch:DescribeAlarms", Fault::Expired),
        ),
    ]
}

/// Of a service that ECS deploys.
fn of_service() -> Vec<Case> {
    let stages = |world: &World, left_out: Stage| {
        world.change_service(|service| service.hooks[0].stages.retain(|stage| *stage != left_out));
    };
    let names = |world: &World, function: &str| {
        world.change_service(|service| service.hooks[0].target = HookTarget::Function(function.to_owned()));
    };
    vec![
        seed(
            "no hook at the steps",
            ("problem", "lifecycle hook", "not called at PRODUCTION_TRAFFIC_SHIFT"),
            &["add PRODUCTION_TRAFFIC_SHIFT to lifecycleStages of the hook"],
            move |world| stages(world, Stage::ProductionTrafficShift),
        ),
        seed(
            "no hook after the shift",
            ("warning", "lifecycle hook", "the bake at 100 % is not judged"),
            &["add POST_PRODUCTION_TRAFFIC_SHIFT to lifecycleStages"],
            move |world| stages(world, Stage::PostProductionTrafficShift),
        ),
        seed(
            "no hook of Shiftgate",
            ("problem", "lifecycle hook", "none of the service's hooks is Shiftgate's"),
            &["shiftgate-lab-ecs-lifecycle", "lifecycleHooks", "roleArn"],
            move |world| names(world, "their-own"),
        ),
        seed(
            "the hook of another stack",
            ("problem", "lifecycle hook", "shiftgate-prod-ecs-lifecycle, of another stack"),
            &["ARN of shiftgate-lab-ecs-lifecycle as hookTargetArn"],
            move |world| names(world, "shiftgate-prod-ecs-lifecycle"),
        )
        .and("functions"),
        seed(
            "no role to call the function",
            ("problem", "lifecycle hook", "has no role"),
            &["EcsHookRole", "roleArn"],
            |world| world.change_service(|service| service.hooks[0].has_role = false),
        ),
        seed(
            "a hook that is given up too early",
            (
                "problem",
                "lifecycle hook",
                "ECS gives POST_PRODUCTION_TRAFFIC_SHIFT up after 5 minutes (ROLLBACK)",
            ),
            &["timeoutInMinutes of the hook to 11", "`bake.for`"],
            |world| {
                world.put_policy(&POLICY.replace("{for: 10s}", "{for: 10m}"));
                world.change_service(|service| service.hooks[0].timeout_minutes = Some(5.0));
            },
        ),
    ]
}

/// Of what ECS does by itself, and of what the next release meets.
fn of_ecs() -> Vec<Case> {
    let rolling = Strategy::Rolling { minimum_healthy_percent: 100, maximum_percent: 200 };
    vec![
        seed(
            "a pause without an end",
            ("warning", "pause", "PRE_SCALE_UP until somebody continues it"),
            &["timeoutConfiguration", "aws ecs continue-service-deployment"],
            |world| {
                world.change_service(|service| {
                    service.hooks.push(EcsHook::wait("hook-1", Stage::PreScaleUp));
                });
            },
        ),
        seed(
            "no circuit breaker",
            ("warning", "circuit breaker", "do not start"),
            &["deploymentCircuitBreaker: {enable: true, rollback: true}"],
            |world| world.change_service(|service| service.circuit_breaker = None),
        ),
        seed(
            "alarms that do not roll back",
            ("warning", "automatic rollback", "traffic stays where it is"),
            &["alarms.rollback: true"],
            |world| world.change_service(|service| service.alarms.as_mut().unwrap().rollback = false),
        ),
        seed(
            "no test listener rule",
            ("warning", "test listener", "no test listener rule"),
            &["testListenerRule"],
            |world| world.change_service(|service| service.routing.as_mut().unwrap().test = None::<Route>),
        ),
        seed(
            "rolling updates without the tag",
            ("warning", "rolling updates", "no tag shiftgate: watch"),
            &[
                "aws ecs tag-resource --resource-arn arn:aws:ecs:eu-west-1:123456789012:service/lab/orders --tags key=shiftgate,value=watch",
            ],
            move |world| {
                world.change_service(|service| {
                    service.strategy = rolling;
                    service.tags.clear();
                });
            },
        ),
        seed(
            "an alarm of the service that rings",
            ("problem", "alarms", "in ALARM: group-alarm"),
            &["deploymentConfiguration.alarms of the service"],
            |world| world.account.services.cloudwatch.set_alarm_state("group-alarm", true),
        ),
        seed(
            "a policy that is none",
            ("problem", "policy", "parameter /shiftgate/lab/orders is invalid"),
            &["shiftgate policy check FILE"],
            |world| world.put_policy("mode: sometimes\n"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_seed_in_a_deployment_group_is_found_with_its_fix() {
    let world = World::start(|account| spec("shop", codedeploy(account))).await;
    world
        .finds(of_group().into_iter().chain(of_hooks()).chain(of_policy()).chain(of_alarms()).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_seed_in_a_service_of_ecs_is_found_with_its_fix() {
    let world = World::start(|account| spec("orders", ecs(account))).await;
    world.finds(of_service().into_iter().chain(of_ecs()).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_seed_in_the_group_of_a_function_is_found_with_its_fix() {
    let world = World::start(|account| spec("shop", of_function(account))).await;
    world
        .finds(vec![
            seed(
                "all at once",
                ("warning", "time to act", "shifts all traffic at once"),
                &["CodeDeployDefault.LambdaCanary10Percent15Minutes"],
                |world| world.change(|group| group.shift = Shift::AllAtOnce),
            ),
            seed(
                "no hook before the shift",
                ("problem", "AppSpec", "no hook at BeforeAllowTraffic"),
                &["CodeDeployHook_lab_before-allow-traffic"],
                |world| world.hook("BeforeAllowTraffic", None),
            ),
        ])
        .await;
}

/// What a balancer and its traffic are like cannot be changed under way.
#[tokio::test(flavor = "multi_thread")]
async fn no_test_listener_and_too_little_traffic_are_found_with_their_fixes() {
    let world = World::start(|account| SiteSpec {
        test_listener: false,
        requests_per_second: 0.001,
        ..spec("shop", codedeploy(account))
    })
    .await;
    let (told, status, _) = world.doctor().await;
    for (case, check) in [
        seed(
            "no test listener",
            ("warning", "test listener", "there is none"),
            &["testTrafficRoute", "loadBalancerInfo.targetGroupPairInfoList"],
            |_| (),
        ),
        seed(
            "too little traffic",
            ("warning", "server errors, outlook", "finds no regression"),
            &["`bake.for`", "deploymentConfigName", "docs/how-to/low-traffic.md"],
            |_| (),
        ),
    ]
    .into_iter()
    .map(|case| (case.is_told(&told, status), case.seed))
    {
        assert_eq!(case, Ok(()), "{check}: {told:#}");
    }
}

/// Nothing is known of an account that does not let one in, so nothing is wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_taken_end_with_two_and_a_hint() {
    let world = World::start(|account| spec("shop", codedeploy(account))).await;
    for (fault, code) in [(Fault::Expired, "ExpiredToken"), (Fault::BadSignature, "InvalidSignature")] {
        world.fault("*", fault);
        let (_, status, error) = world.doctor().await;
        assert_eq!(status, Some(2), "{error}");
        assert!(error.contains("log in again") && error.contains(code), "{error}");
        world.account.services.faults.clear();
    }
}
