//! An ECS service: sets of tasks, each a running application behind a target group. Who starts and stops them is up to
//! the deployment controller: CodeDeploy or ECS itself.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::{ApiError, REGION};
use crate::application::{Application, Behaviour};
use crate::load_balancer::{LoadBalancer, Target, TargetState};

/// How long a stopped task still answers what had reached it.
const STOP_DELAY: Duration = Duration::from_secs(2);

/// The old or the new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Old.
    Blue,
    /// New.
    Green,
}

impl Label {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "Blue",
            Self::Green => "Green",
        }
    }

    /// The version of that name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        [Self::Blue, Self::Green].into_iter().find(|label| label.as_str().as_bytes() == name)
    }
}

/// The tasks of one version.
#[derive(Debug)]
pub struct TaskSet {
    /// Id, as `ecs-svc/1234567890123456789`.
    pub id: String,
    /// Name of its target group; means nothing in a service without a balancer.
    pub target_group: String,
    label: Label,
    state: Mutex<Tasks>,
}

#[derive(Debug)]
struct Tasks {
    running: Vec<(Target, Application)>,
    /// Of those that are there, and of those to come.
    behaviour: Behaviour,
}

impl TaskSet {
    /// Tasks that should run.
    pub fn desired(&self) -> usize {
        self.lock().running.len()
    }

    /// Tasks whose process is there. ECS starts the others anew, so they count as pending.
    pub fn running(&self) -> usize {
        self.lock().running.iter().filter(|(_, application)| application.behaviour().accepting).count()
    }

    /// Gives all tasks another behaviour.
    pub fn behave(&self, behaviour: &Behaviour) {
        let mut tasks = self.lock();
        tasks.behaviour = behaviour.clone();
        for (_, application) in &tasks.running {
            application.set(behaviour.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the tasks of a set are, as ECS sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Tasks that run and, where the balancer checks them, are healthy.
    pub ready: usize,
    /// Tasks whose process is gone or which the balancer finds unhealthy.
    pub failing: usize,
}

/// A service and its task sets.
#[derive(Debug)]
pub struct Service {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the service.
    pub name: String,
    /// The balancer in front of it; a service may have none.
    pub balancer: Option<Arc<LoadBalancer>>,
    sets: Mutex<Vec<Arc<TaskSet>>>,
    next_task: AtomicU64,
}

impl Service {
    /// A service without tasks.
    pub fn new(cluster: &str, name: &str, balancer: Option<Arc<LoadBalancer>>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            balancer,
            sets: Mutex::default(),
            next_task: AtomicU64::new(1),
        }
    }

    /// Its balancer, or `ValidationError`.
    pub fn balancer(&self) -> Result<&LoadBalancer, ApiError> {
        let none = || ApiError::client("ValidationError", format!("{} has no load balancer", self.name));
        self.balancer.as_deref().ok_or_else(none)
    }

    /// Starts `desired` tasks of a version and registers them with a target group.
    pub async fn start(
        &self,
        label: Label,
        target_group: &str,
        desired: usize,
        behaviour: &Behaviour,
    ) -> io::Result<Arc<TaskSet>> {
        let number: u64 = rand::random_range(1_000_000_000_000_000_000..u64::MAX / 2);
        let set = Arc::new(TaskSet {
            id: format!("ecs-svc/{number}"),
            target_group: target_group.to_owned(),
            label,
            state: Mutex::new(Tasks { running: Vec::new(), behaviour: behaviour.clone() }),
        });
        self.add(&set, desired).await?;
        self.lock().push(Arc::clone(&set));
        Ok(set)
    }

    /// Starts `count` more tasks of a version.
    pub async fn add(&self, set: &TaskSet, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let behaviour = set.lock().behaviour.clone();
            let application = Application::start(&set.label.as_str().to_lowercase(), behaviour).await?;
            let number = self.next_task.fetch_add(1, Ordering::Relaxed);
            let target = Target {
                id: format!("10.0.{}.{}", number / 250, 1 + number % 250),
                address: application.address(),
                zone: format!("{REGION}{}", ["a", "b", "c"][set.desired() % 3]),
                version: set.label,
            };
            if let Some(balancer) = &self.balancer {
                balancer.register(&set.target_group, target.clone()).map_err(io::Error::other)?;
            }
            set.lock().running.push((target, application));
        }
        Ok(())
    }

    /// Stops `count` tasks of a version, those first that do not run.
    pub fn remove(&self, set: &TaskSet, count: usize) {
        let mut tasks = set.lock();
        tasks.running.sort_by_key(|(_, application)| application.behaviour().accepting);
        let count = count.min(tasks.running.len());
        let stopped: Vec<_> = tasks.running.drain(..count).collect();
        drop(tasks);
        for (target, _) in &stopped {
            self.deregister(set, target);
        }
        // What is on its way to them is still answered.
        tokio::spawn(async move {
            tokio::time::sleep(STOP_DELAY).await;
            drop(stopped);
        });
    }

    /// How a version's tasks are.
    pub fn readiness(&self, set: &TaskSet) -> Readiness {
        let checked = self.balancer.as_ref().and_then(|balancer| {
            let group = balancer.target_group(&set.target_group).ok()?;
            group.in_use().then(|| group.health())
        });
        let mut readiness = Readiness::default();
        for (target, application) in &set.lock().running {
            let state = checked.as_ref().map(|health| {
                let found = health.iter().find(|health| health.target == *target);
                found.map_or(TargetState::Initial, |health| health.state)
            });
            match (application.behaviour().accepting, state) {
                (true, None | Some(TargetState::Healthy)) => readiness.ready += 1,
                (false, _) | (true, Some(TargetState::Unhealthy)) => readiness.failing += 1,
                (true, Some(_)) => {}
            }
        }
        readiness
    }

    /// Takes a version's tasks out of service.
    pub fn stop(&self, set: &Arc<TaskSet>) {
        for (target, _) in &set.lock().running {
            self.deregister(set, target);
        }
        self.lock().retain(|known| !Arc::ptr_eq(known, set));
    }

    fn deregister(&self, set: &TaskSet, target: &Target) {
        if let Some(balancer) = &self.balancer {
            // A target that is not registered any more needs no deregistration.
            let _ = balancer.deregister(&set.target_group, &target.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<TaskSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
