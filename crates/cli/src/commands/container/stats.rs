//! `wharf stats` (engine-api.md §6.4).

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde::Deserialize;

use crate::commands::container::list::ContainerSummary;
use crate::error::Result;
use crate::http::{Client, Request, path_part};
use crate::render::list::{Layout, Row};
use crate::render::text::short_id;
use crate::session::Session;
use crate::units::{bytes_size, human_size_short};

const REFRESH_INTERVAL: Duration = Duration::from_millis(500);

/// Show what containers use of the machine
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show all containers, not only running ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sample {
    id: String,
    name: String,
    pids_stats: PidsStats,
    cpu_stats: CpuStats,
    precpu_stats: CpuStats,
    memory_stats: MemoryStats,
    blkio_stats: BlkioStats,
    networks: Option<BTreeMap<String, NetworkStats>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PidsStats {
    current: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuStats {
    cpu_usage: CpuUsage,
    system_cpu_usage: u64,
    online_cpus: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
    percpu_usage: Option<Vec<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryStats {
    usage: u64,
    limit: u64,
    stats: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BlkioStats {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BlkioEntry {
    op: String,
    value: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NetworkStats {
    rx_bytes: u64,
    tx_bytes: u64,
}

/// Runs `wharf stats`: samples all containers at once, again and again until interrupted.
pub async fn stats_command(session: &mut Session, args: StatsArgs) -> Result<()> {
    let format = match &args.format {
        Some(format) => format.clone(),
        None => session
            .config()?
            .text("statsFormat")
            .unwrap_or_default()
            .to_owned(),
    };
    let is_table = format.is_empty() || format.starts_with("table");
    loop {
        let names = names(session, &args).await?;
        let samples = join_all(names.iter().map(|name| sample(&session.client, name))).await;
        let mut rows = Vec::new();
        for (name, sample) in names.iter().zip(samples) {
            match sample {
                Ok(sample) => rows.push(sample.row(name, args.no_trunc)),
                // A container may end between the list and its sample; one that was asked for by name must exist.
                Err(error) if !args.containers.is_empty() => return Err(error),
                Err(_) => rows.push(
                    Sample {
                        id: name.clone(),
                        ..Sample::default()
                    }
                    .row(name, args.no_trunc),
                ),
            }
        }
        let text = layout().render(&format, false, &rows)?;
        if is_table && !args.no_stream && session.output.is_terminal() {
            session.output.text("\x1b[2J\x1b[H")?;
        }
        session.output.text(&text)?;
        if args.no_stream {
            return Ok(());
        }
        tokio::time::sleep(REFRESH_INTERVAL).await;
    }
}

async fn names(session: &Session, args: &StatsArgs) -> Result<Vec<String>> {
    if !args.containers.is_empty() {
        return Ok(args.containers.clone());
    }
    let request = Request::get("/containers/json").query_flag("all", args.all);
    let containers: Vec<ContainerSummary> = session.client.send(request).await?.json().await?;
    Ok(containers
        .into_iter()
        .map(|container| container.id)
        .collect())
}

async fn sample(client: &Client, name: &str) -> Result<Sample> {
    let request =
        Request::get(format!("/containers/{}/stats", path_part(name))).query("stream", "0");
    client.send(request).await?.json().await
}

fn layout() -> Layout {
    Layout {
        type_name: "*container.statsContext",
        table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}".into(),
        quiet: "{{.ID}}",
        quiet_wins: false,
        raw: "",
        headings: &[
            ("Container", "CONTAINER"),
            ("ID", "CONTAINER ID"),
            ("Name", "NAME"),
            ("CPUPerc", "CPU %"),
            ("MemUsage", "MEM USAGE / LIMIT"),
            ("MemPerc", "MEM %"),
            ("NetIO", "NET I/O"),
            ("BlockIO", "BLOCK I/O"),
            ("PIDs", "PIDS"),
        ],
    }
}

impl Sample {
    /// `asked` is what the container was asked for by.
    fn row(&self, asked: &str, no_trunc: bool) -> Row {
        let id = if no_trunc {
            self.id.as_str()
        } else {
            short_id(&self.id)
        };
        let networks = || self.networks.iter().flatten().map(|(_, network)| network);
        let received: u64 = networks().map(|network| network.rx_bytes).sum();
        let sent: u64 = networks().map(|network| network.tx_bytes).sum();
        let blocks = |operation: &str| -> u64 {
            let entries = self.blkio_stats.io_service_bytes_recursive.iter().flatten();
            entries
                .filter(|entry| entry.op.eq_ignore_ascii_case(operation))
                .map(|entry| entry.value)
                .sum()
        };
        let used = self.memory_used();
        let share = if self.memory_stats.limit == 0 {
            0.0
        } else {
            used as f64 / self.memory_stats.limit as f64
        };
        let pair = |a: u64, b: u64| {
            format!(
                "{} / {}",
                human_size_short(a as f64),
                human_size_short(b as f64)
            )
        };
        Row::new()
            .with("Container", asked)
            .with("ID", id)
            .with("Name", self.name.trim_start_matches('/'))
            .with("CPUPerc", format!("{:.2}%", self.cpu_percent()))
            .with(
                "MemUsage",
                format!(
                    "{} / {}",
                    bytes_size(used as f64),
                    bytes_size(self.memory_stats.limit as f64)
                ),
            )
            .with("MemPerc", format!("{:.2}%", share * 100.0))
            .with("NetIO", pair(received, sent))
            .with("BlockIO", pair(blocks("read"), blocks("write")))
            .with("PIDs", self.pids_stats.current.to_string())
    }

    /// Memory in use without the part of the page cache that can be dropped at once.
    fn memory_used(&self) -> u64 {
        let stats = self.memory_stats.stats.as_ref();
        let inactive = ["total_inactive_file", "inactive_file"]
            .iter()
            .find_map(|key| stats.and_then(|stats| stats.get(*key)))
            .copied()
            .unwrap_or(0);
        self.memory_stats
            .usage
            .checked_sub(inactive)
            .unwrap_or(self.memory_stats.usage)
    }

    fn cpu_percent(&self) -> f64 {
        let (now, before) = (&self.cpu_stats, &self.precpu_stats);
        let own = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
        let system = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
        let listed = now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len);
        let cpus = if now.online_cpus == 0 {
            listed as f64
        } else {
            f64::from(now.online_cpus)
        };
        if own > 0.0 && system > 0.0 {
            own / system * cpus * 100.0
        } else {
            0.0
        }
    }
}
