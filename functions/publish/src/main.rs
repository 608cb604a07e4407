//! Tells of verdicts: CloudWatch Logs hands over what the other functions log of them, and this one stores the reports, sends
//! the events and tells the topic. No release waits for it.

use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shiftgate_publish::serve().await
}
