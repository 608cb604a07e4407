//! A template's roles beside what was called: nothing that is not allowed, and nothing allowed that is not called.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Facts, Role, Statement};
use crate::api::{ACCOUNT, REGION};
use crate::endpoint::Call;
use crate::lambda::function_arn;
use crate::template::{Function, Template};

/// A call, as far as permissions go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// IAM action.
    pub action: String,
    /// What it touches.
    pub resources: Vec<String>,
    /// What conditions look at.
    pub facts: Facts,
}

impl Use {
    fn new(action: &str, resource: impl Into<String>) -> Self {
        Self { action: action.to_owned(), resources: vec![resource.into()], facts: Facts::new() }
    }
}

/// How the roles of a template differ from what was called: by its functions (`calls`), by Lambda and ECS on their behalf, and
/// by the state machine of this definition. Empty when all roles hold exactly what is needed.
pub fn differences(template: &Template, definition: &str, calls: &[Call]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for function in &template.functions {
        let own = calls.iter().filter(|call| call.caller == function.binary);
        let own = own.map(|call| Use {
            action: call.action.clone(),
            resources: call.resources.clone(),
            facts: call.facts.clone(),
        });
        let uses: BTreeSet<Use> = own.chain(by_lambda(function)).collect();
        all.extend(of_role(&function.role, &uses));
    }
    let hooks = by_ecs(template)?;
    all.extend(of_role(&template.ecs_hook_role, &hooks));
    let machine = by_state_machine(template, definition)?;
    all.extend(of_role(&template.state_machine_role, &machine));
    Ok(all)
}

/// What Lambda does under a function's role: it writes the log, and tells of events that failed.
pub fn by_lambda(function: &Function) -> Vec<Use> {
    let stream = format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{}:log-stream:any", function.log_group);
    let mut uses = vec![Use::new("logs:CreateLogStream", &stream), Use::new("logs:PutLogEvents", &stream)];
    if let Some(failures) = &function.failures {
        uses.push(Use::new("sns:Publish", &failures.topic));
        uses.extend(["kms:Decrypt", "kms:GenerateDataKey"].map(|action| Use::new(action, &failures.key)));
    }
    uses
}

/// ECS calls one function.
fn by_ecs(template: &Template) -> Result<BTreeSet<Use>> {
    let function = template.function("ecs-lifecycle").context("the template has no ecs-lifecycle")?;
    Ok([Use::new("lambda:InvokeFunction", function_arn(&function.name))].into())
}

/// What the tasks of the definition call.
fn by_state_machine(template: &Template, definition: &str) -> Result<BTreeSet<Use>> {
    let watch = template.function("watch").context("the template has no watch")?;
    let definition: Value = serde_json::from_str(definition).context("the state machine is not JSON")?;
    let states = definition["States"].as_object().context("the state machine has no States")?;
    let task = |state: &Value| {
        let (_, target) = state["Resource"].as_str()?.split_once(":states:::")?;
        Some(match target.strip_prefix("aws-sdk:") {
            // Which group it is, the input says.
            Some(call) => {
                let (service, operation) = call.split_once(':')?;
                let (first, rest) = operation.split_at_checked(1)?;
                let action = format!("{service}:{}{rest}", first.to_uppercase());
                Use::new(&action, format!("arn:aws:{service}:{REGION}:{ACCOUNT}:deploymentgroup:any/group"))
            }
            None => Use::new("lambda:InvokeFunction", function_arn(&watch.name)),
        })
    };
    Ok(states.values().filter_map(task).collect())
}

fn of_role(role: &Role, uses: &BTreeSet<Use>) -> Vec<String> {
    let refused = uses.iter().filter_map(|Use { action, resources, facts }| {
        let resource = role.refuses(action, resources, facts)?;
        Some(format!("{}: {action} on {resource} is called, and not allowed", role.id))
    });
    let needless = role.allowing().flat_map(|statement| unused(role, statement, uses));
    let mut all: Vec<String> = refused.chain(needless).collect();
    // An action and its only resource are needless together.
    all.dedup();
    all
}

/// The actions and resources of a statement that no call needs.
fn unused(role: &Role, statement: &Statement, uses: &BTreeSet<Use>) -> Vec<String> {
    let is_used = |actions: &[String], resources: &[String]| {
        let part =
            Statement { actions: actions.to_vec(), resources: resources.to_vec(), ..statement.clone() };
        uses.iter()
            .any(|one| one.resources.iter().any(|resource| part.covers(&one.action, resource, &one.facts)))
    };
    let told = |what: &str| format!("{}: {what} is allowed, and never called", role.id);
    let actions = statement
        .actions
        .iter()
        .filter(|action| !is_used(std::slice::from_ref(action), &statement.resources))
        .map(|action| told(&format!("{action} on {}", statement.resources.join(", "))));
    let resources = statement
        .resources
        .iter()
        .filter(|resource| !is_used(&statement.actions, std::slice::from_ref(resource)))
        .map(|resource| told(&format!("{} on {resource}", statement.actions.join(", "))));
    actions.chain(resources).collect()
}
