//! Logs as JSON lines on standard output, which Lambda takes to CloudWatch Logs.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process; later calls change nothing. `RUST_LOG` narrows or widens it; `info` by default.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(filter)
        .try_init();
}
