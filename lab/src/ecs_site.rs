//! A service in the account that ECS deploys itself: balancer with rules, tasks and users.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::account::Account;
use crate::application::Behaviour;
use crate::ecs::{EcsService, Route, Routing};
use crate::load_balancer::{Condition, ListenerKind, LoadBalancer, RuleSpec};
use crate::past::Past;
use crate::service::{Label, Service, TaskSet};
use crate::site::{balancer, group_names, healthy};
use crate::traffic::Traffic;

/// Cluster of the lab's services.
pub const CLUSTER: &str = "lab";
/// Priority of the rules that ECS shifts.
const PRIORITY: u32 = 10;

/// What a service is to be like.
#[derive(Debug, Clone)]
pub struct EcsSiteSpec {
    /// Name of the service; the balancer is named after it.
    pub name: String,
    /// Tasks of each version.
    pub tasks: usize,
    /// Requests per second of its users.
    pub requests_per_second: f64,
    /// Whether green can be reached before it takes traffic.
    pub test_listener: bool,
    /// What its rules ask of a request, on both listeners.
    pub conditions: Vec<Condition>,
    /// How far back CloudWatch knows it; without a past, nothing has been deployed before the version that serves.
    pub past: Option<Duration>,
    /// The old version.
    pub blue: Behaviour,
    /// The new version.
    pub green: Behaviour,
}

/// A running service. Its users stop when it is dropped.
pub struct EcsSite {
    /// The ECS service.
    pub service: Arc<Service>,
    /// The old version's tasks.
    pub blue: Arc<TaskSet>,
    /// Its load balancer.
    pub balancer: Arc<LoadBalancer>,
    /// Its users.
    pub traffic: Traffic,
}

impl EcsSite {
    /// Starts a service with its old version healthy. `configure` sets strategy, hooks, alarms and the like.
    pub async fn start(
        account: &Account,
        spec: EcsSiteSpec,
        configure: impl FnOnce(&mut EcsService),
    ) -> Result<Self> {
        let rule = |listener| RuleSpec { listener, priority: PRIORITY, conditions: spec.conditions.clone() };
        let rules = vec![rule(ListenerKind::Production), rule(ListenerKind::Test)];
        let balancer = balancer(account, &spec.name, &spec.blue, spec.test_listener, rules).await?;
        let names = group_names(&spec.name);
        let service = Arc::new(Service::new(CLUSTER, &spec.name, Some(Arc::clone(&balancer))));
        let blue = service.start(Label::Blue, &names[0], spec.tasks, &spec.blue).await?;
        healthy(&balancer, &names[0]).await?;
        if let Some(past) = spec.past {
            let before = Past {
                load_balancer: &balancer.dimension,
                target_group: &balancer.target_group(&names[0])?.dimension,
                tasks: spec.tasks,
                requests_per_second: spec.requests_per_second,
                behaviour: &spec.blue,
            };
            before.record(&account.services.cloudwatch, Timestamp::now(), past);
        }
        let mut configured = EcsService::new(Arc::clone(&service), Some(Arc::clone(&blue)), spec.tasks);
        configured.next_version = spec.green;
        configured.routing = Some(Routing {
            target_groups: names,
            production: first_rule(&balancer, ListenerKind::Production)?,
            test: spec.test_listener.then(|| first_rule(&balancer, ListenerKind::Test)).transpose()?,
        });
        configure(&mut configured);
        let ecs = &account.services.ecs;
        ecs.add_service(configured)?;
        if let Some(past) = spec.past {
            let at = Timestamp::now().saturating_sub(2 * past).unwrap_or(Timestamp::MIN);
            let id = past_id(&spec.name);
            let record = ecs.past(CLUSTER, &spec.name, &id, at).context("nothing serves")?;
            ecs.add_past(record);
        }
        let traffic = Traffic::start(balancer.production_address(), spec.requests_per_second);
        Ok(Self { service, blue, balancer, traffic })
    }
}

fn first_rule(balancer: &LoadBalancer, kind: ListenerKind) -> Result<Route> {
    let rule = balancer.listener(kind)?.rules.first().context("the listener has no rule")?;
    Ok(Route::Rule(rule.arn.clone()))
}

/// Id of the deployment that brought the old version; the same on every run, and as long as the real ones.
fn past_id(name: &str) -> String {
    let letters = "PAST".chars().chain(name.chars().filter(char::is_ascii_alphanumeric));
    letters.chain(std::iter::repeat('0')).take(21).collect()
}
