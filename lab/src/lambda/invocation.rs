//! What comes of one invocation, and how Lambda words its failures.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use axum::body::Bytes;

/// The end of one invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What the caller gets: the function's answer, or JSON with `errorType` and `errorMessage`.
    pub payload: Vec<u8>,
    /// Why the function failed, if it did.
    pub error: Option<FunctionError>,
}

/// How a function can fail. The display is Lambda's wording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionError {
    /// The function itself answered with an error.
    Unhandled {
        /// What kind of error, in the function's words.
        error_type: String,
        /// What happened, in the function's words.
        message: String,
    },
    /// The function ran for longer than it may.
    TimedOut {
        /// The function's timeout.
        after: Duration,
    },
    /// The process ended before it answered.
    Exited {
        /// How it ended, such as `signal: killed` or `exit status 101`.
        reason: String,
    },
    /// The process could not be started.
    NotStarted {
        /// What the operating system said.
        reason: String,
    },
}

impl FunctionError {
    /// The `errorType` that a caller reads.
    pub fn error_type(&self) -> &str {
        match self {
            Self::Unhandled { error_type, .. } => error_type,
            Self::TimedOut { .. } => "Sandbox.Timedout",
            Self::Exited { .. } => "Runtime.ExitError",
            Self::NotStarted { .. } => "Runtime.InvalidEntrypoint",
        }
    }

    /// The error of a process that ended by itself or was killed.
    pub(super) fn exited(status: ExitStatus) -> Self {
        Self::Exited { reason: describe_exit(status) }
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unhandled { message, .. } => f.write_str(message),
            Self::TimedOut { after } => write!(f, "Task timed out after {:.2} seconds", after.as_secs_f64()),
            Self::Exited { reason } => write!(f, "Runtime exited with error: {reason}"),
            Self::NotStarted { reason } => write!(f, "Couldn't start the runtime: {reason}"),
        }
    }
}

impl std::error::Error for FunctionError {}

impl Invocation {
    /// The function answered.
    pub(super) fn answered(payload: &Bytes) -> Self {
        Self { payload: payload.to_vec(), error: None }
    }

    /// The function answered with an error, which is its body.
    pub(super) fn unhandled(body: &Bytes) -> Self {
        let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let error_type = told["errorType"].as_str().unwrap_or("Runtime.Unknown").to_owned();
        let message = told["errorMessage"].as_str().unwrap_or_default().to_owned();
        Self { payload: body.to_vec(), error: Some(FunctionError::Unhandled { error_type, message }) }
    }

    /// The function did not answer: Lambda writes the payload.
    pub(super) fn broken(request_id: &str, error: FunctionError) -> Self {
        let payload = serde_json::json!({
            "errorType": error.error_type(),
            "errorMessage": format!("RequestId: {request_id} Error: {error}"),
        });
        Self { payload: payload.to_string().into_bytes(), error: Some(error) }
    }

    /// Whether the process can take another event: it answered, be it with an error.
    pub(super) fn leaves_process_alive(&self) -> bool {
        matches!(self.error, None | Some(FunctionError::Unhandled { .. }))
    }
}

fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(6)) => "signal: aborted".to_owned(),
        (_, Some(9)) => "signal: killed".to_owned(),
        (_, Some(11)) => "signal: segmentation fault".to_owned(),
        (_, Some(15)) => "signal: terminated".to_owned(),
        (_, Some(signal)) => format!("signal: signal {signal}"),
        (code, None) => format!("exit status {}", code.unwrap_or_default()),
    }
}
