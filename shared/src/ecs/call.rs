//! A call of a lifecycle hook by ECS. What is missing or odd in it is told, and leaves as much as possible usable: an event
//! that cannot be read must not break a rollback.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::carried::{self, Carried};
use crate::event::{DeploymentId, LifecycleStage};
use crate::fault::{Fault, FaultKind};
use crate::verdict::Caveat;

/// Shares of traffic in percent by the ARN of a service revision.
pub type Weights = BTreeMap<String, f64>;

/// A call of a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The stage.
    pub stage: LifecycleStage,
    /// ARN of the new revision, if the event tells it.
    pub green: Option<String>,
    /// Production traffic: what is there before a step, and what is asked for at a step.
    pub production: Weights,
    /// Test traffic that is asked for.
    pub test: Weights,
    /// The hook's details: what the service configures, with what was carried from the last call.
    pub details: Map<String, Value>,
    /// When this hook was first called at this stage and with this weight; now, unless it is carried.
    pub since: Timestamp,
    /// When production traffic began to shift, if that is carried.
    pub shift_began: Option<Timestamp>,
    /// Calls in a row that ended with a fault which may heal.
    pub tries: u32,
    /// What was not as expected.
    pub caveats: Vec<Caveat>,
    resource: String,
    /// Whether an earlier call has left anything.
    is_carried: bool,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A call of a hook.
    Call(Box<Call>),
    /// A call at a stage that is not known here.
    Unknown {
        /// Its name.
        stage: String,
    },
}

impl Event {
    /// Reads an event; `now` is when it came.
    pub fn parse(event: &Value, now: Timestamp) -> Result<Self, Fault> {
        let stage = event["lifecycleStage"].as_str().ok_or_else(|| unusable("it has no lifecycleStage"))?;
        let Some(known) = LifecycleStage::named(stage) else {
            return Ok(Self::Unknown { stage: stage.to_owned() });
        };
        Ok(Self::Call(Box::new(Call::read(known, event, now))))
    }
}

impl Call {
    fn read(stage: LifecycleStage, event: &Value, now: Timestamp) -> Self {
        let mut caveats = Vec::new();
        // An older page of AWS's documentation has everything at the top.
        let execution = event.get("executionDetails").unwrap_or(event);
        let mut weights = |key: &str| weights(&execution[key], key, &mut caveats);
        let (production, test) = (weights("productionTrafficWeights"), weights("testTrafficWeights"));
        let details = details(&event["hookDetails"]).unwrap_or_else(|| {
            caveats.push(odd("hookDetails is not an object"));
            Map::new()
        });
        let mut call = Self {
            stage,
            green: execution["targetServiceRevisionArn"].as_str().map(str::to_owned),
            production,
            test,
            details,
            since: now,
            shift_began: None,
            tries: 0,
            caveats,
            resource: event["resourceArn"].as_str().unwrap_or_default().to_owned(),
            is_carried: false,
        };
        match carried::read(&call.details, now) {
            Ok(Some(carried)) => call.take_over(&carried),
            Ok(None) => {}
            Err(what) => call.caveats.push(odd(&what)),
        }
        call
    }

    fn take_over(&mut self, carried: &Carried) {
        self.is_carried = true;
        self.shift_began = carried.shift_began();
        if carried.stage == self.stage.as_str() && carried.weight == self.weight() {
            self.since = carried.since().unwrap_or(self.since);
            self.tries = carried.tries;
        }
    }

    /// Takes over since when ECS has been calling this hook at this stage. What is carried goes first: it is ours.
    pub fn waits_since(&mut self, hooks_began: Timestamp) {
        if !self.is_carried {
            self.since = self.since.min(hooks_began);
        }
    }

    /// The deployment. A fault when the event does not name one.
    pub fn deployment_id(&self) -> Result<DeploymentId, Fault> {
        let id = DeploymentId::new(&self.resource)?;
        if id.service_deployment().is_none() {
            return Err(unusable(&format!("resourceArn `{}` is no service deployment", self.resource)));
        }
        Ok(id)
    }

    /// Green's share of production traffic in percent, if the event tells it.
    pub fn weight(&self) -> Option<f64> {
        of_green(&self.production, self.green.as_ref())
    }

    /// Whether traffic goes back to the old version: nothing may hold that up. ECS calls the hooks of these two stages again
    /// in a rollback, and with the weights turned round.
    pub fn gives_back(&self) -> bool {
        self.asked_of_green() == Some(0.0)
    }

    /// Whether traffic goes to green, which no rollback does.
    pub fn goes_on(&self) -> bool {
        !self.stage.runs_in_rollback() || self.asked_of_green().is_some_and(|weight| weight > 0.0)
    }

    /// What a shift asks for green, in percent; nothing at other stages, or where the event does not say.
    fn asked_of_green(&self) -> Option<f64> {
        match self.stage {
            LifecycleStage::TestTrafficShift => of_green(&self.test, self.green.as_ref()),
            LifecycleStage::ProductionTrafficShift => self.weight(),
            _ => None,
        }
    }

    /// The policy that the hook is configured with, as text.
    pub fn policy(&self) -> Option<String> {
        match self.details.get("policy")? {
            Value::String(text) => Some(text.clone()),
            // JSON is YAML.
            other => Some(other.to_string()),
        }
    }

    /// The details for the next call: what there is, and what has to be carried.
    pub fn details_for_next(&self, tries: u32) -> Value {
        let carried = Carried::new(self.stage, self.weight(), self.since, self.shift_began, tries);
        let mut details = self.details.clone();
        details.insert(carried::KEY.to_owned(), json!(carried));
        Value::Object(details)
    }
}

fn of_green(weights: &Weights, green: Option<&String>) -> Option<f64> {
    weights.get(green?).copied()
}

/// The details; `CloudFormation` takes them as a text, which may come through as one.
fn details(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Null => Some(Map::new()),
        Value::Object(details) => Some(details.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn weights(value: &Value, key: &str, caveats: &mut Vec<Caveat>) -> Weights {
    let Some(map) = value.as_object() else {
        if !value.is_null() {
            caveats.push(odd(&format!("{key} is not an object")));
        }
        return Weights::new();
    };
    let mut weights = Weights::new();
    for (revision, weight) in map {
        match weight.as_f64().filter(|weight| (0.0..=100.0).contains(weight)) {
            Some(weight) => drop(weights.insert(revision.clone(), weight)),
            None => caveats.push(odd(&format!("{key} of {revision} is {weight}, not a percentage"))),
        }
    }
    weights
}

fn odd(what: &str) -> Caveat {
    Caveat::Unreadable { what: what.to_owned() }
}

fn unusable(what: &str) -> Fault {
    Fault::new(
        FaultKind::Event,
        format!("the event cannot be used: {what}"),
        "this function is called by ECS, as a lifecycle hook of a service; events/ecs-*.json are samples",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARN: &str =
        "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders/NCWGC2ZR-taawPAYrIaU5";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn call(event: &Value) -> Call {
        match Event::parse(event, at(1000)).unwrap() {
            Event::Call(call) => *call,
            Event::Unknown { stage } => panic!("{stage} is not known"),
        }
    }

    fn event(stage: &str, green: &Value, blue: &Value, details: &Value) -> Value {
        json!({
            "executionId": "e", "lifecycleStage": stage, "resourceArn": ARN, "hookDetails": details, "new": 1,
            "executionDetails": {
                "serviceArn": "s", "targetServiceRevisionArn": "green",
                "productionTrafficWeights": {"green": green, "blue": blue},
                "testTrafficWeights": {},
            },
        })
    }

    #[test]
    fn a_rollback_is_told_by_weights_that_are_turned_round() {
        let check = |stage, green, blue, gives_back, goes_on| {
            let call = call(&event(stage, &green, &blue, &Value::Null));
            assert_eq!((call.gives_back(), call.goes_on()), (gives_back, goes_on), "{stage} {green} {blue}");
        };
        check("PRODUCTION_TRAFFIC_SHIFT", json!(0), json!(100), true, false);
        check("PRODUCTION_TRAFFIC_SHIFT", json!(0.0), json!(100.0), true, false);
        check("PRODUCTION_TRAFFIC_SHIFT", json!(0.1), json!(99.9), false, true);
        check("PRODUCTION_TRAFFIC_SHIFT", json!("0"), json!(100), false, false);
        // Before the first step green has nothing, and that is no rollback.
        check("PRE_PRODUCTION_TRAFFIC_SHIFT", json!(0), json!(100), false, true);
        // The weights of test traffic are not told here.
        check("TEST_TRAFFIC_SHIFT", json!(0), json!(100), false, false);
    }

    #[test]
    fn what_is_odd_is_told_and_the_rest_is_read() {
        let odd = call(&event("PRODUCTION_TRAFFIC_SHIFT", &json!("ten"), &json!(90), &json!("by hand")));
        assert_eq!(odd.weight(), None);
        assert_eq!(odd.production["blue"].to_bits(), 90.0_f64.to_bits());
        let told: Vec<String> = odd.caveats.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("productionTrafficWeights of green is \"ten\""), "{told:?}");
        assert!(told[1].contains("hookDetails is not an object"), "{told:?}");
        assert_eq!(odd.deployment_id().unwrap().as_str(), ARN);
        let none = call(&json!({"lifecycleStage": "POST_SCALE_UP", "resourceArn": "service/shop"}));
        assert!(none.caveats.is_empty());
        assert!(none.deployment_id().unwrap_err().to_string().contains("`service/shop`"));
        assert!(Event::parse(&json!({"resourceArn": ARN}), at(1)).is_err());
        assert_eq!(
            Event::parse(&json!({"lifecycleStage": "NEW"}), at(1)).unwrap(),
            Event::Unknown { stage: "NEW".to_owned() }
        );
    }

    #[test]
    fn what_is_carried_belongs_to_the_stage_and_the_weight() {
        let first = call(&event(
            "PRODUCTION_TRAFFIC_SHIFT",
            &json!(10),
            &json!(90),
            &json!({"policy": {"version": 1}}),
        ));
        assert_eq!(first.policy().unwrap(), "{\"version\":1}");
        let as_text = json!("{\"policy\": {\"version\": 1}}");
        let written = call(&event("PRODUCTION_TRAFFIC_SHIFT", &json!(10), &json!(90), &as_text));
        assert_eq!((written.policy(), written.caveats.len()), (first.policy(), 0));
        let mut held = first.clone();
        (held.since, held.shift_began) = (at(900), Some(at(800)));
        let details = held.details_for_next(2);
        let again =
            |stage, weight: f64| call(&event(stage, &json!(weight), &json!(100.0 - weight), &details));
        let same = again("PRODUCTION_TRAFFIC_SHIFT", 10.0);
        assert_eq!((same.since, same.tries, same.shift_began), (at(900), 2, Some(at(800))));
        assert_eq!(same.policy(), first.policy());
        let next = again("PRODUCTION_TRAFFIC_SHIFT", 20.0);
        assert_eq!((next.since, next.tries, next.shift_began), (at(1000), 0, Some(at(800))));
        assert_eq!(again("PRE_PRODUCTION_TRAFFIC_SHIFT", 10.0).since, at(1000));
    }

    #[test]
    fn where_nothing_is_carried_ecs_says_since_when_it_calls() {
        let shift =
            |details: &Value| call(&event("PRODUCTION_TRAFFIC_SHIFT", &json!(10), &json!(90), details));
        let mut first = shift(&Value::Null);
        first.waits_since(at(900));
        assert_eq!(first.since, at(900));
        first.waits_since(at(2000));
        assert_eq!(first.since, at(900), "another clock may be ahead");
        let mut later = shift(&first.details_for_next(0));
        later.waits_since(at(100));
        assert_eq!(later.since, at(900));
    }

    proptest! {
        #[test]
        fn no_event_is_too_odd(text in "\\PC{0,40}", weight in any::<f64>(), nested in any::<bool>()) {
            let odd = if nested { json!({"policy": text, "shiftgate": weight}) } else { json!(text) };
            for stage in LifecycleStage::ALL {
                let event = event(stage.as_str(), &json!(weight), &json!(text), &odd);
                prop_assert!(matches!(Event::parse(&event, at(1000)), Ok(Event::Call(_))));
            }
            let _ = Event::parse(&json!({"lifecycleStage": text}), at(1000));
        }
    }
}
