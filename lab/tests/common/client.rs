//! An SDK client of the lab, for tests that call the library itself.

use shiftgate_lab::account::Account;

/// An SDK configuration for the account, as a caller that may do everything.
pub fn aws_config(account: &Account) -> aws_config::SdkConfig {
    let credentials = aws_sdk_cloudwatch::config::Credentials::new("lab", "lab", None, None, "test");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::from_static("eu-west-1"))
        .endpoint_url(format!("http://{}", account.address()))
        .credentials_provider(aws_sdk_cloudwatch::config::SharedCredentialsProvider::new(credentials))
        .sleep_impl(aws_sdk_cloudwatch::config::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .http_client(shiftgate::aws::http_client())
        .build()
}
