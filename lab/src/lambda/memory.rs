//! How much memory a process uses, how many sockets, and how much of a processor. Only Linux tells (`/proc`); elsewhere nothing is known and nothing enforced.

use std::time::Duration;

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Returns once the process holds more than `limit_mb` of resident memory; never, where that cannot be known.
pub(super) async fn exceeded(pid: Option<u32>, limit_mb: u64) {
    while let Some(resident) = pid.and_then(resident_kb) {
        if resident / 1024 > limit_mb {
            return;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    std::future::pending::<()>().await;
}

/// The resident memory that the process holds, in kB.
pub(super) fn resident_kb(pid: u32) -> Option<u64> {
    kilobytes(pid, "VmRSS:")
}

/// The most resident memory that the process ever held, in MB.
pub(super) fn peak_megabytes(pid: Option<u32>) -> Option<u64> {
    Some(peak_kb(pid?)? / 1024)
}

/// The same in kB.
pub(super) fn peak_kb(pid: u32) -> Option<u64> {
    kilobytes(pid, "VmHWM:")
}

/// The time that the process's threads have been on a processor: those that still run. Linux tells it to the nanosecond.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let told = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        told.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    let times: Vec<Duration> = threads.filter_map(of_thread).collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

/// The sockets that the process has open.
pub(super) fn sockets(pid: u32) -> Option<usize> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    Some(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
}

fn kilobytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}
