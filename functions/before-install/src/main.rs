//! BeforeInstall: may this release start at all? Whatever is missing is found now, not in the middle of the shift.

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook::{self, Ended};
use shiftgate::verdict::Findings;
use shiftgate::{permissions, preflight, readiness};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // The policy has been validated by the time the recipe runs.
    hook::serve(Stage::BeforeInstall, async |release, _| {
        let (alarms, old_version, permissions) = tokio::join!(
            preflight::alarms(release),
            readiness::blue_is_healthy(release),
            permissions::of_all_stages(release),
        );
        Ended::Findings(
            Findings::new()
                .and("alarms", alarms)
                .and("old version", old_version)
                .and("permissions", permissions),
        )
    })
    .await
}
