//! A Lambda function in the account, through the endpoint as the functions reach it.

#![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods, reason = "a test file")]

mod common;

use common::{POLICY, Waiting, wait_until};
use serde_json::{Value, json};
use shiftgate_lab::application::Behaviour;
use shiftgate_lab::codedeploy::{Shift, Status};
use shiftgate_lab::underway::{Underway, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Invokes over HTTP; returns the answer's head, in lower case, and its payload.
async fn invoke(waiting: &Waiting, path: &str, payload: &Value) -> (String, Value) {
    let mut stream = TcpStream::connect(waiting.account.address()).await.unwrap();
    let payload = payload.to_string();
    let request = format!(
        "POST /2015-03-31/functions/{path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{payload}",
        payload.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_answers_before_the_alias_points_to_it() {
    let waiting = Waiting::function_at("BeforeAllowTraffic", Shift::AllAtOnce, POLICY).await;
    let id = waiting.deploy().await;
    for path in ["shop/invocations?Qualifier=2", "shop%3A2/invocations"] {
        let (head, payload) = invoke(&waiting, path, &json!({"ping": true})).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("x-amz-executed-version: 2"), "{head}");
        assert!(!head.contains("x-amz-function-error"), "{head}");
        assert_eq!(payload, json!({"version": "2", "echo": {"ping": true}}));
    }
    let (_, of_alias) = invoke(&waiting, "shop/invocations?Qualifier=live", &json!({})).await;
    assert_eq!(of_alias["version"], "1");
    let calls = waiting.account.services.calls.lock().unwrap().clone();
    assert!(calls.iter().all(|call| call.action == "lambda:InvokeFunction"), "{calls:?}");

    // As an event of a scenario does.
    let underway = Underway::CodeDeploy(waiting.account.services.codedeploy.clone(), id.clone());
    underway.green().unwrap().behave(&Behaviour { errors: 1.0, ..Behaviour::default() });
    let (head, payload) = invoke(&waiting, "shop/invocations?Qualifier=2", &json!({})).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("x-amz-function-error: unhandled"), "{head}");
    assert_eq!(payload["errorType"], "Error");
    let (head, _) = invoke(&waiting, "shop/invocations?Qualifier=3", &json!({})).await;
    assert!(head.starts_with("http/1.1 404") && head.contains("resourcenotfoundexception"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_meet_the_new_version_after_the_shift_and_the_old_one_after_a_rollback() {
    let waiting = Waiting::function_at("AfterAllowTraffic", Shift::AllAtOnce, POLICY).await;
    waiting.site.traffic.set_rate(200.0);
    wait_until("users are answered", || waiting.site.traffic.stats().ok >= 20).await;
    let id = waiting.deploy().await;
    let codedeploy = &waiting.account.services.codedeploy;
    let underway = Underway::CodeDeploy(codedeploy.clone(), id.clone());
    let Some(Version::Function(function, version)) = underway.green() else { panic!("no version") };
    assert_eq!((function.live(), version.as_str()), ("2".to_owned(), "2"));
    underway.green().unwrap().behave(&Behaviour { errors: 1.0, ..Behaviour::default() });
    wait_until("users meet it", || waiting.site.traffic.stats().errors >= 20).await;

    let stop = json!({"deploymentId": id, "autoRollbackEnabled": true}).to_string();
    codedeploy.handle("StopDeployment", stop.as_bytes()).unwrap();
    waiting.ended(&id).await;
    wait_until("the rollback", || underway.is_over() && function.live() == "1").await;
    let ending = underway.ending().unwrap();
    assert_eq!((ending.status.as_str(), ending.rolled_back), (Status::Stopped.as_str(), true));
    let before = waiting.site.traffic.stats();
    wait_until("users are well again", || (waiting.site.traffic.stats() - before).ok >= 100).await;
}
