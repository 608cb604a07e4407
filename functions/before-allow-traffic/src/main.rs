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
        // Alone: what is timed must not wait for what is worked out.
        let smoke = smoke::checks(release, Depth::Short).await;
        let may_shift = async {
            let alarms = preflight::alarms(release).await;
            let findings = Findings::new().and("alarms", alarms).and("smoke", smoke);
            let watch = if findings.any_fail() { None } else { Some(watch::begin(release).await) };
            (findings, watch)
        };
        let ((findings, watch), outlook) = tokio::join!(may_shift, outlook::told(release));
        Ended::Findings(match watch {
            Some(watch) => findings.and("outlook", outlook).and("watch", watch),
            None => findings,
        })
    })
    .await
}
