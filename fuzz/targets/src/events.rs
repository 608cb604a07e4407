//! Events of CodeDeploy, of the state machine and of ECS, with what ECS carries from one call to the next.

use jiff::Timestamp;
use serde_json::{Value, json};
use shiftgate::ecs::{Call, Event};
use shiftgate::event::{DeploymentId, HookEvent, LifecycleStage, Look, PermissionQuestion};
use shiftgate::fault::Fault;

/// An instant that every event comes at.
const NOW: i64 = 1_800_000_000;
/// What a message quotes of an event may be escaped, and is said beside our own words.
const TOLD: (usize, usize) = (8, 1000);

/// Reads an event as each function would.
pub fn events(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
    match HookEvent::parse(&event) {
        Ok(hook) => hook_holds(&hook),
        Err(fault) => is_told(&fault, data),
    }
    match Look::parse(&event) {
        Ok(look) => {
            let again = Look::parse(&json!(look));
            assert!(again.is_ok_and(|again| again == look), "a look does not survive the loop");
        }
        Err(fault) => is_told(&fault, data),
    }
    if let Some(question) = PermissionQuestion::parse(&event) {
        assert_eq!(event["permissions_for_deployment"], question.permissions_for_deployment.as_str());
    }
    match Event::parse(&event, at(NOW)) {
        Ok(Event::Call(call)) => call_holds(&call),
        Ok(Event::Unknown { stage }) => assert!(LifecycleStage::named(&stage).is_none()),
        Err(fault) => is_told(&fault, data),
    }
}

/// Reads hook details with any content, and carries them on to the next call.
pub fn carried(data: &[u8]) {
    let Ok(details) = serde_json::from_slice::<Value>(data) else { return };
    for stage in [LifecycleStage::ProductionTrafficShift, LifecycleStage::PostScaleUp] {
        let call = |details: &Value, now| {
            let event = json!({
                "lifecycleStage": stage.as_str(),
                "hookDetails": details,
                "executionDetails": {
                    "targetServiceRevisionArn": "green",
                    "productionTrafficWeights": {"green": 12.5},
                },
            });
            match Event::parse(&event, at(now)) {
                Ok(Event::Call(call)) => *call,
                other => panic!("the stage is known, and yet {other:?}"),
            }
        };
        let first = call(&details, NOW);
        assert!(first.since <= at(NOW), "waited for since {}, which is in the future", first.since);
        assert!(first.shift_began.is_none_or(|began| began <= at(NOW)));
        let tries = first.tries.wrapping_add(1);
        let next = first.details_for_next(tries);
        let second = call(&next, NOW + 60);
        assert_eq!((second.since, second.shift_began), (first.since, first.shift_began));
        assert_eq!(second.tries, tries);
        assert_eq!(second.policy(), first.policy());
        let (once, twice) = (next.to_string().len(), second.details_for_next(tries).to_string().len());
        assert_eq!(once, twice, "what is carried grows with every call");
    }
}

fn hook_holds(hook: &HookEvent) {
    assert!(DeploymentId::new(hook.deployment_id.as_str()).is_ok());
    let (whole, shown) = (hook.execution_id.expose(), format!("{:?}", hook.execution_id));
    assert!(!whole.trim().is_empty());
    assert!(shown.chars().count() <= 11, "an execution id is shown whole: {shown}");
}

fn call_holds(call: &Call) {
    assert!(call.weight().is_none_or(|weight| (0.0..=100.0).contains(&weight)));
    assert!(!(call.gives_back() && call.goes_on()), "traffic cannot go both ways");
    if let Ok(id) = call.deployment_id() {
        assert!(id.service_deployment().is_some());
    }
    assert!(call.details_for_next(0).is_object());
}

/// A fault has words, a hint, and does not grow beyond what caused it.
fn is_told(fault: &Fault, data: &[u8]) {
    let told = fault.chain();
    assert!(!told.is_empty() && !fault.hint.is_empty());
    assert!(told.len() <= TOLD.0 * data.len() + TOLD.1, "{} bytes tell of {}", told.len(), data.len());
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
