//! Volumes (spec engine-api §5.4).

use crate::timestamp::rfc3339_seconds;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_engine::model::view::VolumeView;

/// A volume; `Labels` and `Options` are null when there are none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    created_at: String,
    driver: String,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: usize,
    size: u64,
}

impl From<&VolumeView> for Volume {
    fn from(volume: &VolumeView) -> Self {
        let map = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
        Self {
            created_at: rfc3339_seconds(volume.created_at_ns),
            driver: volume.driver.clone(),
            labels: map(&volume.labels),
            mountpoint: volume.mountpoint.clone(),
            name: volume.name.clone(),
            options: map(&volume.options),
            scope: "local",
            usage_data: volume
                .usage
                .map(|(size, ref_count)| UsageData { ref_count, size }),
        }
    }
}

/// Answer of `GET /volumes`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeList {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) warnings: Option<Vec<String>>,
}

/// Body of `POST /volumes/create`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateVolume {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cluster_volume_spec: Option<serde_json::Value>,
}
