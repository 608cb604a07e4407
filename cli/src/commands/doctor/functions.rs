//! The functions that the hooks name: are they there as the template has them, and can they reach the service?

use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use shiftgate::aws::fault;
use shiftgate::event::Stage;

use super::appspec::{self, Hook};
use super::group::Balancer;
use super::told::{Check, Level};
use crate::account::Account;

/// What the check is called.
const NAME: &str = "functions";
/// Seconds that template.yaml gives to each function, by the end of its name.
const TIMEOUTS: [(&str, i32); 7] = [
    ("_before-install", 300),
    ("_after-install", 900),
    ("_after-allow-test-traffic", 900),
    ("_before-allow-traffic", 300),
    ("_after-allow-traffic", 900),
    ("_watch", 120),
    ("-ecs-lifecycle", 900),
];
/// Variables without which a function can not do all that it should, and what is left out then.
const VARIABLES: [(&str, &str, &str); 3] = [
    ("_before-install", "SHIFTGATE_SIBLINGS", "the permissions of the other functions are not tried"),
    ("_before-allow-traffic", "SHIFTGATE_STATE_MACHINE_ARN", "nothing starts the watch"),
    ("_after-allow-traffic", "SHIFTGATE_STATE_MACHINE_ARN", "the bake ends with the function's time"),
];

/// A function that is there.
struct Found<'a> {
    name: &'a str,
    configuration: GetFunctionConfigurationOutput,
}

impl Found<'_> {
    fn vpc(&self) -> Option<&str> {
        let vpc = self.configuration.vpc_config().and_then(|config| config.vpc_id());
        vpc.filter(|id| !id.is_empty())
    }

    /// A variable of its environment; none where nobody may read that.
    fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.configuration.environment()?.variables()?;
        Some(variables.get(name).map_or("", String::as_str))
    }
}

/// Asks Lambda for each function that the AppSpec names, once, and for the watch that belongs to them.
pub async fn checks(account: &Account, hooks: &[Hook], balancer: Option<&Balancer>) -> Vec<Check> {
    let sends = |name: &str| {
        let of_smoke = |hook: &Hook| {
            let stage = hook.of_shiftgate().map(|(_, stage)| stage);
            matches!(stage, Some(Stage::AfterAllowTestTraffic | Stage::BeforeAllowTraffic))
        };
        hooks.iter().any(|hook| hook.function == name && of_smoke(hook))
    };
    let watches =
        hooks.iter().filter_map(|hook| Some(appspec::function(Some(hook.of_shiftgate()?.0), Stage::Watch)));
    let watches: Vec<String> = watches.collect();
    let named = hooks.iter().map(|hook| &hook.function).chain(&watches);
    of(account, named.map(String::as_str).collect(), sends, balancer).await
}

/// Asks for functions by name; `sends` tells which of them make requests to the service.
pub async fn of(
    account: &Account,
    mut names: Vec<&str>,
    sends: impl Fn(&str) -> bool,
    balancer: Option<&Balancer>,
) -> Vec<Check> {
    names.sort_unstable();
    names.dedup();
    let (mut checks, mut found) = (Vec::new(), Vec::new());
    for name in names {
        match read(account, name).await {
            Ok(configuration) => found.push(Found { name, configuration }),
            Err(check) => checks.push(check),
        }
    }
    if !found.is_empty() {
        let seen = format!("{} of those that the hooks need are there", found.len());
        checks.insert(0, Check::ok(NAME, seen));
    }
    checks.extend(found.iter().flat_map(as_deployed));
    let senders: Vec<(&str, Option<&str>)> =
        found.iter().filter(|one| sends(one.name)).map(|one| (one.name, one.vpc())).collect();
    checks.extend(balancer.map(|balancer| reach(balancer, &senders)));
    checks
}

async fn read(account: &Account, name: &str) -> Result<GetFunctionConfigurationOutput, Check> {
    let sent = account.aws.lambda.get_function_configuration().function_name(name).send().await;
    sent.map_err(|error| {
        if error.code() == Some("ResourceNotFoundException") {
            return Check::problem(
                NAME,
                format!("there is no {name} in this account and region"),
                format!(
                    "deploy the stack that it is of here (sam build && sam deploy), or name the functions of a stack that is: aws lambda list-functions --query 'Functions[].FunctionName' shows what there is beside {name}"
                ),
            );
        }
        let fault = fault("lambda:GetFunctionConfiguration", &format!("read the function {name}"), error);
        Check { level: Level::Unchecked, ..Check::from_fault(NAME, &fault) }
    })
}

/// What somebody has changed of a function since the template made it.
fn as_deployed(found: &Found<'_>) -> Vec<Check> {
    let name = found.name;
    let mut checks = Vec::new();
    let has = found.configuration.timeout().unwrap_or(i32::MAX);
    let of_template = TIMEOUTS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, seconds)| *seconds);
    if let Some(seconds) = of_template.filter(|seconds| has < *seconds) {
        checks.push(Check::warning(
            NAME,
            format!("{name} is ended after {has} s, and needs up to {seconds} s"),
            format!("aws lambda update-function-configuration --function-name {name} --timeout {seconds}, or deploy the stack again"),
        ));
    }
    if found.variable("SHIFTGATE_POLICY").is_some_and(|policy| !policy.is_empty()) {
        checks.push(Check::warning(
            NAME,
            format!("{name} has a policy in SHIFTGATE_POLICY, and reads that instead of Parameter Store"),
            format!("take the variable SHIFTGATE_POLICY from {name} (deploy the stack again), and keep the policy in its parameter"),
        ));
    }
    for (_, variable, lacks) in VARIABLES.iter().filter(|(end, ..)| name.ends_with(end)) {
        if found.variable(variable) == Some("") {
            checks.push(Check::warning(
                NAME,
                format!("{name} has no {variable}: {lacks}"),
                format!("set {variable} of {name} as template.yaml does: deploy the stack again"),
            ));
        }
    }
    checks
}

/// A balancer that is internal is reached from its VPC only.
fn reach(balancer: &Balancer, senders: &[(&str, Option<&str>)]) -> Check {
    let name = "reach";
    if !balancer.is_internal {
        return Check::ok(name, "the load balancer is not internal: the functions need no VPC");
    }
    let names = |are: &dyn Fn(Option<&str>) -> bool| -> Option<String> {
        let named: Vec<&str> = senders.iter().filter(|(_, vpc)| are(*vpc)).map(|(name, _)| *name).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let its_own = balancer.vpc.as_deref().unwrap_or("the balancer's");
    let fix = format!(
        "deploy Shiftgate with SubnetIds and SecurityGroupIds of {its_own}, and let that security group in at the test listener's port"
    );
    if let Some(outside) = names(&|vpc| vpc.is_none()) {
        let seen =
            format!("the load balancer is internal, and {outside} in no VPC: smoke checks reach nothing");
        return Check::problem(name, seen, fix);
    }
    if let Some(elsewhere) = names(&|vpc| balancer.vpc.is_some() && vpc != balancer.vpc.as_deref()) {
        let seen = format!("the load balancer is internal in {its_own}, and {elsewhere} in another VPC");
        return Check::warning(name, seen, format!("{fix}; or see that the two VPCs are connected"));
    }
    Check::ok(name, "the load balancer is internal, and the functions are in its VPC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_balancer_needs_functions_in_its_vpc() {
        let level = |is_internal, vpc: Option<&str>| {
            let balancer = Balancer { is_internal, vpc: Some("vpc-1".to_owned()) };
            reach(&balancer, &[("f", vpc)]).level
        };
        assert_eq!(level(true, None), Level::Problem);
        assert_eq!(level(true, Some("vpc-2")), Level::Warning);
        assert_eq!(level(true, Some("vpc-1")), Level::Ok);
        assert_eq!(level(false, None), Level::Ok);
    }
}
