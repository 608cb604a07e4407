//! The ECS API over awsJson1.1.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::record::{
    HookStatus, ServiceDeploymentRecord, ServiceDeploymentStatus as Status, StopType, cluster_arn,
    service_arn,
};
use super::{Ecs, State, describe};
use crate::api::ApiError;

/// Most ARNs that a call may name.
const MOST_ARNS: usize = 20;
/// Most services that a call may name.
const MOST_SERVICES: usize = 10;
/// Deployments that one answer lists, if nothing else is asked.
const PAGE: usize = 20;
/// Where a service is looked for if no cluster is named.
const DEFAULT_CLUSTER: &str = "default";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeServiceDeployments {
    service_deployment_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeServiceRevisions {
    service_revision_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListServiceDeployments {
    service: String,
    cluster: Option<String>,
    #[serde(default)]
    status: Vec<String>,
    #[serde(default)]
    created_at: CreatedAt,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// In seconds since the epoch; either end may be open.
#[derive(Deserialize, Default)]
struct CreatedAt {
    before: Option<f64>,
    after: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StopServiceDeployment {
    service_deployment_arn: String,
    stop_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContinueServiceDeployment {
    service_deployment_arn: String,
    hook_id: String,
    action: Option<String>,
}

#[derive(Deserialize)]
struct DescribeServices {
    cluster: Option<String>,
    services: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTagsForResource {
    resource_arn: String,
}

impl Ecs {
    /// Answers one call; `operation` as in `X-Amz-Target` behind the dot.
    pub fn handle(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let output = match operation {
            "DescribeServiceDeployments" => self.describe_service_deployments(&read(body)?),
            "DescribeServiceRevisions" => self.describe_service_revisions(&read(body)?),
            "ListServiceDeployments" => self.list_service_deployments(&read(body)?),
            "StopServiceDeployment" => self.stop_service_deployment(&read(body)?),
            "ContinueServiceDeployment" => self.continue_service_deployment(&read(body)?),
            "DescribeServices" => self.describe_services(&read(body)?),
            "ListTagsForResource" => self.list_tags(&read(body)?),
            _ => Err(ApiError::unknown_operation(operation)),
        }?;
        Ok(output.to_string().into_bytes())
    }

    fn describe_service_deployments(&self, input: &DescribeServiceDeployments) -> Result<Value, ApiError> {
        let state = self.lock();
        let arns = limited(&input.service_deployment_arns, MOST_ARNS)?;
        let (found, failures) = split(arns, |arn| {
            state.deployments.get(arn).map(|record| describe::deployment(record, &state.revisions))
        });
        Ok(json!({"serviceDeployments": found, "failures": failures}))
    }

    fn describe_service_revisions(&self, input: &DescribeServiceRevisions) -> Result<Value, ApiError> {
        let state = self.lock();
        let arns = limited(&input.service_revision_arns, MOST_ARNS)?;
        let (found, failures) = split(arns, |arn| state.revisions.get(arn).map(describe::revision));
        Ok(json!({"serviceRevisions": found, "failures": failures}))
    }

    /// The deployments of a service, the newest first.
    fn list_service_deployments(&self, input: &ListServiceDeployments) -> Result<Value, ApiError> {
        let state = self.lock();
        let cluster = state.cluster(input.cluster.as_deref())?;
        let known = state.known(cluster, last(&input.service)).ok_or_else(no_service)?;
        let arn = service_arn(&known.service);
        let CreatedAt { before, after } = input.created_at;
        let is_wanted = |record: &&ServiceDeploymentRecord| {
            let created = describe::seconds(record.created);
            service_arn(&record.service) == arn
                && (input.status.is_empty()
                    || input.status.iter().any(|status| status == record.status.as_str()))
                && before.is_none_or(|before| created < before)
                && after.is_none_or(|after| created > after)
        };
        let mut found: Vec<_> = state.deployments.values().filter(is_wanted).collect();
        found.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.arn.cmp(&other.arn)));
        let from = match &input.next_token {
            None => 0,
            Some(token) => found
                .iter()
                .position(|record| record.arn == *token)
                .ok_or_else(|| invalid("Invalid nextToken"))?,
        };
        let page = input.max_results.unwrap_or(PAGE);
        let listed: Vec<Value> =
            found.iter().skip(from).take(page).map(|record| describe::brief(record)).collect();
        let mut output = json!({"serviceDeployments": listed});
        if let Some(next) = found.get(from + page) {
            output["nextToken"] = json!(next.arn);
        }
        Ok(output)
    }

    fn stop_service_deployment(&self, input: &StopServiceDeployment) -> Result<Value, ApiError> {
        let (stop, status) = match input.stop_type.as_deref() {
            None | Some("ROLLBACK") => (StopType::Rollback, Status::RollbackRequested),
            Some("ABORT") => (StopType::Abort, Status::StopRequested),
            Some(_) => return Err(invalid("Invalid stopType. Valid values are ROLLBACK and ABORT")),
        };
        let mut state = self.lock();
        let record = state.deployment_mut(&input.service_deployment_arn)?;
        if !record.status.is_going_on() {
            let message = format!("The service deployment is in status {}", record.status.as_str());
            return Err(ApiError::client("ConflictException", message));
        }
        record.status = status;
        record.stop.send_replace(Some(stop));
        Ok(json!({"serviceDeploymentArn": record.arn}))
    }

    fn continue_service_deployment(&self, input: &ContinueServiceDeployment) -> Result<Value, ApiError> {
        let goes_on = match input.action.as_deref() {
            None | Some("CONTINUE") => true,
            Some("ROLLBACK") => false,
            Some(_) => return Err(invalid("Invalid action. Valid values are CONTINUE and ROLLBACK")),
        };
        let mut state = self.lock();
        let record = state.deployment_mut(&input.service_deployment_arn)?;
        let waiting = record
            .hooks
            .iter_mut()
            .find(|hook| hook.id == input.hook_id && hook.status == HookStatus::AwaitingAction);
        let hook = waiting.ok_or_else(|| invalid("The hook is not awaiting an action"))?;
        hook.continued = Some(goes_on);
        record.answers.send_modify(|count| *count += 1);
        Ok(json!({"serviceDeploymentArn": record.arn}))
    }

    fn describe_services(&self, input: &DescribeServices) -> Result<Value, ApiError> {
        let state = self.lock();
        let cluster = state.cluster(input.cluster.as_deref())?;
        let with_tags = input.include.iter().any(|field| field == "TAGS");
        let names = limited(&input.services, MOST_SERVICES)?;
        let (found, mut failures) = split(names, |name| {
            let known = state.known(cluster, last(name))?;
            Some(describe::service(&state, known, with_tags))
        });
        for failure in &mut failures {
            let name = failure["arn"].as_str().unwrap_or_default();
            let arn = cluster_arn(cluster).replace(":cluster/", ":service/") + "/" + last(name);
            failure["arn"] = json!(arn);
        }
        Ok(json!({"services": found, "failures": failures}))
    }

    fn list_tags(&self, input: &ListTagsForResource) -> Result<Value, ApiError> {
        let state = self.lock();
        let known = state.services.iter().find(|known| service_arn(&known.service) == input.resource_arn);
        let known = known
            .ok_or_else(|| invalid("The specified resource was not found. Check the ARN and try again"))?;
        Ok(json!({"tags": describe::tags(&known.service)}))
    }
}

impl State {
    /// Name of a cluster that there is, given by name or ARN.
    fn cluster<'a>(&self, named: Option<&'a str>) -> Result<&'a str, ApiError> {
        let name = named.map_or(DEFAULT_CLUSTER, last);
        let found = self.services.iter().any(|known| known.service.service.cluster == name);
        found
            .then_some(name)
            .ok_or_else(|| ApiError::client("ClusterNotFoundException", "Cluster not found."))
    }

    fn deployment_mut(&mut self, arn: &str) -> Result<&mut ServiceDeploymentRecord, ApiError> {
        self.deployments.get_mut(arn).ok_or_else(|| {
            ApiError::client("ServiceDeploymentNotFoundException", "The service deployment was not found.")
        })
    }
}

pub(super) fn no_service() -> ApiError {
    ApiError::client("ServiceNotFoundException", "Service not found.")
}

fn invalid(message: &str) -> ApiError {
    ApiError::client("InvalidParameterException", message)
}

/// A missing parameter is an invalid one too.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| invalid(&error.to_string()))
}

fn limited(named: &[String], most: usize) -> Result<&[String], ApiError> {
    if named.is_empty() || named.len() > most {
        return Err(invalid(&format!("between 1 and {most} resources must be named")));
    }
    Ok(named)
}

/// What was found, and a failure for each that was not.
fn split(named: &[String], find: impl Fn(&str) -> Option<Value>) -> (Vec<Value>, Vec<Value>) {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in named {
        match find(name) {
            Some(value) => found.push(value),
            None => failures.push(json!({"arn": name, "reason": "MISSING"})),
        }
    }
    (found, failures)
}

/// The name in a name or an ARN.
fn last(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}
