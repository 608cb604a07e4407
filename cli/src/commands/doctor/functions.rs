//! The functions that the AppSpec names: are they there, and can they reach the service?

use aws_sdk_ecs::error::ProvideErrorMetadata;
use shiftgate::aws::fault;
use shiftgate::event::Stage;

use super::appspec::Hook;
use super::told::{Check, Level};
use crate::account::Account;

/// What the check is called.
const NAME: &str = "functions";

/// Asks Lambda for each function that the AppSpec names, once.
pub async fn checks(account: &Account, hooks: &[Hook], is_internal: Option<bool>) -> Vec<Check> {
    let sends = |name: &str| {
        let of_smoke = |hook: &Hook| {
            let stage = hook.of_shiftgate().map(|(_, stage)| stage);
            matches!(stage, Some(Stage::AfterAllowTestTraffic | Stage::BeforeAllowTraffic))
        };
        hooks.iter().any(|hook| hook.function == name && of_smoke(hook))
    };
    let names: Vec<&str> = hooks.iter().map(|hook| hook.function.as_str()).collect();
    of(account, names, sends, is_internal).await
}

/// Asks for functions by name; `sends` tells which of them make requests to the service.
pub async fn of(
    account: &Account,
    mut names: Vec<&str>,
    sends: impl Fn(&str) -> bool,
    is_internal: Option<bool>,
) -> Vec<Check> {
    names.sort_unstable();
    names.dedup();
    let (mut checks, mut found, mut outside) = (Vec::new(), 0, Vec::new());
    for name in names {
        let read = account.aws.lambda.get_function_configuration().function_name(name).send().await;
        match read {
            Ok(read) => {
                found += 1;
                let vpc = read.vpc_config().and_then(|config| config.vpc_id()).unwrap_or_default();
                if vpc.is_empty() && sends(name) {
                    outside.push(name);
                }
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                checks.push(Check::problem(
                    NAME,
                    format!("there is no {name} in this account and region"),
                    "deploy Shiftgate here, or name the functions of the stack that is here",
                ));
            }
            Err(error) => {
                let purpose = format!("read the function {name}");
                let fault = fault("lambda:GetFunctionConfiguration", &purpose, error);
                checks.push(Check { level: Level::Unchecked, ..Check::from_fault(NAME, &fault) });
            }
        }
    }
    if found > 0 {
        checks.insert(0, Check::ok(NAME, format!("{found} of those that the hooks name are there")));
    }
    checks.extend(reach(is_internal, &outside));
    checks
}

/// A balancer that is internal is reached from its VPC only.
fn reach(is_internal: Option<bool>, outside: &[&str]) -> Option<Check> {
    let name = "reach";
    match is_internal {
        Some(true) if !outside.is_empty() => Some(Check::problem(
            name,
            format!(
                "the load balancer is internal, and {} are in no VPC: smoke checks reach nothing",
                outside.join(", ")
            ),
            "deploy Shiftgate with SubnetIds and SecurityGroupIds, and let that group in at the test listener's port",
        )),
        Some(true) => Some(Check::ok(name, "the load balancer is internal, and the functions are in a VPC")),
        Some(false) => Some(Check::ok(name, "the load balancer is not internal: the functions need no VPC")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_balancer_needs_functions_in_a_vpc() {
        let level = |is_internal, outside: &[&str]| reach(is_internal, outside).map(|check| check.level);
        assert_eq!(level(Some(true), &["f"]), Some(Level::Problem));
        assert_eq!(level(Some(true), &[]), Some(Level::Ok));
        assert_eq!(level(Some(false), &["f"]), Some(Level::Ok));
        assert_eq!(level(None, &["f"]), None);
    }
}
