//! AfterAllowTraffic: the bake. Green serves everything and is judged until the policy's time is over; when that is
//! longer than one invocation, the state machine goes on and reports.

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook;
use shiftgate::{bake, carry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    hook::serve(Stage::AfterAllowTraffic, async |release, event| {
        carry::through(release, event, bake::look).await
    })
    .await
}
