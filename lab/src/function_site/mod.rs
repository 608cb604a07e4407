//! A Lambda function behind an alias, as CodeDeploy deploys it: numbered versions that behave as they are told, users who
//! invoke the alias, and what CloudWatch is told of it. No program runs: a version is a latency, a share of errors and an
//! answer.

mod function;
mod meter;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Result, bail};
use jiff::Timestamp;

pub use function::{AliasedFunction, Answer};
pub use meter::Meter;

use crate::account::Account;
use crate::codedeploy::{AutoRollback, FunctionTarget, Group, Target, Versions};
use crate::past::FunctionPast;
use crate::service::Label;
use crate::site::{Controller, Site, SiteSpec, past, put_policy};
use crate::traffic::{self, Answered, Traffic};
use crate::underway::Version;

/// Alias of all functions.
pub const ALIAS: &str = "live";

impl AliasedFunction {
    /// Users who invoke the alias so many times a second.
    pub fn users(self: &Arc<Self>, requests_per_second: f64) -> Traffic {
        let function = Arc::clone(self);
        // What is behind the alias when they begin is the old version.
        let old = self.live();
        Traffic::of(requests_per_second, move || {
            let (function, old) = (Arc::clone(&function), old.clone());
            async move {
                match function.invoke(Some(&function.alias), b"{}").await {
                    Ok(answer) => traffic::Answer {
                        how: if answer.failed { Answered::Error } else { Answered::Ok },
                        by: Some(if answer.version == old { Label::Blue } else { Label::Green }),
                    },
                    Err(_) => traffic::Answer { how: Answered::Not, by: None },
                }
            }
        })
    }
}

/// Starts a function with its old version behind the alias, its deployment group and its users.
pub(crate) fn start(account: &Account, spec: SiteSpec) -> Result<Site> {
    let Controller::Lambda { shift, hooks } = spec.controller else {
        bail!("only CodeDeploy deploys functions");
    };
    let services = &account.services;
    let meter =
        Meter::new(&spec.name, ALIAS, Arc::clone(&services.cloudwatch)).doubted(spec.doubts.version_metrics);
    let live = if spec.first_deployment { &spec.green } else { &spec.blue };
    let function = Arc::new(AliasedFunction::new(&spec.name, ALIAS, live, meter));
    let version = function.live();
    if !spec.first_deployment {
        let before = FunctionPast {
            meter: function.meter(),
            version: &version,
            requests_per_second: spec.requests_per_second,
            behaviour: live,
        };
        before.record(Timestamp::now(), spec.past);
    }
    services.lambda.add(Arc::clone(&function));
    let (application, group) = (spec.name.clone(), format!("{}-group", spec.name));
    put_policy(account, &application, &group, spec.policy.as_deref());
    services.codedeploy.add_group(Group {
        application: application.clone(),
        name: group.clone(),
        target: Target::Function(FunctionTarget {
            function: Arc::clone(&function),
            next_version: (!spec.first_deployment).then_some(spec.green),
        }),
        shift,
        hooks,
        alarms: spec.alarms,
        auto_rollback: AutoRollback { on_failure: true, on_alarm: true },
        doubts: spec.doubts,
        last_successful: None,
    });
    if !spec.first_deployment {
        let mut past = past(&application, &group, shift).on(crate::codedeploy::Platform::Lambda);
        past.versions = Some(Versions { current: version.clone(), target: version.clone() });
        services.codedeploy.add_past(past);
    }
    let traffic = function.users(spec.requests_per_second);
    Ok(Site { application, group, blue: Version::Function(function, version), traffic })
}
