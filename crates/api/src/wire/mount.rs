//! Mounts in the long form, as asked for and as inspect lists them (spec engine-api §7.1, §8).

use super::is_default;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_engine::model::container::MountPoint as EngineMountPoint;
use wharf_engine::model::host_config as model;

/// One entry of `HostConfig.Mounts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    kind: String,
    #[serde(skip_serializing_if = "is_default")]
    source: String,
    #[serde(skip_serializing_if = "is_default")]
    target: String,
    #[serde(skip_serializing_if = "is_default")]
    read_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tmpfs_options: Option<TmpfsOptions>,
    /// Of swarm's volumes, which there are none of here.
    #[serde(skip_serializing)]
    cluster_options: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    #[serde(skip_serializing_if = "is_default")]
    propagation: String,
    #[serde(skip_serializing_if = "is_default")]
    non_recursive: bool,
    #[serde(skip_serializing_if = "is_default")]
    create_mountpoint: bool,
    #[serde(skip_serializing_if = "is_default")]
    read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "is_default")]
    read_only_force_recursive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    #[serde(skip_serializing_if = "is_default")]
    no_copy: bool,
    #[serde(skip_serializing_if = "is_default")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    subpath: String,
    #[serde(skip_serializing_if = "is_default")]
    driver_config: Option<DriverConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DriverConfig {
    #[serde(skip_serializing_if = "is_default")]
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageOptions {
    #[serde(skip_serializing_if = "is_default")]
    subpath: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_default")]
    size_bytes: i64,
    #[serde(skip_serializing_if = "is_default")]
    mode: u32,
    #[serde(skip_serializing_if = "is_default")]
    options: Option<Vec<Vec<String>>>,
}

impl Mount {
    /// Converts to the engine's type.
    pub(crate) fn into_model(self) -> model::MountRequest {
        model::MountRequest {
            kind: self.kind,
            source: self.source,
            target: self.target,
            read_only: self.read_only,
            consistency: self.consistency,
            bind: self.bind_options.map(|options| model::BindOptions {
                propagation: options.propagation,
                non_recursive: options.non_recursive,
                create_mountpoint: options.create_mountpoint,
                read_only_non_recursive: options.read_only_non_recursive,
                read_only_force_recursive: options.read_only_force_recursive,
            }),
            volume: self.volume_options.map(|options| {
                let driver = options.driver_config.unwrap_or_default();
                model::VolumeOptions {
                    no_copy: options.no_copy,
                    labels: options.labels,
                    subpath: options.subpath,
                    driver: driver.name,
                    driver_options: driver.options,
                }
            }),
            image: self.image_options.map(|options| model::ImageOptions {
                subpath: options.subpath,
            }),
            tmpfs: self.tmpfs_options.map(|options| model::TmpfsOptions {
                size_bytes: options.size_bytes,
                mode: options.mode,
                options: options.options.unwrap_or_default(),
            }),
            cluster_options: self.cluster_options.is_some(),
        }
    }
}

impl From<&model::MountRequest> for Mount {
    fn from(mount: &model::MountRequest) -> Self {
        Self {
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            read_only: mount.read_only,
            consistency: mount.consistency.clone(),
            bind_options: mount.bind.as_ref().map(|options| BindOptions {
                propagation: options.propagation.clone(),
                non_recursive: options.non_recursive,
                create_mountpoint: options.create_mountpoint,
                read_only_non_recursive: options.read_only_non_recursive,
                read_only_force_recursive: options.read_only_force_recursive,
            }),
            volume_options: mount.volume.as_ref().map(|options| VolumeOptions {
                no_copy: options.no_copy,
                labels: options.labels.clone(),
                subpath: options.subpath.clone(),
                driver_config: (!options.driver.is_empty() || !options.driver_options.is_empty())
                    .then(|| DriverConfig {
                        name: options.driver.clone(),
                        options: options.driver_options.clone(),
                    }),
            }),
            image_options: mount.image.as_ref().map(|options| ImageOptions {
                subpath: options.subpath.clone(),
            }),
            tmpfs_options: mount.tmpfs.as_ref().map(|options| TmpfsOptions {
                size_bytes: options.size_bytes,
                mode: options.mode,
                options: super::none_if_empty(options.options.clone()),
            }),
            cluster_options: None,
        }
    }
}

/// One entry of `Mounts` in inspect and list answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(skip_serializing_if = "is_default")]
    name: String,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "is_default")]
    driver: String,
    mode: String,
    #[serde(rename = "RW")]
    read_write: bool,
    propagation: String,
}

impl From<&EngineMountPoint> for MountPoint {
    fn from(mount: &EngineMountPoint) -> Self {
        Self {
            kind: mount.kind.clone(),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: mount.destination.clone(),
            driver: mount.driver.clone(),
            mode: mount.mode.clone(),
            read_write: mount.read_write,
            propagation: mount.propagation.clone(),
        }
    }
}
