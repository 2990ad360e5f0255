//! The grammar of mounts.

use serde_json::{Value, json};
use wharf_engine::model::host_config as model;
use wharf_engine::mount_syntax::{self, ParsedMount};

use super::{same_text, text};
use crate::{Document, Vector, Verdict};

/// Whether a path exists on the recorded host: `/tmp` does, as do the root and what leads to them.
fn exists(path: &str) -> bool {
    wharf_safefs::trusted::exists(path).unwrap_or(false)
}

pub(super) fn check(vector: &Vector, _: &Document) -> Verdict {
    let input = &vector.input;
    let found = match text(input, "fn") {
        "bind" => mount_syntax::parse_bind(text(input, "raw"), text(input, "volume_driver"))
            .map(|(parsed, _)| mount_json(&parsed)),
        "mount" => mount_syntax::parse_mount(&mount_request(&input["mount"]), &exists)
            .map(|parsed| mount_json(&parsed)),
        "volumes_from" => mount_syntax::parse_volumes_from(text(input, "raw"))
            .map(|(id, mode)| json!({ "id": id, "mode": mode })),
        "tmpfs" => {
            let options = tmpfs_options(&input["options"]);
            let read_only = input["readonly"].as_bool().unwrap_or(false);
            mount_syntax::tmpfs::tmpfs_options(options.as_ref(), read_only)
                .map(|data| json!({ "data": data }))
        }
        other => return Err(format!("{other} is not known")),
    };
    same_text(
        found.map_err(|error| error.message().to_owned()),
        &vector.expected,
    )
}

fn mount_json(parsed: &ParsedMount) -> Value {
    json!({
        "type": parsed.kind, "source": parsed.source, "destination": parsed.destination,
        "rw": parsed.read_write, "mode": parsed.mode, "driver": parsed.driver, "name": parsed.name,
        "copy_data": parsed.copy_data, "propagation": parsed.propagation,
    })
}

fn mount_request(mount: &Value) -> model::MountRequest {
    let flag = |value: &Value, key: &str| value[key].as_bool().unwrap_or(false);
    let owned = |value: &Value, key: &str| text(value, key).to_owned();
    let given = |key: &str| Some(&mount[key]).filter(|value| !value.is_null());
    model::MountRequest {
        kind: owned(mount, "Type"),
        source: owned(mount, "Source"),
        target: owned(mount, "Target"),
        read_only: flag(mount, "ReadOnly"),
        bind: given("BindOptions").map(|options| model::BindOptions {
            propagation: owned(options, "Propagation"),
            non_recursive: flag(options, "NonRecursive"),
            create_mountpoint: flag(options, "CreateMountpoint"),
            read_only_non_recursive: flag(options, "ReadOnlyNonRecursive"),
            read_only_force_recursive: flag(options, "ReadOnlyForceRecursive"),
        }),
        volume: given("VolumeOptions").map(|options| model::VolumeOptions {
            no_copy: flag(options, "NoCopy"),
            subpath: owned(options, "Subpath"),
            driver: owned(&options["DriverConfig"], "Name"),
            ..model::VolumeOptions::default()
        }),
        image: given("ImageOptions").map(|options| model::ImageOptions {
            subpath: owned(options, "Subpath"),
        }),
        tmpfs: given("TmpfsOptions").and_then(tmpfs_options),
        cluster_options: given("ClusterOptions").is_some(),
        ..model::MountRequest::default()
    }
}

fn tmpfs_options(options: &Value) -> Option<model::TmpfsOptions> {
    if options.is_null() {
        return None;
    }
    let words = |option: &Value| super::strings(option);
    Some(model::TmpfsOptions {
        size_bytes: options["SizeBytes"].as_i64().unwrap_or(0),
        mode: options["Mode"]
            .as_u64()
            .and_then(|mode| u32::try_from(mode).ok())
            .unwrap_or(0),
        options: options["Options"]
            .as_array()
            .into_iter()
            .flatten()
            .map(words)
            .collect(),
    })
}
