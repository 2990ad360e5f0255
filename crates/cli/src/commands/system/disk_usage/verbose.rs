//! Each object that takes space: `wharf system df -v`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_template::Value;

use super::{CacheRecord, Usage};
use crate::commands::container::list::{self as containers, ContainerSummary};
use crate::commands::image::list as images;
use crate::commands::volume;
use crate::error::Result;
use crate::render::list::{Layout, Row};
use crate::render::template::{Missing, Template};
use crate::render::text::{go_timestamp, short_id, time_ago, unix_seconds};
use crate::units::{human_size, human_size_short};

/// Table of images.
const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
/// Table of containers.
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
/// Table of volumes.
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
/// What `--format json` stands for: the kinds in docker's order.
const JSON: &str = r#"{"Images":{{json .Images}},"Containers":{{json .Containers}},"Volumes":{{json .Volumes}},"BuildCache":{{json .BuildCache}}}"#;

/// Returns a table of each kind, or a template filled in with all of them.
pub(super) fn render(usage: &Usage, format: &str) -> Result<String> {
    match format {
        "" | "table" => tables(usage),
        "json" => filled(usage, JSON),
        template => filled(usage, template),
    }
}

fn tables(usage: &Usage) -> Result<String> {
    let mut text = String::from("Images space usage:\n\n");
    text.push_str(&images::layout(false).render(IMAGES, false, &image_rows(usage, false))?);
    text.push_str("\nContainers space usage:\n\n");
    let rows = container_rows(usage, false);
    text.push_str(&containers::layout(true).render(CONTAINERS, false, &rows)?);
    text.push_str("\nLocal Volumes space usage:\n\n");
    text.push_str(&volume::layout().render(VOLUMES, false, &volume_rows(usage))?);
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let own: i64 = records
        .iter()
        .filter(|record| !record.shared)
        .map(|record| record.size)
        .sum();
    text.push_str(&format!(
        "\nBuild cache usage: {}\n\n",
        human_size(own as f64)
    ));
    text.push_str(&cache_layout().render("", false, &cache_rows(usage, false))?);
    Ok(text)
}

fn filled(usage: &Usage, template: &str) -> Result<String> {
    let list = |rows: Vec<Row>| Value::List(rows.into_iter().map(Value::from).collect());
    let data = BTreeMap::from([
        ("Images".into(), list(image_rows(usage, true))),
        ("Containers".into(), list(container_rows(usage, true))),
        ("Volumes".into(), list(volume_rows(usage))),
        ("BuildCache".into(), list(cache_rows(usage, true))),
    ]);
    let data = Value::Map(Arc::new(data));
    let text = Template::parse(template)?.execute(
        &data,
        "*formatter.diskUsageContext",
        Missing::IsAnError,
    )?;
    Ok(format!("{text}\n"))
}

/// Returns one row an image, with its first name.
fn image_rows(usage: &Usage, no_trunc: bool) -> Vec<Row> {
    let images = usage.images.iter().flatten();
    images.map(|image| image.first_row(no_trunc)).collect()
}

/// Returns the containers with the space they take themselves.
fn container_rows(usage: &Usage, no_trunc: bool) -> Vec<Row> {
    let containers = usage.containers.iter().flatten();
    containers
        .map(|container| ContainerSummary::without_image_size(container).row(no_trunc))
        .collect()
}

fn volume_rows(usage: &Usage) -> Vec<Row> {
    let volumes = usage.volumes.iter().flatten();
    volumes.map(volume::Volume::row).collect()
}

fn cache_rows(usage: &Usage, no_trunc: bool) -> Vec<Row> {
    let records = usage.build_cache.iter().flatten();
    records.map(|record| record.row(no_trunc)).collect()
}

fn cache_layout() -> Layout {
    Layout {
        type_name: "*formatter.buildCacheContext",
        table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}".into(),
        quiet: "{{.ID}}",
        raw: "",
        headings: &[
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("CreatedSince", "CREATED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("Shared", "SHARED"),
        ],
    }
}

impl CacheRecord {
    fn row(&self, no_trunc: bool) -> Row {
        let ago = |time: &str| unix_seconds(time).map(time_ago).unwrap_or_default();
        let last_used = self.last_used_at.as_deref().unwrap_or_default();
        let parents = self.parents.as_deref().unwrap_or_default();
        let parent = parents.first().map(String::as_str).unwrap_or_default();
        let id = if no_trunc {
            &self.id
        } else {
            short_id(&self.id)
        };
        // docker marks what is in use.
        let mark = if self.in_use { "*" } else { "" };
        Row::new()
            .with("ID", format!("{id}{mark}"))
            .with("Parent", if no_trunc { parent } else { short_id(parent) })
            .with("CacheType", self.kind.as_str())
            .with("Size", human_size_short(self.size as f64))
            .with("CreatedAt", go_timestamp(&self.created_at))
            .with("CreatedSince", ago(&self.created_at))
            .with("LastUsedAt", go_timestamp(last_used))
            .with("LastUsedSince", ago(last_used))
            .with("UsageCount", self.usage_count.to_string())
            .with("InUse", self.in_use.to_string())
            .with("Shared", self.shared.to_string())
            .with("Description", self.description.as_str())
    }
}
