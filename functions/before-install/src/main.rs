//! BeforeInstall: may this release start at all? Whatever is missing is found now, not in the middle of the shift.

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook::{self, Ended};
use shiftgate::{permissions, preflight};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // The policy has been validated by the time the recipe runs.
    hook::serve(Stage::BeforeInstall, async |release, _| {
        Ended::Findings(preflight::may_start(release, permissions::of_all_stages(release)).await)
    })
    .await
}
