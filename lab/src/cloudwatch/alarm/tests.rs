//! Alarms at instants that the test chooses.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::store::Sample;
use super::*;

const NAME: &str = "api-5xx";

/// An alarm over `Shop/Errors` that needs 2 of 3 minutes with a sum above 10.
fn definition(changes: Value) -> MetricAlarm {
    let mut definition = json!({
        "AlarmName": NAME, "Namespace": "Shop", "MetricName": "Errors", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 10.0, "ComparisonOperator": "GreaterThanThreshold",
    });
    let Value::Object(changes) = changes else { panic!("{changes}") };
    definition.as_object_mut().unwrap().extend(changes);
    serde_json::from_value(definition).unwrap()
}

struct World {
    store: Store,
    alarms: Alarms,
}

impl World {
    fn new(changes: Value) -> Self {
        let world = Self { store: Store::new(Duration::from_secs(30)), alarms: Alarms::default() };
        world.alarms.put(definition(changes), minute(0.0)).unwrap();
        world
    }

    /// Records the sums of the minutes from minute 0 on.
    fn errors(self, sums: &[f64]) -> Self {
        for (index, value) in sums.iter().enumerate().filter(|(_, sum)| !sum.is_nan()) {
            let sample = Sample { value: *value, count: 1.0 };
            self.store.record(MetricId::new("Shop", "Errors", []), minute(index as f64 + 0.5), sample);
        }
        self
    }

    fn state(&self, now: Timestamp) -> StateValue {
        let input = serde_json::from_value(json!({})).unwrap();
        self.alarms.describe(&self.store, &input, now).unwrap().metric_alarms[0].state_value
    }

    fn set(&self, state: StateValue, now: Timestamp) {
        let state_reason = "test".to_owned();
        let input = SetAlarmStateInput { alarm_name: NAME.to_owned(), state_value: state, state_reason };
        self.alarms.set_state(&self.store, input, now).unwrap();
    }
}

/// An instant so many minutes after a whole minute.
fn minute(minutes: f64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs_f64(60.0 * minutes)
}

/// What the alarm says when minutes 0 to 2 had these sums (NaN: no samples) and are complete and ingested.
fn check(missing: &str, sums: [f64; 3], expected: StateValue) {
    let world = World::new(json!({"TreatMissingData": missing})).errors(&sums);
    assert_eq!(world.state(minute(3.6)), expected, "{missing} {sums:?}");
}

#[test]
fn rings_when_enough_periods_breach() {
    check("missing", [20.0, 20.0, 20.0], StateValue::Alarm);
    check("missing", [20.0, 10.0, 20.0], StateValue::Alarm);
    check("missing", [20.0, 10.0, 10.0], StateValue::Ok);
}

#[test]
fn missing_periods_count_as_the_alarm_says() {
    let none = f64::NAN;
    check("missing", [20.0, none, 20.0], StateValue::Alarm);
    check("missing", [20.0, none, none], StateValue::Ok);
    check("breaching", [20.0, none, 0.0], StateValue::Alarm);
    check("breaching", [none, none, none], StateValue::Alarm);
    check("notBreaching", [20.0, none, 0.0], StateValue::Ok);
    check("notBreaching", [none, none, none], StateValue::Ok);
    check("missing", [none, none, none], StateValue::InsufficientData);
}

#[test]
fn only_complete_and_ingested_periods_count() {
    let world = World::new(json!({})).errors(&[0.0, 20.0, 20.0]);
    assert_eq!(world.state(minute(2.6)), StateValue::Ok);
    assert_eq!(world.state(minute(3.4)), StateValue::Ok);
    assert_eq!(world.state(minute(3.5)), StateValue::Alarm);
}

#[test]
fn when_traffic_stops_an_alarm_goes_blind_or_stays() {
    for (missing, expected) in [("missing", StateValue::InsufficientData), ("ignore", StateValue::Alarm)] {
        let world = World::new(json!({"TreatMissingData": missing})).errors(&[20.0, 20.0, 20.0]);
        assert_eq!(world.state(minute(3.6)), StateValue::Alarm);
        assert_eq!(world.state(minute(60.0)), expected, "{missing}");
    }
}

#[test]
fn a_state_set_by_hand_holds_until_the_next_period() {
    let world = World::new(json!({})).errors(&[0.0; 4]);
    world.set(StateValue::Alarm, minute(3.6));
    assert_eq!(world.state(minute(4.4)), StateValue::Alarm);
    assert_eq!(world.state(minute(4.6)), StateValue::Ok);
}

#[test]
fn a_state_set_by_hand_stays_without_data() {
    let world = World::new(json!({}));
    world.set(StateValue::Alarm, minute(3.6));
    assert_eq!(world.state(minute(600.0)), StateValue::Alarm);

    world.alarms.force(&world.store, "scenario", true, minute(0.0));
    let names = ["scenario", "unknown"].map(str::to_owned);
    assert_eq!(world.alarms.ringing(&world.store, &names, minute(600.0)), ["scenario"]);
    world.alarms.force(&world.store, "scenario", false, minute(0.0));
    assert_eq!(world.alarms.ringing(&world.store, &names, minute(600.0)), [""; 0]);
}

#[test]
fn a_new_definition_keeps_the_state() {
    let world = World::new(json!({}));
    world.set(StateValue::Alarm, minute(1.0));
    world.alarms.put(definition(json!({"Threshold": 5.0})), minute(2.0)).unwrap();
    assert_eq!(world.state(minute(2.0)), StateValue::Alarm);
}

#[test]
fn every_comparison() {
    let check = |comparison: &str, expected: [bool; 3]| {
        let rule = Rule::new(&definition(json!({"ComparisonOperator": comparison}))).unwrap();
        assert_eq!([9.0, 10.0, 11.0].map(|value| rule.is_breached_by(value)), expected, "{comparison}");
    };
    check("GreaterThanThreshold", [false, false, true]);
    check("GreaterThanOrEqualToThreshold", [false, true, true]);
    check("LessThanThreshold", [true, false, false]);
    check("LessThanOrEqualToThreshold", [true, true, false]);
}

#[test]
fn definitions_that_are_refused() {
    let check = |changes: Value, expected: &str| {
        let error = Rule::new(&definition(changes)).err().unwrap();
        assert!(error.message.contains(expected), "{error}");
    };
    check(json!({"MetricName": null}), "MetricName");
    check(json!({"Threshold": null}), "Threshold");
    check(json!({"Statistic": null}), "Statistic");
    check(json!({"ExtendedStatistic": "p99"}), "Statistic");
    check(json!({"Statistic": "Median"}), "Median");
    check(json!({"Period": 45}), "Period");
    check(json!({"DatapointsToAlarm": 4}), "DatapointsToAlarm");
    check(json!({"EvaluationPeriods": u32::MAX}), "seven days");
    check(json!({"EvaluationPeriods": 0, "DatapointsToAlarm": null}), "DatapointsToAlarm");
}

#[test]
fn alarms_are_found_by_name_prefix_state_and_page() {
    let world = World::new(json!({}));
    for name in ["web-1", "web-2", "web-3"] {
        world.alarms.force(&world.store, name, name == "web-2", minute(0.0));
    }
    let described = |input: Value| {
        let input = serde_json::from_value(input).unwrap();
        world.alarms.describe(&world.store, &input, minute(1.0)).unwrap()
    };
    let names =
        |input| described(input).metric_alarms.into_iter().map(|alarm| alarm.alarm_name).collect::<Vec<_>>();
    assert_eq!(names(json!({})), [NAME, "web-1", "web-2", "web-3"]);
    assert_eq!(names(json!({"AlarmNames": ["web-3", "unknown"]})), ["web-3"]);
    assert_eq!(names(json!({"AlarmNamePrefix": "web"})), ["web-1", "web-2", "web-3"]);
    assert_eq!(names(json!({"StateValue": "ALARM"})), ["web-2"]);
    assert_eq!(names(json!({"AlarmTypes": ["CompositeAlarm"]})), [""; 0]);

    let first = described(json!({"MaxRecords": 3}));
    assert_eq!(first.metric_alarms.len(), 3);
    assert_eq!(names(json!({"MaxRecords": 3, "NextToken": first.next_token})), ["web-3"]);
    assert_eq!(described(json!({"MaxRecords": 4})).next_token, None);
}
