//! Smoke checks of a Lambda function: its new version is invoked with the policy's payload.

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
        .send();
    let Ok(sent) = tokio::time::timeout(check.timeout, sent).await else {
        return Ok(Err(format!("no answer within {} ms", check.timeout.as_millis())));
    };
    let output = sent.map_err(|error| {
        let purpose = format!("invoke version {version} of {}", function.name);
        aws::fault("lambda:InvokeFunction", &purpose, error)
    })?;
    if let Some(kind) = output.function_error {
        return Ok(Err(format!("the function failed ({kind})")));
    }
    Ok(Ok(Response {
        status: 200,
        headers: HeaderMap::new(),
        body: output.payload.map(Blob::into_inner).unwrap_or_default(),
        took: started.elapsed(),
    }))
}
