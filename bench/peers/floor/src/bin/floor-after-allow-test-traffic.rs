//! The floor of after-allow-test-traffic.

use lambda_runtime::Error;

/// Smoke requests, as many as every subject of the benchmark sends.
const REQUESTS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shiftgate_peer_floor::serve(async |clients, rollout, _| clients.smoke(rollout, REQUESTS).await).await
}
