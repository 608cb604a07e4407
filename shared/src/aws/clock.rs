//! AWS's clock beside ours. AWS stamps what happens by its clock, and windows are cut by ours: with one that is minutes off,
//! the minutes that a judgement needs are not there yet, or never looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_codedeploy::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_codedeploy::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_codedeploy::error::BoxError;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::clock;
use crate::fault::{Fault, FaultKind};

/// How far the clocks may be apart; metrics are not read younger than two minutes.
const MOST: Duration = Duration::from_mins(1);

/// How far AWS's clock is ahead of ours, in seconds, by the `Date` of its last answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwsClock(Arc<AtomicI64>);

impl AwsClock {
    /// A fault when the clocks are so far apart that metrics cannot be judged.
    pub fn agrees(&self) -> Result<(), Fault> {
        let ahead = self.0.load(Ordering::Relaxed);
        if ahead.unsigned_abs() <= MOST.as_secs() {
            return Ok(());
        }
        let how = if ahead > 0 { "behind" } else { "ahead of" };
        Err(Fault::new(
            FaultKind::Unavailable,
            format!(
                "the clock of this function is {} s {how} that of AWS, so no metric can be judged",
                ahead.unsigned_abs()
            ),
            "the next invocation may run on another machine; if it stays so, tell AWS",
        ))
    }
}

impl Intercept for AwsClock {
    fn name(&self) -> &'static str {
        "clock of AWS"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(ahead) =
            context.response().headers().get("date").and_then(|date| ahead(date, clock::now()))
        {
            self.0.store(ahead, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Seconds from `now` to an HTTP date.
fn ahead(date: &str, now: Timestamp) -> Option<i64> {
    Some(rfc2822::parse(date).ok()?.timestamp().duration_since(now).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_minutes_off_is_a_fault_in_either_direction() {
        let now = "2026-11-23T10:00:30Z".parse().unwrap();
        for (date, told) in [
            ("Mon, 23 Nov 2026 10:00:00 GMT", None),
            ("Mon, 23 Nov 2026 10:05:30 GMT", Some("is 300 s behind that of AWS")),
            ("Mon, 23 Nov 2026 09:55:30 GMT", Some("is 300 s ahead of that of AWS")),
        ] {
            let clock = AwsClock(Arc::new(AtomicI64::new(ahead(date, now).unwrap())));
            let fault = clock.agrees().err().map(|fault| fault.chain());
            assert_eq!(fault.is_some(), told.is_some(), "{date}: {fault:?}");
            assert!(fault.unwrap_or_default().contains(told.unwrap_or_default()), "{date}");
        }
        assert_eq!(ahead("soon", now), None);
        assert!(AwsClock::default().agrees().is_ok());
    }
}
