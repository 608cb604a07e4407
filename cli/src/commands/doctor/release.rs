//! What the next release would meet: the policy, the alarms, the data of its gates, and what its traffic is enough for.

use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use aws_sdk_ecs::types::Service;
use shiftgate::fault::{Fault, FaultKind};
use shiftgate::hook::Release;
use shiftgate::outlook;
use shiftgate::policy::load::{self, Source};
use shiftgate::policy::plan::Plan;
use shiftgate::verdict::{Caveat, Finding};

use super::told::{Check, Level};
use super::{alarms, data, ecs};
use crate::account::Account;
use crate::next;

/// What the check of the policy is called.
const POLICY: &str = "policy";

/// Policy, alarms and outlook of a deployment group, as the hooks would find them now.
pub async fn of_group(
    account: &Account,
    application: &str,
    group: &str,
    info: &DeploymentGroupInfo,
) -> Vec<Check> {
    match load::load(&account.aws, None, application, group).await {
        Ok((plan, source)) => {
            // People take the names of the service for those of the group.
            let service = info.ecs_services().first();
            let service = service.and_then(|one| one.cluster_name().zip(one.service_name()));
            let mut checks = policy(account, &source, (application, group), service).await;
            let release = next::of_group(account, application, group, info, plan).await;
            checks.extend(meets(release).await);
            checks
        }
        Err(fault) => vec![invalid(&fault)],
    }
}

/// The same of a service that ECS deploys; `given` is the policy of its hook, if that has one.
pub async fn of_service(
    account: &Account,
    cluster: &str,
    name: &str,
    service: &Service,
    given: Option<&str>,
) -> Vec<Check> {
    let loaded = match given {
        Some(text) => load::plan_of(text, Source::HookDetails),
        None => load::load(&account.aws, None, cluster, name).await,
    };
    match loaded {
        Ok((plan, source)) => {
            let mut checks = policy(account, &source, (cluster, name), None).await;
            checks.extend(ecs::in_time(service, &plan));
            let release = next::of_service(account, cluster, name, plan).await;
            // The last deployment had the alarms of its day.
            let now = |mut release: Release| {
                release.rollout.alarms = ecs::alarms(service);
                release
            };
            checks.extend(meets(release.map(|release| release.map(now))).await);
            checks
        }
        Err(fault) => vec![invalid(&fault)],
    }
}

/// A policy that cannot be used, or not be read.
fn invalid(fault: &Fault) -> Check {
    let check = Check::from_fault(POLICY, fault);
    if fault.kind != FaultKind::Policy {
        return check;
    }
    let fix = "mend these lines (docs/policy-reference.md has all keys), try them with `shiftgate policy check FILE`, and store them: aws ssm put-parameter --overwrite --type String --name PARAMETER --value file://FILE";
    Check { fix: Some(fix.to_owned()), ..check }
}

/// Where the policy comes from, and whether there is another one that nobody reads.
async fn policy(
    account: &Account,
    source: &Source,
    names: (&str, &str),
    service: Option<(&str, &str)>,
) -> Vec<Check> {
    let mut checks = vec![Check::ok(POLICY, format!("{source}; valid"))];
    let [parameter, default] = load::parameter_names(names.0, names.1);
    let is_its_own = matches!(source, Source::Parameter(name) if *name == parameter);
    if is_its_own || matches!(source, Source::HookDetails) {
        return checks;
    }
    let unread = unread(names, service).into_iter().filter(|name| *name != parameter && *name != default);
    let asked = account.aws.ssm.get_parameters().set_names(Some(unread.collect())).send().await;
    // Nobody needs to be told that a guess was not allowed.
    let found = asked.map(|answer| answer.parameters.unwrap_or_default()).unwrap_or_default();
    checks.extend(found.iter().filter_map(|found| found.name()).map(|name| {
        Check::warning(
            POLICY,
            format!("there is a parameter {name}, which no function reads"),
            format!("store it as {parameter} if it is meant for this one: aws ssm put-parameter --type String --name {parameter} --value file://FILE"),
        )
    }));
    checks
}

/// Parameters that somebody may have taken for the right one; one call takes ten.
fn unread((first, second): (&str, &str), service: Option<(&str, &str)>) -> Vec<String> {
    let (one, other) = (load::parameter_segment(first), load::parameter_segment(second));
    let joined = ["_", "-", "."].map(|between| format!("/shiftgate/{one}{between}{other}"));
    let parts =
        [format!("/shiftgate/{other}/{one}"), format!("/shiftgate/{one}"), format!("/shiftgate/{other}")];
    let service = service.map(|(cluster, name)| load::parameter_names(cluster, name)[0].clone());
    let mut names: Vec<String> = joined.into_iter().chain(parts).chain(service).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What the next release meets beside its policy.
async fn meets(release: Result<Option<Release>, Fault>) -> Vec<Check> {
    let release = match release {
        Ok(Some(release)) => release,
        Ok(None) => {
            let why = "nothing was deployed successfully yet, so that nobody knows which version serves";
            let unchecked = Check::warning("alarms and outlook", why, "ask again after the first deployment");
            return vec![Check { level: Level::Unchecked, ..unchecked }];
        }
        Err(fault) => return vec![Check::from_fault("the service", &fault)],
    };
    let mut checks = alarms::checks(&release).await;
    checks.extend(data::checks(&release).await);
    checks.extend(told(&release, outlook::told(&release).await));
    checks
}

/// The findings of the outlook as checks.
fn told(release: &Release, found: Result<Vec<Finding>, Fault>) -> Vec<Check> {
    let findings = match found {
        Ok(findings) => findings,
        Err(fault) => return vec![Check::from_fault("outlook", &fault)],
    };
    let check = |finding: Finding| {
        let (name, seen) = (&finding.check, finding.summary.clone());
        let instead = finding.caveats.iter().find_map(|caveat| match caveat {
            Caveat::TooFewToJudge { instead } => Some(instead),
            _ => None,
        });
        if let Some(instead) = instead {
            return Check::warning(name, seen, instead);
        }
        if finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::LowTraffic)) {
            return Check::warning(name, seen, more(&release.plan));
        }
        Check::ok(name, seen)
    };
    findings.into_iter().map(check).collect()
}

/// How a release gets to see more.
fn more(plan: &Plan) -> String {
    let minutes = plan.bake_for.as_secs() / 60;
    format!(
        "lengthen `bake.for` of the policy (now {minutes} minutes), take a larger first step or a longer shift (deploymentConfigName, or the strategy of ECS), or let `smoke.checks` carry more; docs/how-to/low-traffic.md weighs them"
    )
}
