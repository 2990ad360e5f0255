//! A group's figures, in the terms both versions share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::cgroup::limits::keyed;
use crate::error::Result;

/// What a container used and may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Bytes moved, by device and operation.
    pub block_io_bytes: Vec<BlockIoEntry>,
    /// Operations, by device and operation.
    pub block_io_operations: Vec<BlockIoEntry>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All of it, in nanoseconds.
    pub total_ns: u64,
    /// In user mode, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub kernel_ns: u64,
    /// By processor, in nanoseconds (version 1 only).
    pub per_cpu_ns: Vec<u64>,
    /// How often and long a quota was in the way.
    pub throttling: ThrottlingStats,
}

/// What a processor quota held back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottlingStats {
    /// Periods in which there was something to run.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time held back, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use now, page cache included, in bytes.
    pub usage_bytes: u64,
    /// The most that was in use, in bytes (version 1; version 2 from kernel 5.19).
    pub max_usage_bytes: Option<u64>,
    /// The limit in bytes; none without one.
    pub limit_bytes: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// The kernel's own break-down (`memory.stat`).
    pub details: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; none without a limit.
    pub limit: Option<u64>,
}

/// A block device's count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// `read`, `write`, …
    pub operation: String,
    /// The count.
    pub value: u64,
}

/// Version 1 tells "no limit" as the largest page-aligned number.
const NO_LIMIT_FROM: u64 = 0x7fff_ffff_ffff_0000;

/// A clock tick of `cpuacct.stat` in nanoseconds (`USER_HZ` is 100 on every architecture we run on).
const TICK_NS: u64 = 10_000_000;

/// Reads a group's figures; a controller the host lacks leaves zeros.
pub fn read(cgroup: &Cgroup) -> Result<Stats> {
    // The group's existence is the one thing that must hold.
    cgroup.read("pids", "cgroup.procs")?;
    let text = |controller: &str, file: &str| cgroup.read(controller, file).unwrap_or_default();
    Ok(if cgroup.is_v2() { v2(&text) } else { v1(&text) })
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        })
        .collect()
}

fn v1(text: &dyn Fn(&str, &str) -> String) -> Stats {
    let ticks = text("cpuacct", "cpuacct.stat");
    let throttling = text("cpu", "cpu.stat");
    let get = |text: &str, key: &str| keyed(text, key).unwrap_or(0);
    Stats {
        cpu: CpuStats {
            total_ns: number(&text("cpuacct", "cpuacct.usage")).unwrap_or(0),
            user_ns: get(&ticks, "user").saturating_mul(TICK_NS),
            kernel_ns: get(&ticks, "system").saturating_mul(TICK_NS),
            per_cpu_ns: text("cpuacct", "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
            throttling: ThrottlingStats {
                periods: get(&throttling, "nr_periods"),
                throttled_periods: get(&throttling, "nr_throttled"),
                throttled_ns: get(&throttling, "throttled_time"),
            },
        },
        memory: MemoryStats {
            usage_bytes: number(&text("memory", "memory.usage_in_bytes")).unwrap_or(0),
            max_usage_bytes: number(&text("memory", "memory.max_usage_in_bytes")),
            limit_bytes: number(&text("memory", "memory.limit_in_bytes"))
                .filter(|limit| *limit < NO_LIMIT_FROM),
            failures: number(&text("memory", "memory.failcnt")).unwrap_or(0),
            details: table(&text("memory", "memory.stat")),
        },
        pids: pids(text),
        block_io_bytes: block_v1(&text("blkio", "blkio.throttle.io_service_bytes_recursive")),
        block_io_operations: block_v1(&text("blkio", "blkio.throttle.io_serviced_recursive")),
    }
}

fn v2(text: &dyn Fn(&str, &str) -> String) -> Stats {
    let cpu = text("", "cpu.stat");
    let get = |text: &str, key: &str| keyed(text, key).unwrap_or(0);
    let micros = |key: &str| get(&cpu, key).saturating_mul(1000);
    let events = text("", "memory.events");
    let io = text("", "io.stat");
    Stats {
        cpu: CpuStats {
            total_ns: micros("usage_usec"),
            user_ns: micros("user_usec"),
            kernel_ns: micros("system_usec"),
            per_cpu_ns: Vec::new(),
            throttling: ThrottlingStats {
                periods: get(&cpu, "nr_periods"),
                throttled_periods: get(&cpu, "nr_throttled"),
                throttled_ns: micros("throttled_usec"),
            },
        },
        memory: MemoryStats {
            usage_bytes: number(&text("", "memory.current")).unwrap_or(0),
            max_usage_bytes: number(&text("", "memory.peak")),
            limit_bytes: number(&text("", "memory.max")),
            failures: get(&events, "max"),
            details: table(&text("", "memory.stat")),
        },
        pids: pids(text),
        block_io_bytes: block_v2(&io, &[("rbytes", "read"), ("wbytes", "write")]),
        block_io_operations: block_v2(&io, &[("rios", "read"), ("wios", "write")]),
    }
}

fn pids(text: &dyn Fn(&str, &str) -> String) -> PidsStats {
    PidsStats {
        current: number(&text("pids", "pids.current")).unwrap_or(0),
        limit: number(&text("pids", "pids.max")),
    }
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn block_v1(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = device(words.next()?)?;
        Some(BlockIoEntry {
            major,
            minor,
            operation: words.next()?.to_lowercase(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn block_v2(text: &str, keys: &[(&str, &str)]) -> Vec<BlockIoEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let operation = keys.iter().find(|(name, _)| *name == key);
            if let (Some((_, operation)), Ok(value)) = (operation, value.parse()) {
                entries.push(BlockIoEntry {
                    major,
                    minor,
                    operation: (*operation).to_owned(),
                    value,
                });
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_files() {
        let text = |_: &str, file: &str| {
            match file {
                "cpu.stat" => "usage_usec 5\nuser_usec 3\nsystem_usec 2\nthrottled_usec 1\n",
                "memory.current" => "4096\n",
                "memory.max" => "max\n",
                "memory.stat" => "anon 1\nfile 2\n",
                "pids.current" => "3\n",
                "pids.max" => "10\n",
                "io.stat" => "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
                _ => "",
            }
            .to_owned()
        };
        let stats = v2(&text);
        assert_eq!(stats.cpu.total_ns, 5000);
        assert_eq!(stats.memory.usage_bytes, 4096);
        assert_eq!(stats.memory.limit_bytes, None);
        assert_eq!(stats.memory.details["file"], 2);
        assert_eq!(stats.pids.limit, Some(10));
        assert_eq!(stats.block_io_bytes.len(), 2);
        assert_eq!(stats.block_io_bytes[1].operation, "write");
        assert_eq!(stats.block_io_bytes[1].value, 20);
    }

    #[test]
    fn version_1_files() {
        let text = |_: &str, file: &str| {
            match file {
                "cpuacct.usage" => "7\n",
                "cpuacct.usage_percpu" => "3 4 \n",
                "memory.limit_in_bytes" => "9223372036854771712\n",
                "blkio.throttle.io_service_bytes_recursive" => "8:0 Read 5\n8:0 Total 5\nTotal 5\n",
                _ => "",
            }
            .to_owned()
        };
        let stats = v1(&text);
        assert_eq!(stats.cpu.per_cpu_ns, [3, 4]);
        assert_eq!(stats.memory.limit_bytes, None);
        assert_eq!(stats.block_io_bytes[0].operation, "read");
        assert_eq!(stats.block_io_bytes.len(), 2);
    }
}
