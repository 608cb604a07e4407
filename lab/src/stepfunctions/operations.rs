//! The operations of the API (awsJson1.0).

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Machine, Started, StateMachines,
    execution::{Execution, seconds},
    find, lock,
};
use crate::api::ApiError;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartExecution {
    state_machine_arn: String,
    name: Option<String>,
    #[serde(default = "empty_object")]
    input: String,
}

fn empty_object() -> String {
    "{}".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateMachineArn {
    state_machine_arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionArn {
    execution_arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StopExecution {
    execution_arn: String,
    error: Option<String>,
    cause: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListExecutions {
    state_machine_arn: String,
    status_filter: Option<String>,
    #[serde(default)]
    max_results: usize,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetExecutionHistory {
    execution_arn: String,
    #[serde(default)]
    reverse_order: bool,
    #[serde(default)]
    max_results: usize,
    next_token: Option<String>,
}

impl StateMachines {
    /// Answers `X-Amz-Target: AWSStepFunctions.<operation>`; body and answer are JSON.
    #[expect(clippy::unused_async, reason = "the endpoint awaits every service")]
    pub async fn handle(self: &Arc<Self>, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let answer = match operation {
            "StartExecution" => self.start_execution(read(body)?)?,
            "DescribeExecution" => self.describe_execution(&read(body)?)?,
            "ListExecutions" => self.list_executions(read(body)?)?,
            "StopExecution" => self.stop_execution(read(body)?)?,
            "GetExecutionHistory" => self.get_execution_history(read(body)?)?,
            "DescribeStateMachine" => self.describe_state_machine(&read(body)?)?,
            unknown => return Err(ApiError::unknown_operation(unknown)),
        };
        Ok(answer.to_string().into_bytes())
    }

    fn start_execution(&self, request: StartExecution) -> Result<Value, ApiError> {
        let machine = self.machine(&request.state_machine_arn)?;
        if let Err(error) = serde_json::from_str::<Value>(&request.input) {
            let message = format!("Invalid State Machine Execution Input: '{error}'");
            return Err(ApiError::client("InvalidExecutionInput", message));
        }
        let name = request.name.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        check_name(&name)?;
        let execution = self.start(Execution::new(name, machine, request.input))?;
        Ok(json!({"executionArn": execution.arn(), "startDate": seconds(execution.started)}))
    }

    fn describe_execution(&self, request: &ExecutionArn) -> Result<Value, ApiError> {
        Ok(self.started(&request.execution_arn)?.execution.description())
    }

    fn list_executions(&self, request: ListExecutions) -> Result<Value, ApiError> {
        let machine = self.machine(&request.state_machine_arn)?.arn();
        let newest_first = lock(&self.executions)
            .iter()
            .rev()
            .filter(|started| started.execution.machine.arn() == machine)
            .map(|started| started.execution.summary())
            .filter(|summary| {
                request.status_filter.as_deref().is_none_or(|status| summary["status"] == status)
            })
            .collect();
        page("executions", newest_first, request.max_results, request.next_token)
    }

    fn stop_execution(&self, request: StopExecution) -> Result<Value, ApiError> {
        let started = self.started(&request.execution_arn)?;
        started.abort(request.error, request.cause);
        Ok(json!({"stopDate": started.execution.stopped()}))
    }

    fn get_execution_history(&self, request: GetExecutionHistory) -> Result<Value, ApiError> {
        let mut events = self.started(&request.execution_arn)?.execution.history();
        if request.reverse_order {
            events.reverse();
        }
        page("events", events, request.max_results, request.next_token)
    }

    fn describe_state_machine(&self, request: &StateMachineArn) -> Result<Value, ApiError> {
        let machine = self.machine(&request.state_machine_arn)?;
        Ok(json!({
            "stateMachineArn": machine.arn(),
            "name": machine.name,
            "status": "ACTIVE",
            "definition": machine.text,
            "roleArn": machine.role_arn(),
            "type": "STANDARD",
            "creationDate": seconds(machine.created),
        }))
    }

    fn machine(&self, arn: &str) -> Result<Arc<Machine>, ApiError> {
        check_arn(arn)?;
        lock(&self.machines).get(arn).cloned().ok_or_else(|| {
            ApiError::client("StateMachineDoesNotExist", format!("State Machine Does Not Exist: '{arn}'"))
        })
    }

    fn started(&self, arn: &str) -> Result<Started, ApiError> {
        check_arn(arn)?;
        find(&lock(&self.executions), arn).cloned().ok_or_else(|| {
            ApiError::client("ExecutionDoesNotExist", format!("Execution Does Not Exist: '{arn}'"))
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::client("ValidationException", error.to_string()))
}

fn check_arn(arn: &str) -> Result<(), ApiError> {
    if arn.starts_with("arn:aws:states:") {
        return Ok(());
    }
    Err(ApiError::client("InvalidArn", format!("Invalid Arn: '{arn}'")))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "?*<>{}[]\"#%\\^|~`$&,;:/".contains(c);
    if (1..=80).contains(&name.chars().count()) && !name.contains(forbidden) {
        return Ok(());
    }
    Err(ApiError::client("InvalidName", format!("Invalid Name: '{name}'")))
}

/// One page of `items` under the name `field`. The token is the place where the next page begins.
fn page(
    field: &str,
    items: Vec<Value>,
    max_results: usize,
    token: Option<String>,
) -> Result<Value, ApiError> {
    let start = match token {
        None => 0,
        Some(token) => token
            .parse()
            .map_err(|_| ApiError::client("InvalidToken", format!("Invalid Token: '{token}'")))?,
    };
    let size = if max_results == 0 { 100 } else { max_results.min(1000) };
    let more = items.len() > start + size;
    let mut answer = json!({ field: items.into_iter().skip(start).take(size).collect::<Vec<_>>() });
    if more {
        answer["nextToken"] = json!((start + size).to_string());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked_as_on_aws() {
        for good in ["a", "d-1A2B3C-traffic", &"x".repeat(80), "grün"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a/b", "a:b", "a*", "a\n", &"x".repeat(81)] {
            assert_eq!(check_name(bad).unwrap_err().code, "InvalidName", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pages_hold_every_item_once(count in 0_usize..250, size in 0_usize..120) {
            let items: Vec<Value> = (0..count).map(Value::from).collect();
            let (mut seen, mut token) = (Vec::new(), None);
            loop {
                let answer = page("items", items.clone(), size, token).unwrap();
                seen.extend(answer["items"].as_array().unwrap().clone());
                token = answer["nextToken"].as_str().map(str::to_owned);
                if token.is_none() { break }
            }
            prop_assert_eq!(seen, items);
        }
    }
}
