//! What an account is asked about: a deployment group of CodeDeploy, or a service that ECS deploys itself.

use anyhow::{Context, Result, bail};
use aws_sdk_codedeploy::error::ProvideErrorMetadata;
use aws_sdk_codedeploy::types::{ComputePlatform, DeploymentGroupInfo};
use aws_sdk_ecs::types::{Service, ServiceField};
use shiftgate::aws::fault;

use crate::account::{Account, told};

/// What CodeDeploy answers where there is no such group.
const UNKNOWN: [&str; 2] = ["ApplicationDoesNotExistException", "DeploymentGroupDoesNotExistException"];

/// What a name of two parts stands for.
pub enum Target {
    /// A deployment group of this application.
    Group(Box<DeploymentGroupInfo>),
    /// A service of this cluster.
    Service(Box<Service>),
}

/// The two parts of a name: application and group, or cluster and service.
pub fn parts(name: &str) -> Result<(&str, &str)> {
    name.split_once('/').with_context(|| {
        format!("`{name}` is neither of the form APPLICATION/GROUP nor of the form CLUSTER/SERVICE")
    })
}

/// Looks for the group of this name, and where there is none for the service.
pub async fn find(account: &Account, first: &str, second: &str) -> Result<Target> {
    if let Some(info) = group(account, first, second).await? {
        return Ok(Target::Group(Box::new(info)));
    }
    if let Some(service) = service(account, first, second).await? {
        return Ok(Target::Service(Box::new(service)));
    }
    bail!(
        "{first}/{second} is neither a deployment group nor an ECS service in this account and region: check the names, and AWS_REGION"
    )
}

/// Whether functions are deployed, which have neither balancer nor target groups.
pub fn is_of_lambda(info: &DeploymentGroupInfo) -> bool {
    info.compute_platform == Some(ComputePlatform::Lambda)
}

async fn group(account: &Account, application: &str, name: &str) -> Result<Option<DeploymentGroupInfo>> {
    let asked = account.aws.codedeploy.get_deployment_group();
    match asked.application_name(application).deployment_group_name(name).send().await {
        Ok(output) => Ok(output.deployment_group_info),
        Err(error) if error.code().is_some_and(|code| UNKNOWN.contains(&code)) => Ok(None),
        Err(error) => {
            let purpose = format!("read deployment group {application}/{name}");
            Err(told(fault("codedeploy:GetDeploymentGroup", &purpose, error)))
        }
    }
}

async fn service(account: &Account, cluster: &str, name: &str) -> Result<Option<Service>> {
    let asked = account.aws.ecs.describe_services().cluster(cluster).services(name);
    match asked.include(ServiceField::Tags).send().await {
        Ok(output) => {
            let active = |service: &&Service| service.status() != Some("INACTIVE");
            Ok(output.services().iter().find(active).cloned())
        }
        Err(error) if error.code() == Some("ClusterNotFoundException") => Ok(None),
        Err(error) => {
            let purpose = format!("read the service {cluster}/{name}");
            Err(told(fault("ecs:DescribeServices", &purpose, error)))
        }
    }
}
