//! Numbers and processes of a running container (spec engine-api §6.4).

use super::{create, runtime_error};
use crate::clock::now_ns;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::view::{Processes, StatsSample};
use std::path::Path;
use std::sync::Arc;
use wharf_safefs::trusted;

/// Largest file of `/proc` that is read, in bytes.
const MAX_PROC_BYTES: u64 = 4 * 1024 * 1024;

impl Engine {
    /// Reads a container's counters; one that does not run gives zeros.
    ///
    /// # Errors
    /// No such container.
    pub async fn container_stats(self: &Arc<Self>, name: &str) -> Result<StatsSample> {
        let entry = self.containers.find(name)?;
        let container = entry.snapshot();
        let host = &crate::host::host().info;
        let mut sample = StatsSample {
            cgroup_version: host.cgroup_version,
            memory_total_bytes: host.memory_bytes,
            online_cpus: u32::try_from(host.cpus).unwrap_or(u32::MAX),
            ..StatsSample::default()
        };
        let Some(shim) = entry.shim().filter(|_| container.is_running()) else {
            return Ok(sample);
        };
        sample.cgroup = match shim.stats().await {
            Ok(numbers) => numbers,
            Err(_) if entry.ends_now().await => return Ok(sample),
            Err(error) => {
                return Err(runtime_error("cannot read the container's numbers")(error));
            }
        };
        sample.read_at_ns = now_ns();
        sample.system_cpu_ns = system_cpu_ns();
        let pid = container.state.pid;
        if container.host_config.network_mode != "host" {
            let counters = crate::engine::blocking(move || {
                wharf_network::Networks::counters(pid).map_err(crate::network::network_error)
            })
            .await;
            let counters = match counters {
                Ok(counters) => counters,
                Err(_) if entry.ends_now().await => Vec::new(),
                Err(error) => return Err(error),
            };
            sample.networks = counters
                .into_iter()
                .map(|counters| (counters.name.clone(), counters))
                .collect();
        }
        Ok(sample)
    }

    /// Lists a container's processes as `ps` with `ps_args` shows them.
    ///
    /// # Errors
    /// Docker's conflict text when it does not run; `ps` missing or refusing its arguments.
    pub async fn container_processes(
        self: &Arc<Self>,
        name: &str,
        ps_args: &str,
    ) -> Result<Processes> {
        let entry = self.containers.find(name)?;
        let shim = entry.running_shim()?;
        let pids = match shim.processes().await {
            Ok(pids) => pids,
            Err(error) => {
                let error = runtime_error("cannot list the container's processes")(error);
                return Err(entry.not_running_or(error).await);
            }
        };
        let args = if ps_args.trim().is_empty() {
            "-ef"
        } else {
            ps_args
        };
        let output = tokio::process::Command::new("ps")
            .args(args.split_whitespace())
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(|e| {
                EngineError::internal(format!("cannot run ps: {e}: install the package procps"))
            })?;
        if !output.status.success() {
            // What follows the first line explains how to use ps.
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let line = text.lines().next().unwrap_or_default();
            return Err(EngineError::internal(format!("ps: {line}")));
        }
        self.events.container(&entry.snapshot(), "top", []);
        select_processes(&String::from_utf8_lossy(&output.stdout), &pids)
    }
}

/// Keeps the title row and the rows of the wanted processes.
fn select_processes(table: &str, pids: &[u32]) -> Result<Processes> {
    let mut lines = table.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let pid_column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| EngineError::invalid("Couldn't find PID field in ps output"))?;
    let mut rows = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let mut row: Vec<String> = words
            .by_ref()
            .take(titles.len().saturating_sub(1))
            .map(str::to_owned)
            .collect();
        row.push(words.collect::<Vec<_>>().join(" "));
        if row
            .get(pid_column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: u32| pids.contains(&pid))
        {
            rows.push(row);
        }
    }
    Ok(Processes { titles, rows })
}

/// Returns the CPU time of all CPUs in nanoseconds, as docker sums `/proc/stat` (USER_HZ is 100).
fn system_cpu_ns() -> u64 {
    let text = trusted::read_limited(Path::new("/proc/stat"), MAX_PROC_BYTES)
        .map_err(create::fs_error("cannot read /proc/stat"));
    let text = text.unwrap_or_default();
    let first = String::from_utf8_lossy(&text);
    let ticks: u64 = first
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_wanted_processes() {
        let table = "UID PID PPID CMD\nroot 1 0 /sbin/init a\nroot 22 1 sh -c x y\n";
        let processes = select_processes(table, &[22]).unwrap();
        assert_eq!(processes.rows, [["root", "22", "1", "sh -c x y"]]);
        assert!(select_processes("A B\n1 2\n", &[1]).is_err());
    }
}
