//! What the next release would meet: the policy, the alarms, and what its traffic is enough for.

use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use shiftgate::fault::Fault;
use shiftgate::hook::Release;
use shiftgate::policy::load::{self, Source};
use shiftgate::verdict::{Caveat, Finding, Outcome};
use shiftgate::{outlook, preflight};

use super::told::{Check, Level};
use crate::account::Account;
use crate::next;

/// Policy, alarms and outlook of a deployment group, as the hooks would find them now.
pub async fn of_group(
    account: &Account,
    application: &str,
    group: &str,
    info: &DeploymentGroupInfo,
) -> Vec<Check> {
    match load::load(&account.aws, None, application, group).await {
        Ok((plan, source)) => {
            let release = next::of_group(account, application, group, info, plan).await;
            with_policy(source, release).await
        }
        Err(fault) => vec![Check::from_fault("policy", &fault)],
    }
}

/// The same of a service that ECS deploys; `given` is the policy of its hook, if that has one.
pub async fn of_service(account: &Account, cluster: &str, service: &str, given: Option<&str>) -> Vec<Check> {
    let policy = match given {
        Some(text) => load::plan_of(text, Source::HookDetails),
        None => load::load(&account.aws, None, cluster, service).await,
    };
    match policy {
        Ok((plan, source)) => {
            let release = next::of_service(account, cluster, service, plan).await;
            with_policy(source, release).await
        }
        Err(fault) => vec![Check::from_fault("policy", &fault)],
    }
}

async fn with_policy(source: Source, release: Result<Option<Release>, Fault>) -> Vec<Check> {
    let mut checks = vec![Check::ok("policy", format!("{source}; valid"))];
    match release {
        Ok(Some(release)) => {
            checks.extend(told("alarms", preflight::alarms(&release).await));
            checks.extend(told("outlook", outlook::told(&release).await));
        }
        Ok(None) => {
            let why = "nothing was deployed successfully yet, so that nobody knows which version serves";
            let unchecked = Check::warning("alarms and outlook", why, "ask again after the first deployment");
            checks.push(Check { level: Level::Unchecked, ..unchecked });
        }
        Err(fault) => checks.push(Check::from_fault("the service", &fault)),
    }
    checks
}

/// The findings of a check as checks.
fn told(name: &str, found: Result<Vec<Finding>, Fault>) -> Vec<Check> {
    let findings = match found {
        Ok(findings) => findings,
        Err(fault) => return vec![Check::from_fault(name, &fault)],
    };
    let check = |finding: Finding| {
        let (name, seen) = (&finding.check, finding.summary.clone());
        if finding.outcome == Outcome::Fail {
            return Check::problem(
                name,
                seen,
                "see to it before you deploy: before-install would fail for it",
            );
        }
        let instead = finding.caveats.iter().find_map(|caveat| match caveat {
            Caveat::TooFewToJudge { instead } => Some(instead),
            _ => None,
        });
        if let Some(instead) = instead {
            return Check::warning(name, seen, instead);
        }
        if finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::LowTraffic)) {
            let fix =
                "take a larger first step, a longer shift or a longer bake, or let smoke checks carry more";
            return Check::warning(name, seen, fix);
        }
        Check::ok(name, seen)
    };
    findings.into_iter().map(check).collect()
}
