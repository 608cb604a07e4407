//! The AppSpec of the latest deployment: which functions it names, and for which hooks.

use aws_sdk_codedeploy::types::{DeploymentGroupInfo, RevisionLocation};
use serde_json::Value;
use shiftgate::aws::fault;
use shiftgate::event::Stage;
use shiftgate::yaml::Document;

use super::told::{Check, Level};
use crate::account::Account;
use crate::target::is_of_lambda;

/// What the check is called.
const NAME: &str = "AppSpec";
/// Functions that the limited roles of CodeDeploy may invoke begin like this.
pub const INVOCABLE: &str = "CodeDeployHook_";

/// A lifecycle event and the function that is called at it, without account and region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The event.
    pub event: String,
    /// The function's name.
    pub function: String,
}

impl Hook {
    /// The stack and the stage, if it is a function of Shiftgate.
    pub fn of_shiftgate(&self) -> Option<(&str, Stage)> {
        let (stack, stage) = self.function.strip_prefix(INVOCABLE)?.split_once('_')?;
        Some((stack, Stage::ALL.into_iter().find(|known| known.function() == stage)?))
    }
}

/// Reads the hooks of the group's latest deployment; the error says why nobody knows them.
pub async fn hooks(account: &Account, application: &str, group: &str) -> Result<Vec<Hook>, Check> {
    let client = &account.aws.codedeploy;
    let unread = |action: &str, fault: shiftgate::fault::Fault| {
        let check = Check::from_fault(NAME, &fault);
        Check {
            level: Level::Unchecked,
            fix: check.fix.map(|fix| format!("{fix}; or look at the AppSpec by hand ({action})")),
            ..check
        }
    };
    let unknown = |why: &str| {
        let fix = "name Shiftgate's functions in the AppSpec; the README shows how";
        Check { level: Level::Unchecked, ..Check::warning(NAME, why, fix) }
    };
    let listed = client.list_deployments().application_name(application).deployment_group_name(group).send();
    let listed = listed.await.map_err(|error| {
        let action = "codedeploy:ListDeployments";
        unread(action, fault(action, "list the group's deployments", error))
    })?;
    let Some(latest) = listed.deployments().first() else {
        return Err(unknown("the group has no deployment yet, so that nobody knows its AppSpec"));
    };
    let read = client.get_deployment().deployment_id(latest).send().await.map_err(|error| {
        let action = "codedeploy:GetDeployment";
        unread(action, fault(action, &format!("read deployment {latest}"), error))
    })?;
    let revision = read.deployment_info().and_then(|info| info.revision()).cloned();
    let Some(revision) = revision else { return Err(unknown("the latest deployment names no revision")) };
    if revision.s3_location().is_some() || revision.git_hub_location().is_some() {
        return Err(unknown("the latest revision is a file elsewhere (S3 or GitHub), which is not read"));
    }
    let output = client.get_application_revision().application_name(application).revision(revision).send();
    let output = output.await.map_err(|error| {
        let action = "codedeploy:GetApplicationRevision";
        unread(action, fault(action, &format!("read the revision of {latest}"), error))
    })?;
    let content = output.revision().and_then(content);
    let Some(content) = content else {
        return Err(unknown("CodeDeploy does not tell the revision's content"));
    };
    parse(content).map_err(|why| Check::problem(NAME, why, "write it as the README shows"))
}

fn content(revision: &RevisionLocation) -> Option<&str> {
    // Revisions of functions have been strings.
    let string = revision.string().and_then(|string| string.content());
    revision.app_spec_content().and_then(|spec| spec.content()).or(string)
}

/// The hooks of an AppSpec in YAML or JSON: a list of maps with one key each, under `Hooks` or `hooks`.
fn parse(text: &str) -> Result<Vec<Hook>, String> {
    let document =
        Document::parse(text).map_err(|problem| format!("the AppSpec cannot be read: {problem}"))?;
    let hooks = ["Hooks", "hooks"].iter().find_map(|key| document.value.get(key));
    let maps: Vec<&Value> = match hooks {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(maps)) => maps.iter().collect(),
        Some(map) => vec![map],
    };
    let pairs = maps.into_iter().filter_map(Value::as_object).flatten();
    Ok(pairs
        .filter_map(|(event, function)| {
            Some(Hook { event: event.clone(), function: bare(function.as_str()?).to_owned() })
        })
        .collect())
}

/// A function's name in its name or ARN, without version or alias.
fn bare(function: &str) -> &str {
    let name = function.rsplit_once(":function:").map_or(function, |(_, name)| name);
    name.split(':').next().unwrap_or(name)
}

/// Whether each hook names the function that is made for it, and which hooks are left out.
pub fn checks(hooks: &[Hook], info: &DeploymentGroupInfo, stack: Option<&str>) -> Vec<Check> {
    let mut checks: Vec<Check> = hooks.iter().map(|hook| named(hook, stack)).collect();
    // Where nobody says which stack it is to be, the other hooks do.
    let stack = stack.or_else(|| hooks.iter().find_map(Hook::of_shiftgate).map(|(stack, _)| stack));
    let missing =
        wanted(info).filter(|stage| !hooks.iter().any(|hook| hook.event == stage.lifecycle_event()));
    checks.extend(missing.map(|stage| left_out(stage, stack)));
    checks
}

/// The hooks that a group should have.
fn wanted(info: &DeploymentGroupInfo) -> impl Iterator<Item = Stage> + use<> {
    let of_lambda = is_of_lambda(info);
    let has_it = move |stage: &Stage| {
        !of_lambda || matches!(stage, Stage::BeforeAllowTraffic | Stage::AfterAllowTraffic)
    };
    Stage::ALL.into_iter().filter(|stage| *stage != Stage::Watch).filter(has_it)
}

fn left_out(stage: Stage, stack: Option<&str>) -> Check {
    let event = stage.lifecycle_event();
    let fix = format!("add `- {event}: {}` to the Hooks of the AppSpec", function(stack, stage));
    match stage {
        Stage::BeforeAllowTraffic => Check::problem(
            NAME,
            format!("no hook at {event}: nothing watches the shift, and AfterAllowTraffic fails for that"),
            fix,
        ),
        _ => Check::warning(NAME, format!("no hook at {event}: what {stage} checks is not checked"), fix),
    }
}

/// Name of a stack's function for a stage.
pub fn function(stack: Option<&str>, stage: Stage) -> String {
    format!("{INVOCABLE}{}_{}", stack.unwrap_or("<stack>"), stage.function())
}

fn named(hook: &Hook, stack: Option<&str>) -> Check {
    let Hook { event, function: name } = hook;
    let ours =
        Stage::ALL.into_iter().find(|stage| stage.lifecycle_event() == event && *stage != Stage::Watch);
    let instead = |stack: &str| match ours {
        Some(stage) => format!("write `- {event}: {}` in the AppSpec", function(Some(stack), stage)),
        None => format!("take {event} out of the AppSpec: Shiftgate has no function for it"),
    };
    match hook.of_shiftgate() {
        Some((of, stage)) if stage.lifecycle_event() != event || stage == Stage::Watch => Check::problem(
            NAME,
            format!("{event} names {name}, which is made for another event"),
            instead(stack.unwrap_or(of)),
        ),
        Some((of, _)) if stack.is_some_and(|stack| stack != of) => Check::problem(
            NAME,
            format!("{event} names {name}, of the stack {of}"),
            instead(stack.unwrap_or_default()),
        ),
        Some(_) => Check::ok(NAME, format!("{event} names {name}")),
        None if name.starts_with(INVOCABLE) => Check::warning(
            NAME,
            format!("{event} names {name}, which is not Shiftgate's"),
            format!("nothing, if that is meant; else {}", instead(stack.unwrap_or("<stack>"))),
        ),
        None => Check::warning(
            NAME,
            format!("{event} names {name}, which is not Shiftgate's, and not called {INVOCABLE}*"),
            format!(
                "call it {INVOCABLE}*, which is all that the role AWSCodeDeployRoleForECSLimited may invoke, or allow lambda:InvokeFunction on it to the group's role; if Shiftgate's was meant, {}",
                instead(stack.unwrap_or("<stack>"))
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_spec_is_read_however_it_is_written() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let told = parse(text).unwrap();
            let pairs: Vec<(&str, &str)> =
                told.iter().map(|hook| (hook.event.as_str(), hook.function.as_str())).collect();
            assert_eq!(pairs, expect, "{text}");
        };
        let expect = [("BeforeInstall", "f"), ("AfterInstall", "g")];
        check("version: 0.0\nHooks:\n  - BeforeInstall: f\n  - AfterInstall: 'g'\n", &expect);
        check("hooks: [{BeforeInstall: f}, {AfterInstall: g}]", &expect);
        check(
            "{\"Hooks\":[{\"BeforeInstall\":\"arn:aws:lambda:eu-west-1:1:function:f:live\"},{\"AfterInstall\":\"g:3\"}]}",
            &expect,
        );
        check("version: 0.0", &[]);
        check("Hooks:", &[]);
        assert!(parse("Hooks: [").unwrap_err().starts_with("the AppSpec cannot be read: "));
    }

    #[test]
    fn each_hook_must_name_its_own_function() {
        let hook =
            |event: &str, function: &str| Hook { event: event.to_owned(), function: function.to_owned() };
        let hooks = [
            hook("BeforeInstall", "CodeDeployHook_shiftgate_before-install"),
            hook("AfterInstall", "CodeDeployHook_shiftgate_before-install"),
            hook("AfterAllowTestTraffic", "CodeDeployHook_other_after-allow-test-traffic"),
            hook("AfterAllowTraffic", "their-own"),
        ];
        let info = DeploymentGroupInfo::builder().build();
        insta::assert_snapshot!(super::super::told::text(&checks(&hooks, &info, Some("shiftgate"))));
        let watch = [hook("BeforeAllowTraffic", "CodeDeployHook_shiftgate_watch")];
        assert_eq!(checks(&watch, &info, None)[0].level, Level::Problem);
    }
}
