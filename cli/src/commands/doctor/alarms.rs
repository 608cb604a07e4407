//! The alarms of the controller and of the policy: are they there and quiet, and does one of them judge what a gate judges?

use aws_sdk_cloudwatch::types::{MetricAlarm, StateValue};
use shiftgate::aws::fault;
use shiftgate::hook::Release;
use shiftgate::rollout::Controller;

use super::told::Check;

/// What the checks are called.
const NAME: &str = "alarms";
const OVERLAP: &str = "alarm overlap";
/// Alarm names that one call takes.
const NAMES_PER_CALL: usize = 100;

/// Where an alarm of the controller is configured.
const OF_GROUP: &str = "alarmConfiguration of the deployment group";
const OF_SERVICE: &str = "deploymentConfiguration.alarms of the service";

/// Looks at each alarm that the release names.
pub async fn checks(release: &Release) -> Vec<Check> {
    let of_controller = &release.rollout.alarms;
    let mut wanted: Vec<&String> = of_controller.iter().chain(&release.plan.alarms).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return vec![Check::ok(NAME, "neither the deployment nor the policy names an alarm")];
    }
    let alarms = match described(release, &wanted).await {
        Ok(alarms) => alarms,
        Err(check) => return vec![check],
    };
    let mut checks: Vec<Check> =
        wanted.iter().filter_map(|name| state(name, &alarms, &source(release, name))).collect();
    if checks.is_empty() {
        let names: Vec<&str> = wanted.iter().map(|name| name.as_str()).collect();
        checks.push(Check::ok(NAME, format!("none of {} is in ALARM", names.join(", "))));
    }
    checks.extend(of_controller.iter().filter_map(|name| twice(release, name)));
    let metric = alarms.iter().filter_map(|alarm| match alarm {
        Alarm::Metric(alarm) => Some(alarm),
        Alarm::Composite(..) => None,
    });
    checks.extend(metric.filter_map(|alarm| overlap(release, alarm)));
    checks
}

/// An alarm of either kind.
enum Alarm {
    Metric(Box<MetricAlarm>),
    Composite(String, Option<StateValue>),
}

impl Alarm {
    fn name(&self) -> &str {
        match self {
            Self::Metric(alarm) => alarm.alarm_name().unwrap_or_default(),
            Self::Composite(name, _) => name,
        }
    }

    fn rings(&self) -> bool {
        let state = match self {
            Self::Metric(alarm) => alarm.state_value(),
            Self::Composite(_, state) => state.as_ref(),
        };
        state == Some(&StateValue::Alarm)
    }
}

async fn described(release: &Release, names: &[&String]) -> Result<Vec<Alarm>, Check> {
    let mut alarms = Vec::new();
    for names in names.chunks(NAMES_PER_CALL) {
        let asked = release.aws.cloudwatch.describe_alarms().max_records(NAMES_PER_CALL as i32);
        let asked = asked
            .set_alarm_names(Some(names.iter().map(ToString::to_string).collect()))
            .alarm_types("MetricAlarm".into())
            .alarm_types("CompositeAlarm".into());
        let read = asked.send().await.map_err(|error| {
            Check::from_fault(NAME, &fault("cloudwatch:DescribeAlarms", "read the alarms", error))
        })?;
        alarms.extend(read.metric_alarms().iter().cloned().map(|alarm| Alarm::Metric(Box::new(alarm))));
        let composite = read.composite_alarms().iter();
        alarms.extend(composite.map(|alarm| {
            let name = alarm.alarm_name().unwrap_or_default().to_owned();
            Alarm::Composite(name, alarm.state_value().cloned())
        }));
    }
    Ok(alarms)
}

/// Where an alarm is named, for whoever has to change that.
fn source(release: &Release, name: &String) -> String {
    let of_policy = release.plan.alarms.contains(name).then_some("preflight.alarms of the policy");
    let of_controller = release.rollout.alarms.contains(name).then(|| controller(release));
    of_policy.into_iter().chain(of_controller).collect::<Vec<_>>().join(" and ")
}

fn controller(release: &Release) -> &'static str {
    if release.deployment.controller == Controller::Ecs { OF_SERVICE } else { OF_GROUP }
}

fn state(name: &str, alarms: &[Alarm], source: &str) -> Option<Check> {
    match alarms.iter().find(|alarm| alarm.name() == name) {
        None => Some(Check::problem(
            NAME,
            format!("not found in this account and region: {name}"),
            format!("make the alarm {name} here, or take it out of {source}: before-install fails for it"),
        )),
        Some(alarm) if alarm.rings() => Some(Check::problem(
            NAME,
            format!("in ALARM: {name}"),
            format!(
                "see to what {name} tells before you deploy, since before-install fails for it; if it tells nothing of this service, take it out of {source}"
            ),
        )),
        Some(_) => None,
    }
}

/// The alarms of the controller are looked at in any case.
fn twice(release: &Release, name: &String) -> Option<Check> {
    release.plan.alarms.contains(name).then(|| {
        let controller = controller(release);
        Check::warning(
            OVERLAP,
            format!("{name} is in {controller} and in the policy: when it rings, the controller stops the release before a gate can say why"),
            format!("take {name} out of preflight.alarms of the policy; before-install looks at those of the controller, too"),
        )
    })
}

/// An alarm of the controller on a metric of the balancer judges what the gates judge, with smoke checks and without blue
/// to compare with.
fn overlap(release: &Release, alarm: &MetricAlarm) -> Option<Check> {
    let name = alarm.alarm_name()?;
    let entrance = release.rollout.entrance.as_ref()?;
    let dimension = |name: &str| {
        let found = alarm.dimensions().iter().find(|one| one.name() == Some(name));
        found.and_then(|one| one.value())
    };
    let is_of_controller = release.rollout.alarms.iter().any(|one| one == name);
    if !is_of_controller || dimension("LoadBalancer") != Some(entrance.load_balancer.dimension.as_str()) {
        return None;
    }
    let (metric, controller) = (alarm.metric_name().unwrap_or_default(), controller(release));
    Some(match dimension("TargetGroup") {
        Some(group) => Check::warning(
            OVERLAP,
            format!(
                "{name} watches {metric} of {group}, which is blue's in every other release: then it stops a release for what the old version does"
            ),
            format!("take {name} out of {controller}; the policy's gates follow the colours"),
        ),
        None => Check::warning(
            OVERLAP,
            format!(
                "{name} watches {metric} of the whole load balancer: smoke checks on the test listener and the old version ring it, too, and stop the release"
            ),
            format!("take {name} out of {controller}, or let it watch what no gate of the policy does"),
        ),
    })
}
