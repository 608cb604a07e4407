//! The watch: one stateless look while traffic shifts, called again and again by the state machine; on a regression
//! it stops the deployment and rolls back. Also finishes bakes that are longer than one invocation.

use lambda_runtime::Error;
use shiftgate::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    watch::serve().await
}
