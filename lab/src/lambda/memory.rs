//! How much memory a process uses. Only Linux tells (`/proc`); elsewhere nothing is known and nothing enforced.

use std::time::Duration;

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Returns once the process holds more than `limit_mb` of resident memory; never, where that cannot be known.
pub(super) async fn exceeded(pid: Option<u32>, limit_mb: u64) {
    while let Some(resident) = pid.and_then(|pid| megabytes(pid, "VmRSS:")) {
        if resident > limit_mb {
            return;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    std::future::pending::<()>().await;
}

/// The most resident memory that the process ever held, in MB.
pub(super) fn peak_megabytes(pid: Option<u32>) -> Option<u64> {
    megabytes(pid?, "VmHWM:")
}

fn megabytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / 1024)
}
