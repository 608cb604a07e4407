//! Answers of CodeDeploy, ECS and Elastic Load Balancing, from their bytes to what is deployed.

use std::time::Duration;

use shiftgate::event::DeploymentId;
use shiftgate::fault::Fault;
use shiftgate::rollout::schedule::green_shares;
use shiftgate::rollout::{self, Rollout};

use crate::answers::{Answer, with_answers};

/// The service deployment that an input is about if its first byte is `e`.
const OF_ECS: &str =
    "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders/NCWGC2ZR-taawPAYrIaU5";
/// More periods than a shift of the longest kind has, each a minute.
const MOST_PERIODS: usize = 100 * 24 * 60;

/// Every part is an answer: `d` or `e` (whose deployment it is), then the bodies. A body that begins with `<` is XML, as
/// Elastic Load Balancing writes it; one that begins with `!` is an error.
pub fn discovery(data: &[u8]) {
    let mut parts = super::parts(data);
    let id = if parts.next() == Some(b"e") { OF_ECS } else { "d-0B7YUA91L" };
    let Ok(id) = DeploymentId::new(id) else { return };
    let answers = parts.map(answer).collect();
    let found: Result<Rollout, Fault> = with_answers(answers, async |aws| {
        let deployment = rollout::deployment(aws, &id).await?;
        let mut rollout = rollout::discover(aws, &deployment, None, None).await?;
        rollout::refresh(aws, &deployment, &mut rollout).await?;
        Ok(rollout)
    });
    match found {
        Ok(rollout) => holds(&rollout),
        Err(fault) => assert!(!fault.chain().is_empty() && !fault.hint.is_empty()),
    }
}

fn answer(part: &[u8]) -> Answer {
    let (status, body) = match part.split_first() {
        Some((b'!', body)) => (400, body),
        _ => (200, part),
    };
    let content_type = if body.first() == Some(&b'<') { "text/xml" } else { "application/x-amz-json-1.1" };
    Answer { status, content_type, body: body.to_vec() }
}

fn holds(rollout: &Rollout) {
    let _ = (rollout.front(), rollout.shift(), rollout.in_progress());
    for step in &rollout.schedule {
        assert!((0.0..=1.0).contains(&step.share), "a share of {}", step.share);
    }
    let shares = green_shares(&rollout.schedule, Duration::from_mins(1), Duration::from_mins(5));
    assert!(shares.len() <= MOST_PERIODS, "{} periods", shares.len());
    for tasks in [rollout.blue.tasks, rollout.green.tasks].into_iter().flatten() {
        assert!((0.0..=100.0).contains(&tasks.weight), "a weight of {}", tasks.weight);
    }
    assert!(rollout.served.is_none_or(|served| (0.0..=100.0).contains(&served)), "{:?}", rollout.served);
}
