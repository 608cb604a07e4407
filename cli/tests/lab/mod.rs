//! The program against an account of the lab.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../../lab/tests/common/mod.rs"]
pub mod common;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use shiftgate_lab::account::{Account, AccountSpec};
use shiftgate_lab::codedeploy::Pace;
use shiftgate_lab::doubts::Doubts;

/// An account whose minutes take a second.
pub async fn account() -> Account {
    account_of(Duration::from_secs(1), Doubts::default()).await
}

/// An account whose minutes take so long, in a world of these doubts.
pub async fn account_of(minute: Duration, doubts: Doubts) -> Account {
    Account::start(&AccountSpec {
        project: common::project(),
        binaries: common::binaries().to_owned(),
        pace: Pace { minute, hook_timeout: Duration::from_mins(1) },
        ingestion_delay: Duration::ZERO,
        retry_delays: [Duration::from_millis(100); 2],
        port: 0,
        doubts,
        subscriptions: true,
    })
    .await
    .unwrap()
}

/// Runs the program in an account.
pub async fn shiftgate(account: &Account, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_shiftgate"))
        .args(arguments)
        .envs(account.exports())
        .output()
        .await
        .unwrap()
}

/// What a command prints that ends well.
pub async fn said(account: &Account, arguments: &[&str]) -> String {
    let output = shiftgate(account, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
pub async fn json_of(account: &Account, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(account, arguments).await).unwrap()
}
