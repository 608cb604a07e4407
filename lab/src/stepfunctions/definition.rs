//! The Amazon States Language as far as the lab runs it. What it does not know does not load.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::{
    TaskError,
    choice::Rule,
    path::{Path, ResultPath, Selection, Template},
};

/// A state machine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Definition {
    _comment: Option<String>,
    pub start_at: String,
    pub states: BTreeMap<String, State>,
    /// Seconds that an execution may take.
    pub timeout_seconds: Option<u64>,
}

/// One state.
#[derive(Debug, Deserialize)]
#[serde(tag = "Type")]
pub(super) enum State {
    Task(Box<Task>),
    Pass(Pass),
    Wait(Wait),
    Choice(Choice),
    Succeed(Succeed),
    Fail(Fail),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Task {
    _comment: Option<String>,
    pub resource: Resource,
    #[serde(default)]
    pub input_path: Selection,
    pub parameters: Option<Template>,
    pub result_selector: Option<Template>,
    #[serde(default)]
    pub result_path: ResultPath,
    #[serde(default)]
    pub output_path: Selection,
    pub timeout_seconds: Option<u64>,
    #[serde(default)]
    pub retry: Vec<Retrier>,
    #[serde(default)]
    pub catch: Vec<Catcher>,
    pub next: Option<String>,
    #[serde(default)]
    end: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Pass {
    _comment: Option<String>,
    #[serde(default)]
    pub input_path: Selection,
    pub result: Option<serde_json::Value>,
    pub parameters: Option<Template>,
    #[serde(default)]
    pub result_path: ResultPath,
    #[serde(default)]
    pub output_path: Selection,
    pub next: Option<String>,
    #[serde(default)]
    end: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Wait {
    _comment: Option<String>,
    pub seconds: Option<u64>,
    pub seconds_path: Option<Path>,
    #[serde(default)]
    pub input_path: Selection,
    #[serde(default)]
    pub output_path: Selection,
    pub next: Option<String>,
    #[serde(default)]
    end: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Choice {
    _comment: Option<String>,
    pub choices: Vec<Rule>,
    pub default: Option<String>,
    #[serde(default)]
    pub input_path: Selection,
    #[serde(default)]
    pub output_path: Selection,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Succeed {
    _comment: Option<String>,
    #[serde(default)]
    pub input_path: Selection,
    #[serde(default)]
    pub output_path: Selection,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Fail {
    _comment: Option<String>,
    pub error: Option<String>,
    pub error_path: Option<Path>,
    pub cause: Option<String>,
    pub cause_path: Option<Path>,
}

/// What a task calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Resource {
    /// Lambda's Invoke with `FunctionName` and `Payload`.
    LambdaInvoke,
    /// The function of this ARN, with the state's input as it is.
    Function(String),
    /// An action of another service.
    AwsSdk { service: String, action: String },
}

impl TryFrom<String> for Resource {
    type Error = String;

    fn try_from(arn: String) -> Result<Self, String> {
        if arn == "arn:aws:states:::lambda:invoke" {
            return Ok(Self::LambdaInvoke);
        }
        if arn.starts_with("arn:aws:lambda:") && arn.contains(":function:") {
            return Ok(Self::Function(arn));
        }
        match arn.strip_prefix("arn:aws:states:::aws-sdk:").and_then(|call| call.split_once(':')) {
            Some((service, action)) if !action.contains([':', '.']) => {
                Ok(Self::AwsSdk { service: service.to_owned(), action: action.to_owned() })
            }
            _ => Err(format!("the lab does not know the resource {arn:?}")),
        }
    }
}

/// Which errors are tried again, and when.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Retrier {
    _comment: Option<String>,
    error_equals: Vec<String>,
    #[serde(default = "one_second")]
    interval_seconds: u64,
    #[serde(default = "three_attempts")]
    max_attempts: u32,
    #[serde(default = "doubling")]
    backoff_rate: f64,
    max_delay_seconds: Option<u64>,
}

fn one_second() -> u64 {
    1
}

fn three_attempts() -> u32 {
    3
}

fn doubling() -> f64 {
    2.0
}

impl Retrier {
    pub fn matches(&self, error: &TaskError) -> bool {
        matches(&self.error_equals, error)
    }

    /// How long to wait after `retries` retries, or nothing if that were all.
    pub fn delay(&self, retries: u32) -> Option<Duration> {
        let backoff = self.backoff_rate.powf(f64::from(retries));
        let limit = self.max_delay_seconds.map_or(f64::INFINITY, |seconds| seconds as f64);
        let seconds = (self.interval_seconds as f64 * backoff).min(limit);
        (retries < self.max_attempts).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// Where an error leads that is not tried again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Catcher {
    _comment: Option<String>,
    error_equals: Vec<String>,
    #[serde(default)]
    pub result_path: ResultPath,
    pub next: String,
}

impl Catcher {
    pub fn matches(&self, error: &TaskError) -> bool {
        matches(&self.error_equals, error)
    }
}

/// The wildcards stop at errors that come from the definition or the data and would only come again.
fn matches(names: &[String], TaskError { error, .. }: &TaskError) -> bool {
    let terminal = ["States.Runtime", "States.DataLimitExceeded"].contains(&error.as_str());
    names.iter().any(|name| match name.as_str() {
        "States.ALL" => !terminal,
        "States.TaskFailed" => !terminal && error != "States.Timeout",
        name => name == error,
    })
}

impl Definition {
    /// Reads a definition, with `${Name}` replaced by the value of `Name` in `substitutions`.
    pub fn load(text: &str, substitutions: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let json = substitute(text, substitutions)?;
        let definition: Self =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&json))?;
        definition.check_target(&definition.start_at).context("StartAt")?;
        for (name, state) in &definition.states {
            definition.check(state).with_context(|| format!("state {name}"))?;
        }
        Ok(definition)
    }

    fn check(&self, state: &State) -> anyhow::Result<()> {
        match state {
            State::Task(task) => {
                self.check_end(task.next.as_deref(), task.end)?;
                check_parameters(task)?;
                check_wildcards(task.retry.iter().map(|retrier| &retrier.error_equals)).context("Retry")?;
                check_wildcards(task.catch.iter().map(|catcher| &catcher.error_equals)).context("Catch")?;
                task.catch.iter().try_for_each(|catcher| self.check_target(&catcher.next))
            }
            State::Pass(pass) => self.check_end(pass.next.as_deref(), pass.end),
            State::Wait(wait) => {
                ensure!(
                    wait.seconds.is_some() != wait.seconds_path.is_some(),
                    "either Seconds or SecondsPath"
                );
                self.check_end(wait.next.as_deref(), wait.end)
            }
            State::Choice(choice) => {
                ensure!(!choice.choices.is_empty(), "no Choices");
                let rules = choice.choices.iter().map(|rule| &rule.next);
                rules.chain(&choice.default).try_for_each(|next| self.check_target(next))
            }
            State::Fail(fail) => {
                ensure!(fail.error.is_none() || fail.error_path.is_none(), "either Error or ErrorPath");
                ensure!(fail.cause.is_none() || fail.cause_path.is_none(), "either Cause or CausePath");
                Ok(())
            }
            State::Succeed(_) => Ok(()),
        }
    }

    fn check_end(&self, next: Option<&str>, end: bool) -> anyhow::Result<()> {
        match (next, end) {
            (Some(next), false) => self.check_target(next),
            (None, true) => Ok(()),
            _ => bail!("either Next or End"),
        }
    }

    fn check_target(&self, state: &str) -> anyhow::Result<()> {
        ensure!(self.states.contains_key(state), "there is no state {state}");
        Ok(())
    }
}

fn check_parameters(task: &Task) -> anyhow::Result<()> {
    if task.resource == Resource::LambdaInvoke {
        let names: Vec<&str> = task.parameters.iter().flat_map(Template::field_names).collect();
        ensure!(names.contains(&"FunctionName"), "lambda:invoke needs Parameters with a FunctionName");
        let unknown = names.iter().find(|name| !["FunctionName", "Payload"].contains(name));
        ensure!(unknown.is_none(), "the lab does not know the parameter {unknown:?} of lambda:invoke");
    }
    Ok(())
}

/// States.ALL stands alone and last, else it would hide what follows it.
fn check_wildcards<'a>(rules: impl Iterator<Item = &'a Vec<String>>) -> anyhow::Result<()> {
    let mut after_all = false;
    for names in rules {
        ensure!(!names.is_empty(), "no ErrorEquals");
        ensure!(!after_all, "a rule after States.ALL");
        after_all = names.iter().any(|name| name == "States.ALL");
        ensure!(!after_all || names.len() == 1, "States.ALL must stand alone");
    }
    Ok(())
}

fn substitute(text: &str, substitutions: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut pieces = text.split("${");
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once('}').context("a ${ without its }")?;
        result += substitutions.get(name).with_context(|| format!("nothing to put in for ${{{name}}}"))?;
        result += rest;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(retrier: &str) -> Vec<f64> {
        let retrier: Retrier = serde_json::from_str(retrier).unwrap();
        (0..).map_while(|retries| retrier.delay(retries)).map(|delay| delay.as_secs_f64()).collect()
    }

    #[test]
    fn retries_back_off_up_to_the_limit() {
        assert_eq!(delays(r#"{"ErrorEquals": ["a"]}"#), [1.0, 2.0, 4.0]);
        assert_eq!(delays(r#"{"ErrorEquals": ["a"], "MaxAttempts": 0}"#), [] as [f64; 0]);
        let limited = r#"{"ErrorEquals": ["a"], "IntervalSeconds": 2, "BackoffRate": 1.5, "MaxAttempts": 4,
            "MaxDelaySeconds": 4}"#;
        assert_eq!(delays(limited), [2.0, 3.0, 4.0, 4.0]);
    }
}
