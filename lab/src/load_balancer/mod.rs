//! An Application Load Balancer on loopback: weighted listeners, health checks, and the metrics of both.

mod health;
pub(crate) mod http;
mod listener;
mod metrics;
mod proxy;
mod rule;
mod target_group;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use self::health::{HealthCheck, Matcher};
pub use self::listener::{Listener, ListenerKind};
pub use self::metrics::Recorder;
pub(crate) use self::proxy::VERSION;
pub use self::rule::{Condition, Rule, RuleSpec};
pub use self::target_group::{Target, TargetGroup, TargetGroupSpec, TargetHealth, TargetState};

use self::metrics::Meter;
use crate::api::{ACCOUNT, ApiError, REGION};

/// Largest weight of a target group in a forward action.
const LARGEST_WEIGHT: u32 = 999;

/// What a balancer is to be like.
#[derive(Debug, Clone)]
pub struct LoadBalancerSpec {
    /// Its name, at most 32 characters on AWS.
    pub name: String,
    /// The pair that a deployment shifts between. At first all listeners forward to the first.
    pub target_groups: [TargetGroupSpec; 2],
    /// Whether there is a test listener beside the production listener.
    pub test_listener: bool,
    /// Rules of the listeners beside their default ones.
    pub rules: Vec<RuleSpec>,
}

/// A running balancer. It stops when dropped.
#[derive(Debug)]
pub struct LoadBalancer {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Value of the metric dimension `LoadBalancer`: `app/<name>/<id>`.
    pub dimension: String,
    /// When it was started.
    pub created: Timestamp,
    target_groups: [Arc<TargetGroup>; 2],
    production: Arc<Listener>,
    test: Option<Arc<Listener>>,
    internal: AtomicBool,
    /// Held while weights change: which groups are in use follows from all listeners together.
    routing: Mutex<()>,
    _tasks: JoinSet<()>,
}

impl LoadBalancer {
    /// Starts a balancer with its listeners on free ports of 127.0.0.1.
    pub async fn start(spec: LoadBalancerSpec, recorder: Recorder) -> io::Result<Arc<Self>> {
        let path = format!("app/{}/{}", spec.name, identifier("load balancer", &spec.name));
        let meter = Arc::new(Meter::new(recorder, path.clone()));
        let target_groups = spec.target_groups.map(start_target_group);
        let [first, _] = &target_groups;
        let mut tasks = JoinSet::new();

        let rules = &spec.rules;
        let production =
            start_listener(ListenerKind::Production, &path, rules, first, &meter, &mut tasks).await?;
        let test = if spec.test_listener {
            Some(start_listener(ListenerKind::Test, &path, rules, first, &meter, &mut tasks).await?)
        } else {
            None
        };
        first.set_in_use(true);
        for group in &target_groups {
            tasks.spawn(health::check_for_ever(Arc::clone(group), Arc::clone(&meter)));
        }

        Ok(Arc::new(Self {
            name: spec.name,
            arn: arn(&format!("loadbalancer/{path}")),
            dimension: path,
            created: metrics::now(),
            target_groups,
            production,
            test,
            internal: AtomicBool::new(false),
            routing: Mutex::new(()),
            _tasks: tasks,
        }))
    }

    /// A balancer that only the API knows: nobody listens, and nobody checks targets.
    pub fn described(spec: LoadBalancerSpec) -> Arc<Self> {
        let path = format!("app/{}/{}", spec.name, identifier("load balancer", &spec.name));
        let target_groups = spec.target_groups.map(start_target_group);
        let [first, _] = &target_groups;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let listener = |kind| Arc::new(describe_listener(kind, &path, &spec.rules, first, nowhere));
        first.set_in_use(true);
        Arc::new(Self {
            name: spec.name,
            arn: arn(&format!("loadbalancer/{path}")),
            created: metrics::now(),
            production: listener(ListenerKind::Production),
            test: spec.test_listener.then(|| listener(ListenerKind::Test)),
            dimension: path,
            target_groups,
            internal: AtomicBool::new(false),
            routing: Mutex::new(()),
            _tasks: JoinSet::new(),
        })
    }

    /// Says that it is reached from within its VPC only, or from everywhere.
    pub fn set_internal(&self, internal: bool) {
        self.internal.store(internal, Ordering::Relaxed);
    }

    /// Whether it says so.
    pub fn is_internal(&self) -> bool {
        self.internal.load(Ordering::Relaxed)
    }

    /// Where users' requests go.
    pub fn production_address(&self) -> SocketAddr {
        self.production.address
    }

    /// Where smoke checks' requests go, if there is a test listener.
    pub fn test_address(&self) -> Option<SocketAddr> {
        self.test.as_ref().map(|listener| listener.address)
    }

    /// Its one or two listeners, production first.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        std::iter::once(&self.production).chain(&self.test).map(AsRef::as_ref)
    }

    /// A listener; `ListenerNotFound` for a test listener that was not asked for.
    pub fn listener(&self, kind: ListenerKind) -> Result<&Listener, ApiError> {
        let found = self.listeners().find(|listener| listener.kind == kind);
        found.ok_or_else(|| ApiError::client("ListenerNotFound", "One or more listeners not found"))
    }

    /// Both target groups.
    pub fn target_groups(&self) -> &[Arc<TargetGroup>; 2] {
        &self.target_groups
    }

    /// A target group by its name, or `TargetGroupNotFound`.
    pub fn target_group(&self, name: &str) -> Result<&Arc<TargetGroup>, ApiError> {
        let found = self.target_groups.iter().find(|group| group.name == name);
        found.ok_or_else(|| ApiError::client("TargetGroupNotFound", "One or more target groups not found"))
    }

    /// Registers a target; again changes nothing, except that it stops draining.
    pub fn register(&self, target_group: &str, target: Target) -> Result<(), ApiError> {
        self.target_group(target_group)?.register(target);
        Ok(())
    }

    /// Sends no new requests to the targets with this id, and forgets them after the deregistration delay.
    pub fn deregister(&self, target_group: &str, id: &str) -> Result<(), ApiError> {
        self.target_group(target_group)?.deregister(id);
        Ok(())
    }

    /// How the targets of a group are.
    pub fn health(&self, target_group: &str) -> Result<Vec<TargetHealth>, ApiError> {
        Ok(self.target_group(target_group)?.health())
    }

    /// Target groups of a listener with their weights; none when there is no such listener.
    pub fn weights(&self, listener: ListenerKind) -> Vec<(String, u32)> {
        let forwards = self.listener(listener).map(Listener::forwards).unwrap_or_default();
        forwards.into_iter().map(|(group, weight)| (group.name.clone(), weight)).collect()
    }

    /// Replaces the default action of a listener; weights are 0 to 999, relative to each other.
    pub fn set_weights(&self, listener: ListenerKind, weights: &[(String, u32)]) -> Result<(), ApiError> {
        let forwards = self.forwards(weights)?;
        let listener = self.listener(listener)?;
        self.route(|| listener.set_forwards(forwards));
        Ok(())
    }

    /// Replaces the forward action of a rule; `RuleNotFound` for a default rule too.
    pub fn set_rule_weights(&self, rule_arn: &str, weights: &[(String, u32)]) -> Result<(), ApiError> {
        let forwards = self.forwards(weights)?;
        let rule = self.rule(rule_arn)?;
        self.route(|| rule.forward().set(forwards));
        Ok(())
    }

    /// A rule that is no default rule, or `RuleNotFound`.
    pub fn rule(&self, arn: &str) -> Result<&Rule, ApiError> {
        let found = self.listeners().flat_map(|listener| &listener.rules).find(|rule| rule.arn == arn);
        found.ok_or_else(|| ApiError::client("RuleNotFound", "One or more rules not found"))
    }

    /// The groups with their weights, or why they cannot be a forward action.
    fn forwards(&self, weights: &[(String, u32)]) -> Result<Vec<(Arc<TargetGroup>, u32)>, ApiError> {
        if weights.is_empty() || weights.iter().any(|(_, weight)| *weight > LARGEST_WEIGHT) {
            let message =
                format!("a forward action needs target groups with weights from 0 to {LARGEST_WEIGHT}");
            return Err(ApiError::client("ValidationError", message));
        }
        let forward = |(name, weight): &(String, u32)| Ok((Arc::clone(self.target_group(name)?), *weight));
        weights.iter().map(forward).collect()
    }

    /// Changes a forward action, and then which groups are in use.
    fn route(&self, change: impl FnOnce()) {
        let _held = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        change();
        for group in &self.target_groups {
            group.set_in_use(self.listeners().any(|listener| listener.forwards_to(group)));
        }
    }
}

fn start_target_group(spec: TargetGroupSpec) -> Arc<TargetGroup> {
    let path = format!("targetgroup/{}/{}", spec.name, identifier("target group", &spec.name));
    Arc::new(TargetGroup::new(spec, arn(&path), path))
}

async fn start_listener(
    kind: ListenerKind,
    path: &str,
    rules: &[RuleSpec],
    first: &Arc<TargetGroup>,
    meter: &Arc<Meter>,
    tasks: &mut JoinSet<()>,
) -> io::Result<Arc<Listener>> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let listener = Arc::new(describe_listener(kind, path, rules, first, socket.local_addr()?));
    tasks.spawn(proxy::proxy_for_ever(socket, Arc::clone(&listener), Arc::clone(meter)));
    Ok(listener)
}

fn describe_listener(
    kind: ListenerKind,
    path: &str,
    rules: &[RuleSpec],
    first: &Arc<TargetGroup>,
    address: SocketAddr,
) -> Listener {
    let path = format!("{path}/{}", identifier(&format!("{kind:?} listener"), path));
    let rule_arn = |id: String| arn(&format!("listener-rule/{path}/{id}"));
    let of_listener = rules.iter().filter(|spec| spec.listener == kind);
    let rules = of_listener.map(|spec| {
        let id = identifier(&format!("rule {}", spec.priority), &path);
        Rule::new(rule_arn(id), spec.clone(), Arc::clone(first))
    });
    Listener::new(
        kind,
        arn(&format!("listener/{path}")),
        rule_arn(identifier("default rule", &path)),
        address,
        rules.collect(),
        Arc::clone(first),
    )
}

fn arn(resource: &str) -> String {
    format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{resource}")
}

/// 16 hexadecimal digits; derived from the name, so that two runs of a scenario can be compared.
fn identifier(kind: &str, name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
