//! State machines run to their end, among them the one that is deployed.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::ApiError;

const WATCH: &str = include_str!("../../../statemachine/watch.asl.json");

/// Answers that are given one after the other; the last one for good.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Result<Value, TaskError>>>,
    calls: Mutex<Vec<Value>>,
}

impl Script {
    fn of(answers: Vec<Result<Value, TaskError>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers), calls: Mutex::default() })
    }

    fn answer(&self, call: Value) -> BoxFuture<'static, Result<Value, TaskError>> {
        self.calls.lock().unwrap().push(call);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { answer })
    }

    fn calls(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }
}

fn error(name: &str) -> Result<Value, TaskError> {
    Err(TaskError::new(name, "cause"))
}

/// Machines whose functions and services both answer from `script`.
fn machines(script: &Arc<Script>) -> Arc<StateMachines> {
    let (functions, services) = (script.clone(), script.clone());
    StateMachines::new(
        Arc::new(move |function, payload| functions.answer(json!([function, payload]))),
        Arc::new(move |service, action, parameters| services.answer(json!([service, action, parameters]))),
    )
}

async fn call(machines: &Arc<StateMachines>, operation: &str, body: Value) -> Result<Value, ApiError> {
    let answer = machines.handle(operation, body.to_string().as_bytes()).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

async fn start(machines: &Arc<StateMachines>, definition: &str, input: &Value) -> String {
    let functions = BTreeMap::from(
        [("WatchFunctionArn", "watch"), ("Partition", "aws")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let arn = machines.create("machine", definition, &functions).unwrap();
    let request = json!({"stateMachineArn": arn, "input": input.to_string()});
    call(machines, "StartExecution", request).await.unwrap()["executionArn"].as_str().unwrap().to_owned()
}

/// The description of the execution once it has ended.
async fn ended(machines: &Arc<StateMachines>, arn: &str) -> Value {
    let wait = async {
        loop {
            let description =
                call(machines, "DescribeExecution", json!({"executionArn": arn})).await.unwrap();
            if description["status"] != "RUNNING" {
                return description;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap()
}

/// Runs a machine of these states, from `A` on; functions and services answer from `answers`.
async fn check(states: Value, input: Value, answers: Vec<Result<Value, TaskError>>) -> (Value, Arc<Script>) {
    let script = Script::of(answers);
    let machines = machines(&script);
    let definition = json!({"StartAt": "A", "States": states}).to_string();
    let arn = start(&machines, &definition, &input).await;
    (ended(&machines, &arn).await, script)
}

fn output(description: &Value) -> Value {
    assert_eq!(description["status"], "SUCCEEDED", "{description}");
    serde_json::from_str(description["output"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_task_picks_and_places_its_data() {
    let task = json!({
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
        "InputPath": "$.inner", "Parameters": {"FunctionName": "probe", "Payload": {"n.$": "$.n", "x.$": "$$.State.Name"}},
        "ResultSelector": {"answer.$": "$.Payload.y"}, "ResultPath": "$.result", "OutputPath": "$", "End": true,
    });
    let (description, script) =
        check(json!({"A": task}), json!({"inner": {"n": 1}, "kept": 2}), vec![Ok(json!({"y": 3}))]).await;
    assert_eq!(output(&description), json!({"inner": {"n": 1}, "kept": 2, "result": {"answer": 3}}));
    assert_eq!(script.calls(), [json!(["probe", {"n": 1, "x": "A"}])]);
}

#[tokio::test]
async fn a_functions_arn_gets_the_input_as_it_is() {
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:probe";
    let task = json!({"Type": "Task", "Resource": arn, "End": true});
    let (description, script) = check(json!({"A": task}), json!({"n": 1}), vec![Ok(json!("answer"))]).await;
    assert_eq!(output(&description), json!("answer"));
    assert_eq!(script.calls(), [json!([arn, {"n": 1}])]);
}

fn task(more: &Value) -> Value {
    let mut task =
        json!({"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:sqs:sendMessage", "End": true});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

#[tokio::test]
async fn each_retrier_counts_for_itself_and_then_the_error_is_caught() {
    let retry = json!([
        {"ErrorEquals": ["Busy"], "IntervalSeconds": 0, "MaxAttempts": 2},
        {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 0, "MaxAttempts": 1},
    ]);
    let catch = json!([
        {"ErrorEquals": ["Busy"], "Next": "Wrong"},
        {"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "Caught"},
    ]);
    let states = json!({
        "A": task(&json!({"Retry": retry, "Catch": catch})),
        "Wrong": {"Type": "Fail"}, "Caught": {"Type": "Succeed"},
    });
    let answers = vec![error("Busy"), error("Other"), error("Busy"), error("Other"), Ok(json!("too late"))];
    let (description, script) = check(states, json!({"kept": 1}), answers).await;
    assert_eq!(output(&description), json!({"kept": 1, "error": {"Error": "Other", "Cause": "cause"}}));
    assert_eq!(script.calls().len(), 4);
}

#[tokio::test]
async fn states_that_are_entered_and_tasks_that_are_tried_again_are_transitions() {
    let script = Script::of(vec![error("Busy"), error("Busy"), Ok(json!("answer"))]);
    let machines = machines(&script);
    let retry = json!([{"ErrorEquals": ["Busy"], "IntervalSeconds": 0, "MaxAttempts": 2}]);
    let states = json!({"A": {"Type": "Pass", "Next": "B"}, "B": task(&json!({"Retry": retry}))});
    let definition = json!({"StartAt": "A", "States": states}).to_string();
    assert_eq!(machines.transitions(), 0);
    let arn = start(&machines, &definition, &json!({})).await;
    assert_eq!(output(&ended(&machines, &arn).await), json!("answer"));
    assert_eq!(machines.transitions(), 4);
}

#[tokio::test]
async fn wildcards_leave_terminal_errors_alone() {
    let catch = |names: &str| json!([{"ErrorEquals": [names], "Next": "Caught"}]);
    for (name, wildcard, caught) in [
        ("Any", "States.ALL", true),
        ("States.Timeout", "States.ALL", true),
        ("States.Timeout", "States.TaskFailed", false),
        ("States.Runtime", "States.ALL", false),
        ("States.DataLimitExceeded", "States.TaskFailed", false),
        ("Any", "Other", false),
    ] {
        let states = json!({"A": task(&json!({"Catch": catch(wildcard)})), "Caught": {"Type": "Succeed"}});
        let (description, _) = check(states, json!({}), vec![error(name)]).await;
        assert_eq!(description["status"] == "SUCCEEDED", caught, "{name} by {wildcard}");
    }
}

#[tokio::test]
async fn pass_choice_and_fail() {
    let states = json!({
        "A": {"Type": "Pass", "Result": 7, "ResultPath": "$.n", "Next": "B"},
        "B": {"Type": "Choice", "Choices": [{"Variable": "$.n", "NumericEquals": 8, "Next": "A"}], "Default": "C"},
        "C": {"Type": "Fail", "Error": "Broken", "CausePath": "$.why"},
    });
    let (description, _) = check(states, json!({"why": "because"}), vec![]).await;
    assert_eq!(
        (&description["status"], &description["error"], &description["cause"]),
        (&json!("FAILED"), &json!("Broken"), &json!("because"))
    );
}

#[tokio::test]
async fn faults_of_the_data_have_the_languages_names() {
    let only = |rule: Value| json!({"A": {"Type": "Choice", "Choices": [rule]}, "B": {"Type": "Succeed"}});
    for (states, expected) in [
        (only(json!({"Variable": "$.n", "NumericEquals": 8, "Next": "B"})), "States.NoChoiceMatched"),
        (only(json!({"Variable": "$.m", "NumericEquals": 8, "Next": "B"})), "States.Runtime"),
        (json!({"A": {"Type": "Wait", "SecondsPath": "$.half", "End": true}}), "States.Runtime"),
        (json!({"A": {"Type": "Pass", "InputPath": "$.missing", "End": true}}), "States.Runtime"),
        (
            json!({"A": {"Type": "Pass", "Parameters": {"a.$": "$.m"}, "End": true}}),
            "States.ParameterPathFailure",
        ),
        (json!({"A": {"Type": "Pass", "ResultPath": "$.n.a", "End": true}}), "States.ResultPathMatchFailure"),
    ] {
        let (description, _) = check(states, json!({"n": 7, "half": 0.5}), vec![]).await;
        assert_eq!(description["error"], expected, "{description}");
    }
}

#[tokio::test]
async fn time_limits_end_a_task_and_an_execution() {
    let never: Invoke = Arc::new(|_, _| Box::pin(std::future::pending()));
    let machines = StateMachines::new(never, Arc::new(|_, _, _| Box::pin(std::future::pending())));
    let limited = json!({"StartAt": "A", "States": {"A": task(&json!({"TimeoutSeconds": 1}))}});
    let endless = json!({"StartAt": "A", "TimeoutSeconds": 1, "States": {"A": task(&json!({}))}});
    let task_late = start(&machines, &limited.to_string(), &json!({})).await;
    let execution_late = start(&machines, &endless.to_string(), &json!({})).await;
    assert_eq!(ended(&machines, &task_late).await["error"], "States.Timeout");
    assert_eq!(ended(&machines, &execution_late).await["status"], "TIMED_OUT");
}

#[tokio::test]
async fn a_loop_ends_at_the_limit_of_the_history() {
    let states = json!({"A": {"Type": "Pass", "Next": "A"}});
    let (description, _) = check(states, json!({}), vec![]).await;
    assert_eq!(description["error"], "States.Runtime");
    assert!(description["cause"].as_str().unwrap().contains("25000"), "{description}");
}

#[test]
fn what_the_lab_does_not_know_does_not_load() {
    let machines = machines(&Script::of(vec![]));
    let good = json!({"StartAt": "A", "States": {"A": task(&json!({}))}});
    machines.create("m", &good.to_string(), &BTreeMap::new()).unwrap();
    let all_first = json!([{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["Other"]}]);
    for (pointer, value, expected) in [
        ("/StartAt", json!("B"), "there is no state B"),
        ("/QueryLanguage", json!("JSONata"), "unknown field `QueryLanguage`"),
        ("/States/A/Type", json!("Map"), "unknown variant `Map`"),
        ("/States/A/HeartbeatSeconds", json!(5), "unknown field `HeartbeatSeconds`"),
        (
            "/States/A/Resource",
            json!("arn:aws:states:::sqs:sendMessage.waitForTaskToken"),
            "does not know the resource",
        ),
        ("/States/A/Resource", json!("arn:aws:states:::lambda:invoke"), "FunctionName"),
        ("/States/A/Next", json!("A"), "either Next or End"),
        ("/States/A/Catch", json!([{"ErrorEquals": ["Any"], "Next": "B"}]), "there is no state B"),
        ("/States/A/Catch", json!([{"ErrorEquals": [], "Next": "A"}]), "no ErrorEquals"),
        ("/States/A/Retry", all_first, "a rule after States.ALL"),
        ("/States/A/Retry", json!([{"ErrorEquals": ["Any"], "JitterStrategy": "FULL"}]), "JitterStrategy"),
        ("/States/A/ResultPath", json!("$.list[0]"), "ResultPath"),
        ("/States/A/Comment", json!("${Missing}"), "nothing to put in for ${Missing}"),
    ] {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let mut bad = good.clone();
        bad.pointer_mut(parent).unwrap()[field] = value;
        let fault = machines.create("m", &bad.to_string(), &BTreeMap::new()).unwrap_err();
        assert!(format!("{fault:#}").contains(expected), "{pointer}: {fault:#}");
    }
}

#[tokio::test]
async fn starting_twice_under_one_name() {
    let machines = machines(&Script::of(vec![]));
    let waiting = json!({"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 60, "End": true}}});
    let machine = machines.create("m", &waiting.to_string(), &BTreeMap::new()).unwrap();
    let request = |input: &str| json!({"stateMachineArn": machine, "name": "one", "input": input});
    let first = call(&machines, "StartExecution", request("{}")).await.unwrap();
    assert_eq!(call(&machines, "StartExecution", request("{}")).await.unwrap(), first);
    let other = call(&machines, "StartExecution", request("[]")).await.unwrap_err();
    assert_eq!(other.code, "ExecutionAlreadyExists");

    let arn = first["executionArn"].as_str().unwrap();
    let stop = json!({"executionArn": arn, "error": "Enough", "cause": "as told"});
    assert!(call(&machines, "StopExecution", stop).await.unwrap()["stopDate"].is_number());
    let description = ended(&machines, arn).await;
    assert_eq!((&description["status"], &description["error"]), (&json!("ABORTED"), &json!("Enough")));
    let again = call(&machines, "StartExecution", request("{}")).await.unwrap_err();
    assert_eq!(again.code, "ExecutionAlreadyExists", "a name is spent when its execution has ended");
}

#[tokio::test]
async fn the_apis_errors() {
    let machines = machines(&Script::of(vec![]));
    let done = json!({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}).to_string();
    let machine = machines.create("m", &done, &BTreeMap::new()).unwrap();
    let missing = format!("{machine}x");
    for (operation, body, expected) in [
        ("StartExecution", json!({"stateMachineArn": missing}), "StateMachineDoesNotExist"),
        ("StartExecution", json!({"stateMachineArn": "m"}), "InvalidArn"),
        ("StartExecution", json!({"stateMachineArn": machine, "input": "{"}), "InvalidExecutionInput"),
        ("StartExecution", json!({"stateMachineArn": machine, "name": "a b"}), "InvalidName"),
        ("StartExecution", json!({}), "ValidationException"),
        ("DescribeExecution", json!({"executionArn": missing}), "ExecutionDoesNotExist"),
        ("ListExecutions", json!({"stateMachineArn": machine, "nextToken": "x"}), "InvalidToken"),
        ("CreateActivity", json!({}), "UnknownOperationException"),
    ] {
        assert_eq!(call(&machines, operation, body).await.unwrap_err().code, expected, "{operation}");
    }
}

/// Runs the deployed machine; the functions and services it calls answer from `answers`.
async fn check_watch(duty: &str, answers: Vec<Result<Value, TaskError>>) -> (Value, Vec<Value>) {
    let script = Script::of(answers);
    let machines = machines(&script);
    // The lab does not wait for the real retry intervals.
    let hasty = WATCH.replace("\"IntervalSeconds\": 2", "\"IntervalSeconds\": 0");
    let arn = start(&machines, &hasty, &input(duty)).await;
    (ended(&machines, &arn).await, script.calls())
}

fn input(duty: &str) -> Value {
    json!({"duty": duty, "deployment_id": "d-1", "execution_id": "hook-1", "after_seconds": 0})
}

fn look(duty: &str, next: &str) -> Value {
    let mut answer = input(duty);
    answer["next"] = json!(next);
    answer
}

#[tokio::test]
async fn the_watch_looks_until_a_look_is_done() {
    let answers =
        vec![Ok(look("traffic", "again")), Ok(look("traffic", "again")), Ok(look("traffic", "done"))];
    let (description, calls) = check_watch("traffic", answers).await;
    assert_eq!(output(&description), look("traffic", "done"));
    let again = json!(["watch", look("traffic", "again")]);
    assert_eq!(calls, [json!(["watch", input("traffic")]), again.clone(), again]);
}

#[tokio::test]
async fn the_watch_goes_on_after_a_look_that_keeps_failing() {
    let mut answers = vec![error("Runtime.ExitError"); 4];
    answers.push(Ok(look("traffic", "done")));
    let (description, calls) = check_watch("traffic", answers).await;
    assert_eq!(output(&description)["next"], "done");
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[4][1]["error"], json!({"Error": "Runtime.ExitError", "Cause": "cause"}));
}

#[tokio::test]
async fn a_bake_that_keeps_failing_is_answered_with_failed() {
    let mut answers = vec![error("Runtime.ExitError"); 4];
    answers.extend([error("CodeDeploy.ThrottlingException"), Ok(json!({}))]);
    let (description, calls) = check_watch("bake", answers).await;
    assert_eq!(
        (&description["status"], &description["error"]),
        (&json!("FAILED"), &json!("Runtime.ExitError"))
    );
    let parameters =
        json!({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "hook-1", "Status": "Failed"});
    assert_eq!(calls.len(), 6);
    assert_eq!(calls[5], json!(["codedeploy", "putLifecycleEventHookExecutionStatus", parameters]));
}

#[tokio::test]
async fn a_bake_that_was_answered_is_not_answered_again() {
    let mut answers = vec![error("Runtime.ExitError"); 4];
    answers.push(error("CodeDeploy.LifecycleEventAlreadyCompletedException"));
    let (description, calls) = check_watch("bake", answers).await;
    assert_eq!(description["error"], "CodeDeploy.LifecycleEventAlreadyCompletedException");
    assert_eq!(calls.len(), 5);
}

#[tokio::test]
async fn the_history_of_one_look() {
    let script = Script::of(vec![Ok(look("traffic", "done"))]);
    let machines = machines(&script);
    let arn = start(&machines, WATCH, &input("traffic")).await;
    ended(&machines, &arn).await;
    let history = call(&machines, "GetExecutionHistory", json!({"executionArn": arn})).await.unwrap();
    let kinds: Vec<&str> =
        history["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "ExecutionStarted",
            "ChoiceStateEntered",
            "ChoiceStateExited",
            "TaskStateEntered",
            "TaskScheduled",
            "TaskStarted",
            "TaskSucceeded",
            "TaskStateExited",
            "ChoiceStateEntered",
            "ChoiceStateExited",
            "SucceedStateEntered",
            "SucceedStateExited",
            "ExecutionSucceeded",
        ]
    );
    let newest = json!({"executionArn": arn, "reverseOrder": true, "maxResults": 1});
    let newest = call(&machines, "GetExecutionHistory", newest).await.unwrap();
    assert_eq!(newest["events"][0]["id"], kinds.len());
}
