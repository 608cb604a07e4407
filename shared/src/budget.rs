//! The time that an invocation has, with a reserve for the report. Pure: `now` is an argument.

use std::time::Duration;

use jiff::Timestamp;

/// Time kept back for the report: enough for a dozen retries against a throttled API.
const RESERVE: Duration = Duration::from_secs(20);
/// Assumed when neither the invocation nor the environment tells the timeout: Lambda's own maximum.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(15);
/// A deadline this far in the past is not a late invocation but no deadline at all: `cargo lambda watch` sends the
/// timeout's length (600000) instead of an instant.
const IMPLAUSIBLE_AGE: Duration = Duration::from_hours(24);

/// When checks must end and when the report must be out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    checks_end: Timestamp,
    report_ends: Timestamp,
}

impl Budget {
    /// The budget of an invocation that started `now` and is killed at `deadline_ms` (milliseconds since the epoch).
    /// The reserve is twenty seconds, or a third of the time where there is less than a minute.
    pub fn new(now: Timestamp, deadline_ms: u64, configured_timeout: Option<Duration>) -> Self {
        let deadline = i64::try_from(deadline_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .filter(|deadline| now.duration_since(*deadline).unsigned_abs() < IMPLAUSIBLE_AGE)
            .unwrap_or_else(|| add(now, configured_timeout.unwrap_or(LONGEST_TIMEOUT)));
        let total = left(now, deadline);
        let reserve = RESERVE.min(total / 3);
        // Lambda kills at the deadline itself; a tenth of the reserve is lost to the way back.
        let report_ends = add(now, total.saturating_sub(reserve / 10));
        Self { checks_end: add(now, total.saturating_sub(reserve)), report_ends }
    }

    /// Time left for checks; zero when it is spent.
    pub fn for_checks(&self, now: Timestamp) -> Duration {
        left(now, self.checks_end)
    }

    /// Time left until the report must have been made; zero when it is spent.
    pub fn for_report(&self, now: Timestamp) -> Duration {
        left(now, self.report_ends)
    }
}

fn left(now: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn add(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    const NOW_MS: i64 = 1_800_000_000_000;

    #[test]
    fn a_plain_deadline_keeps_the_reserve() {
        let budget = Budget::new(at(NOW_MS), NOW_MS as u64 + 300_000, None);
        assert_eq!(budget.for_checks(at(NOW_MS)), Duration::from_secs(280));
        assert_eq!(budget.for_report(at(NOW_MS)), Duration::from_secs(298));
        assert_eq!(budget.for_checks(at(NOW_MS + 290_000)), Duration::ZERO);
    }

    #[test]
    fn cargo_lambdas_deadline_is_read_as_unknown() {
        let minute = Some(Duration::from_mins(1));
        assert_eq!(Budget::new(at(NOW_MS), 600_000, minute).for_checks(at(NOW_MS)), Duration::from_secs(40));
        assert_eq!(Budget::new(at(NOW_MS), 600_000, None).for_checks(at(NOW_MS)), Duration::from_secs(880));
        assert_eq!(Budget::new(at(NOW_MS), u64::MAX, minute).for_checks(at(NOW_MS)), Duration::from_secs(40));
    }

    #[test]
    fn a_deadline_just_missed_leaves_nothing() {
        let budget = Budget::new(at(NOW_MS), NOW_MS as u64 - 5_000, None);
        assert_eq!(budget.for_checks(at(NOW_MS)), Duration::ZERO);
        assert_eq!(budget.for_report(at(NOW_MS)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_report_always_comes_after_the_checks_and_before_the_deadline(timeout_ms in 1_u64..900_000) {
            let budget = Budget::new(at(NOW_MS), NOW_MS as u64 + timeout_ms, None);
            let (checks, report) = (budget.for_checks(at(NOW_MS)), budget.for_report(at(NOW_MS)));
            prop_assert!(checks <= report);
            prop_assert!(report <= Duration::from_millis(timeout_ms));
            prop_assert!(checks >= Duration::from_millis(timeout_ms) / 2);
        }
    }
}
