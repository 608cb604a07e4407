//! What Lambda tells `CloudWatch` of a function's invocations.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cloudwatch::CloudWatch;
use crate::doubts::VersionMetrics;

const NAMESPACE: &str = "AWS/Lambda";

/// Records in the name of one function.
pub struct Meter {
    function: String,
    alias: String,
    cloudwatch: Arc<CloudWatch>,
    version_metrics: VersionMetrics,
}

impl Meter {
    /// Records the function of this name, which has this alias.
    pub fn new(function: &str, alias: &str, cloudwatch: Arc<CloudWatch>) -> Self {
        let version_metrics = VersionMetrics::default();
        Self { function: function.to_owned(), alias: alias.to_owned(), cloudwatch, version_metrics }
    }

    /// The same with an answer to when versions have metrics of their own.
    #[must_use]
    pub fn doubted(self, version_metrics: VersionMetrics) -> Self {
        Self { version_metrics, ..self }
    }

    /// Invocations of the alias at one time that one version executed, and whether the alias pointed to two. `times` are
    /// milliseconds, and how many took so long.
    pub fn through_alias(
        &self,
        version: &str,
        between_versions: bool,
        at: Timestamp,
        invocations: f64,
        errors: f64,
        times: &[(f64, f64)],
    ) {
        let resource = format!("{}:{}", self.function, self.alias);
        let dimensions = [
            ("FunctionName", self.function.as_str()),
            ("Resource", resource.as_str()),
            ("ExecutedVersion", version),
        ];
        let sets = [&dimensions[..1], &dimensions[..2], &dimensions];
        let of_versions = between_versions || self.version_metrics == VersionMetrics::Always;
        self.record(if of_versions { &sets } else { &sets[..2] }, at, invocations, errors, times);
    }

    /// One invocation of a version by its number, or of the function without a qualifier. It does not count for the alias.
    pub(super) fn direct(&self, qualifier: Option<&str>, at: Timestamp, failed: bool, milliseconds: f64) {
        let resource = match qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.function),
            None => self.function.clone(),
        };
        let dimensions = [("FunctionName", self.function.as_str()), ("Resource", resource.as_str())];
        let errors = f64::from(u8::from(failed));
        self.record(&[&dimensions[..1], &dimensions], at, 1.0, errors, &[(milliseconds, 1.0)]);
    }

    fn record(
        &self,
        dimension_sets: &[&[(&str, &str)]],
        at: Timestamp,
        invocations: f64,
        errors: f64,
        times: &[(f64, f64)],
    ) {
        let samples = [
            ("Invocations", 1.0, invocations),
            ("Errors", 1.0, errors),
            // Lambda tells an invocation without an error as an error count of 0, and likewise for throttles.
            ("Errors", 0.0, invocations - errors),
            ("Throttles", 0.0, invocations),
        ];
        let durations = times.iter().map(|(milliseconds, count)| ("Duration", *milliseconds, *count));
        for (metric, value, count) in samples.into_iter().chain(durations).filter(|sample| sample.2 > 0.0) {
            for dimensions in dimension_sets {
                self.cloudwatch.record_many(NAMESPACE, metric, dimensions, at, value, count);
            }
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("function", &self.function).finish_non_exhaustive()
    }
}
