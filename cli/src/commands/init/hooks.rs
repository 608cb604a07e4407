//! What else a service needs: its hooks, and the commands that come next. Pure.

use shiftgate::event::{LifecycleStage, Stage};
use shiftgate::policy::load::parameter_names;

use crate::commands::doctor::appspec::INVOCABLE;
use crate::commands::doctor::ecs::{self, STAGES};

/// Bytes of a standard parameter of Parameter Store.
const STANDARD: usize = 4096;

/// How a service is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By CodeDeploy, on ECS.
    CodeDeploy,
    /// By CodeDeploy, a Lambda function.
    Lambda,
    /// By ECS itself, in steps or all at once.
    Ecs,
    /// By ECS itself, task by task.
    Rolling,
}

/// The hooks as they are written, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// One sentence.
    pub sentence: String,
    /// What is to be pasted, or to be run.
    pub block: String,
}

impl Hooks {
    /// Those of a way, that name the functions of a stack. `arn` is the service's.
    pub fn of(way: Way, stack: &str, arn: &str) -> Self {
        let (sentence, block) = match way {
            Way::CodeDeploy => (
                "The hooks go into the AppSpec of each release, beside its Resources:".to_owned(),
                of_codedeploy(way, stack),
            ),
            Way::Lambda => (
                "The hooks go into the AppSpec of each release; in a SAM template they are PreTraffic and PostTraffic of the function's DeploymentPreference:".to_owned(),
                of_codedeploy(way, stack),
            ),
            Way::Ecs => (
                format!("The hook goes into the DeploymentConfiguration of the service in its CloudFormation template; outside one, the two values are outputs of the stack {stack}:"),
                of_ecs(stack),
            ),
            Way::Rolling => (
                "A rolling update calls no hook; a tag of the service has it watched:".to_owned(),
                format!("aws ecs tag-resource --resource-arn {} --tags key=shiftgate,value=watch", quoted(arn)),
            ),
        };
        Self { sentence, block }
    }
}

fn of_codedeploy(way: Way, stack: &str) -> String {
    let hooks = stages(way)
        .into_iter()
        .map(|stage| format!("  - {}: {}", stage.lifecycle_event(), function(stack, stage)));
    std::iter::once("Hooks:".to_owned()).chain(hooks).collect::<Vec<_>>().join("\n")
}

/// The stages at which CodeDeploy calls a function.
fn stages(way: Way) -> Vec<Stage> {
    let of_lambda = |stage: &Stage| matches!(stage, Stage::BeforeAllowTraffic | Stage::AfterAllowTraffic);
    let called = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Watch);
    match way {
        Way::CodeDeploy => called.collect(),
        Way::Lambda => called.filter(of_lambda).collect(),
        Way::Ecs | Way::Rolling => Vec::new(),
    }
}

fn of_ecs(stack: &str) -> String {
    let is_called = |stage: &LifecycleStage| STAGES.iter().any(|(wanted, _)| wanted == stage);
    let stages = LifecycleStage::ALL.into_iter().filter(is_called);
    let stages = stages.map(|stage| format!("      - {}", stage.as_str()));
    let head = [
        "LifecycleHooks:".to_owned(),
        format!("  - HookTargetArn: !ImportValue {stack}-EcsLifecycleHook"),
        format!("    RoleArn: !ImportValue {stack}-EcsHookRole"),
        "    LifecycleStages:".to_owned(),
    ];
    head.into_iter().chain(stages).collect::<Vec<_>>().join("\n")
}

/// The names of the functions of a stack that a way needs.
pub fn functions(way: Way, stack: &str) -> Vec<String> {
    match way {
        Way::CodeDeploy | Way::Lambda => {
            stages(way).into_iter().map(|stage| function(stack, stage)).collect()
        }
        Way::Ecs | Way::Rolling => vec![ecs::function(stack)],
    }
}

fn function(stack: &str, stage: Stage) -> String {
    format!("{INVOCABLE}{stack}_{}", stage.function())
}

/// The commands that come next, in order.
pub fn next(name: (&str, &str), file: &str, policy: &str, stack: &str) -> Vec<String> {
    let [parameter, _] = parameter_names(name.0, name.1);
    let tier = if policy.len() > STANDARD { " --tier Advanced" } else { "" };
    vec![
        format!("shiftgate policy check {}", quoted(file)),
        format!(
            "aws ssm put-parameter --name {parameter} --type String{tier} --overwrite --value {}",
            quoted(&format!("file://{file}"))
        ),
        format!("shiftgate doctor {} --stack {}", quoted(&format!("{}/{}", name.0, name.1)), quoted(stack)),
    ]
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@%+=,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_hooks() {
        let arn = "arn:aws:ecs:eu-west-1:123456789012:service/shop/orders";
        let told = [Way::CodeDeploy, Way::Lambda, Way::Ecs, Way::Rolling].map(|way| {
            let Hooks { sentence, block } = Hooks::of(way, "dev", arn);
            format!("{sentence}\n\n{block}\n\nfunctions: {}", functions(way, "dev").join(", "))
        });
        insta::assert_snapshot!(told.join("\n\n---\n\n"));
    }

    #[test]
    fn the_next_commands_are_for_a_shell() {
        let next = next(("my shop", "orders"), "it's.yaml", &"#".repeat(STANDARD + 1), "dev");
        let expect = [
            r"shiftgate policy check 'it'\''s.yaml'",
            r"aws ssm put-parameter --name /shiftgate/my_x20_shop/orders --type String --tier Advanced --overwrite --value 'file://it'\''s.yaml'",
            "shiftgate doctor 'my shop/orders' --stack dev",
        ];
        assert_eq!(next, expect);
    }
}
