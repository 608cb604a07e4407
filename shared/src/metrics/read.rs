//! GetMetricData: all queries of a look in one call where they fit, paged, with every doubt kept.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, MessageData, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy, StatusCode,
};

use super::{Query, Series, SeriesSet, Window};
use crate::aws::{self, Aws};
use crate::fault::{Fault, FaultKind};

/// Queries that one call takes.
const QUERIES_PER_CALL: usize = 500;

/// Reads the series of all queries over a window. Each query is sent once, however often it is named.
pub async fn read(aws: &Aws, queries: &[Query], window: &Window) -> Result<SeriesSet, Fault> {
    let mut set = SeriesSet::default();
    if window.periods == 0 {
        return Ok(set);
    }
    let unique: BTreeMap<&Query, Series> =
        queries.iter().map(|query| (query, vec![None; window.periods])).collect();
    let unique: Vec<(&Query, Series)> = unique.into_iter().collect();
    for chunk in unique.chunks(QUERIES_PER_CALL) {
        let mut chunk = chunk.to_vec();
        read_chunk(aws, &mut chunk, window, &mut set.messages).await?;
        set.series.extend(chunk.into_iter().map(|(query, series)| (query.clone(), series)));
    }
    set.messages.sort();
    set.messages.dedup();
    Ok(set)
}

async fn read_chunk(
    aws: &Aws,
    chunk: &mut [(&Query, Series)],
    window: &Window,
    messages: &mut Vec<String>,
) -> Result<(), Fault> {
    let queries: Vec<MetricDataQuery> =
        chunk.iter().enumerate().map(|(index, (query, _))| wire(index, query, window)).collect();
    let mut pages = aws
        .cloudwatch
        .get_metric_data()
        .set_metric_data_queries(Some(queries))
        .start_time(DateTime::from_millis(window.start.as_millisecond()))
        .end_time(DateTime::from_millis(window.end().as_millisecond()))
        .scan_by(ScanBy::TimestampAscending)
        .into_paginator()
        .send();
    for number in 0.. {
        let Some(page) = pages.next().await else { break };
        aws::limit_pages("cloudwatch:GetMetricData", number)?;
        let page = page.map_err(|error| aws::fault("cloudwatch:GetMetricData", "read metrics", error))?;
        messages.extend(page.messages().iter().map(text));
        for result in page.metric_data_results() {
            take(result, chunk, window, messages)?;
        }
    }
    Ok(())
}

fn wire(index: usize, query: &Query, window: &Window) -> MetricDataQuery {
    let dimensions =
        query.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let metric = Metric::builder()
        .namespace(&query.namespace)
        .metric_name(&query.metric)
        .set_dimensions(Some(dimensions.collect()))
        .build();
    let stat = MetricStat::builder()
        .metric(metric)
        .period(window.period.as_secs() as i32)
        .stat(&query.statistic)
        .build();
    MetricDataQuery::builder().id(format!("q{index}")).metric_stat(stat).return_data(true).build()
}

/// Puts one result's values into its series. A query that CloudWatch refuses or fails is a fault, not an absence.
fn take(
    result: &MetricDataResult,
    chunk: &mut [(&Query, Series)],
    window: &Window,
    messages: &mut Vec<String>,
) -> Result<(), Fault> {
    let index = result.id().and_then(|id| id.strip_prefix('q')).and_then(|index| index.parse::<usize>().ok());
    let Some((query, series)) = index.and_then(|index| chunk.get_mut(index)) else {
        return Ok(());
    };
    messages.extend(result.messages().iter().map(|message| format!("{}: {}", query.metric, text(message))));
    match result.status_code() {
        Some(StatusCode::Forbidden) => {
            return Err(Fault::new(
                FaultKind::Denied,
                format!("CloudWatch denies the metric {} in {}", query.metric, query.namespace),
                "allow cloudwatch:GetMetricData in the function's role",
            ));
        }
        Some(StatusCode::InternalError) => {
            return Err(Fault::new(
                FaultKind::Unavailable,
                format!("CloudWatch could not read the metric {}", query.metric),
                "the next look asks again",
            ));
        }
        _ => {}
    }
    for (at, value) in result.timestamps().iter().zip(result.values()) {
        let Some(index) = at.to_millis().ok().and_then(|ms| window.index_of(ms)) else { continue };
        if value.is_finite() {
            series[index] = Some(*value);
        } else {
            messages.push(format!("{}: {value} is no value, and was left out", query.metric));
        }
    }
    Ok(())
}

fn text(message: &MessageData) -> String {
    match (message.code(), message.value()) {
        (Some(code), Some(value)) => format!("{code}: {value}"),
        (code, value) => code.or(value).unwrap_or("no text").to_owned(),
    }
}
