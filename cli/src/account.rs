//! An AWS account, as the credentials in the environment show it. Only calls that read.

use anyhow::anyhow;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use jiff::Timestamp;
use shiftgate::aws::{self, Aws};
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
        let config =
            aws_config::defaults(BehaviorVersion::latest()).http_client(aws::http_client()).load().await;
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let patient = config.to_builder().retry_config(retries).build();
        Self { aws: Aws::new(&config), logs: aws_sdk_cloudwatchlogs::Client::new(&patient) }
    }
}

/// What AWS answers to credentials that it does not take: too old, unknown, or signed by another key or clock.
const REFUSED: [&str; 7] = [
    "ExpiredToken",
    "RequestExpired",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
];

/// Whether AWS did not take the credentials themselves, so that nothing is known of what was asked.
pub fn is_of_credentials(fault: &Fault) -> bool {
    let said = fault.source.as_ref().map(ToString::to_string).unwrap_or_default();
    REFUSED.iter().any(|code| said.starts_with(code))
}

/// Whether the credentials are of a profile that needs code which is not part of this program; the SDK says so in words alone.
fn is_of_a_profile(fault: &Fault) -> bool {
    fault.source.as_ref().is_some_and(|source| source.to_string().contains("cargo feature"))
}

/// A fault, for somebody whose own role it is.
pub fn told(fault: Fault) -> anyhow::Error {
    anyhow!("{}; {}", fault.chain(), hint(&fault))
}

/// What somebody whose own role it is can do about a fault.
pub fn hint(fault: &Fault) -> &str {
    match fault.kind {
        _ if is_of_credentials(fault) => {
            "AWS does not take the credentials of the environment: log in again (such as `aws sso login`), and export them anew: aws configure export-credentials --format env"
        }
        _ if is_of_a_profile(fault) => {
            "this kind of profile (SSO, a credential process) is exported first: eval \"$(aws configure export-credentials --profile NAME --format env)\""
        }
        FaultKind::Denied => "allow it to the role whose credentials the environment has",
        FaultKind::Unavailable => "check AWS_REGION, AWS_ENDPOINT_URL and the credentials in the environment",
        _ => &fault.hint,
    }
}

/// An instant as AWS sends it.
pub fn instant(time: Option<&aws_sdk_codedeploy::primitives::DateTime>) -> Option<Timestamp> {
    time.and_then(|time| time.to_millis().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_are_not_taken_are_told_from_names_that_are_wrong() {
        let of = |said: &str| {
            let fault = Fault::new(FaultKind::NotFound, "cannot read it", "check the name");
            fault.because(std::io::Error::other(said.to_owned()))
        };
        for code in ["ExpiredTokenException: x", "ExpiredToken: x", "UnrecognizedClientException: x"] {
            assert!(is_of_credentials(&of(code)), "{code}");
            assert!(hint(&of(code)).contains("log in again"), "{code}");
        }
        let of_sso = "ProfileFile provider could not be built: This behavior requires following cargo feature(s) enabled: sso";
        assert!(hint(&of(of_sso)).contains("export-credentials --profile"));
        let named = of("DeploymentDoesNotExistException: no ExpiredToken");
        assert!(!is_of_credentials(&named) && hint(&named) == "check the name");
    }
}
