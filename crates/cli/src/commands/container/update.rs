//! `wharf update`.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::options::{limits, misc};
use crate::session::Session;

/// Change the limits of containers
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Relative block I/O weight, 10 to 1000, 0 for none
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// CPU bandwidth period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// CPU bandwidth quota, in microseconds per period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Real-time scheduling period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<i64>,
    /// Real-time scheduling runtime, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// Number of CPUs, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// CPUs to run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory to be kept available
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together, -1 for no limit
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// Limit of processes, -1 for none
    #[arg(long, value_name = "COUNT")]
    pids_limit: Option<i64>,
    /// When to restart
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Updated {
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Runs `wharf update`.
pub async fn update_command(session: &mut Session, args: UpdateArgs) -> Result<()> {
    let body = args.body()?;
    if body.is_empty() {
        return Err(CliError::usage(
            "you must provide one or more flags when using this command",
        ));
    }
    let body = Json::Object(body);
    targets::for_each(session, &args.containers, async |session, name| {
        let request = Request::post(format!("/containers/{}/update", path_part(name))).json(&body);
        let updated: Updated = session.client.send(request).await?.json().await?;
        for warning in updated.warnings.unwrap_or_default() {
            session.output.talk(&warning);
        }
        Ok(Some(name.to_owned()))
    })
    .await
}

impl UpdateArgs {
    fn body(&self) -> Result<Map<String, Json>> {
        let mut body = Map::new();
        let numbers = [
            ("BlkioWeight", self.blkio_weight.map(i64::from)),
            ("CpuPeriod", self.cpu_period),
            ("CpuQuota", self.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("CpuShares", self.cpu_shares),
            ("PidsLimit", self.pids_limit),
            (
                "NanoCpus",
                self.cpus.as_deref().map(limits::nano_cpus).transpose()?,
            ),
            (
                "Memory",
                self.memory
                    .as_deref()
                    .map(|size| limits::memory("memory", size))
                    .transpose()?,
            ),
            (
                "MemoryReservation",
                self.memory_reservation
                    .as_deref()
                    .map(|size| limits::memory("memory-reservation", size))
                    .transpose()?,
            ),
            (
                "MemorySwap",
                self.memory_swap
                    .as_deref()
                    .map(limits::memory_swap)
                    .transpose()?,
            ),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                body.insert(key.into(), number.into());
            }
        }
        for (key, text) in [
            ("CpusetCpus", &self.cpuset_cpus),
            ("CpusetMems", &self.cpuset_mems),
        ] {
            if let Some(text) = text {
                body.insert(key.into(), text.as_str().into());
            }
        }
        if let Some(policy) = &self.restart {
            body.insert("RestartPolicy".into(), misc::restart_policy(policy)?);
        }
        Ok(body)
    }
}
