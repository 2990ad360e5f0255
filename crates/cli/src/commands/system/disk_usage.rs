//! `wharf system df`.

mod verbose;

use clap::Args;
use serde::Deserialize;

use crate::commands::container::list::ContainerSummary;
use crate::commands::image::list::ImageSummary;
use crate::commands::volume::Volume;
use crate::error::Result;
use crate::http::Request;
use crate::render::list::{Layout, Row};
use crate::session::Session;
use crate::units::human_size;

/// Show what takes disk space
#[derive(Debug, Args)]
pub struct DiskUsageArgs {
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each object
    #[arg(short = 'v', long)]
    verbose: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Usage {
    layers_size: i64,
    images: Option<Vec<ImageSummary>>,
    containers: Option<Vec<ContainerSummary>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<CacheRecord>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CacheRecord {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Type")]
    kind: String,
    size: i64,
    description: String,
    in_use: bool,
    shared: bool,
    usage_count: i64,
    created_at: String,
    last_used_at: Option<String>,
    parents: Option<Vec<String>>,
}

/// One line of the overview, sizes in bytes.
struct Total {
    kind: &'static str,
    count: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    with_share: bool,
}

/// Runs `wharf system df`.
pub async fn disk_usage_command(session: &mut Session, args: DiskUsageArgs) -> Result<()> {
    let usage: Usage = session
        .client
        .send(Request::get("/system/df"))
        .await?
        .json()
        .await?;
    if args.verbose {
        let text = verbose::render(&usage, args.format.as_deref().unwrap_or_default())?;
        return session.output.text(&text);
    }
    let rows: Vec<Row> = usage.totals().iter().map(Total::row).collect();
    let layout = Layout {
        // The row of images comes first, and with it what is said of a mistake.
        type_name: "*formatter.diskUsageImagesContext",
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}".into(),
        quiet: "{{.Type}}",
        quiet_wins: false,
        raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
        headings: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
    };
    let text = layout.render(args.format.as_deref().unwrap_or_default(), false, &rows)?;
    session.output.text(&text)
}

impl Usage {
    fn totals(&self) -> Vec<Total> {
        vec![
            self.image_total(),
            self.container_total(),
            self.volume_total(),
            self.cache_total(),
        ]
    }

    fn image_total(&self) -> Total {
        let images = self.images.as_deref().unwrap_or_default();
        let used: i64 = images
            .iter()
            .filter(|image| image.containers > 0 && image.size >= 0 && image.shared_size >= 0)
            .map(|image| image.size - image.shared_size)
            .sum();
        Total {
            kind: "Images",
            count: images.len(),
            active: images.iter().filter(|image| image.containers > 0).count(),
            size: self.layers_size,
            reclaimable: (self.layers_size - used).max(0),
            with_share: true,
        }
    }

    fn container_total(&self) -> Total {
        let containers = self.containers.as_deref().unwrap_or_default();
        let stopped = containers.iter().filter(|container| !container.is_active());
        Total {
            kind: "Containers",
            count: containers.len(),
            active: containers
                .iter()
                .filter(|container| container.is_active())
                .count(),
            size: containers.iter().map(ContainerSummary::own_size).sum(),
            reclaimable: stopped.map(ContainerSummary::own_size).sum(),
            with_share: true,
        }
    }

    fn volume_total(&self) -> Total {
        let volumes = self.volumes.as_deref().unwrap_or_default();
        let size = |volume: &Volume| {
            volume
                .usage_data
                .as_ref()
                .map_or(0, |usage| usage.size.max(0))
        };
        let is_used = |volume: &&Volume| {
            volume
                .usage_data
                .as_ref()
                .is_some_and(|usage| usage.ref_count > 0)
        };
        Total {
            kind: "Local Volumes",
            count: volumes.len(),
            active: volumes.iter().filter(is_used).count(),
            size: volumes.iter().map(size).sum(),
            reclaimable: volumes
                .iter()
                .filter(|volume| !is_used(volume))
                .map(size)
                .sum(),
            with_share: true,
        }
    }

    /// Records shared with images are counted there.
    fn cache_total(&self) -> Total {
        let cache = self.build_cache.as_deref().unwrap_or_default();
        let own = || cache.iter().filter(|record| !record.shared);
        Total {
            kind: "Build Cache",
            count: cache.len(),
            active: cache.iter().filter(|record| record.in_use).count(),
            size: own().map(|record| record.size).sum(),
            reclaimable: own()
                .filter(|record| !record.in_use)
                .map(|record| record.size)
                .sum(),
            with_share: false,
        }
    }
}

impl Total {
    fn row(&self) -> Row {
        let share = if self.with_share && self.size > 0 {
            format!(" ({}%)", self.reclaimable * 100 / self.size)
        } else {
            String::new()
        };
        Row::new()
            .with("Type", self.kind)
            .with("TotalCount", self.count.to_string())
            .with("Active", self.active.to_string())
            .with("Size", human_size(self.size as f64))
            .with(
                "Reclaimable",
                format!("{}{share}", human_size(self.reclaimable as f64)),
            )
    }
}
