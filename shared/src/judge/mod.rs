//! From series to findings. Pure: the same plan and the same series give the same findings, bit for bit. The arithmetic
//! of comparisons is in `shiftgate_judge`.

mod outage;
pub mod quantile;
mod threshold;
mod trial;

pub use shiftgate_judge::{compare, noise, placebo, power, series};

pub use outage::{down_since, outage};
pub use threshold::{median, threshold};
pub use trial::{Trial, nothing_tells, nothing_usual};

use crate::metrics::Series;
use crate::policy::gates::Measure;

/// What a gate measured on one colour in one period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The ratio or statistic.
    pub value: f64,
    /// Requests (samples) behind it; `None` where the gate does not ask for them.
    pub samples: Option<f64>,
}

/// The readings of a gate: both colours over the same periods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Green, a reading per period.
    pub green: Vec<Option<Reading>>,
    /// Blue, a reading per period.
    pub blue: Vec<Option<Reading>>,
    /// Index of the first period that is judged; those before it are blue's history.
    pub first: usize,
}

/// Puts a value series and its sample series together. A missing error series is 0 only where requests are present;
/// no requests is no reading.
pub fn readings(measure: &Measure, value: &Series, samples: Option<&Series>) -> Vec<Option<Reading>> {
    (0..value.len())
        .map(|index| {
            let count = samples.and_then(|series| series.get(index).copied().flatten());
            match measure {
                Measure::Share { .. } => count
                    .filter(|count| *count > 0.0)
                    .map(|of| Reading { value: value[index].unwrap_or(0.0) / of, samples: Some(of) }),
                Measure::Statistic { .. } => value[index]
                    .map(|value| Reading { value, samples: samples.map(|_| count.unwrap_or(0.0)) }),
            }
        })
        .collect()
}
