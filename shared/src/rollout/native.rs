//! Deployments that ECS carries out itself: from a service deployment to its colours, listeners and weights.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecs::types::{self as ecs, ServiceDeploymentStatus as Status};
use aws_sdk_elasticloadbalancingv2::types as elb;
use jiff::{SignedDuration, Timestamp};

use super::deployment::{Told, not_found, timestamp};
use super::discover::{self, LISTENERS, TARGET_GROUPS, listener, target_group};
use super::schedule::{self, Step};
use super::{
    Colour, Condition, Controller, Deployment, Entrance, Listener, LoadBalancer, Rollout, TargetGroup,
    TaskSet, is_weight,
};
use crate::aws::{self, Aws};
use crate::event::DeploymentId;
use crate::fault::{Fault, FaultKind};

/// IAM action, for faults.
const RULES: &str = "elasticloadbalancing:DescribeRules";

/// The header by which Service Connect finds green, where the service names none.
const TEST_HEADER: &str = "x-amzn-ecs-blue-green-test";
/// Steps of a shift whose configuration leaves them out, as ECS fills them in: percent and minutes.
const CANARY: (f64, i32) = (5.0, 10);
const LINEAR: (f64, i32) = (10.0, 6);
/// Time that a hook has at a stage, where the service sets no limit.
const HOOK_MINUTES: i32 = 1440;

/// Asks ECS for the deployment.
pub async fn deployment(aws: &Aws, id: &DeploymentId) -> Result<Deployment, Fault> {
    let found = describe(aws, id).await?;
    let parts = id.service_deployment().ok_or_else(|| not_understood(id, "an ARN"))?;
    let status = found.status.as_ref();
    Ok(Deployment {
        id: id.clone(),
        controller: Controller::Ecs,
        application: parts.cluster.to_owned(),
        group: parts.service.to_owned(),
        configuration: format!("ECS {}", strategy(&found).as_str().to_lowercase().replace('_', "/")),
        is_rollback: status.is_some_and(|status| {
            matches!(status, Status::StopRequested) || status.as_str().starts_with("ROLLBACK_")
        }),
        is_over: matches!(
            status,
            Some(Status::Successful | Status::Stopped | Status::RollbackSuccessful | Status::RollbackFailed)
        ),
        started: timestamp(found.started_at.or(found.created_at)),
        completed: timestamp(found.finished_at),
        hooks_began: hooks_began(&found),
        status: status.map_or_else(|| "UNKNOWN".to_owned(), |status| status.as_str().to_owned()),
        told: Told::Ecs(Arc::new(found)),
    })
}

/// Finds out what the deployment deploys.
pub async fn discover(aws: &Aws, deployment: &Deployment) -> Result<Rollout, Fault> {
    let found = match &deployment.told {
        Told::Ecs(told) => Arc::clone(told),
        Told::CodeDeploy(_) => Arc::new(describe(aws, &deployment.id).await?),
    };
    let blue = source(&found).and_then(|source| source.arn.clone());
    let green = found.target_service_revision().and_then(|target| target.arn.clone());
    let green = green.ok_or_else(|| not_understood(&deployment.id, "a target revision"))?;
    let revisions = revisions(aws, [Some(&green), blue.as_ref()]).await?;
    let revision = |arn: &String| {
        revisions.iter().find(|revision| revision.service_revision_arn() == Some(arn.as_str()))
    };
    let new = revision(&green).ok_or_else(|| vanished(&green))?;
    let old = blue.as_ref().map(|arn| revision(arn).ok_or_else(|| vanished(arn))).transpose()?;
    let mut rollout = Rollout {
        cluster: deployment.application.clone(),
        service: deployment.group.clone(),
        function: None,
        schedule: planned(&found),
        blue: Colour::default(),
        green: Colour::default(),
        entrance: None,
        alarms: alarms(&found),
        events: Vec::new(),
        last_successful: None,
        served: None,
        test_header: test_header(new),
        is_first: old.is_none(),
    };
    count_tasks(&found, &deployment.id, &mut rollout)?;
    if let Some(balanced) = new.load_balancers().first() {
        // A rolling update stays in one group, whatever is left over from another strategy.
        let rolls = strategy(&found) == ecs::DeploymentStrategy::Rolling;
        let [of_blue, of_green] = if rolls {
            shared_group(&deployment.id, balanced, old)?
        } else {
            target_group_arns(&deployment.id, balanced, old, new)?
        };
        let rules = balanced.advanced_configuration().filter(|_| !rolls);
        let test = rules.and_then(|rules| rules.test_listener_rule.as_ref());
        let asked = target_groups(aws, &of_blue, &of_green);
        let production = rules.and_then(|rules| rules.production_listener_rule.as_ref());
        let (groups, routes) = if let Some(production) = production {
            tokio::try_join!(asked, routes(aws, production, test))?
        } else {
            let groups = asked.await?;
            let routes = any_route(aws, group(&groups, &of_green)?.1.first()).await?;
            (groups, routes)
        };
        rollout.served = routes.production.share(&of_green);
        rollout.entrance = Some(Entrance {
            load_balancer: routes.load_balancer,
            production: routes.production.listener,
            test: routes.test.map(|route| route.listener),
        });
        rollout.blue.target_group = Some(group(&groups, &of_blue)?.0.clone());
        rollout.green.target_group = Some(group(&groups, &of_green)?.0.clone());
    }
    Ok(rollout)
}

/// Reads the tasks again.
pub(super) async fn refresh(aws: &Aws, deployment: &Deployment, rollout: &mut Rollout) -> Result<(), Fault> {
    count_tasks(&describe(aws, &deployment.id).await?, &deployment.id, rollout)
}

async fn describe(aws: &Aws, id: &DeploymentId) -> Result<ecs::ServiceDeployment, Fault> {
    if let (Some(parts), Some(ours)) = (id.service_deployment(), aws.region.as_deref())
        && parts.region != ours
    {
        return Err(Fault::new(
            FaultKind::Event,
            format!("service deployment {id} is in {}, and this function is in {ours}", parts.region),
            "deploy Shiftgate in the service's region, and name that function in its lifecycle hooks",
        ));
    }
    let output =
        aws.ecs.describe_service_deployments().service_deployment_arns(id.as_str()).send().await.map_err(
            |error| {
                aws::fault("ecs:DescribeServiceDeployments", &format!("read service deployment {id}"), error)
            },
        )?;
    let mut found = output.service_deployments.unwrap_or_default();
    if found.is_empty() {
        return Err(not_found("ecs:DescribeServiceDeployments", "service deployment", id.as_str()));
    }
    Ok(found.swap_remove(0))
}

async fn revisions(aws: &Aws, arns: [Option<&String>; 2]) -> Result<Vec<ecs::ServiceRevision>, Fault> {
    let arns: Vec<String> = arns.into_iter().flatten().cloned().collect();
    let purpose = format!("read service revisions {}", arns.join(", "));
    let output = aws
        .ecs
        .describe_service_revisions()
        .set_service_revision_arns(Some(arns))
        .send()
        .await
        .map_err(|error| aws::fault("ecs:DescribeServiceRevisions", &purpose, error))?;
    Ok(output.service_revisions.unwrap_or_default())
}

/// The revision that served until now: the one with most of the production traffic.
fn source(found: &ecs::ServiceDeployment) -> Option<&ecs::ServiceRevisionSummary> {
    let weight = |one: &ecs::ServiceRevisionSummary| one.requested_production_traffic_weight.unwrap_or(0.0);
    found.source_service_revisions().iter().max_by(|one, other| weight(one).total_cmp(&weight(other)))
}

fn count_tasks(
    found: &ecs::ServiceDeployment,
    id: &DeploymentId,
    rollout: &mut Rollout,
) -> Result<(), Fault> {
    let tasks = |revision| tasks(revision).ok_or_else(|| not_understood(id, "traffic weights from 0 to 100"));
    rollout.blue.tasks = source(found).map(tasks).transpose()?;
    rollout.green.tasks = found.target_service_revision().map(tasks).transpose()?;
    Ok(())
}

/// `None` when the weight is none.
fn tasks(revision: &ecs::ServiceRevisionSummary) -> Option<TaskSet> {
    let weight = revision.requested_production_traffic_weight.unwrap_or(0.0);
    is_weight(weight).then_some(TaskSet {
        desired: revision.requested_task_count.into(),
        pending: revision.pending_task_count.into(),
        running: revision.running_task_count.into(),
        weight,
    })
}

fn strategy(found: &ecs::ServiceDeployment) -> ecs::DeploymentStrategy {
    // Deployments from before there were others have none.
    let configuration = found.deployment_configuration();
    configuration.and_then(|one| one.strategy.clone()).unwrap_or(ecs::DeploymentStrategy::Rolling)
}

/// The steps below 100 %.
fn planned(found: &ecs::ServiceDeployment) -> Vec<Step> {
    let minutes = |minutes: i32| Duration::from_mins(u64::try_from(minutes).unwrap_or(0));
    let Some(configuration) = found.deployment_configuration() else { return Vec::new() };
    match strategy(found) {
        ecs::DeploymentStrategy::Canary => {
            let canary = configuration.canary_configuration();
            let percent = canary.and_then(|canary| canary.canary_percent).unwrap_or(CANARY.0);
            let bake = canary.and_then(|canary| canary.canary_bake_time_in_minutes).unwrap_or(CANARY.1);
            schedule::canary(percent, minutes(bake))
        }
        ecs::DeploymentStrategy::Linear => {
            let linear = configuration.linear_configuration();
            let percent = linear.and_then(|linear| linear.step_percent).unwrap_or(LINEAR.0);
            let bake = linear.and_then(|linear| linear.step_bake_time_in_minutes).unwrap_or(LINEAR.1);
            schedule::linear(percent, minutes(bake))
        }
        _ => Vec::new(),
    }
}

/// When ECS began to call the hooks that are in progress: when their time is over, less that time.
fn hooks_began(found: &ecs::ServiceDeployment) -> Option<Timestamp> {
    let configured = found.deployment_configuration()?.lifecycle_hooks();
    let began = |hook: &ecs::DeploymentLifecycleHookDetail| {
        let wanted = hook.target_arn()?;
        let limit = configured.iter().find(|known| known.hook_target_arn() == Some(wanted))?;
        let limit = limit.timeout_configuration().and_then(|limit| limit.timeout_in_minutes);
        let limit = SignedDuration::from_mins(limit.unwrap_or(HOOK_MINUTES).into());
        timestamp(hook.expires_at)?.checked_sub(limit).ok()
    };
    let running = found
        .lifecycle_hook_details()
        .iter()
        .filter(|hook| hook.status == Some(ecs::DeploymentLifecycleHookStatus::InProgress));
    running.filter_map(began).max()
}

fn alarms(found: &ecs::ServiceDeployment) -> Vec<String> {
    let alarms = found.deployment_configuration().and_then(|configuration| configuration.alarms());
    alarms.filter(|alarms| alarms.enable).map(|alarms| alarms.alarm_names().to_vec()).unwrap_or_default()
}

fn test_header(revision: &ecs::ServiceRevision) -> Option<(String, String)> {
    let connect = revision.service_connect_configuration().filter(|connect| connect.enabled)?;
    let rules = connect
        .services()
        .iter()
        .flat_map(ecs::ServiceConnectService::client_aliases)
        .find_map(|alias| alias.test_traffic_rules()?.header());
    Some(rules.map_or_else(
        || (TEST_HEADER.to_owned(), "true".to_owned()),
        |header| {
            let value = header.value().map_or("true", |value| value.exact());
            (header.name.clone(), value.to_owned())
        },
    ))
}

/// The one group of a rolling update: the one that the old revision serves from, else the first that the service names.
fn shared_group(
    id: &DeploymentId,
    balanced: &ecs::LoadBalancer,
    old: Option<&ecs::ServiceRevision>,
) -> Result<[String; 2], Fault> {
    let serves =
        old.and_then(|old| old.resolved_configuration()?.load_balancers().first()?.target_group_arn.clone());
    let group = serves.or_else(|| balanced.target_group_arn.clone());
    let group = group.ok_or_else(|| not_understood(id, "a target group"))?;
    Ok([group.clone(), group])
}

/// Blue's target group and green's. A revision says which one it has while it is active; the other colour has the other
/// one of the pair. Without a pair both share one.
fn target_group_arns(
    id: &DeploymentId,
    balanced: &ecs::LoadBalancer,
    old: Option<&ecs::ServiceRevision>,
    new: &ecs::ServiceRevision,
) -> Result<[String; 2], Fault> {
    let one = balanced.target_group_arn.as_ref().ok_or_else(|| not_understood(id, "a target group"))?;
    let Some(other) =
        balanced.advanced_configuration().and_then(|rules| rules.alternate_target_group_arn.as_ref())
    else {
        return Ok([one.clone(), one.clone()]);
    };
    let resolved = |revision: &ecs::ServiceRevision| {
        let balanced = revision.resolved_configuration()?.load_balancers().first()?;
        balanced.target_group_arn.clone().filter(|arn| arn == one || arn == other)
    };
    let opposite = |arn: &String| if arn == one { other.clone() } else { one.clone() };
    let (blue, green) = (old.and_then(resolved), resolved(new));
    match (blue, green) {
        (Some(blue), Some(green)) if blue != green => Ok([blue, green]),
        // Of two that name the same group, the old one serves from it.
        (Some(blue), _) => Ok([blue.clone(), opposite(&blue)]),
        (None, Some(green)) => Ok([opposite(&green), green]),
        // The first deployment begins with the group that the service names first.
        (None, None) if old.is_none() => Ok([other.clone(), one.clone()]),
        (None, None) => Err(not_understood(id, "a revision that says which target group it has")),
    }
}

/// Target groups with the ARNs of the balancers that forward to them.
async fn target_groups(aws: &Aws, blue: &str, green: &str) -> Result<Vec<FoundGroup>, Fault> {
    let mut arns = vec![blue.to_owned(), green.to_owned()];
    arns.dedup();
    let purpose = format!("read target groups {}", arns.join(", "));
    let output = aws
        .elb
        .describe_target_groups()
        .set_target_group_arns(Some(arns))
        .send()
        .await
        .map_err(|error| aws::fault(TARGET_GROUPS, &purpose, error))?;
    let groups = output.target_groups().iter();
    Ok(groups.filter_map(|group| Some((target_group(group)?, group.load_balancer_arns().to_vec()))).collect())
}

type FoundGroup = (TargetGroup, Vec<String>);

fn group<'a>(found: &'a [FoundGroup], arn: &str) -> Result<&'a FoundGroup, Fault> {
    let of_arn = found.iter().find(|(group, _)| group.arn == arn);
    of_arn.ok_or_else(|| not_found(TARGET_GROUPS, "target group", arn))
}

/// Where production and test traffic come in.
struct Routes {
    load_balancer: LoadBalancer,
    production: Route,
    test: Option<Route>,
}

/// A listener with the weights of its rule (or of its default action).
#[derive(Clone)]
struct Route {
    /// What the service names: the rule's ARN, or a Network Load Balancer's listener.
    named: String,
    listener: Listener,
    load_balancer: String,
    /// Target groups with their weights.
    weights: Vec<(String, f64)>,
}

impl Route {
    /// A target group's share in percent; unknown where all weights are 0.
    fn share(&self, target_group: &str) -> Option<f64> {
        let all: f64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let of_group = self.weights.iter().filter(|(group, _)| group == target_group);
        let share = 100.0 * of_group.map(|(_, weight)| weight).sum::<f64>() / all;
        is_weight(share).then_some(share)
    }
}

/// The routes that a service names as production's and test's, each by a rule or by a Network Load Balancer's listener.
async fn routes(aws: &Aws, production: &String, test: Option<&String>) -> Result<Routes, Fault> {
    let named = || [Some(production), test].into_iter().flatten();
    let rules: Vec<&String> = named().filter(|arn| arn.contains(":listener-rule/")).collect();
    let own_listeners: Vec<&String> = named().filter(|arn| arn.contains(":listener/")).collect();
    let of_rules =
        async { if rules.is_empty() { Ok(Vec::new()) } else { routes_of_rules(aws, &rules).await } };
    let of_listeners = async {
        if own_listeners.is_empty() { Ok(Vec::new()) } else { routes_of_listeners(aws, &own_listeners).await }
    };
    let balancer = discover::balancer_of(production);
    let (of_rules, of_listeners, guessed) =
        tokio::try_join!(of_rules, of_listeners, discover::load_balancer_if(aws, balancer.as_ref()))?;
    let all = [of_rules, of_listeners].concat();
    let find = |arn: &String| all.iter().find(|route| route.named == *arn).cloned();
    let route = find(production)
        .ok_or_else(|| not_found(&format!("{RULES}, {LISTENERS}"), "listener or rule", production))?;
    let load_balancer = discover::load_balancer_of(aws, &route.load_balancer, balancer.zip(guessed)).await?;
    Ok(Routes { load_balancer, production: route, test: test.and_then(find) })
}

/// A rolling update names no route; then production is any listener of the balancer behind which its target group is.
async fn any_route(aws: &Aws, balancer: Option<&String>) -> Result<Routes, Fault> {
    let balancer = balancer
        .ok_or_else(|| not_found(TARGET_GROUPS, "load balancer", "in front of the service's target group"))?;
    let listeners = async {
        let purpose = format!("read the listeners of {balancer}");
        let sent = aws.elb.describe_listeners().load_balancer_arn(balancer).send().await;
        sent.map_err(|error| aws::fault(LISTENERS, &purpose, error))
    };
    let (output, load_balancer) = tokio::try_join!(listeners, discover::load_balancer(aws, balancer))?;
    let production = output.listeners().iter().find_map(route_of_listener);
    let production = production.ok_or_else(|| not_found(LISTENERS, "listener of", balancer))?;
    Ok(Routes { load_balancer, production, test: None })
}

async fn routes_of_listeners(aws: &Aws, arns: &[&String]) -> Result<Vec<Route>, Fault> {
    let arns = arns.iter().map(|arn| (*arn).clone()).collect();
    let sent = aws.elb.describe_listeners().set_listener_arns(Some(arns)).send().await;
    let output = sent.map_err(|error| aws::fault(LISTENERS, "read the listeners of the service", error))?;
    Ok(output.listeners().iter().filter_map(route_of_listener).collect())
}

async fn routes_of_rules(aws: &Aws, arns: &[&String]) -> Result<Vec<Route>, Fault> {
    let mut of_rules: Vec<String> = arns.iter().filter_map(|arn| listener_of(arn)).collect();
    of_rules.sort();
    of_rules.dedup();
    let (rules, listeners) = tokio::try_join!(rules(aws, arns), async {
        discover::listeners(aws, &of_rules.iter().map(Some).collect::<Vec<_>>()).await
    })?;
    let route = |rule: &elb::Rule| {
        let arn = listener_of(rule.rule_arn()?)?;
        let (listener, load_balancer) = listeners.iter().find(|(listener, _)| listener.arn == arn)?;
        let conditions = rule.conditions().iter().map(condition).collect();
        Some(Route {
            named: rule.rule_arn.clone()?,
            listener: Listener { conditions, ..listener.clone() },
            load_balancer: load_balancer.clone(),
            weights: weights(rule.actions()),
        })
    };
    Ok(rules.iter().filter_map(route).collect())
}

async fn rules(aws: &Aws, arns: &[&String]) -> Result<Vec<elb::Rule>, Fault> {
    let arns: Vec<String> = arns.iter().map(|arn| (*arn).clone()).collect();
    let names = arns.join(", ");
    let sent = aws.elb.describe_rules().set_rule_arns(Some(arns)).send().await;
    let output = sent.map_err(|error| aws::fault(RULES, &format!("read listener rules {names}"), error))?;
    let rules = output.rules.unwrap_or_default();
    if rules.is_empty() { Err(not_found(RULES, "listener rule", &names)) } else { Ok(rules) }
}

fn route_of_listener(found: &elb::Listener) -> Option<Route> {
    let (listener, load_balancer) = listener(found)?;
    let weights = weights(found.default_actions());
    Some(Route { named: listener.arn.clone(), listener, load_balancer, weights })
}

/// `.../listener-rule/app/name/id/listener/rule` belongs to `.../listener/app/name/id/listener`.
fn listener_of(rule_arn: &str) -> Option<String> {
    let (listener, _rule) = rule_arn.rsplit_once('/')?;
    Some(listener.replacen(":listener-rule/", ":listener/", 1))
}

fn weights(actions: &[elb::Action]) -> Vec<(String, f64)> {
    let weighted = actions
        .iter()
        .filter_map(elb::Action::forward_config)
        .flat_map(elb::ForwardActionConfig::target_groups);
    let weighted: Vec<(String, f64)> = weighted
        .filter_map(|group| Some((group.target_group_arn.clone()?, group.weight.unwrap_or(1).into())))
        .collect();
    if !weighted.is_empty() {
        return weighted;
    }
    actions.iter().filter_map(|action| Some((action.target_group_arn.clone()?, 1.0))).collect()
}

fn condition(condition: &elb::RuleCondition) -> Condition {
    let field = condition.field().unwrap_or_default();
    // Older rules have their values beside the field.
    let or_plain =
        |values: &[String]| if values.is_empty() { condition.values().to_vec() } else { values.to_vec() };
    let regular = !condition.regex_values().is_empty();
    match field {
        "path-pattern" if !regular => {
            Condition::Path(or_plain(condition.path_pattern_config().map_or(&[], |config| config.values())))
        }
        "host-header" if !regular => {
            Condition::Host(or_plain(condition.host_header_config().map_or(&[], |config| config.values())))
        }
        "http-request-method" => {
            let config = condition.http_request_method_config();
            Condition::Method(or_plain(config.map_or(&[], |config| config.values())))
        }
        "http-header" if !regular => {
            let config = condition.http_header_config();
            Condition::Header {
                name: config.and_then(|config| config.http_header_name.clone()).unwrap_or_default(),
                values: config.map(|config| config.values().to_vec()).unwrap_or_default(),
            }
        }
        "query-string" => {
            let pairs = condition.query_string_config().map_or(&[][..], |config| config.values());
            let pair = |pair: &elb::QueryStringKeyValuePair| {
                (pair.key.clone(), pair.value.clone().unwrap_or_else(|| "*".to_owned()))
            };
            Condition::Query(pairs.iter().map(pair).collect())
        }
        other => Condition::Other(other.to_owned()),
    }
}

fn vanished(arn: &str) -> Fault {
    not_found("ecs:DescribeServiceRevisions", "service revision", arn)
}

fn not_understood(id: &DeploymentId, lacks: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!(
            "what ECS tells of service deployment {id} does not have {lacks} (ecs:DescribeServiceDeployments, ecs:DescribeServiceRevisions)"
        ),
        "look at it with `aws ecs describe-service-deployments`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(resolved: Option<&str>) -> ecs::ServiceRevision {
        let group = |arn: &str| {
            let balancer = ecs::ServiceRevisionLoadBalancer::builder().target_group_arn(arn).build();
            ecs::ResolvedConfiguration::builder().load_balancers(balancer).build()
        };
        ecs::ServiceRevision::builder().set_resolved_configuration(resolved.map(group)).build()
    }

    #[test]
    fn the_colours_follow_from_what_the_revisions_say() {
        let rules = ecs::AdvancedConfiguration::builder().alternate_target_group_arn("two").build();
        let pair = ecs::LoadBalancer::builder().target_group_arn("one");
        let id = DeploymentId::new("d-1").unwrap();
        let colours = |old: Option<Option<&str>>, new: Option<&str>| {
            let old = old.map(revision);
            let pair = pair.clone().advanced_configuration(rules.clone()).build();
            target_group_arns(&id, &pair, old.as_ref(), &revision(new)).map_err(|fault| fault.to_string())
        };
        let both = |blue: &str, green: &str| Ok([blue.to_owned(), green.to_owned()]);
        assert_eq!(colours(Some(Some("one")), Some("two")), both("one", "two"));
        assert_eq!(colours(Some(Some("two")), None), both("two", "one"));
        assert_eq!(colours(Some(None), Some("one")), both("two", "one"));
        assert_eq!(colours(Some(Some("two")), Some("two")), both("two", "one"));
        assert_eq!(colours(None, None), both("two", "one"));
        assert_eq!(colours(None, Some("two")), both("one", "two"));
        assert!(colours(Some(None), None).unwrap_err().contains("which target group"));
        let alone = target_group_arns(&id, &pair.build(), Some(&revision(None)), &revision(None)).unwrap();
        assert_eq!(alone, ["one".to_owned(), "one".to_owned()]);
    }

    #[test]
    fn the_end_of_a_hook_s_time_tells_when_it_began() {
        let configured = |arn: &str, minutes: Option<i32>| {
            let limit = ecs::DeploymentLifecycleHookTimeoutConfiguration::builder()
                .set_timeout_in_minutes(minutes)
                .build();
            let hook = ecs::DeploymentLifecycleHook::builder().hook_target_arn(arn);
            hook.timeout_configuration(limit).build()
        };
        let configuration = ecs::DeploymentConfiguration::builder()
            .lifecycle_hooks(configured("short", Some(30)))
            .lifecycle_hooks(configured("usual", None))
            .build();
        let began = |arn: &str, status: &str, expires: i64| {
            let hook = ecs::DeploymentLifecycleHookDetail::builder()
                .target_arn(arn)
                .status(status.into())
                .expires_at(aws_sdk_ecs::primitives::DateTime::from_secs(expires))
                .build();
            let found = ecs::ServiceDeployment::builder()
                .deployment_configuration(configuration.clone())
                .lifecycle_hook_details(hook)
                .build();
            hooks_began(&found).map(Timestamp::as_second)
        };
        assert_eq!(began("short", "IN_PROGRESS", 10_000), Some(10_000 - 30 * 60));
        assert_eq!(began("usual", "IN_PROGRESS", 100_000), Some(100_000 - 24 * 3600));
        assert_eq!(began("usual", "SUCCEEDED", 100_000), None, "of an earlier stage");
        assert_eq!(began("another", "IN_PROGRESS", 100_000), None, "its limit is not known");
    }

    #[test]
    fn a_rule_belongs_to_the_listener_in_its_arn() {
        assert_eq!(
            listener_of("arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/shop/aa/bb/cc").unwrap(),
            "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/shop/aa/bb"
        );
    }
}
