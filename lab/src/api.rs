//! What all stand-ins share: names of the pretended account, and the error that every protocol can carry.

/// Region of the pretended account.
pub const REGION: &str = "eu-west-1";
/// Number of the pretended account.
pub const ACCOUNT: &str = "123456789012";

/// An error as an AWS service answers it; the endpoint writes it in the protocol of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status: 400 for the caller's faults, 5xx for the service's.
    pub status: u16,
    /// The exception's name, such as `DeploymentDoesNotExistException`.
    pub code: String,
    /// What a reader is told.
    pub message: String,
}

impl ApiError {
    /// A fault of the caller (HTTP 400).
    pub fn client(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// A call that this stand-in does not know.
    pub fn unknown_operation(operation: &str) -> Self {
        Self::client("UnknownOperationException", format!("the lab does not implement {operation}"))
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}
