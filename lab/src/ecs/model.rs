//! What a user configures: services, strategies, hooks, alarms.

use std::sync::Arc;

use serde_json::Value;

use crate::application::Behaviour;
use crate::doubts::Doubts;
use crate::load_balancer::ListenerKind;
use crate::service::{Service, TaskSet};

/// The stages of a service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Only when more than one revision is active at the start.
    ReconcileService,
    /// Before green's tasks are started.
    PreScaleUp,
    /// Green's tasks start.
    ScaleUp,
    /// Green's tasks run.
    PostScaleUp,
    /// Test traffic goes to green.
    TestTrafficShift,
    /// Test traffic is green's.
    PostTestTrafficShift,
    /// Before a step of production traffic.
    PreProductionTrafficShift,
    /// A step of production traffic.
    ProductionTrafficShift,
    /// Production traffic is green's.
    PostProductionTrafficShift,
    /// Both revisions run on; no hook is called.
    BakeTime,
    /// Blue's tasks stop.
    CleanUp,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 11] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::ScaleUp,
        Self::PostScaleUp,
        Self::TestTrafficShift,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::ProductionTrafficShift,
        Self::PostProductionTrafficShift,
        Self::BakeTime,
        Self::CleanUp,
    ];

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::ScaleUp => "SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::BakeTime => "BAKE_TIME",
            Self::CleanUp => "CLEAN_UP",
        }
    }
}

/// How green takes over. Percentages are green's, times in ECS's minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Green's tasks replace blue's in the same target group; no hook is called.
    Rolling {
        /// Least share of the desired tasks that must be ready; of tasks, rounded up.
        minimum_healthy_percent: u32,
        /// Largest share of the desired tasks that may exist; of tasks, rounded down.
        maximum_percent: u32,
    },
    /// All traffic at once.
    BlueGreen,
    /// Equal steps.
    Linear {
        /// Each step.
        step_percent: f64,
        /// Bake after each step but the last.
        step_bake_minutes: f64,
    },
    /// One step, then the rest.
    Canary {
        /// First step.
        percent: f64,
        /// Bake until the rest.
        bake_minutes: f64,
    },
}

impl Strategy {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling { .. } => "ROLLING",
            Self::BlueGreen => "BLUE_GREEN",
            Self::Linear { .. } => "LINEAR",
            Self::Canary { .. } => "CANARY",
        }
    }

    /// Green's weight at each step of production traffic, with the minutes of bake after it. Rolling has none.
    pub fn steps(self) -> Vec<(f64, f64)> {
        match self {
            Self::Rolling { .. } => Vec::new(),
            Self::BlueGreen => vec![(100.0, 0.0)],
            Self::Canary { percent, bake_minutes } => vec![(percent, bake_minutes), (100.0, 0.0)],
            Self::Linear { step_percent, step_bake_minutes } => {
                // Tenths of a percent, so that 0.1 % steps add up.
                let tenths = (step_percent * 10.0).round().max(1.0) as u32;
                let count = 1000_u32.div_ceil(tenths);
                let weight = |step: u32| f64::from((tenths * step).min(1000)) / 10.0;
                (1..=count)
                    .map(|step| (weight(step), if step == count { 0.0 } else { step_bake_minutes }))
                    .collect()
            }
        }
    }
}

/// What happens to a hook that is not done in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    /// The deployment is rolled back.
    #[default]
    Rollback,
    /// The deployment goes on.
    Continue,
}

impl TimeoutAction {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "ROLLBACK",
            Self::Continue => "CONTINUE",
        }
    }
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookTarget {
    /// Invokes a Lambda function, by name or ARN.
    Function(String),
    /// Waits for `ContinueServiceDeployment` under this hook id: a pause. ECS refuses pauses at the two traffic
    /// shifts, since those run again in a rollback.
    Wait(String),
}

/// A lifecycle hook of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct EcsHook {
    /// What it does.
    pub target: HookTarget,
    /// Whether it names a role under which ECS calls the function. ECS cannot call it without one.
    pub has_role: bool,
    /// At which stages; not at `SCALE_UP`, `BAKE_TIME` and `CLEAN_UP`.
    pub stages: Vec<Stage>,
    /// What each of its invocations gets as `hookDetails`.
    pub details: Option<Value>,
    /// ECS's minutes that it may take at each stage; without them, the pace's limit.
    pub timeout_minutes: Option<f64>,
    /// What happens then.
    pub on_timeout: TimeoutAction,
}

impl EcsHook {
    /// A function that is invoked at these stages.
    pub fn function(name: &str, stages: &[Stage]) -> Self {
        Self::new(HookTarget::Function(name.to_owned()), stages)
    }

    /// A pause at a stage, under this hook id.
    pub fn wait(hook_id: &str, stage: Stage) -> Self {
        Self::new(HookTarget::Wait(hook_id.to_owned()), &[stage])
    }

    fn new(target: HookTarget, stages: &[Stage]) -> Self {
        Self {
            has_role: matches!(target, HookTarget::Function(_)),
            target,
            stages: stages.to_vec(),
            details: None,
            timeout_minutes: None,
            on_timeout: TimeoutAction::Rollback,
        }
    }
}

/// The alarms of a service's deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsAlarms {
    /// Their names.
    pub names: Vec<String>,
    /// Whether one that rings rolls the deployment back; else it only stops.
    pub rollback: bool,
}

/// The deployment circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Whether it rolls the deployment back; else the deployment only stops.
    pub rollback: bool,
}

/// What decides where production or test traffic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A listener rule, by its ARN.
    Rule(String),
    /// A whole listener, as with a Network Load Balancer.
    Listener(ListenerKind),
}

/// How traffic reaches a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Names of the primary and the alternate target group. Which one is blue changes with every deployment; a rolling
    /// one stays in the first.
    pub target_groups: [String; 2],
    /// The users' traffic.
    pub production: Route,
    /// The checks' traffic, if the service has any.
    pub test: Option<Route>,
}

/// A service whose deployments ECS runs itself.
#[derive(Debug, Clone)]
pub struct EcsService {
    /// Cluster, name, tasks, balancer.
    pub service: Arc<Service>,
    /// The tasks that serve now; none before the first deployment.
    pub live: Option<Arc<TaskSet>>,
    /// Tasks that it should have.
    pub desired: usize,
    /// Keys and values.
    pub tags: Vec<(String, String)>,
    /// Its load balancer's groups and rules, if it has one.
    pub routing: Option<Routing>,
    /// Its `serviceConnectConfiguration` as the API writes it, if it has one.
    pub service_connect: Option<Value>,
    /// How green takes over.
    pub strategy: Strategy,
    /// ECS's minutes that both revisions run after the last step.
    pub bake_minutes: f64,
    /// Its hooks.
    pub hooks: Vec<EcsHook>,
    /// Its alarms.
    pub alarms: Option<EcsAlarms>,
    /// Its circuit breaker.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How the next version will behave.
    pub next_version: Behaviour,
    /// What ECS does where nobody has looked.
    pub doubts: Doubts,
}

impl EcsService {
    /// A service that shifts all traffic at once, with nothing else configured.
    pub fn new(service: Arc<Service>, live: Option<Arc<TaskSet>>, desired: usize) -> Self {
        Self {
            service,
            live,
            desired,
            tags: Vec::new(),
            routing: None,
            service_connect: None,
            strategy: Strategy::BlueGreen,
            bake_minutes: 0.0,
            hooks: Vec::new(),
            alarms: None,
            circuit_breaker: None,
            next_version: Behaviour::default(),
            doubts: Doubts::default(),
        }
    }
}
