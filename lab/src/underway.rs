//! A deployment that is being played, whoever carries it out: CodeDeploy or ECS itself.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::application::Behaviour;
use crate::codedeploy::{self, CodeDeploy, Creator, EventStatus};
use crate::ecs::{Ecs, EcsHappening, ServiceDeploymentStatus, Stage};
use crate::function_site::AliasedFunction;
use crate::service::TaskSet;

/// The old or the new version of what is deployed.
#[derive(Debug, Clone)]
pub enum Version {
    /// Tasks of an ECS service.
    Tasks(Arc<TaskSet>),
    /// A version of a Lambda function, by its number.
    Function(Arc<AliasedFunction>, String),
}

impl Version {
    /// Gives it another behaviour.
    pub fn behave(&self, behaviour: &Behaviour) {
        match self {
            Self::Tasks(tasks) => tasks.behave(behaviour),
            Self::Function(function, version) => function.behave(version, behaviour),
        }
    }
}

/// Something that happened to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Told by CodeDeploy.
    CodeDeploy(codedeploy::Happening),
    /// Told by ECS.
    Ecs(EcsHappening),
}

/// What a happening means for the events of a scenario. Stages have the names of CodeDeploy's lifecycle events, so that
/// one scenario serves both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// The deployment began.
    Begun,
    /// A lifecycle event began.
    Stage(&'static str),
    /// Green has so many percent of the users' traffic.
    Weight(f64),
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its status in the controller's words.
    pub status: String,
    /// Code and message of what ended it.
    pub error: Option<(String, String)>,
    /// Whether blue has all of the traffic again.
    pub rolled_back: bool,
    /// Whether it went through.
    pub released: bool,
}

/// A deployment and who carries it out.
pub enum Underway {
    /// By CodeDeploy, with its id.
    CodeDeploy(Arc<CodeDeploy>, String),
    /// By ECS, with its ARN.
    Ecs(Arc<Ecs>, String),
}

/// What happens to all deployments of a controller.
pub enum Happenings {
    /// CodeDeploy's.
    CodeDeploy(broadcast::Receiver<codedeploy::Happening>),
    /// ECS's.
    Ecs(broadcast::Receiver<EcsHappening>),
}

impl Happenings {
    /// The next one.
    pub async fn recv(&mut self) -> Result<Happening, RecvError> {
        match self {
            Self::CodeDeploy(receiver) => receiver.recv().await.map(Happening::CodeDeploy),
            Self::Ecs(receiver) => receiver.recv().await.map(Happening::Ecs),
        }
    }
}

impl Underway {
    /// The deployment's id, as the functions' logs have it.
    pub fn id(&self) -> &str {
        match self {
            Self::CodeDeploy(_, id) | Self::Ecs(_, id) => id,
        }
    }

    /// Green, once it is there.
    pub fn green(&self) -> Option<Version> {
        match self {
            Self::CodeDeploy(codedeploy, id) => codedeploy.green(id),
            Self::Ecs(ecs, arn) => {
                let tasks = ecs.revision(&ecs.deployment(arn)?.target.revision)?.tasks;
                tasks.map(Version::Tasks)
            }
        }
    }

    /// What a happening means for this deployment.
    pub fn moment(&self, happening: &Happening) -> Option<Moment> {
        match happening {
            Happening::CodeDeploy(happening) => self.of_codedeploy(happening),
            Happening::Ecs(happening) => self.of_ecs(happening),
        }
    }

    fn of_codedeploy(&self, happening: &codedeploy::Happening) -> Option<Moment> {
        use codedeploy::Happening as Told;
        let (deployment, moment) = match happening {
            Told::Started { deployment, creator: Creator::User } => (deployment, Moment::Begun),
            Told::Event { deployment, event, status: EventStatus::InProgress } => {
                (deployment, Moment::Stage(event))
            }
            Told::Weight { deployment, green } => (deployment, Moment::Weight(*green)),
            Told::Started { .. } | Told::Event { .. } | Told::Ended { .. } => return None,
        };
        (deployment == self.id()).then_some(moment)
    }

    fn of_ecs(&self, happening: &EcsHappening) -> Option<Moment> {
        let (deployment, moment) = match happening {
            EcsHappening::Started { deployment } => (deployment, Moment::Begun),
            EcsHappening::Stage { deployment, stage, ended: false } => {
                (deployment, Moment::Stage(counterpart(*stage)?))
            }
            EcsHappening::Weight { deployment, test: false, green } => (deployment, Moment::Weight(*green)),
            _ => return None,
        };
        (deployment == self.id()).then_some(moment)
    }

    /// Whether it has ended, and its rollback too.
    pub fn is_over(&self) -> bool {
        match self {
            Self::CodeDeploy(codedeploy, id) => {
                let Some(record) = codedeploy.deployment(id) else { return true };
                let rollback =
                    record.rolled_back_by.as_ref().and_then(|rollback| codedeploy.deployment(rollback));
                record.status.is_over() && rollback.is_none_or(|rollback| rollback.status.is_over())
            }
            Self::Ecs(ecs, arn) => ecs.deployment(arn).is_none_or(|record| record.status.is_over()),
        }
    }

    /// Reports that the functions' logs must hold when it is over: the log may be slower than the controller.
    pub fn reports(&self) -> usize {
        match self {
            Self::CodeDeploy(codedeploy, id) => codedeploy.deployment(id).map_or(0, |record| {
                let hooks = record.events.iter().filter(|event| event.report.is_some()).count();
                let stopped = record.error.as_ref().is_some_and(|(code, _)| code == "MANUAL_STOP");
                hooks + usize::from(stopped)
            }),
            // A function logs its verdict before it answers; who stops a rolling update does so after.
            Self::Ecs(ecs, arn) => ecs.deployment(arn).map_or(0, |record| {
                let rolling = matches!(record.service.strategy, crate::ecs::Strategy::Rolling { .. });
                usize::from(rolling && record.status == ServiceDeploymentStatus::RollbackSuccessful)
            }),
        }
    }

    /// How it ended, or stands.
    pub fn ending(&self) -> Option<Ending> {
        match self {
            Self::CodeDeploy(codedeploy, id) => {
                let record = codedeploy.deployment(id)?;
                let rollback = record.rolled_back_by.as_ref().and_then(|id| codedeploy.deployment(id));
                let undone =
                    rollback.is_some_and(|rollback| rollback.status == codedeploy::Status::Succeeded);
                Some(Ending {
                    status: record.status.as_str().to_owned(),
                    rolled_back: record.green_weight == 0.0 && undone,
                    released: record.status == codedeploy::Status::Succeeded,
                    error: record.error,
                })
            }
            Self::Ecs(ecs, arn) => {
                let record = ecs.deployment(arn)?;
                Some(Ending {
                    status: record.status.as_str().to_owned(),
                    rolled_back: record.status == ServiceDeploymentStatus::RollbackSuccessful,
                    released: record.status == ServiceDeploymentStatus::Successful,
                    error: record.rollback.map(|rollback| ("ROLLBACK".to_owned(), rollback.reason)),
                })
            }
        }
    }
}

/// CodeDeploy's lifecycle event with the duty of a stage of ECS.
fn counterpart(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::PreScaleUp => "BeforeInstall",
        Stage::ScaleUp => "Install",
        Stage::PostScaleUp => "AfterInstall",
        Stage::TestTrafficShift => "AllowTestTraffic",
        Stage::PostTestTrafficShift => "AfterAllowTestTraffic",
        Stage::PreProductionTrafficShift => "BeforeAllowTraffic",
        Stage::ProductionTrafficShift => "AllowTraffic",
        Stage::PostProductionTrafficShift => "AfterAllowTraffic",
        Stage::ReconcileService | Stage::BakeTime | Stage::CleanUp => return None,
    })
}
