//! The floor of before-allow-traffic.

use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing here is a library with callers that have the environment"
    )]
    let machine = std::env::var("SHIFTGATE_STATE_MACHINE_ARN")?;
    shiftgate_peer_floor::serve(async |clients, rollout, id| {
        clients.smoke(rollout, 1).await?;
        clients.metrics(rollout).await?;
        clients.start_watch(&machine, id).await
    })
    .await
}
