//! Metric alarms, evaluated whenever somebody looks at them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::invalid;
use super::metric_data::period_problem;
use super::statistic::Statistic;
use super::store::{Grid, MetricId, Store};
use super::wire::{
    Comparison, DeleteAlarmsInput, DescribeAlarmsInput, DescribeAlarmsOutput, MetricAlarm, MissingData,
    Nothing, SetAlarmStateInput, StateValue, Time, metric_id,
};
use crate::api::{ACCOUNT, ApiError, REGION};

const MOST_RECORDS: usize = 100;
const DEFAULT_RECORDS: usize = 50;
/// The longest time that an alarm looks back, in seconds.
const LONGEST_LOOK: i64 = 7 * 24 * 3600;

/// All alarms by name.
#[derive(Default)]
pub(super) struct Alarms {
    by_name: Mutex<BTreeMap<String, Alarm>>,
}

impl Alarms {
    /// Serves `PutMetricAlarm`. A changed alarm keeps its state until it is evaluated again.
    pub fn put(&self, definition: MetricAlarm, now: Timestamp) -> Result<Nothing, ApiError> {
        let rule = Rule::new(&definition)?;
        let mut alarms = self.alarms();
        let before = alarms.remove(&definition.alarm_name).map(|alarm| alarm.shown);
        let before = before.unwrap_or_else(|| unchecked(&definition.alarm_name, now));
        let shown = MetricAlarm {
            alarm_arn: before.alarm_arn,
            alarm_configuration_updated_timestamp: Some(Time(now)),
            state_value: before.state_value,
            state_reason: before.state_reason,
            state_updated_timestamp: before.state_updated_timestamp,
            ..definition
        };
        alarms.insert(shown.alarm_name.clone(), Alarm { shown, rule: Some(rule), held_until: None });
        Ok(Nothing {})
    }

    /// Serves `DescribeAlarms`.
    pub fn describe(
        &self,
        store: &Store,
        input: &DescribeAlarmsInput,
        now: Timestamp,
    ) -> Result<DescribeAlarmsOutput, ApiError> {
        let most = input.max_records.unwrap_or(DEFAULT_RECORDS);
        if !(1..=MOST_RECORDS).contains(&most) || input.alarm_names.len() > MOST_RECORDS {
            return Err(invalid(format!("MaxRecords and AlarmNames go up to {MOST_RECORDS}.")));
        }
        let mut alarms = self.alarms();
        // The token is the last name of the page before.
        let after = alarms.iter_mut().filter(|(name, _)| Some(*name) > input.next_token.as_ref());
        let mut matching =
            after.map(|(_, alarm)| alarm.look(store, now)).filter(|alarm| is_described(alarm, input));
        let metric_alarms: Vec<_> = matching.by_ref().take(most).cloned().collect();
        let last = metric_alarms.last().map(|alarm| alarm.alarm_name.clone());
        let next_token = matching.next().and(last);
        Ok(DescribeAlarmsOutput { metric_alarms, composite_alarms: Vec::new(), next_token })
    }

    /// Serves `SetAlarmState`.
    pub fn set_state(
        &self,
        store: &Store,
        input: SetAlarmStateInput,
        now: Timestamp,
    ) -> Result<Nothing, ApiError> {
        let mut alarms = self.alarms();
        let alarm = alarms.get_mut(&input.alarm_name).ok_or_else(|| not_found(&input.alarm_name))?;
        alarm.hold(store, input.state_value, input.state_reason, now);
        Ok(Nothing {})
    }

    /// Serves `DeleteAlarms`: all of them or, when one is unknown, none.
    pub fn delete(&self, input: &DeleteAlarmsInput) -> Result<Nothing, ApiError> {
        let mut alarms = self.alarms();
        if let Some(unknown) = input.alarm_names.iter().find(|name| !alarms.contains_key(*name)) {
            return Err(not_found(unknown));
        }
        alarms.retain(|name, _| !input.alarm_names.contains(name));
        Ok(Nothing {})
    }

    /// Those of `names` that are in ALARM.
    pub fn ringing(&self, store: &Store, names: &[String], now: Timestamp) -> Vec<String> {
        let mut alarms = self.alarms();
        let mut rings = |name: &&String| {
            alarms.get_mut(*name).is_some_and(|alarm| alarm.look(store, now).state_value == StateValue::Alarm)
        };
        names.iter().filter(|name| rings(name)).cloned().collect()
    }

    /// Sets the state of an alarm that need not exist.
    pub fn force(&self, store: &Store, name: &str, ringing: bool, now: Timestamp) {
        let mut alarms = self.alarms();
        let create = || Alarm { shown: unchecked(name, now), rule: None, held_until: None };
        let alarm = alarms.entry(name.to_owned()).or_insert_with(create);
        let state = if ringing { StateValue::Alarm } else { StateValue::Ok };
        alarm.hold(store, state, "Set by the lab".to_owned(), now);
    }

    fn alarms(&self) -> MutexGuard<'_, BTreeMap<String, Alarm>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_described(alarm: &MetricAlarm, input: &DescribeAlarmsInput) -> bool {
    (input.alarm_names.is_empty() || input.alarm_names.contains(&alarm.alarm_name))
        && (input.alarm_types.is_empty() || input.alarm_types.iter().any(|kind| kind == "MetricAlarm"))
        && input.alarm_name_prefix.as_ref().is_none_or(|prefix| alarm.alarm_name.starts_with(prefix))
        && input.state_value.is_none_or(|state| alarm.state_value == state)
}

/// An alarm that nobody has looked at yet.
fn unchecked(name: &str, now: Timestamp) -> MetricAlarm {
    MetricAlarm {
        alarm_name: name.to_owned(),
        alarm_arn: format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"),
        actions_enabled: true,
        state_reason: "Unchecked: Initial alarm creation".to_owned(),
        state_updated_timestamp: Some(Time(now)),
        ..MetricAlarm::default()
    }
}

fn not_found(name: &str) -> ApiError {
    let message = format!("The alarm {name} does not exist.");
    ApiError { status: 404, ..ApiError::client("ResourceNotFound", message) }
}

struct Alarm {
    shown: MetricAlarm,
    /// None for an alarm that only scenarios set.
    rule: Option<Rule>,
    /// A state that was set by hand stays until the evaluated periods end later than this (epoch seconds).
    held_until: Option<i64>,
}

impl Alarm {
    /// The alarm as it is now.
    fn look(&mut self, store: &Store, now: Timestamp) -> &MetricAlarm {
        if let Some(rule) = &self.rule
            && self.held_until.is_none_or(|held| rule.grid(store, now).end > held)
            && let Some((state, reason)) = rule.evaluate(store, now)
        {
            self.change(state, reason, now);
        }
        &self.shown
    }

    fn hold(&mut self, store: &Store, state: StateValue, reason: String, now: Timestamp) {
        self.held_until = self.rule.as_ref().map(|rule| rule.grid(store, now).end);
        self.change(state, reason, now);
    }

    fn change(&mut self, state: StateValue, reason: String, now: Timestamp) {
        if self.shown.state_value != state {
            self.shown.state_value = state;
            self.shown.state_reason = reason;
            self.shown.state_updated_timestamp = Some(Time(now));
        }
    }
}

/// When an alarm rings: at least `needed` of the latest `periods` periods breach the threshold.
struct Rule {
    metric: MetricId,
    statistic: Statistic,
    /// Seconds.
    period: i64,
    periods: u32,
    needed: u32,
    threshold: f64,
    comparison: Comparison,
    missing: MissingData,
}

impl Rule {
    fn new(alarm: &MetricAlarm) -> Result<Self, ApiError> {
        let missing = |member: &str| {
            invalid(format!("The parameter {member} is required; the lab's alarms watch one metric."))
        };
        let statistic = alarm.statistic.as_ref().xor(alarm.extended_statistic.as_ref());
        let statistic = statistic.ok_or_else(|| missing("Statistic or ExtendedStatistic"))?;
        let namespace = alarm.namespace.as_ref().ok_or_else(|| missing("Namespace"))?;
        let metric_name = alarm.metric_name.as_ref().ok_or_else(|| missing("MetricName"))?;
        let periods = alarm.evaluation_periods.ok_or_else(|| missing("EvaluationPeriods"))?;
        let rule = Self {
            metric: metric_id(namespace, metric_name, &alarm.dimensions),
            statistic: Statistic::parse(statistic)
                .ok_or_else(|| invalid(format!("{statistic} is not a statistic.")))?,
            period: alarm.period.ok_or_else(|| missing("Period"))?,
            periods,
            needed: alarm.datapoints_to_alarm.unwrap_or(periods),
            threshold: alarm.threshold.ok_or_else(|| missing("Threshold"))?,
            comparison: alarm.comparison_operator.ok_or_else(|| missing("ComparisonOperator"))?,
            missing: alarm.treat_missing_data.unwrap_or(MissingData::Missing),
        };
        match rule.problem() {
            Some(problem) => Err(invalid(problem)),
            None => Ok(rule),
        }
    }

    fn problem(&self) -> Option<String> {
        if let Some(problem) = period_problem(self.period, "Period") {
            return Some(problem);
        }
        if i64::from(self.periods) > LONGEST_LOOK / self.period {
            return Some("EvaluationPeriods times Period must not exceed seven days.".to_owned());
        }
        let reachable = (1..=self.periods).contains(&self.needed);
        (!reachable).then(|| "DatapointsToAlarm must be between 1 and EvaluationPeriods.".to_owned())
    }

    /// The periods that an evaluation looks at: the latest complete ones whose samples can all be read.
    fn grid(&self, store: &Store, now: Timestamp) -> Grid {
        Grid::latest(self.periods, self.period, store.horizon(now))
    }

    /// The state and why; none when it stays as it is, as it does for a metric that never had any data.
    ///
    /// AWS also looks at some older periods when the latest are missing; this does not.
    fn evaluate(&self, store: &Store, now: Timestamp) -> Option<(StateValue, String)> {
        let points = store.series(&self.metric, &self.statistic, self.grid(store, now), now);
        let seen = points.len() as u32;
        let breaching = points.values().filter(|value| self.is_breached_by(**value)).count() as u32;
        let (breaching, decides_missing) = match self.missing {
            MissingData::Breaching => (breaching + self.periods - seen, true),
            MissingData::NotBreaching => (breaching, true),
            MissingData::Ignore | MissingData::Missing => (breaching, false),
        };
        let periods = self.periods;
        if seen > 0 || decides_missing {
            let state = if breaching >= self.needed { StateValue::Alarm } else { StateValue::Ok };
            let crossed = format!(
                "{breaching} of the last {periods} periods breached the threshold ({})",
                self.threshold
            );
            return Some((state, format!("Threshold Crossed: {crossed}; {seen} had datapoints.")));
        }
        let goes_blind = self.missing == MissingData::Missing && store.has_data(&self.metric, now);
        let reason = || format!("Insufficient Data: no datapoints in the last {periods} periods.");
        goes_blind.then(|| (StateValue::InsufficientData, reason()))
    }

    fn is_breached_by(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::GreaterThanOrEqualToThreshold => value >= self.threshold,
            Comparison::GreaterThanThreshold => value > self.threshold,
            Comparison::LessThanThreshold => value < self.threshold,
            Comparison::LessThanOrEqualToThreshold => value <= self.threshold,
        }
    }
}

#[cfg(test)]
mod tests;
