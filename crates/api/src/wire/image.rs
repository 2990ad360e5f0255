//! Images as list, inspect, history and removal answer them (spec image-store §8, §15).

use super::container::{GraphDriver, STORAGE_DRIVER};
use crate::timestamp::{ZERO_TIME, rfc3339_nano};
use crate::version::ApiVersion;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wharf_engine::model::view::{HistoryLine, ImageDetails, ImageSummary, Pruned, Removed};
use wharf_image::{ContainerConfig, ImageConfig};

/// First version whose untagged images have empty lists instead of `<none>:<none>`.
const FIRST_WITH_EMPTY_NAMES: &str = "1.43";
/// First version whose lists count an image's containers.
const FIRST_WITH_CONTAINER_COUNT: &str = "1.51";
/// First version without `VirtualSize`.
const FIRST_WITHOUT_VIRTUAL_SIZE: &str = "1.44";
/// First version without `Container` and `ContainerConfig`.
const FIRST_WITHOUT_CONTAINER: &str = "1.45";
/// First version whose image config leaves out what an image cannot set.
const FIRST_WITH_SHORT_CONFIG: &str = "1.50";

/// One entry of `GET /images/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageItem {
    containers: i64,
    created: i64,
    id: String,
    labels: Option<BTreeMap<String, String>>,
    parent_id: String,
    repo_digests: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
    shared_size: i64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
}

impl ImageItem {
    /// Makes the entry that clients of `version` read.
    pub(crate) fn new(image: &ImageSummary, version: &ApiVersion) -> Self {
        let is_old = version.is_before(FIRST_WITH_EMPTY_NAMES);
        let is_nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
        let or_none = |names: &[String], none: &str| match names {
            [] if is_old && is_nameless => Some(vec![none.to_owned()]),
            [] if is_old => None,
            names => Some(names.to_vec()),
        };
        Self {
            containers: if version.is_before(FIRST_WITH_CONTAINER_COUNT) {
                -1
            } else {
                i64::try_from(image.containers).unwrap_or(i64::MAX)
            },
            created: image.created_at_s,
            id: image.id.to_string(),
            labels: (!image.labels.is_empty()).then(|| image.labels.clone()),
            parent_id: image
                .parent
                .map(|parent| parent.to_string())
                .unwrap_or_default(),
            repo_digests: or_none(&image.repo_digests, "<none>@<none>"),
            repo_tags: or_none(&image.repo_tags, "<none>:<none>"),
            shared_size: image
                .shared_size_bytes
                .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            size: image.size_bytes,
            virtual_size: version
                .is_before(FIRST_WITHOUT_VIRTUAL_SIZE)
                .then_some(image.size_bytes),
        }
    }
}

/// Answer of `GET /images/{name}/json`, keys in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageInspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_config: Option<Value>,
    docker_version: String,
    author: String,
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_version: Option<Value>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

impl ImageInspect {
    /// Makes the answer that clients of `version` read.
    pub(crate) fn new(image: &ImageDetails, version: &ApiVersion) -> Self {
        let config = &image.config;
        let summary = &image.summary;
        let extra_text = |key: &str| {
            config
                .extra
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let has_container = version.is_before(FIRST_WITHOUT_CONTAINER);
        Self {
            id: summary.id.to_string(),
            repo_tags: summary.repo_tags.clone(),
            repo_digests: summary.repo_digests.clone(),
            parent: summary
                .parent
                .map(|parent| parent.to_string())
                .unwrap_or_default(),
            comment: comment(config),
            created: config
                .created
                .clone()
                .unwrap_or_else(|| ZERO_TIME.to_owned()),
            container: has_container
                .then(|| extra_text("container"))
                .filter(|container| !container.is_empty()),
            container_config: has_container.then(|| {
                let stored = config.extra.get("container_config").cloned();
                stored.unwrap_or_else(|| config_value(&ContainerConfig::default(), version))
            }),
            docker_version: extra_text("docker_version"),
            author: config.author.clone().unwrap_or_default(),
            config: config_value(&config.config.clone().unwrap_or_default(), version),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().filter(|variant| !variant.is_empty()),
            os: config.os.clone(),
            os_version: config.extra.get("os.version").cloned(),
            size: summary.size_bytes,
            virtual_size: version
                .is_before(FIRST_WITHOUT_VIRTUAL_SIZE)
                .then_some(summary.size_bytes),
            graph_driver: graph_driver(image),
            root_fs: RootFs {
                kind: "layers",
                layers: config
                    .rootfs
                    .diff_ids
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            metadata: Metadata {
                last_tag_time: rfc3339_nano(image.last_tag_time_ns),
            },
        }
    }
}

/// Returns the image's own comment, or the one of its last step.
fn comment(config: &ImageConfig) -> String {
    let of_last_step = || config.history.last().and_then(|step| step.comment.clone());
    config
        .comment
        .clone()
        .or_else(of_last_step)
        .unwrap_or_default()
}

/// Returns the layers' directories as docker's driver tells them: the top one is `UpperDir`.
fn graph_driver(image: &ImageDetails) -> GraphDriver {
    let Some((top, below)) = image.layer_dirs.split_last() else {
        return GraphDriver {
            data: None,
            name: STORAGE_DRIVER,
        };
    };
    let mut data = BTreeMap::from([("UpperDir", top.clone())]);
    if !below.is_empty() {
        let lower: Vec<&str> = below.iter().rev().map(String::as_str).collect();
        data.insert("LowerDir", lower.join(":"));
    }
    GraphDriver {
        data: Some(data),
        name: STORAGE_DRIVER,
    }
}

/// Writes an image's config with the keys that clients of `version` expect even when they are
/// empty (spec engine-api §14).
fn config_value(config: &ContainerConfig, version: &ApiVersion) -> Value {
    let mut keys: BTreeMap<String, Value> = match serde_json::to_value(config) {
        Ok(Value::Object(object)) => object.into_iter().collect(),
        // A config is a plain struct.
        _ => BTreeMap::new(),
    };
    let mut fill = |names: &[&str], value: &Value| {
        for name in names {
            keys.entry((*name).to_owned())
                .or_insert_with(|| value.clone());
        }
    };
    fill(
        &["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"],
        &Value::Null,
    );
    fill(&["User", "WorkingDir"], &json!(""));
    if version.is_before(FIRST_WITH_SHORT_CONFIG) {
        fill(&["Domainname", "Hostname", "Image"], &json!(""));
        let switches = [
            "AttachStderr",
            "AttachStdin",
            "AttachStdout",
            "OpenStdin",
            "StdinOnce",
            "Tty",
        ];
        fill(&switches, &json!(false));
    }
    Value::Object(keys.into_iter().collect())
}

/// One line of `GET /images/{name}/history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HistoryItem {
    comment: String,
    created: i64,
    created_by: String,
    id: String,
    size: u64,
    tags: Option<Vec<String>>,
}

impl From<HistoryLine> for HistoryItem {
    fn from(line: HistoryLine) -> Self {
        Self {
            comment: line.comment,
            created: line.created_at_s,
            created_by: line.created_by,
            id: line
                .id
                .map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
            size: line.size_bytes,
            tags: super::none_if_empty(line.tags),
        }
    }
}

/// One line of a removal's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) enum RemovedItem {
    Untagged(String),
    Deleted(String),
}

impl From<Removed> for RemovedItem {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Untagged(name) => Self::Untagged(name),
            Removed::Deleted(digest) => Self::Deleted(digest.to_string()),
        }
    }
}

/// Answer of `POST /images/prune`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImagesPruned {
    images_deleted: Option<Vec<RemovedItem>>,
    space_reclaimed: u64,
}

impl From<Pruned<Removed>> for ImagesPruned {
    fn from(pruned: Pruned<Removed>) -> Self {
        let removed = pruned.removed.into_iter().map(RemovedItem::from).collect();
        Self {
            images_deleted: super::none_if_empty(removed),
            space_reclaimed: pruned.reclaimed_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wharf_image::Digest;

    fn details() -> ImageDetails {
        let config = ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            config: Some(ContainerConfig {
                user: "me".into(),
                ..ContainerConfig::default()
            }),
            ..ImageConfig::default()
        };
        ImageDetails {
            summary: ImageSummary {
                id: Digest::of("x"),
                parent: None,
                repo_tags: Vec::new(),
                repo_digests: Vec::new(),
                created_at_s: 5,
                size_bytes: 7,
                shared_size_bytes: None,
                labels: BTreeMap::new(),
                containers: 0,
            },
            config: Arc::new(config),
            last_tag_time_ns: 0,
            manifest_digest: None,
            layer_dirs: vec!["/l/1".into(), "/l/2".into(), "/l/3".into()],
            layer_sizes_bytes: vec![1, 2, 4],
        }
    }

    fn version(text: &str) -> ApiVersion {
        ApiVersion::from_path(text).expect("a version that is spoken")
    }

    #[test]
    fn shapes_follow_the_version() {
        for (text, has_virtual_size, has_container, hostname) in [
            ("1.43", true, true, true),
            ("1.44", false, true, true),
            ("1.45", false, false, true),
            ("1.49", false, false, true),
            ("1.50", false, false, false),
        ] {
            let value = serde_json::to_value(ImageInspect::new(&details(), &version(text)))
                .expect("plain data");
            assert_eq!(
                value.get("VirtualSize").is_some(),
                has_virtual_size,
                "{text}"
            );
            assert_eq!(
                value.get("ContainerConfig").is_some(),
                has_container,
                "{text}"
            );
            assert_eq!(
                value["Config"].get("Hostname").is_some(),
                hostname,
                "{text}"
            );
            assert_eq!(value["Config"]["User"], "me");
            assert_eq!(value["Config"].get("Cmd"), Some(&Value::Null));
            assert_eq!(value["GraphDriver"]["Data"]["LowerDir"], "/l/2:/l/1");
        }
    }

    #[test]
    fn untagged_images_were_once_called_none() {
        let image = details().summary;
        let value = |text| {
            serde_json::to_value(ImageItem::new(&image, &version(text))).expect("plain data")
        };
        assert_eq!(value("1.42")["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(value("1.42")["RepoDigests"], json!(["<none>@<none>"]));
        assert_eq!(value("1.43")["RepoTags"], json!([]));
        assert_eq!(value("1.50")["Containers"], -1);
        assert_eq!(value("1.51")["Containers"], 0);
        assert_eq!(value("1.43")["VirtualSize"], 7);
        assert!(value("1.44").get("VirtualSize").is_none());
        assert_eq!(value("1.44")["SharedSize"], -1);
    }

    #[test]
    fn tagged_images_had_no_digests_once() {
        let mut image = details().summary;
        image.repo_tags = vec!["a:1".into()];
        let value = |text| {
            serde_json::to_value(ImageItem::new(&image, &version(text))).expect("plain data")
        };
        assert_eq!(value("1.42")["RepoTags"], json!(["a:1"]));
        assert_eq!(value("1.42")["RepoDigests"], Value::Null);
        assert_eq!(value("1.43")["RepoDigests"], json!([]));
    }

    #[test]
    fn removals_are_one_key_objects() {
        let items: Vec<RemovedItem> = vec![Removed::Untagged("a:1".into()).into()];
        assert_eq!(
            serde_json::to_string(&items).expect("plain data"),
            r#"[{"Untagged":"a:1"}]"#
        );
    }
}
