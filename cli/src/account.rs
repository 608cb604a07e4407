//! An AWS account, as the credentials in the environment show it. Only calls that read.

use anyhow::anyhow;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use jiff::Timestamp;
use shiftgate::aws::Aws;
use shiftgate::fault::{Fault, FaultKind};

/// Attempts of a call: reading many pages of a log soon meets the account's quota of five such calls a second.
const ATTEMPTS: u32 = 8;

/// The clients.
pub struct Account {
    /// Those that the functions use, too.
    pub aws: Aws,
    /// What the functions have logged.
    pub logs: aws_sdk_cloudwatchlogs::Client,
}

impl Account {
    /// The account and region that the environment names.
    pub async fn from_environment() -> Self {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let patient = config.to_builder().retry_config(retries).build();
        Self { aws: Aws::new(&config), logs: aws_sdk_cloudwatchlogs::Client::new(&patient) }
    }
}

/// A fault, for somebody whose own role it is.
pub fn told(fault: Fault) -> anyhow::Error {
    anyhow!("{}; {}", fault.chain(), hint(&fault))
}

/// What somebody whose own role it is can do about a fault.
pub fn hint(fault: &Fault) -> &str {
    match fault.kind {
        FaultKind::Denied => "allow it to the role whose credentials the environment has",
        FaultKind::Unavailable => "check AWS_REGION, AWS_ENDPOINT_URL and the credentials in the environment",
        _ => &fault.hint,
    }
}

/// An instant as AWS sends it.
pub fn instant(time: Option<&aws_sdk_codedeploy::primitives::DateTime>) -> Option<Timestamp> {
    time.and_then(|time| time.to_millis().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok())
}
