//! What the kernel says about this process.

use serde::Serialize;

/// What the kernel says about this process; 0 where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProcessUsage {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file descriptors.
    pub fd_count: u64,
    /// Threads.
    pub thread_count: u64,
    /// Most resident memory so far.
    pub max_rss_bytes: u64,
    /// Time on the CPU, user and system, of all threads.
    pub cpu_seconds: f64,
}

/// Reads `/proc/self`.
pub fn process_usage() -> ProcessUsage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    // One of them is the descriptor that reads the directory.
    let fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    ProcessUsage {
        rss_bytes: field("VmRSS:") * 1024,
        fd_count: fds as u64,
        thread_count: field("Threads:"),
        max_rss_bytes: field("VmHWM:") * 1024,
        cpu_seconds: cpu_seconds().unwrap_or(0.0),
    }
}

/// Fields 14 and 15 of proc(5) stat, which counts in hundredths of a second on Linux (USER_HZ).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The process's name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Some((ticks.next()? + ticks.next()?) as f64 / 100.0)
}

/// Resident memory in which a page that several processes share counts by its share; 0 where the kernel does
/// not say. The kernel walks the page tables for it: milliseconds, so not for every second.
pub fn pss_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_all_of_it() {
        let usage = process_usage();
        assert!(usage.rss_bytes > 0 && usage.fd_count > 0 && usage.thread_count > 0);
        // Between the two readings other tests may have allocated.
        assert!(pss_bytes() > 0 && pss_bytes() < 2 * process_usage().max_rss_bytes);
    }
}
