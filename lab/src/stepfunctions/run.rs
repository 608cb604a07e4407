//! Runs an execution from state to state.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::quota::TRANSITION;

use super::{
    Services, TaskError,
    definition::{Catcher, Choice, Fail, Pass, Resource, State, Succeed, Task, Wait},
    execution::{Execution, Status},
    path::{Path, Scope, Template},
};

/// What a state leaves: its output, and the state to go on with (none: the execution succeeded).
type Step<'a> = (Value, Option<&'a str>);

/// Runs `execution` to its end and records it.
pub(super) async fn run(execution: &Execution, services: &Services) {
    let steps = walk(execution, services);
    let status = match execution.machine.definition.timeout_seconds {
        None => steps.await,
        Some(seconds) => timeout(Duration::from_secs(seconds), steps).await.unwrap_or(Status::TimedOut),
    };
    execution.end(status);
}

async fn walk(execution: &Execution, services: &Services) -> Status {
    let definition = &execution.machine.definition;
    let mut name = definition.start_at.as_str();
    // It was checked when the execution started.
    let mut data = serde_json::from_str(&execution.input).unwrap_or_default();
    loop {
        let Some(state) = definition.states.get(name) else {
            return Status::Failed(TaskError::new("States.Runtime", format!("there is no state {name}")));
        };
        let visit = Visit { execution, services, context: context(execution, name), name, kind: kind(state) };
        match visit.enter(state, data).await {
            Err(error) => return Status::Failed(error),
            Ok((output, None)) => return Status::Succeeded(output),
            Ok((output, Some(next))) => (data, name) = (output, next),
        }
    }
}

fn kind(state: &State) -> &'static str {
    match state {
        State::Task(_) => "Task",
        State::Pass(_) => "Pass",
        State::Wait(_) => "Wait",
        State::Choice(_) => "Choice",
        State::Succeed(_) => "Succeed",
        State::Fail(_) => "Fail",
    }
}

/// The context object, `$$`.
fn context(execution: &Execution, state: &str) -> Value {
    json!({
        "Execution": {
            "Id": execution.arn(),
            "Name": execution.name,
            "Input": serde_json::from_str::<Value>(&execution.input).unwrap_or_default(),
            "RoleArn": execution.machine.role_arn(),
            "StartTime": execution.started.to_string(),
        },
        "State": {"Name": state, "EnteredTime": Timestamp::now().to_string()},
        "StateMachine": {"Id": execution.machine.arn(), "Name": execution.machine.name},
    })
}

/// One visit of an execution to a state.
struct Visit<'a> {
    execution: &'a Execution,
    services: &'a Services,
    context: Value,
    name: &'a str,
    kind: &'static str,
}

impl Visit<'_> {
    async fn enter<'s>(&self, state: &'s State, input: Value) -> Result<Step<'s>, TaskError> {
        self.execution.check_history()?;
        if let Some(quotas) = self.services.quotas.get() {
            quotas.wait(TRANSITION).await;
        }
        let entered = json!({"name": self.name, "input": input.to_string()});
        self.execution.push(&format!("{}StateEntered", self.kind), "stateEnteredEventDetails", entered);
        let (output, next) = match state {
            State::Task(task) => self.task(task, input).await?,
            State::Pass(pass) => self.pass(pass, input)?,
            State::Wait(wait) => self.wait(wait, input).await?,
            State::Choice(choice) => self.choice(choice, input)?,
            State::Succeed(succeed) => self.succeed(succeed, input)?,
            State::Fail(fail) => return Err(self.failure(fail, &input)?),
        };
        let exited = json!({"name": self.name, "output": output.to_string()});
        self.execution.push(&format!("{}StateExited", self.kind), "stateExitedEventDetails", exited);
        Ok((output, next))
    }

    fn pass<'s>(&self, pass: &'s Pass, input: Value) -> Result<Step<'s>, TaskError> {
        let selected = pass.input_path.of(input.clone(), &self.context)?;
        let result = match &pass.result {
            Some(result) => result.clone(),
            None => self.fill(pass.parameters.as_ref(), selected)?,
        };
        let output = pass.result_path.put(input, result)?;
        Ok((pass.output_path.of(output, &self.context)?, pass.next.as_deref()))
    }

    async fn wait<'s>(&self, wait: &'s Wait, input: Value) -> Result<Step<'s>, TaskError> {
        let data = wait.input_path.of(input, &self.context)?;
        let seconds = match &wait.seconds_path {
            None => wait.seconds.unwrap_or_default(),
            Some(path) => {
                let found = path.read(self.scope(&data), "States.Runtime")?;
                let no_number =
                    || TaskError::new("States.Runtime", format!("{found} is no whole number of seconds"));
                found.as_u64().ok_or_else(no_number)?
            }
        };
        sleep(Duration::from_secs(seconds)).await;
        Ok((wait.output_path.of(data, &self.context)?, wait.next.as_deref()))
    }

    fn choice<'s>(&self, choice: &'s Choice, input: Value) -> Result<Step<'s>, TaskError> {
        let data = choice.input_path.of(input, &self.context)?;
        let mut next = choice.default.as_deref();
        for rule in &choice.choices {
            if rule.condition.holds(self.scope(&data))? {
                next = Some(&rule.next);
                break;
            }
        }
        let no_match =
            || TaskError::new("States.NoChoiceMatched", format!("no rule of {} fits {data}", self.name));
        let next = next.ok_or_else(no_match)?;
        Ok((choice.output_path.of(data, &self.context)?, Some(next)))
    }

    fn succeed<'s>(&self, succeed: &Succeed, input: Value) -> Result<Step<'s>, TaskError> {
        let data = succeed.input_path.of(input, &self.context)?;
        Ok((succeed.output_path.of(data, &self.context)?, None))
    }

    fn failure(&self, fail: &Fail, input: &Value) -> Result<TaskError, TaskError> {
        let text = |fixed: &Option<String>, path: &Option<Path>| match path {
            None => Ok(fixed.clone().unwrap_or_default()),
            Some(path) => match path.read(self.scope(input), "States.Runtime")? {
                Value::String(text) => Ok(text),
                other => Err(TaskError::new("States.Runtime", format!("{other} is no text"))),
            },
        };
        Ok(TaskError {
            error: text(&fail.error, &fail.error_path)?,
            cause: text(&fail.cause, &fail.cause_path)?,
        })
    }

    /// Calls until the task succeeds, or until no rule says to try again.
    async fn task<'s>(&self, task: &'s Task, input: Value) -> Result<Step<'s>, TaskError> {
        let mut retries = HashMap::new();
        loop {
            let error = match self.attempt(task, &input).await {
                Ok(output) => return Ok((output, task.next.as_deref())),
                Err(error) => error,
            };
            match retry_delay(task, &mut retries, &error) {
                Some(delay) => sleep(delay).await,
                None => return catch(&task.catch, error, input),
            }
            self.execution.check_history()?;
        }
    }

    async fn attempt(&self, task: &Task, input: &Value) -> Result<Value, TaskError> {
        let selected = task.input_path.of(input.clone(), &self.context)?;
        let parameters = self.fill(task.parameters.as_ref(), selected)?;
        let result = self.recorded_call(task, parameters).await?;
        let result = self.fill(task.result_selector.as_ref(), result)?;
        let output = task.result_path.put(input.clone(), result)?;
        task.output_path.of(output, &self.context)
    }

    /// The call, with its events in the history.
    async fn recorded_call(&self, task: &Task, parameters: Value) -> Result<Value, TaskError> {
        let (kind, resource) = match &task.resource {
            Resource::LambdaInvoke | Resource::Function(_) => ("lambda", "invoke"),
            Resource::AwsSdk { service, action } => (&*format!("aws-sdk:{service}"), action.as_str()),
        };
        let event = |name: &str, field: &str, fields: &[(&str, &str)]| {
            let mut details = json!({"resourceType": kind, "resource": resource});
            for (name, value) in fields {
                details[*name] = json!(value);
            }
            self.execution.push(name, field, details);
        };
        let parameters_text = parameters.to_string();
        let scheduled = [("region", crate::api::REGION), ("parameters", parameters_text.as_str())];
        event("TaskScheduled", "taskScheduledEventDetails", &scheduled);
        event("TaskStarted", "taskStartedEventDetails", &[]);
        let result = self.limited_call(task, parameters).await;
        match &result {
            Ok(output) => {
                event("TaskSucceeded", "taskSucceededEventDetails", &[("output", &output.to_string())]);
            }
            Err(TaskError { error, cause }) => {
                let fields = [("error", error.as_str()), ("cause", cause.as_str())];
                if error == "States.Timeout" {
                    event("TaskTimedOut", "taskTimedOutEventDetails", &fields);
                } else {
                    event("TaskFailed", "taskFailedEventDetails", &fields);
                }
            }
        }
        result
    }

    async fn limited_call(&self, task: &Task, parameters: Value) -> Result<Value, TaskError> {
        let Some(seconds) = task.timeout_seconds else { return self.call(&task.resource, parameters).await };
        let late = |_| Err(TaskError::new("States.Timeout", format!("the task took more than {seconds} s")));
        timeout(Duration::from_secs(seconds), self.call(&task.resource, parameters))
            .await
            .unwrap_or_else(late)
    }

    async fn call(&self, resource: &Resource, mut parameters: Value) -> Result<Value, TaskError> {
        match resource {
            Resource::Function(arn) => (self.services.invoke)(arn.clone(), parameters).await,
            Resource::LambdaInvoke => {
                let function = parameters["FunctionName"].as_str().unwrap_or_default().to_owned();
                let payload = (self.services.invoke)(function, parameters["Payload"].take()).await?;
                Ok(json!({"ExecutedVersion": "$LATEST", "Payload": payload, "StatusCode": 200}))
            }
            Resource::AwsSdk { service, action } => {
                (self.services.call_aws)(service.clone(), action.clone(), parameters).await
            }
        }
    }

    /// The template filled from `data`, or `data` where there is no template.
    fn fill(&self, template: Option<&Template>, data: Value) -> Result<Value, TaskError> {
        match template {
            None => Ok(data),
            Some(template) => template.fill(self.scope(&data)),
        }
    }

    fn scope<'d>(&'d self, data: &'d Value) -> Scope<'d> {
        Scope { data, context: &self.context }
    }
}

/// The delay of the first rule for this error. Each rule counts its own retries.
fn retry_delay(task: &Task, counts: &mut HashMap<usize, u32>, error: &TaskError) -> Option<Duration> {
    let (index, retrier) = task.retry.iter().enumerate().find(|(_, retrier)| retrier.matches(error))?;
    let count = counts.entry(index).or_default();
    let delay = retrier.delay(*count);
    *count += 1;
    delay
}

fn catch(catchers: &[Catcher], error: TaskError, input: Value) -> Result<Step<'_>, TaskError> {
    let Some(catcher) = catchers.iter().find(|catcher| catcher.matches(&error)) else { return Err(error) };
    let result = json!({"Error": error.error, "Cause": error.cause});
    Ok((catcher.result_path.put(input, result)?, Some(&catcher.next)))
}
