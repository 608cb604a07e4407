//! The wall clock: the only place that reads it. Everything else takes `now` as an argument.

use jiff::Timestamp;

/// The present instant.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    Timestamp::now()
}
