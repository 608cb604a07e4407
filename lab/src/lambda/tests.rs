//! Real processes behind the real Runtime API: a small Python runtime does what its event says.

use std::{os::unix::fs::PermissionsExt, sync::LazyLock};

use serde_json::{Value, json};

use super::*;

/// A function in 30 lines. Its answer tells the process, the request and how many events the process has had.
const RUNTIME: &str = r#"#!/usr/bin/env python3
import json, os, signal, time, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
post = lambda path, body: urllib.request.urlopen(base + path, json.dumps(body).encode()).read()
if "BROKEN" in os.environ:
    post("init/error", {"errorType": "Broken", "errorMessage": "cannot start"})
    raise SystemExit(1)
served, hog = 0, None
while True:
    with urllib.request.urlopen(base + "invocation/next") as answer:
        event, headers = json.load(answer), answer.headers
    served += 1
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    print("saw", event.get("do"), flush=True)
    if event.get("do") == "count and die":
        with open(event["file"], "a") as file:
            file.write(request + "\n")
        if len(open(event["file"]).readlines()) < event["lives"]:
            os._exit(7)
    if event.get("do") == "hang":
        time.sleep(60)
    if event.get("do") == "meet":
        open(event["mine"], "w").close()
        while not os.path.exists(event["theirs"]):
            time.sleep(0.005)
    if event.get("do") == "hog":
        hog = b"x" * 200_000_000
        time.sleep(60)
    if event.get("do") == "fail":
        post(f"invocation/{request}/error", {"errorType": "Oops", "errorMessage": "as told"})
        continue
    post(f"invocation/{request}/response", {"pid": os.getpid(), "request": request, "served": served,
        "arn": headers["Lambda-Runtime-Invoked-Function-Arn"], "environment": dict(os.environ),
        "left_ms": int(headers["Lambda-Runtime-Deadline-Ms"]) - time.time() * 1000})
"#;

/// Written once and before any process starts: a file that is open for writing cannot be executed.
static SCRIPT: LazyLock<tempfile::TempPath> = LazyLock::new(|| {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, RUNTIME).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
});

fn lambda(change: impl FnOnce(&mut FunctionSpec)) -> Arc<Lambda> {
    let mut spec = FunctionSpec {
        name: "probe".to_owned(),
        binary: SCRIPT.to_path_buf(),
        environment: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
        timeout: Duration::from_secs(5),
        memory_mb: 128,
        vpc: None,
    };
    change(&mut spec);
    Lambda::new(vec![spec], [Duration::from_millis(10), Duration::from_millis(20)])
}

fn bytes(event: &Value) -> Vec<u8> {
    event.to_string().into_bytes()
}

async fn invoke(lambda: &Lambda, event: &Value) -> (Value, Option<FunctionError>) {
    let Invocation { payload, error } = lambda.invoke("probe", bytes(event)).await.unwrap();
    (serde_json::from_slice(&payload).unwrap(), error)
}

/// All log lines up to the first that contains `last`.
async fn lines_until(logs: &mut broadcast::Receiver<LogLine>, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let read = async {
        while !lines.last().is_some_and(|line: &String| line.contains(last)) {
            lines.push(logs.recv().await.unwrap().line);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .unwrap_or_else(|_| panic!("no line with {last:?}"));
    lines
}

#[tokio::test]
async fn an_answer_and_what_the_process_knows() {
    let lambda = lambda(|spec| drop(spec.environment.insert("MODE".to_owned(), "test".to_owned())));
    let (answer, error) = invoke(&lambda, &json!({})).await;
    assert_eq!(error, None);
    assert_eq!(answer["arn"], "arn:aws:lambda:eu-west-1:123456789012:function:probe");
    let left = answer["left_ms"].as_f64().unwrap();
    assert!((1000.0..=5000.0).contains(&left), "{left} ms until the deadline");
    let environment = &answer["environment"];
    assert_eq!(environment["MODE"], "test");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_NAME"], "probe");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "128");
    assert_eq!(environment["AWS_REGION"], "eu-west-1");
    assert_eq!(environment["HOME"], Value::Null, "the lab's own environment must not show");
}

#[tokio::test]
async fn a_warm_process_is_used_again_until_the_function_changes() {
    let lambda = lambda(|_| {});
    let (first, _) = invoke(&lambda, &json!({})).await;
    let (second, _) = invoke(&lambda, &json!({})).await;
    assert_eq!((&second["pid"], &second["served"]), (&first["pid"], &json!(2)));
    lambda
        .update("probe", |spec| drop(spec.environment.insert("MODE".to_owned(), "new".to_owned())))
        .unwrap();
    let (third, _) = invoke(&lambda, &json!({})).await;
    assert_ne!(third["pid"], first["pid"]);
    assert_eq!(third["environment"]["MODE"], "new");
}

#[tokio::test]
async fn two_events_at_once_get_two_processes() {
    let lambda = lambda(|_| {});
    let directory = tempfile::tempdir().unwrap();
    let (left, right) = (directory.path().join("left"), directory.path().join("right"));
    // Each waits for the other, so neither would end if they were served in turn.
    let one = json!({"do": "meet", "mine": left, "theirs": right});
    let other = json!({"do": "meet", "mine": right, "theirs": left});
    let ((one, _), (other, _)) = tokio::join!(invoke(&lambda, &one), invoke(&lambda, &other));
    assert_ne!(one["pid"], other["pid"]);
    assert!(one["pid"].is_number(), "{one}");
}

#[tokio::test]
async fn the_functions_own_error_leaves_its_process_alive() {
    let lambda = lambda(|_| {});
    let (answer, error) = invoke(&lambda, &json!({"do": "fail"})).await;
    assert_eq!(answer, json!({"errorType": "Oops", "errorMessage": "as told"}));
    let expected = FunctionError::Unhandled { error_type: "Oops".to_owned(), message: "as told".to_owned() };
    assert_eq!(error, Some(expected));
    assert_eq!(invoke(&lambda, &json!({})).await.0["served"], 2);
}

#[tokio::test]
async fn a_timeout_kills_the_process() {
    let lambda = lambda(|spec| spec.timeout = Duration::from_millis(300));
    let mut logs = lambda.logs();
    let (answer, error) = invoke(&lambda, &json!({"do": "hang"})).await;
    assert_eq!(answer["errorType"], "Sandbox.Timedout");
    assert_eq!(error.unwrap().to_string(), "Task timed out after 0.30 seconds");
    lines_until(&mut logs, "Status: timeout").await;
    assert_eq!(invoke(&lambda, &json!({})).await.0["served"], 1, "a new process");
}

#[tokio::test]
async fn an_async_event_is_tried_three_times_with_one_request_id() {
    let lambda = lambda(|_| {});
    let mut logs = lambda.logs();
    let file = tempfile::NamedTempFile::new().unwrap();
    let event = json!({"do": "count and die", "file": file.path(), "lives": 99});
    lambda.invoke_async("probe", bytes(&event)).unwrap();
    for _ in 0..3 {
        lines_until(&mut logs, "Status: error\tError Type: Runtime.ExitError").await;
    }
    let requests = std::fs::read_to_string(file.path()).unwrap();
    let requests: Vec<&str> = requests.lines().collect();
    assert_eq!(requests, [requests[0]; 3]);
}

#[tokio::test]
async fn an_async_event_that_succeeds_is_not_tried_again() {
    let lambda = lambda(|_| {});
    let mut logs = lambda.logs();
    let file = tempfile::NamedTempFile::new().unwrap();
    let event = json!({"do": "count and die", "file": file.path(), "lives": 2});
    lambda.invoke_async("probe", bytes(&event)).unwrap();
    lines_until(&mut logs, "Runtime.ExitError").await;
    let lines = lines_until(&mut logs, "REPORT").await;
    assert!(!lines.concat().contains("Status"), "{lines:?}");
    assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_killed_process_is_told_as_lambda_tells_it() {
    let lambda = lambda(|_| {});
    lambda.kill_next("probe", Duration::from_millis(20), 1).unwrap();
    let (answer, error) = invoke(&lambda, &json!({"do": "hang"})).await;
    assert_eq!(answer["errorType"], "Runtime.ExitError");
    assert_eq!(error.unwrap().to_string(), "Runtime exited with error: signal: killed");
    assert_eq!(invoke(&lambda, &json!({})).await.1, None, "only once");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn too_much_memory_kills_the_process() {
    let lambda = lambda(|_| {});
    let (_, error) = invoke(&lambda, &json!({"do": "hog"})).await;
    assert_eq!(error.unwrap().to_string(), "Runtime exited with error: signal: killed");
}

#[tokio::test]
async fn a_process_that_cannot_start_says_so() {
    let broken = lambda(|spec| drop(spec.environment.insert("BROKEN".to_owned(), String::new())));
    let (answer, _) = invoke(&broken, &json!({})).await;
    assert_eq!(answer, json!({"errorType": "Broken", "errorMessage": "cannot start"}));

    let missing = lambda(|spec| spec.binary = "/nowhere/bootstrap".into());
    let (answer, _) = invoke(&missing, &json!({})).await;
    assert_eq!(answer["errorType"], "Runtime.InvalidEntrypoint");
    assert!(answer["errorMessage"].as_str().unwrap().contains("/nowhere/bootstrap"), "{answer}");
}

#[tokio::test]
async fn the_log_reads_as_on_lambda() {
    let lambda = lambda(|_| {});
    let mut logs = lambda.logs();
    let (answer, _) = invoke(&lambda, &json!({"do": "talk"})).await;
    let request = answer["request"].as_str().unwrap();
    let lines = lines_until(&mut logs, "REPORT").await;
    assert_eq!(lines[0], format!("START RequestId: {request} Version: $LATEST"));
    assert!(lines.contains(&"saw talk".to_owned()), "{lines:?}");
    assert_eq!(lines[lines.len() - 2], format!("END RequestId: {request}"));
    assert!(lines[lines.len() - 1].contains("Init Duration"), "{lines:?}");
}

#[tokio::test]
async fn the_http_answers() {
    let lambda = lambda(|_| {});
    let arn = function_arn("probe");
    let answer =
        lambda.handle_invoke(&arn, None, "RequestResponse", bytes(&json!({"do": "fail"}))).await.unwrap();
    assert_eq!((answer.status, answer.function_error), (200, Some("Unhandled")));
    let answer = lambda.handle_invoke("probe:live", None, "", Vec::new()).await.unwrap();
    assert_eq!((answer.status, answer.function_error), (200, None));
    assert_eq!(lambda.handle_invoke("probe", None, "Event", Vec::new()).await.unwrap().status, 202);
    assert_eq!(lambda.handle_invoke("probe", None, "DryRun", Vec::new()).await.unwrap().status, 204);

    let unknown = lambda.handle_invoke("other", None, "DryRun", Vec::new()).await.unwrap_err();
    assert_eq!((unknown.status, unknown.code.as_str()), (404, "ResourceNotFoundException"));
    let no_json = lambda.handle_invoke("probe", None, "", b"{".to_vec()).await.unwrap_err();
    assert_eq!(no_json.code, "InvalidRequestContentException");
    let no_type = lambda.handle_invoke("probe", None, "Maybe", Vec::new()).await.unwrap_err();
    assert_eq!(no_type.code, "InvalidParameterValueException");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn processes_die_with_the_lab() {
    let lambda = lambda(|_| {});
    let (answer, _) = invoke(&lambda, &json!({})).await;
    let process = std::path::PathBuf::from(format!("/proc/{}/status", answer["pid"]));
    assert!(process.exists());
    drop(lambda);
    let gone = async {
        while process.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}
