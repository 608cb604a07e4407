//! BeforeAllowTraffic: a last look, then the watch is started; it goes on while traffic shifts.

use lambda_runtime::Error;
use shiftgate::event::Stage;
use shiftgate::hook::{self, Ended};
use shiftgate::smoke::{self, Depth};
use shiftgate::verdict::Findings;
use shiftgate::{outlook, preflight, watch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    hook::serve(Stage::BeforeAllowTraffic, async |release, _| {
        let mut findings = Findings::new()
            .and("alarms", preflight::alarms(release).await)
            .and("smoke", smoke::checks(release, Depth::Short).await);
        if !findings.any_fail() {
            findings = findings
                .and("outlook", outlook::told(release).await)
                .and("watch", watch::begin(release).await);
        }
        Ended::Findings(findings)
    })
    .await
}
