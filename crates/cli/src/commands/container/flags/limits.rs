//! Flags that limit what a container, or a step of a build, takes of the machine.

use clap::Args;
use serde_json::{Map, Value as Json};

use crate::error::{CliError, Result};
use crate::options::limits;

/// Processors and memory: of `run`, `create`, `update` and `build`.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct ProcessorFlags {
    /// CPU bandwidth period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<i64>,
    /// CPU bandwidth quota, in microseconds per period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<i64>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub cpu_shares: Option<i64>,
    /// Number of CPUs, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// CPUs to run on, such as 0-3 or 0,1
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-3 or 0,1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit, such as 512m
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Limit of memory and swap together, -1 for no limit
    #[arg(long, value_name = "SIZE")]
    pub memory_swap: Option<String>,
}

impl ProcessorFlags {
    /// Returns the bytes of `--memory`.
    pub fn memory_bytes(&self) -> Result<Option<i64>> {
        let parse = |size| limits::memory("memory", size);
        self.memory.as_deref().map(parse).transpose()
    }

    /// Returns the bytes of `--memory-swap`.
    pub fn memory_swap_bytes(&self) -> Result<Option<i64>> {
        let parse = limits::memory_swap;
        self.memory_swap.as_deref().map(parse).transpose()
    }

    /// Returns the billionths of a CPU of `--cpus`.
    pub fn nano_cpus(&self) -> Result<Option<i64>> {
        let parse = |text: &str| {
            limits::nano_cpus(text).map_err(|error| CliError::value("--cpus", text, error))
        };
        self.cpus.as_deref().map(parse).transpose()
    }
}

/// All that `update` can change, and `run` and `create` begin with.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct LimitFlags {
    #[command(flatten)]
    pub processor: ProcessorFlags,
    /// Relative block I/O weight, 10 to 1000, 0 for none
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Real-time scheduling period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time scheduling runtime, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<i64>,
    /// Limit of the kernel's memory (no effect: the kernel has given it up)
    #[arg(long, value_name = "SIZE")]
    pub kernel_memory: Option<String>,
    /// Memory to be kept available
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Limit of processes, -1 for none
    #[arg(long, value_name = "COUNT")]
    pub pids_limit: Option<i64>,
    /// When to restart: no, on-failure[:COUNT], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
}

impl LimitFlags {
    /// Adds what was given, but the restart policy, to `HostConfig` or to the body of an update.
    pub fn put(&self, object: &mut Map<String, Json>) -> Result<()> {
        let processor = &self.processor;
        let bytes = |flag, size: &Option<String>| {
            let parse = |size| limits::memory(flag, size);
            size.as_deref().map(parse).transpose()
        };
        let numbers = [
            ("BlkioWeight", self.blkio_weight.map(i64::from)),
            ("CpuPeriod", processor.cpu_period),
            ("CpuQuota", processor.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("CpuShares", processor.cpu_shares),
            ("PidsLimit", self.pids_limit),
            ("NanoCpus", processor.nano_cpus()?),
            ("Memory", processor.memory_bytes()?),
            ("MemorySwap", processor.memory_swap_bytes()?),
            (
                "MemoryReservation",
                bytes("memory-reservation", &self.memory_reservation)?,
            ),
            ("KernelMemory", bytes("kernel-memory", &self.kernel_memory)?),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                object.insert(key.into(), number.into());
            }
        }
        for (key, text) in [
            ("CpusetCpus", &processor.cpuset_cpus),
            ("CpusetMems", &processor.cpuset_mems),
        ] {
            if let Some(text) = text {
                object.insert(key.into(), text.as_str().into());
            }
        }
        Ok(())
    }

    /// Returns what to say of limits that were given and change nothing: daemons drop this one in silence.
    pub fn warning(&self) -> Option<&'static str> {
        self.kernel_memory.as_ref().map(|_| {
            "--kernel-memory has no effect: the kernel has given this limit up. Use --memory instead."
        })
    }
}
