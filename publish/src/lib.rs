//! Who hears of a verdict: the bucket of reports, the event bus and the topic. A function of its own does it, which CloudWatch
//! Logs calls with what the other functions log: no release waits for it, and none of them may call any of these services.
//!
//! CloudWatch Logs hands over each line at least once, so whoever listens may hear of a verdict twice. It is the same one when
//! deployment, stage and time are.

mod batch;
mod message;
mod send;
mod store;

use aws_lambda_events::cloudwatch_logs::LogsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shiftgate::environment::Environment;
use shiftgate::fault::Fault;
use shiftgate::{aws, telemetry};
use tracing::{error, info};

use self::send::Publisher;

/// Runs the function until Lambda stops it.
pub async fn serve() -> Result<(), Error> {
    telemetry::start();
    let publisher = Publisher::new(&aws::configuration(), &Environment::read());
    lambda_runtime::run(service_fn(async |event: LambdaEvent<LogsEvent>| {
        handle(&publisher, event).await.map_err(Error::from)
    }))
    .await
}

/// Tells of every verdict in a batch. What could not be done for one does not keep the others from being told; the error names
/// all of it, so that Lambda tries again and at last tells the alert topic.
async fn handle(publisher: &Publisher, event: LambdaEvent<LogsEvent>) -> Result<(), String> {
    let owner = &event.context.invoked_function_arn;
    let mut failed = Vec::new();
    for verdict in batch::verdicts(&event.payload.aws_logs.data) {
        match verdict {
            Ok(evidence) => {
                let faults = publisher.tell(&evidence, owner).await;
                info!(deployment_id = evidence.deployment_id, stage = evidence.stage, "published");
                failed.extend(faults.iter().map(Fault::chain));
            }
            Err(why) => failed.push(why),
        }
    }
    for what in &failed {
        error!(what, "failed");
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}
