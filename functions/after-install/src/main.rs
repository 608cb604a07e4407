//! AfterInstall: does green run, and can its targets be healthy?

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook::{self, Ended};
use shiftgate::readiness;
use shiftgate::verdict::Findings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    hook::serve(Stage::AfterInstall, async |release, _| {
        Ended::Findings(Findings::new().and("readiness", readiness::green_is_ready(release).await))
    })
    .await
}
