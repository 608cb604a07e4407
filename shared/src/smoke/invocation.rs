//! Smoke checks of a Lambda function: its new version is invoked with the policy's payload.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::primitives::Blob;
use reqwest::header::HeaderMap;

use super::expect::Response;
use crate::aws::{self, Aws};
use crate::fault::{Fault, FaultKind};
use crate::policy::plan::Check;
use crate::rollout::Rollout;

/// Invokes green once; the inner error says in words why there is no good answer. What the function answers is never quoted.
pub async fn send(
    aws: &Aws,
    rollout: &Rollout,
    check: &Check,
    payload: &serde_json::Value,
) -> Result<Result<Response, String>, Fault> {
    let (Some(function), Some(version)) = (&rollout.function, &rollout.green.version) else {
        return Err(Fault::new(
            FaultKind::Policy,
            format!("the check `{}` invokes a function, and this release is none", check.name),
            "`invoke` is for deployments of Lambda functions; a service is asked with get, post and the like",
        ));
    };
    let started = tokio::time::Instant::now();
    let sent = aws
        .lambda
        .invoke()
        .function_name(&function.name)
        .qualifier(version)
        .payload(Blob::new(payload.to_string()))
        .customize()
        .config_override(once(check.timeout))
        .send();
    let output = match sent.await {
        Ok(output) => output,
        Err(SdkError::TimeoutError(_)) => {
            return Ok(Err(format!("no answer within {} ms", check.timeout.as_millis())));
        }
        Err(error) => {
            let purpose = format!("invoke version {version} of {}", function.name);
            return Err(aws::fault("lambda:InvokeFunction", &purpose, error));
        }
    };
    if let Some(kind) = output.function_error {
        return Ok(Err(format!("the function failed ({kind})")));
    }
    Ok(Ok(Response {
        status: 200,
        headers: HeaderMap::new(),
        // At most 6 MB: Lambda's own limit.
        body: output.payload.map(Blob::into_inner).unwrap_or_default(),
        cut: false,
        took: started.elapsed(),
    }))
}

/// A payload may change something: it is sent again only where the policy says so (`retries`).
fn once(longest: Duration) -> Builder {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(longest).operation_timeout(longest).build();
    Builder::new().retry_config(RetryConfig::disabled()).timeout_config(timeouts)
}
