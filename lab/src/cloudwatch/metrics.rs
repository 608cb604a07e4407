//! `PutMetricData`, `ListMetrics` and `GetMetricStatistics`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::metric_data::{invalid_token, period_problem};
use super::statistic::Statistic;
use super::store::{Grid, MetricId, Sample, Store};
use super::wire::{
    Datapoint, GetMetricStatisticsInput, GetMetricStatisticsOutput, ListMetricsInput, ListMetricsOutput,
    Metric, MetricDatum, Nothing, PutMetricDataInput, Time, metric_id,
};
use crate::api::ApiError;

const MOST_METRICS_LISTED: usize = 500;
const MOST_STATISTICS: i64 = 1440;

/// Serves `PutMetricData`: all data or, when one is wrong, none.
pub(super) fn put_metric_data(
    store: &Store,
    input: PutMetricDataInput,
    now: Timestamp,
) -> Result<Nothing, ApiError> {
    let samples: Vec<_> = input.metric_data.iter().map(samples).collect::<Result<_, _>>()?;
    for (datum, samples) in input.metric_data.into_iter().zip(samples) {
        let id = metric_id(&input.namespace, &datum.metric_name, &datum.dimensions);
        let at = datum.timestamp.map_or(now, |timestamp| timestamp.0);
        for sample in samples {
            store.record(id.clone(), at, sample);
        }
    }
    Ok(Nothing {})
}

fn samples(datum: &MetricDatum) -> Result<Vec<Sample>, ApiError> {
    let name = &datum.metric_name;
    if datum.statistic_values.is_some() {
        let message = format!("{name}: the lab keeps samples and takes no StatisticValues");
        return Err(ApiError::client("InvalidParameterCombination", message));
    }
    let (values, counts) = match (datum.value, &datum.values) {
        (Some(value), None) => (vec![value], vec![1.0]),
        (None, Some(values)) => {
            (values.clone(), datum.counts.clone().unwrap_or_else(|| vec![1.0; values.len()]))
        }
        _ => {
            let message = format!("{name}: exactly one of Value and Values is needed");
            return Err(ApiError::client("InvalidParameterCombination", message));
        }
    };
    let valid = |(value, count): (&f64, &f64)| value.is_finite() && count.is_finite() && *count > 0.0;
    if values.len() != counts.len() || !values.iter().zip(&counts).all(valid) {
        let message = format!("{name}: Values must be numbers, and Counts as many and positive");
        return Err(ApiError::client("InvalidParameterValue", message));
    }
    Ok(values.into_iter().zip(counts).map(|(value, count)| Sample { value, count }).collect())
}

/// Serves `ListMetrics`. AWS may take a quarter of an hour to list a new metric; here it takes the ingestion delay.
pub(super) fn list_metrics(
    store: &Store,
    input: &ListMetricsInput,
    now: Timestamp,
) -> Result<ListMetricsOutput, ApiError> {
    let skip: usize = match &input.next_token {
        Some(token) => token.parse().map_err(|_| invalid_token(token))?,
        None => 0,
    };
    let mut matching = store.ids(now).into_iter().filter(|id| is_listed(id, input)).skip(skip);
    let metrics = matching.by_ref().take(MOST_METRICS_LISTED).map(Metric::from).collect();
    let next_token = matching.next().map(|_| (skip + MOST_METRICS_LISTED).to_string());
    Ok(ListMetricsOutput { metrics, next_token })
}

fn is_listed(id: &MetricId, input: &ListMetricsInput) -> bool {
    let is_wanted =
        |wanted: &Option<String>, actual: &String| wanted.as_ref().is_none_or(|wanted| wanted == actual);
    is_wanted(&input.namespace, &id.namespace)
        && is_wanted(&input.metric_name, &id.name)
        && input.dimensions.iter().all(|filter| {
            id.dimensions.get(&filter.name).is_some_and(|value| is_wanted(&filter.value, value))
        })
}

/// Serves `GetMetricStatistics`.
pub(super) fn get_metric_statistics(
    store: &Store,
    input: &GetMetricStatisticsInput,
    now: Timestamp,
) -> Result<GetMetricStatisticsOutput, ApiError> {
    if let Some(problem) = period_problem(input.period, "Period") {
        return Err(ApiError::client("InvalidParameterValue", problem));
    }
    let combination = |message| Err(ApiError::client("InvalidParameterCombination", message));
    if input.start_time.0 >= input.end_time.0 {
        return combination("The parameter StartTime must be less than the parameter EndTime.");
    }
    if input.statistics.is_empty() == input.extended_statistics.is_empty() {
        return combination("Exactly one of Statistics and ExtendedStatistics is needed.");
    }
    let grid = Grid::of_request(input.start_time.0, input.end_time.0, input.period, now);
    if grid.len() > MOST_STATISTICS {
        return combination("More than 1,440 datapoints were asked for; take a longer Period.");
    }

    let id = metric_id(&input.namespace, &input.metric_name, &input.dimensions);
    let mut datapoints = BTreeMap::new();
    for name in input.statistics.iter().chain(&input.extended_statistics) {
        let unknown = || ApiError::client("InvalidParameterValue", format!("{name} is not a statistic"));
        let statistic = Statistic::parse(name).ok_or_else(unknown)?;
        for (at, value) in store.series(&id, &statistic, grid, now) {
            if let Ok(timestamp) = Timestamp::from_second(at) {
                datapoints
                    .entry(at)
                    .or_insert_with(|| Datapoint::new(timestamp))
                    .set(name, &statistic, value);
            }
        }
    }
    Ok(GetMetricStatisticsOutput {
        label: input.metric_name.clone(),
        datapoints: datapoints.into_values().collect(),
    })
}

impl Datapoint {
    fn new(timestamp: Timestamp) -> Self {
        Self {
            timestamp: Time(timestamp),
            sample_count: None,
            sum: None,
            average: None,
            minimum: None,
            maximum: None,
            extended_statistics: BTreeMap::new(),
            unit: "None",
        }
    }

    fn set(&mut self, name: &str, statistic: &Statistic, value: f64) {
        match statistic {
            Statistic::SampleCount => self.sample_count = Some(value),
            Statistic::Sum => self.sum = Some(value),
            Statistic::Average => self.average = Some(value),
            Statistic::Minimum => self.minimum = Some(value),
            Statistic::Maximum => self.maximum = Some(value),
            _ => {
                self.extended_statistics.insert(name.to_owned(), value);
            }
        }
    }
}
