//! The resources that a call touches, as the Service Authorization Reference names them for its action.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Facts;
use crate::api::{ACCOUNT, REGION};
use crate::codedeploy::CodeDeploy;
use crate::lambda::function_arn;

/// The resources of a call; `*` where the action knows none. Empty when the body does not name one, or one that does not
/// exist: then the service says so, not IAM. `operation` is the function's name when one is invoked, `path` that of the address.
pub(crate) fn of_call(
    codedeploy: &CodeDeploy,
    action: &str,
    operation: &str,
    qualifier: Option<&str>,
    path: &str,
    body: &[u8],
) -> Vec<String> {
    if action == "sns:Publish" {
        return form(body).remove("TopicArn").into_iter().collect();
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match action {
        "codedeploy:GetDeployment" | "codedeploy:PutLifecycleEventHookExecutionStatus" => {
            let record = body["deploymentId"].as_str().and_then(|id| codedeploy.deployment(id));
            record.map(|record| deployment_group(&record.application, &record.group)).into_iter().collect()
        }
        "codedeploy:GetDeploymentGroup" => {
            let names = body["applicationName"].as_str().zip(body["deploymentGroupName"].as_str());
            names.map(|(application, group)| deployment_group(application, group)).into_iter().collect()
        }
        "ecs:DescribeServices" => {
            let cluster = last(&body["cluster"]);
            each(&body["services"]).map(|service| ecs("service", &[cluster, last(service)])).collect()
        }
        "ecs:ListServiceDeployments" => {
            vec![ecs("service", &[last(&body["cluster"]), last(&body["service"])])]
        }
        "ecs:DescribeServiceDeployments" => with_services(each(&body["serviceDeploymentArns"])),
        "ecs:DescribeServiceRevisions" => with_services(each(&body["serviceRevisionArns"])),
        "ecs:StopServiceDeployment" => with_services([&body["serviceDeploymentArn"]].into_iter()),
        "ssm:GetParameter" => named(&body["Name"]).map(parameter).collect(),
        "ssm:GetParameters" => each(&body["Names"]).flat_map(named).map(parameter).collect(),
        "states:StartExecution" => named(&body["stateMachineArn"]).collect(),
        "states:DescribeExecution" => named(&body["executionArn"]).collect(),
        "lambda:InvokeFunction" => vec![function(&operation.replace("%3A", ":"), qualifier)],
        "events:PutEvents" => vec![arn("events", "event-bus/default")],
        "s3:PutObject" | "s3:GetObject" => vec![format!("arn:aws:s3:::{path}")],
        _ => vec!["*".to_owned()],
    }
}

/// What conditions look at, of a call.
pub(crate) fn facts_of_call(action: &str, body: &[u8]) -> Facts {
    let mut facts = Facts::new();
    if action == "events:PutEvents" {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let source = each(&body["Entries"]).find_map(|entry| entry["Source"].as_str());
        facts.extend(source.map(|source| ("events:source".to_owned(), source.to_owned())));
    }
    facts
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    serde_urlencoded::from_bytes(body).unwrap_or_default()
}

fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

fn parameter(name: String) -> String {
    arn("ssm", &format!("parameter/{}", name.trim_start_matches('/')))
}

fn deployment_group(application: &str, group: &str) -> String {
    arn("codedeploy", &format!("deploymentgroup:{application}/{group}"))
}

fn ecs(kind: &str, names: &[&str]) -> String {
    arn("ecs", &format!("{kind}/{}", names.join("/")))
}

/// Deployments and revisions of services, each with its service: IAM asks for both.
fn with_services<'a>(arns: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let both = |text: &str| {
        let names = text.split_once('/').map(|(_, names)| names.split('/').take(2).collect::<Vec<_>>());
        [Some(text.to_owned()), names.map(|names| ecs("service", &names))]
    };
    arns.filter_map(Value::as_str).flat_map(both).flatten().collect()
}

fn function(name: &str, qualifier: Option<&str>) -> String {
    // A full ARN is one already.
    let arn = if name.starts_with("arn:") { name.to_owned() } else { function_arn(name) };
    qualifier.map_or(arn.clone(), |qualifier| format!("{arn}:{qualifier}"))
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn named(text: &Value) -> impl Iterator<Item = String> + use<> {
    text.as_str().map(str::to_owned).into_iter()
}

/// The name in a name or ARN.
fn last(name_or_arn: &Value) -> &str {
    let text = name_or_arn.as_str().unwrap_or_default();
    text.rsplit('/').next().unwrap_or(text)
}
