//! AfterAllowTestTraffic: smoke checks of green through the test listener, before any user meets it.

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook::{self, Ended};
use shiftgate::smoke::{self, Depth};
use shiftgate::verdict::Findings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    hook::serve(Stage::AfterAllowTestTraffic, async |release, _| {
        Ended::Findings(Findings::new().and("smoke", smoke::checks(release, Depth::Full).await))
    })
    .await
}
