//! `GetMetricData`: validation, series of metrics and expressions, pages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use super::codec::{self, Protocol};
use super::invalid;
use super::math::{Expression, Series};
use super::statistic::Statistic;
use super::store::{Grid, MetricId, Store};
use super::wire::{
    GetMetricDataInput, GetMetricDataOutput, MetricDataQuery, MetricDataResult, ScanBy, StatusCode, Time,
};
use crate::api::ApiError;
use crate::doubts::TrimmedCounts;

/// The most datapoints that one answer holds, and the default.
pub(super) const MOST_DATAPOINTS: usize = 100_800;
const MOST_QUERIES: usize = 500;

/// Serves `GetMetricData`.
pub(super) fn get_metric_data(
    store: &Store,
    trimmed: TrimmedCounts,
    input: &GetMetricDataInput,
    now: Timestamp,
) -> Result<GetMetricDataOutput, ApiError> {
    let problems = problems(input);
    if !problems.is_empty() {
        return Err(invalid(problems.join("\n")));
    }
    let page = match &input.next_token {
        Some(token) => Page::parse(token)?,
        None => Page { as_of: now.as_millisecond(), skip: 0 },
    };
    let mut series = evaluate(store, trimmed, input, page.as_of()?)?;
    let returned = input.metric_data_queries.iter().filter(|query| query.return_data != Some(false));
    let results =
        returned.filter_map(|query| Some(complete_result(query, series.remove(&*query.id)?, input.scan_by)));
    Ok(page.cut(results, input.max_datapoints.unwrap_or(MOST_DATAPOINTS)))
}

/// Statistics of one metric that a request gets for the price of one.
const STATISTICS_OF_A_METRIC: usize = 5;

/// Metrics of a request as AWS bills them: five statistics of the same metric count once, and each further one once more
/// (AWS's own words, quoted in issue 482 of prometheus/`cloudwatch_exporter`). Expressions cost nothing but the metrics that they
/// name. 0 for a request that cannot be read, which AWS refuses.
pub fn metrics_billed(protocol: Protocol, body: &[u8]) -> usize {
    let Ok(input) = codec::decode::<GetMetricDataInput>(protocol, body) else { return 0 };
    let mut statistics: BTreeMap<MetricId, BTreeSet<&str>> = BTreeMap::new();
    for stat in input.metric_data_queries.iter().filter_map(|query| query.metric_stat.as_ref()) {
        statistics.entry(stat.metric.id()).or_default().insert(&stat.stat);
    }
    statistics.values().map(|asked| 1 + asked.len().saturating_sub(STATISTICS_OF_A_METRIC)).sum()
}

/// Everything that is wrong with a request, in CloudWatch's words where they are known.
fn problems(input: &GetMetricDataInput) -> Vec<String> {
    let mut problems = Vec::new();
    let queries = &input.metric_data_queries;
    if queries.is_empty() {
        problems.push("The parameter MetricDataQueries is required.".to_owned());
    }
    if queries.len() > MOST_QUERIES {
        problems.push(format!(
            "The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}."
        ));
    }
    if input.start_time.0 == input.end_time.0 {
        problems.push("The parameter StartTime must not equal parameter EndTime.".to_owned());
    }
    if input.start_time.0 > input.end_time.0 {
        problems.push("The parameter StartTime must be less than the parameter EndTime.".to_owned());
    }
    if input.max_datapoints.is_some_and(|most| !(1..=MOST_DATAPOINTS).contains(&most)) {
        problems.push(format!("The parameter MaxDatapoints must be between 1 and {MOST_DATAPOINTS}."));
    }
    let mut ids = HashSet::new();
    if !queries.iter().all(|query| ids.insert(&query.id)) {
        problems.push("The values for parameter id in MetricDataQueries are not unique.".to_owned());
    }
    let numbered = queries.iter().zip(1..);
    problems.extend(numbered.flat_map(|(query, number)| {
        let parameter = format!("MetricDataQueries.member.{number}");
        query_problems(query, &parameter)
    }));
    problems
}

fn query_problems(query: &MetricDataQuery, parameter: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_id(&query.id) {
        let id = &query.id;
        problems.push(format!(
            "The value {id} for parameter {parameter}.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$."
        ));
    }
    if query.metric_stat.is_some() == query.expression.is_some() {
        problems.push(format!("The parameter {parameter} must have either MetricStat or Expression."));
    }
    if let Some(stat) = &query.metric_stat {
        if Statistic::parse(&stat.stat).is_none() {
            let stat = &stat.stat;
            problems.push(format!(
                "The value {stat} for parameter {parameter}.MetricStat.Stat is not a valid statistic."
            ));
        }
        problems.extend(period_problem(stat.period, &format!("{parameter}.MetricStat.Period")));
    }
    problems.extend(query.period.and_then(|period| period_problem(period, &format!("{parameter}.Period"))));
    problems
}

/// What is wrong with a period in seconds, if anything.
pub(super) fn period_problem(period: i64, parameter: &str) -> Option<String> {
    let whole_minutes = (60..=i64::from(i32::MAX)).contains(&period) && period % 60 == 0;
    let valid = matches!(period, 1 | 5 | 10 | 20 | 30) || whole_minutes;
    (!valid).then(|| format!("The parameter {parameter} must be 1, 5, 10, 20, 30 or a multiple of 60."))
}

fn is_id(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_lowercase())
        && id.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// The series of all queries by id.
fn evaluate<'a>(
    store: &Store,
    trimmed: TrimmedCounts,
    input: &'a GetMetricDataInput,
    now: Timestamp,
) -> Result<HashMap<&'a str, Series>, ApiError> {
    let mut known = HashMap::new();
    let mut waiting = Vec::new();
    for query in &input.metric_data_queries {
        if let Some(stat) = &query.metric_stat {
            let statistic = Statistic::parse(&stat.stat).ok_or_else(|| invalid("not a statistic"))?;
            let grid = Grid::of_request(input.start_time.0, input.end_time.0, stat.period, now);
            let points = match (&statistic, trimmed) {
                (Statistic::TrimmedCount(_), TrimmedCounts::Refused) => {
                    return Err(invalid(format!("The statistic {} is not supported.", stat.stat)));
                }
                (Statistic::TrimmedCount(_), TrimmedCounts::Empty) => BTreeMap::new(),
                _ => store.series(&stat.metric.id(), &statistic, grid, now),
            };
            known.insert(&*query.id, Series { grid, points });
        } else if let Some(text) = &query.expression {
            waiting.push((&*query.id, Expression::parse(text)?));
        }
    }
    // Expressions may build on each other in any order.
    while !waiting.is_empty() {
        let is_ready = |expression: &Expression| expression.ids().iter().all(|id| known.contains_key(id));
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, expression)| is_ready(expression));
        if let ([], [(id, _), ..]) = (&*ready, &*rest) {
            return Err(invalid(format!(
                "Error in expression '{id}': it refers to an unknown id or to itself."
            )));
        }
        for (id, expression) in ready {
            let series = expression.evaluate(&known)?;
            known.insert(id, series);
        }
        waiting = rest;
    }
    Ok(known)
}

/// All datapoints of a query in the order asked for; CloudWatch's default is newest first.
fn complete_result(query: &MetricDataQuery, series: Series, scan_by: Option<ScanBy>) -> MetricDataResult {
    let metric_name = query.metric_stat.as_ref().map(|stat| &stat.metric.metric_name);
    let label = query.label.as_ref().or(metric_name).unwrap_or(&query.id).clone();
    let (timestamps, values) = match scan_by {
        Some(ScanBy::TimestampAscending) => columns(series.points.into_iter()),
        Some(ScanBy::TimestampDescending) | None => columns(series.points.into_iter().rev()),
    };
    MetricDataResult { id: query.id.clone(), label, timestamps, values, status_code: StatusCode::Complete }
}

fn columns(points: impl Iterator<Item = (i64, f64)>) -> (Vec<Time>, Vec<f64>) {
    points.filter_map(|(at, value)| Some((Time(Timestamp::from_second(at).ok()?), value))).unzip()
}

/// Where an answer starts in the sequence of all datapoints of all queries.
struct Page {
    /// All pages show what could be read at the time of the first one, in epoch milliseconds.
    as_of: i64,
    /// Datapoints on earlier pages.
    skip: usize,
}

impl Page {
    fn parse(token: &str) -> Result<Self, ApiError> {
        let read = || {
            let (as_of, skip) = token.split_once('-')?;
            Some(Self { as_of: as_of.parse().ok()?, skip: skip.parse().ok()? })
        };
        read().ok_or_else(|| invalid_token(token))
    }

    fn as_of(&self) -> Result<Timestamp, ApiError> {
        Timestamp::from_millisecond(self.as_of).map_err(|_| invalid_token(&self.token()))
    }

    fn token(&self) -> String {
        format!("{}-{}", self.as_of, self.skip)
    }

    /// At most `most` datapoints of `results`. A query whose datapoints go on is `PartialData`; one that was, or
    /// will be, on another page is left out, and one without datapoints is on the first page.
    fn cut(&self, results: impl Iterator<Item = MetricDataResult>, most: usize) -> GetMetricDataOutput {
        let end = self.skip.saturating_add(most);
        let mut seen = 0;
        let mut metric_data_results = Vec::new();
        for result in results {
            let begin = seen;
            seen += result.values.len();
            let wanted = self.skip.clamp(begin, seen) - begin..end.clamp(begin, seen) - begin;
            if !wanted.is_empty() || (result.values.is_empty() && self.skip == 0) {
                metric_data_results.push(part(result, wanted));
            }
        }
        let next_token = (end < seen).then(|| Self { as_of: self.as_of, skip: end }.token());
        GetMetricDataOutput { metric_data_results, next_token, messages: Vec::new() }
    }
}

fn part(result: MetricDataResult, wanted: std::ops::Range<usize>) -> MetricDataResult {
    let status_code =
        if wanted.end < result.values.len() { StatusCode::PartialData } else { StatusCode::Complete };
    let timestamps = result.timestamps[wanted.clone()].to_vec();
    let values = result.values[wanted].to_vec();
    MetricDataResult { timestamps, values, status_code, ..result }
}

/// The error for a `NextToken` that no answer carried.
pub(super) fn invalid_token(token: &str) -> ApiError {
    ApiError::client("InvalidNextToken", format!("The token {token} is not valid."))
}
