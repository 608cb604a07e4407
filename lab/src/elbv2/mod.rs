//! The Elastic Load Balancing v2 API: describes the lab's balancers (form in, XML out).

mod condition;
mod form;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

pub use self::wire::error_response;

use self::form::Form;
use self::wire::{
    DescribeListeners, DescribeLoadBalancers, DescribeRules, DescribeTargetGroups, DescribeTargetHealth,
    RuleDescription, TargetHealthDescription,
};
use crate::api::ApiError;
use crate::load_balancer::{Listener, LoadBalancer, TargetGroup};

/// Answers one call; the body is a form such as `Action=DescribeTargetGroups&Names.member.1=blue`.
///
/// Results are never paged. Errors are for [`error_response`].
pub fn handle(balancers: &[Arc<LoadBalancer>], body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let form = Form::parse(body)?;
    match form.get("Action") {
        Some(action @ "DescribeLoadBalancers") => wire::response(action, &load_balancers(balancers, &form)?),
        Some(action @ "DescribeListeners") => wire::response(action, &listeners(balancers, &form)?),
        Some(action @ "DescribeRules") => wire::response(action, &rules(balancers, &form)?),
        Some(action @ "DescribeTargetGroups") => wire::response(action, &target_groups(balancers, &form)?),
        Some(action @ "DescribeTargetHealth") => wire::response(action, &target_health(balancers, &form)?),
        Some(action) => {
            Err(ApiError::client("InvalidAction", format!("the lab does not implement {action}")))
        }
        None => Err(ApiError::client("MissingAction", "the request has no Action parameter")),
    }
}

fn load_balancers(balancers: &[Arc<LoadBalancer>], form: &Form) -> Result<DescribeLoadBalancers, ApiError> {
    let all: Vec<&LoadBalancer> = balancers.iter().map(AsRef::as_ref).collect();
    let chosen = match (form.list("LoadBalancerArns").as_slice(), form.list("Names").as_slice()) {
        ([], []) => all,
        (arns, []) => select(&all, arns, |balancer| &balancer.arn, no_load_balancer)?,
        ([], names) => select(&all, names, |balancer| &balancer.name, no_load_balancer)?,
        _ => {
            return Err(invalid(
                "Load balancer names and load balancer ARNs cannot be specified at the same time",
            ));
        }
    };
    Ok(DescribeLoadBalancers { load_balancers: chosen.into_iter().map(wire::load_balancer).collect() })
}

fn listeners(balancers: &[Arc<LoadBalancer>], form: &Form) -> Result<DescribeListeners, ApiError> {
    let chosen = match (form.get("LoadBalancerArn"), form.list("ListenerArns").as_slice()) {
        (Some(arn), []) => listeners_of(find_load_balancer(balancers, arn)?).collect(),
        (None, arns @ [_, ..]) => {
            select(&all_listeners(balancers), arns, |(_, listener)| &listener.arn, no_listener)?
        }
        _ => return Err(invalid("You must specify either listener ARNs or a load balancer ARN")),
    };
    let described = chosen.into_iter().map(|(balancer, listener)| wire::listener(balancer, listener));
    Ok(DescribeListeners { listeners: described.collect() })
}

/// The rules of a listener, or those that are named; a listener's default rule comes last.
fn rules(balancers: &[Arc<LoadBalancer>], form: &Form) -> Result<DescribeRules, ApiError> {
    let all = all_listeners(balancers);
    let arns = form.list("RuleArns");
    let rules: Vec<RuleDescription> = match (form.get("ListenerArn"), arns.as_slice()) {
        (Some(arn), []) => {
            let chosen = select(&all, &[arn], |(_, listener)| &listener.arn, no_listener)?;
            chosen.into_iter().flat_map(|(_, listener)| rules_of(listener)).map(|(_, rule)| rule).collect()
        }
        (None, arns @ [_, ..]) => {
            let find = |wanted: &&str| {
                let mut rules = all.iter().flat_map(|(_, listener)| rules_of(listener));
                rules.find(|(arn, _)| arn == wanted).map(|(_, rule)| rule).ok_or_else(no_rule)
            };
            arns.iter().map(find).collect::<Result<_, _>>()?
        }
        _ => return Err(invalid("You must specify either listener rule ARNs or a listener ARN")),
    };
    Ok(DescribeRules { rules: rules.into_iter().collect() })
}

/// A listener's rules with their ARNs.
fn rules_of(listener: &Listener) -> impl Iterator<Item = (&str, RuleDescription)> {
    let rules = listener.rules.iter().map(|rule| (rule.arn.as_str(), wire::rule(rule)));
    rules.chain([(listener.rule_arn.as_str(), wire::default_rule(listener))])
}

fn target_groups(balancers: &[Arc<LoadBalancer>], form: &Form) -> Result<DescribeTargetGroups, ApiError> {
    let all = all_target_groups(balancers);
    let (arns, names) = (form.list("TargetGroupArns"), form.list("Names"));
    let chosen = match (form.get("LoadBalancerArn"), arns.as_slice(), names.as_slice()) {
        (None, [], []) => all,
        (None, arns, []) => select(&all, arns, |(_, group)| &group.arn, no_target_group)?,
        (None, [], names) => select(&all, names, |(_, group)| &group.name, no_target_group)?,
        // AWS associates a group with a balancer only while a listener forwards to it.
        (Some(arn), [], []) => target_groups_of(find_load_balancer(balancers, arn)?)
            .filter(|(_, group)| group.in_use())
            .collect(),
        _ => {
            return Err(invalid(
                "Specify one of: a load balancer ARN, target group ARNs, target group names",
            ));
        }
    };
    let described = chosen.into_iter().map(|(balancer, group)| wire::target_group(balancer, group));
    Ok(DescribeTargetGroups { target_groups: described.collect() })
}

fn target_health(balancers: &[Arc<LoadBalancer>], form: &Form) -> Result<DescribeTargetHealth, ApiError> {
    let arn = form.get("TargetGroupArn").ok_or_else(|| invalid("TargetGroupArn is missing"))?;
    let all = all_target_groups(balancers);
    let (_, group) = all.into_iter().find(|(_, group)| group.arn == arn).ok_or_else(no_target_group)?;
    let health: Vec<_> = group.health().into_iter().map(wire::target_health).collect();
    let asked = form.targets()?;
    let described = if asked.is_empty() { health } else { only(&health, &asked) };
    Ok(DescribeTargetHealth { target_health_descriptions: described.into_iter().collect() })
}

/// The descriptions of the targets that were asked for; of unknown ones, that they are not registered.
fn only(health: &[TargetHealthDescription], asked: &[form::AskedTarget]) -> Vec<TargetHealthDescription> {
    let matching = asked.iter().flat_map(|target| {
        let found: Vec<_> = health.iter().filter(|described| described.is(target)).cloned().collect();
        if found.is_empty() { vec![wire::not_registered(target)] } else { found }
    });
    matching.collect()
}

fn listeners_of(balancer: &LoadBalancer) -> impl Iterator<Item = (&LoadBalancer, &Listener)> {
    balancer.listeners().map(move |listener| (balancer, listener))
}

fn all_listeners(balancers: &[Arc<LoadBalancer>]) -> Vec<(&LoadBalancer, &Listener)> {
    balancers.iter().flat_map(|balancer| listeners_of(balancer)).collect()
}

fn target_groups_of(balancer: &LoadBalancer) -> impl Iterator<Item = (&LoadBalancer, &TargetGroup)> {
    balancer.target_groups().iter().map(move |group| (balancer, &**group))
}

fn all_target_groups(balancers: &[Arc<LoadBalancer>]) -> Vec<(&LoadBalancer, &TargetGroup)> {
    balancers.iter().flat_map(|balancer| target_groups_of(balancer)).collect()
}

fn find_load_balancer<'a>(
    balancers: &'a [Arc<LoadBalancer>],
    arn: &str,
) -> Result<&'a LoadBalancer, ApiError> {
    let found = balancers.iter().find(|balancer| balancer.arn == arn);
    found.map(AsRef::as_ref).ok_or_else(no_load_balancer)
}

/// The items whose keys are wanted; one that is missing makes the whole call an error, as on AWS.
fn select<T: Copy>(
    all: &[T],
    wanted: &[&str],
    key: impl Fn(&T) -> &str,
    missing: fn() -> ApiError,
) -> Result<Vec<T>, ApiError> {
    let find = |wanted: &&str| all.iter().copied().find(|item| key(item) == *wanted).ok_or_else(missing);
    wanted.iter().map(find).collect()
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}

fn no_load_balancer() -> ApiError {
    ApiError::client("LoadBalancerNotFound", "One or more load balancers not found")
}

fn no_listener() -> ApiError {
    ApiError::client("ListenerNotFound", "One or more listeners not found")
}

fn no_rule() -> ApiError {
    ApiError::client("RuleNotFound", "One or more rules not found")
}

fn no_target_group() -> ApiError {
    ApiError::client("TargetGroupNotFound", "One or more target groups not found")
}
