//! Logs as JSON lines on standard output, which Lambda takes to CloudWatch Logs.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::environment;

/// Starts logging for this process; later calls change nothing. `RUST_LOG` narrows or widens it; `info` by default.
pub fn start() {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false);
    let filter = filter(environment::log_filter().as_deref());
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}

/// Levels, for everything or by target: `debug`, or `warn,shiftgate=debug`. Not by span or field, for which every function
/// would carry an engine for regular expressions.
fn filter(text: Option<&str>) -> Targets {
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| Targets::new().with_default(Level::INFO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_for_everything_or_by_target() {
        let check = |text: Option<&str>, target: &str, expect: Level| {
            let filter = filter(text);
            let most = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR]
                .into_iter()
                .find(|level| filter.would_enable(target, level));
            assert_eq!(most, Some(expect), "{text:?} of {target}");
        };
        check(None, "shiftgate::hook", Level::INFO);
        check(Some("no=such=filter"), "shiftgate::hook", Level::INFO);
        check(Some("debug"), "aws_config", Level::DEBUG);
        check(Some("warn,shiftgate=debug"), "shiftgate::hook", Level::DEBUG);
        check(Some("warn,shiftgate=debug"), "aws_config", Level::WARN);
        assert!(!filter(Some("off")).would_enable("shiftgate::hook", &Level::ERROR));
    }
}
