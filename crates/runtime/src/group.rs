//! Control groups that hold containers' groups: of a build, of a step. They are made with the first group in them.

use crate::cgroup::Cgroup;
use crate::error::Result;

/// Returns the most memory that all below a group used at once, in bytes; none where the kernel does not tell
/// (version 1: `memory.max_usage_in_bytes`, version 2: `memory.peak`, from kernel 5.19).
pub fn peak_memory_bytes(path: &str) -> Option<u64> {
    let cgroup = Cgroup::new(path, false).ok()?;
    let file = if cgroup.is_v2() {
        "memory.peak"
    } else {
        "memory.max_usage_in_bytes"
    };
    cgroup.read("memory", file).ok()?.trim().parse().ok()
}

/// Returns the most processes that all below a group had at once; none where the kernel does not tell (`pids.peak`,
/// from kernel 6.1).
pub fn peak_processes(path: &str) -> Option<u64> {
    let cgroup = Cgroup::new(path, false).ok()?;
    cgroup.read("pids", "pids.peak").ok()?.trim().parse().ok()
}

/// Removes a group with all that is below it; absence is no error.
///
/// # Errors
/// Processes in it that do not end.
pub fn remove_cgroup(path: &str) -> Result<()> {
    Cgroup::new(path, false)?.remove()
}
