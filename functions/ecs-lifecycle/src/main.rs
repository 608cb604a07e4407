//! Every lifecycle stage of a deployment that ECS carries out itself; ECS calls again while green is held. Also started by
//! `EventBridge` when a rolling update begins, which calls no hook.

use lambda_runtime::Error;
use shiftgate::carry::Step;
use shiftgate::ecs::{self, steps};
use shiftgate::event::LifecycleStage as At;
use shiftgate::smoke::{self, Depth};
use shiftgate::verdict::Findings;
use shiftgate::{permissions, preflight, readiness};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // The policy has been validated by the time the recipe runs.
    ecs::serve(async |release, call| match call.stage {
        At::ReconcileService => {
            Ok(Step::Done(Findings::new().and("alarms", preflight::alarms(release).await)))
        }
        At::PreScaleUp => {
            let permissions = permissions::of_ecs_lifecycle(release, call.stage);
            Ok(Step::Done(preflight::may_start(release, permissions).await))
        }
        At::PostScaleUp | At::TestTrafficShift => {
            Ok(Step::Done(Findings::new().and("readiness", readiness::green_is_ready(release).await)))
        }
        At::PostTestTrafficShift => {
            Ok(Step::Done(Findings::new().and("smoke", smoke::checks(release, Depth::Full).await)))
        }
        At::PreProductionTrafficShift => steps::before(release, call).await,
        At::ProductionTrafficShift => steps::at(release, call).await,
        At::PostProductionTrafficShift => steps::after(release, call).await,
    })
    .await
}
