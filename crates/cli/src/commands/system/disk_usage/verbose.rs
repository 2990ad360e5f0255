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
        quiet_wins: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        serde_json::from_value(serde_json::json!({
            "Images": [{
                "Id": "sha256:0123456789abcdef", "RepoTags": ["a:1", "b:2"], "Created": 0,
                "Size": 3000, "SharedSize": 1000, "Containers": 1,
            }],
            "Containers": [{
                "Id": "fedcba9876543210", "Names": ["/web"], "Image": "a:1", "Command": "x > y",
                "State": "exited", "Status": "Exited (0)", "SizeRw": 12, "SizeRootFs": 3012,
            }],
            "Volumes": [{
                "Name": "data", "Driver": "local", "UsageData": {"Size": 5, "RefCount": 2},
            }],
            "BuildCache": [{
                "ID": "cache0123456789", "Type": "regular", "Size": 7, "InUse": true,
                "UsageCount": 3, "CreatedAt": "2024-05-01T10:00:00Z",
            }],
        }))
        .unwrap()
    }

    #[test]
    fn every_kind_has_docker_s_columns() {
        let text = render(&usage(), "").unwrap();
        let headers: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with(char::is_uppercase) && !line.contains("usage"))
            .map(|line| {
                let words: Vec<&str> = line.split("  ").filter(|word| !word.is_empty()).collect();
                words.join("|").replace("| ", "|")
            })
            .collect();
        assert_eq!(
            headers,
            [
                "REPOSITORY|TAG|IMAGE ID|CREATED|SIZE|SHARED SIZE|UNIQUE SIZE|CONTAINERS",
                "CONTAINER ID|IMAGE|COMMAND|LOCAL VOLUMES|SIZE|CREATED|STATUS|NAMES",
                "VOLUME NAME|LINKS|SIZE",
                "CACHE ID|CACHE TYPE|SIZE|CREATED|LAST USED|USAGE|SHARED",
            ]
        );
    }

    #[test]
    fn a_template_sees_all_kinds_whole() {
        let json: serde_json::Value =
            serde_json::from_str(&render(&usage(), "json").unwrap()).unwrap();
        assert_eq!(json["Images"][0]["Tag"], "1");
        assert_eq!(json["Images"][0]["UniqueSize"], "2kB");
        assert_eq!(json["Containers"][0]["ID"], "fedcba9876543210");
        assert_eq!(json["Containers"][0]["Size"], "12B");
        assert_eq!(json["Volumes"][0]["Links"], "2");
        assert_eq!(json["BuildCache"][0]["ID"], "cache0123456789*");
        let names = render(&usage(), "{{range .Containers}}{{.Names}}{{end}}").unwrap();
        assert_eq!(names, "web\n");
        assert!(render(&usage(), "{{.Nonsense}}").is_err());
    }
}
