//! An ECS service with an external deployment controller: sets of tasks, each a running application behind a target
//! group.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::REGION;
use crate::application::{Application, Behaviour};
use crate::load_balancer::{LoadBalancer, Target};

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
}

/// The tasks of one version.
#[derive(Debug)]
pub struct TaskSet {
    /// Id, as `ecs-svc/1234567890123456789`.
    pub id: String,
    /// Name of its target group.
    pub target_group: String,
    tasks: Vec<(Target, Application)>,
}

impl TaskSet {
    /// Tasks that should run.
    pub fn desired(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks whose process is there. ECS starts the others anew, so they count as pending.
    pub fn running(&self) -> usize {
        self.tasks.iter().filter(|(_, application)| application.behaviour().accepting).count()
    }

    /// Gives all tasks another behaviour.
    pub fn behave(&self, behaviour: &Behaviour) {
        for (_, application) in &self.tasks {
            application.set(behaviour.clone());
        }
    }
}

/// A service and its task sets.
#[derive(Debug)]
pub struct Service {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the service.
    pub name: String,
    /// The balancer in front of it.
    pub balancer: Arc<LoadBalancer>,
    sets: Mutex<Vec<Arc<TaskSet>>>,
    next_task: AtomicU64,
}

impl Service {
    /// A service without tasks.
    pub fn new(cluster: &str, name: &str, balancer: Arc<LoadBalancer>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            balancer,
            sets: Mutex::default(),
            next_task: AtomicU64::new(1),
        }
    }

    /// Starts `desired` tasks of a version and registers them with a target group.
    pub async fn start(
        &self,
        label: Label,
        target_group: &str,
        desired: usize,
        behaviour: &Behaviour,
    ) -> io::Result<Arc<TaskSet>> {
        let mut tasks = Vec::new();
        for index in 0..desired {
            let number = self.next_task.fetch_add(1, Ordering::Relaxed);
            let application = Application::start(&label.as_str().to_lowercase(), behaviour.clone()).await?;
            let target = Target {
                id: format!("10.0.{}.{}", number / 250, 1 + number % 250),
                address: application.address(),
                zone: format!("{REGION}{}", ["a", "b", "c"][index % 3]),
            };
            self.balancer.register(target_group, target.clone()).map_err(io::Error::other)?;
            tasks.push((target, application));
        }
        let number: u64 = rand::random_range(1_000_000_000_000_000_000..u64::MAX / 2);
        let set = Arc::new(TaskSet {
            id: format!("ecs-svc/{number}"),
            target_group: target_group.to_owned(),
            tasks,
        });
        self.lock().push(Arc::clone(&set));
        Ok(set)
    }

    /// Takes a version's tasks out of service.
    pub fn stop(&self, set: &Arc<TaskSet>) {
        for (target, _) in &set.tasks {
            // A target that is not registered any more needs no deregistration.
            let _ = self.balancer.deregister(&set.target_group, &target.id);
        }
        self.lock().retain(|known| !Arc::ptr_eq(known, set));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<TaskSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
