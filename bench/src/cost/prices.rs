//! List prices of us-east-1, each with its source. They are those before the free tier and without discounts.
//!
//! AWS's price list itself was not at hand: the stored copies of its pages have few numbers. So most prices are as others quote
//! them, and say when; `Source::Unconfirmed` is what only memory tells.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

use serde::{Deserialize, Serialize};

/// US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Usd(pub f64);

impl Usd {
    /// The same in cents.
    pub fn cents(self) -> f64 {
        100.0 * self.0
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Mul<f64> for Usd {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self(self.0 * times)
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Where a price is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A stored copy of AWS's own page.
    Aws(&'static str),
    /// Somebody who quotes AWS, with the date of that.
    Quoted(&'static str, &'static str),
    /// Nobody who could be looked up.
    Unconfirmed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws(page) => write!(f, "{page}, a stored copy without a date"),
            Self::Quoted(page, date) => write!(f, "{page}, {date}"),
            Self::Unconfirmed => f.write_str("**not confirmed**: from memory"),
        }
    }
}

/// What one unit of something costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// What is paid for.
    pub what: &'static str,
    /// Dollars for `per` units.
    pub usd: f64,
    /// Units that cost `usd`.
    pub per: f64,
    /// The unit.
    pub unit: &'static str,
    /// Where this is from.
    pub source: Source,
}

impl Price {
    /// What so many units cost.
    pub fn of(&self, units: f64) -> Usd {
        Usd(self.usd * units / self.per)
    }
}

/// An hour with data of a metric costs a part of the month; AWS's month has 730 hours.
pub const HOURS_OF_A_MONTH: f64 = 730.0;

const FACTUALMINDS_CLOUDWATCH: &str =
    "factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards";

/// Time of a function on arm64, the template's default, up to 7.5 billion GB-seconds a month.
pub const LAMBDA_TIME: Price = Price {
    what: "Lambda, arm64",
    usd: 0.000_013_333_4,
    per: 1.0,
    unit: "GB-second",
    source: Source::Quoted("cloudchipr.com/blog/aws-lambda-pricing", "2024"),
};
/// The same on x86.
pub const LAMBDA_TIME_X86: Price = Price {
    what: "Lambda, x86_64",
    usd: 0.000_016_666_7,
    per: 1.0,
    unit: "GB-second",
    source: Source::Quoted("cloudchipr.com/blog/aws-lambda-pricing", "2024"),
};
/// Invocations.
pub const LAMBDA_REQUEST: Price = Price {
    what: "Lambda",
    usd: 0.20,
    per: 1e6,
    unit: "invocations",
    source: Source::Quoted("git.mcrn.ar/mariano/lambda_local_runner, lambda-13-cost.md", "after 2020"),
};
/// Metrics that `GetMetricData` asks for; no free tier.
pub const METRIC_READ: Price = Price {
    what: "GetMetricData",
    usd: 0.01,
    per: 1000.0,
    unit: "metrics asked for",
    source: Source::Quoted(
        "support.site24x7.com, AWS CloudWatch metrics cost calculation; how they count: prometheus/cloudwatch_exporter#482",
        "no date",
    ),
};
/// State transitions of standard workflows.
pub const TRANSITION: Price = Price {
    what: "Step Functions, standard",
    usd: 0.025,
    per: 1000.0,
    unit: "state transitions",
    source: Source::Aws("aws.amazon.com/step-functions/pricing"),
};
/// Lines of Lambda functions, the first 10 TB a month.
pub const LOG_INGESTED: Price = Price {
    what: "CloudWatch Logs, taken in",
    usd: 0.50,
    per: 1.0,
    unit: "GB",
    source: Source::Quoted("duckbillgroup.com, on Lambda's logs", "May 2025"),
};
/// Lines that are kept; AWS compresses them, which is left out here.
pub const LOG_STORED: Price = Price {
    what: "CloudWatch Logs, kept",
    usd: 0.03,
    per: 1.0,
    unit: "GB-month",
    source: Source::Unconfirmed,
};
/// Metrics of one's own, the first 10,000. That only hours with data count is how billing is described in public repositories, and
/// how one of them found it on its bill; AWS's page could not be read for it.
pub const CUSTOM_METRIC: Price = Price {
    what: "custom metrics, by the hour with data",
    usd: 0.30,
    per: HOURS_OF_A_MONTH,
    unit: "metric-hours",
    source: Source::Quoted(
        "signoz.io/guides/cloudwatch-pricing; by the hour: **not confirmed** by AWS",
        "February 2026",
    ),
};
/// Metrics that alarms look at, at standard resolution.
pub const ALARM_METRIC: Price = Price {
    what: "alarms",
    usd: 0.10,
    per: 1.0,
    unit: "metric-months",
    source: Source::Quoted("amazonwebshark.com, a bill of EU (Ireland)", "April 2022"),
};
/// Dashboards beyond the three that are free.
pub const DASHBOARD: Price = Price {
    what: "dashboards",
    usd: 3.0,
    per: 1.0,
    unit: "month",
    source: Source::Quoted(FACTUALMINDS_CLOUDWATCH, "June 2026"),
};
/// Keys of KMS; each of the first yearly rotations costs as much again.
pub const KMS_KEY: Price = Price {
    what: "KMS keys",
    usd: 1.0,
    per: 1.0,
    unit: "month",
    source: Source::Aws("aws.amazon.com/kms/pricing"),
};
/// Events that `publish` sends.
pub const EVENT: Price = Price {
    what: "EventBridge, own events",
    usd: 1.0,
    per: 1e6,
    unit: "events",
    source: Source::Quoted(
        "factualminds.com/blog/amazon-eventbridge-pricing-events-pipes-schema-archive",
        "June 2026",
    ),
};
/// Messages to the topic; an email on top costs 2 $ per 100,000.
pub const MESSAGE: Price = Price {
    what: "SNS",
    usd: 0.50,
    per: 1e6,
    unit: "messages",
    source: Source::Quoted(
        "factualminds.com/blog/amazon-sns-pricing-publishes-fanout-protocols",
        "June 2026",
    ),
};
/// Objects written to S3.
pub const OBJECT: Price = Price {
    what: "S3, objects written",
    usd: 0.005,
    per: 1000.0,
    unit: "PUT requests",
    source: Source::Quoted("cloudkaramchari.com, as an example without a region", "no date"),
};
/// Runs of a canary of CloudWatch Synthetics, without its Lambda function, bucket and logs.
pub const CANARY_RUN: Price = Price {
    what: "CloudWatch Synthetics",
    usd: 0.0012,
    per: 1.0,
    unit: "run",
    source: Source::Quoted("blog.mattsbit.co.uk, and thomasstep.com in May 2020", "November 2023"),
};

/// All of them, in the order of the document.
pub const ALL: [Price; 15] = [
    LAMBDA_TIME,
    LAMBDA_TIME_X86,
    LAMBDA_REQUEST,
    METRIC_READ,
    TRANSITION,
    LOG_INGESTED,
    LOG_STORED,
    CUSTOM_METRIC,
    ALARM_METRIC,
    DASHBOARD,
    KMS_KEY,
    EVENT,
    MESSAGE,
    OBJECT,
    CANARY_RUN,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_of_units() {
        let near = |cost: Usd, usd: f64| assert!((cost.0 - usd).abs() < 1e-12, "{cost:?} is not {usd}");
        // A quarter of a GB for 420 s is 105 GB-s.
        near(LAMBDA_TIME.of(105.0), 0.001_400_007);
        near(METRIC_READ.of(400.0), 0.004);
        near(TRANSITION.of(50.0), 0.001_25);
        near(CUSTOM_METRIC.of(730.0), 0.30);
        near(CANARY_RUN.of(43_800.0), 52.56);
    }
}
