//! A stand-in for Amazon CloudWatch: metrics, metric math and metric alarms.
//!
//! Calls come in as bodies of either JSON or CBOR and leave in the same protocol; the HTTP around them belongs to
//! the endpoint. From the wire inwards:
//!
//! - `codec` turns bodies into the structs of `wire` and back,
//! - `metric_data`, `metrics` and `alarm` hold one function per API operation,
//! - `math` evaluates expressions, `statistic` condenses samples into one value,
//! - `store` keeps the samples and hides those that CloudWatch would not show yet.
//!
//! What differs from AWS: samples never expire and are kept to the second whatever their storage resolution, units
//! are ignored, and alarms are evaluated when somebody looks at them.

mod alarm;
mod codec;
mod math;
mod metric_data;
mod metrics;
mod statistic;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use self::alarm::Alarms;
pub use self::codec::{Protocol, error_body};
pub use self::metric_data::metrics_billed;
use self::store::{MetricId, Sample, Store};
use crate::api::ApiError;
use crate::doubts::{Doubts, MetricValues, TrimmedCounts};

/// The metrics and alarms of the pretended account, and the API that reads and writes them.
pub struct CloudWatch {
    store: Store,
    alarms: Alarms,
    trimmed_counts: TrimmedCounts,
}

impl CloudWatch {
    /// An empty CloudWatch, in which a sample can be read once it is older than `ingestion_delay`.
    pub fn new(ingestion_delay: Duration) -> Self {
        Self {
            store: Store::new(ingestion_delay),
            alarms: Alarms::default(),
            trimmed_counts: TrimmedCounts::default(),
        }
    }

    /// The same with answers to what nobody has confirmed. `minute` is the lab's.
    #[must_use]
    pub fn doubted(mut self, doubts: Doubts, minute: Duration) -> Self {
        self.trimmed_counts = doubts.trimmed_counts;
        if doubts.metric_values == MetricValues::Growing {
            self.store = self.store.growing(10 * minute);
        }
        self
    }

    /// Stores one sample of a metric, in whatever unit the caller chose for that metric.
    pub fn record(
        &self,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
        at: Timestamp,
        value: f64,
    ) {
        self.record_many(namespace, metric, dimensions, at, value, 1.0);
    }

    /// Stores `count` samples of the same value.
    pub fn record_many(
        &self,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
        at: Timestamp,
        value: f64,
        count: f64,
    ) {
        let id = MetricId::new(namespace, metric, dimensions.iter().copied());
        self.store.record(id, at, Sample { value, count });
    }

    /// Serves one API call: `body` and the returned body are both in `protocol`.
    ///
    /// Errors carry the codes that SDKs match on (`ValidationError`, `InvalidParameterValue`, `ResourceNotFound`, ..);
    /// [`error_body`] writes them.
    pub fn handle(&self, protocol: Protocol, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let call = Call { protocol, body };
        let (store, alarms, now) = (&self.store, &self.alarms, now());
        match operation {
            "GetMetricData" => {
                call.answer(|input| metric_data::get_metric_data(store, self.trimmed_counts, &input, now))
            }
            "GetMetricStatistics" => call.answer(|input| metrics::get_metric_statistics(store, &input, now)),
            "ListMetrics" => call.answer(|input| metrics::list_metrics(store, &input, now)),
            "PutMetricData" => call.answer(|input| metrics::put_metric_data(store, input, now)),
            "PutMetricAlarm" => call.answer(|input| alarms.put(input, now)),
            "DescribeAlarms" => call.answer(|input| alarms.describe(store, &input, now)),
            "SetAlarmState" => call.answer(|input| alarms.set_state(store, input, now)),
            "DeleteAlarms" => call.answer(|input| alarms.delete(&input)),
            _ => Err(ApiError::unknown_operation(operation)),
        }
    }

    /// Those of `names` whose alarms are in ALARM now. Unknown names never ring.
    pub fn ringing(&self, names: &[String]) -> Vec<String> {
        self.alarms.ringing(&self.store, names, now())
    }

    /// Makes an alarm ring or fall silent, and creates it when unknown.
    ///
    /// An alarm with a metric goes back to what its metric says when the next period is complete.
    pub fn set_alarm_state(&self, name: &str, ringing: bool) {
        self.alarms.force(&self.store, name, ringing, now());
    }
}

/// A call's body and the protocol that it, and the answer, are written in.
struct Call<'a> {
    protocol: Protocol,
    body: &'a [u8],
}

impl Call<'_> {
    fn answer<Input: DeserializeOwned, Output: Serialize>(
        &self,
        operation: impl FnOnce(Input) -> Result<Output, ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let output = operation(codec::decode(self.protocol, self.body)?)?;
        codec::encode(self.protocol, &output)
    }
}

/// The one place of this module that reads the clock: everything below takes `now` as an argument.
#[expect(clippy::disallowed_methods, reason = "calls happen in real time")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The error that CloudWatch answers to most malformed requests.
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}
