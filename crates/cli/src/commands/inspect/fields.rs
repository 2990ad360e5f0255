//! Fields that the daemon leaves out when they are empty: asking a template for them is no mistake.

use serde_json::{Map, Value as Json, json};

use crate::commands::inspect::Kind;

/// Member names by the object they are in; the empty name is the top level.
type OptionalFields = &'static [(&'static str, &'static [&'static str])];

const CONTAINER_FIELDS: OptionalFields = &[
    (
        "",
        &[
            "SizeRw",
            "SizeRootFs",
            "ImageManifestDescriptor",
            "GraphDriver",
            "Platform",
        ],
    ),
    ("State", &["Health", "Error"]),
    (
        "Config",
        &[
            "Healthcheck",
            "ExposedPorts",
            "Volumes",
            "StopSignal",
            "StopTimeout",
            "Shell",
            "MacAddress",
        ],
    ),
    (
        "Config",
        &[
            "NetworkDisabled",
            "ArgsEscaped",
            "Labels",
            "Entrypoint",
            "OnBuild",
            "Cmd",
            "Env",
        ],
    ),
    (
        "HostConfig",
        &[
            "Mounts",
            "Tmpfs",
            "Sysctls",
            "Init",
            "StorageOpt",
            "Annotations",
            "Ulimits",
        ],
    ),
    (
        "NetworkSettings",
        &["IPAddress", "Gateway", "MacAddress", "IPPrefixLen"],
    ),
];

const IMAGE_FIELDS: OptionalFields = &[
    (
        "",
        &[
            "RepoTags",
            "RepoDigests",
            "Parent",
            "Comment",
            "Author",
            "DockerVersion",
            "Variant",
            "OsVersion",
        ],
    ),
    (
        "",
        &["VirtualSize", "GraphDriver", "Descriptor", "Manifests"],
    ),
    (
        "Config",
        &[
            "Healthcheck",
            "ExposedPorts",
            "Volumes",
            "StopSignal",
            "Shell",
            "Labels",
            "Entrypoint",
            "Cmd",
        ],
    ),
    (
        "Config",
        &["Env", "User", "WorkingDir", "OnBuild", "ArgsEscaped"],
    ),
];

const NETWORK_FIELDS: OptionalFields = &[(
    "",
    &[
        "Containers",
        "Options",
        "Labels",
        "Peers",
        "Services",
        "ConfigFrom",
    ],
)];

const VOLUME_FIELDS: OptionalFields = &[(
    "",
    &[
        "CreatedAt",
        "Status",
        "Labels",
        "Options",
        "UsageData",
        "ClusterVolume",
    ],
)];

/// Adds the fields that an object of a kind may have.
pub(super) fn with_optional_fields(kind: Kind, mut object: Json) -> Json {
    for (parent, names) in optional_fields(kind) {
        let target = if parent.is_empty() {
            Some(&mut object)
        } else {
            object.get_mut(*parent)
        };
        let Some(Json::Object(members)) = target else {
            continue;
        };
        fill(members, names);
    }
    object
}

fn fill(members: &mut Map<String, Json>, names: &[&str]) {
    for name in names {
        let absent = match *name {
            // Texts that are left out when empty print as nothing, not as a missing value.
            "StopSignal" | "User" | "WorkingDir" | "Parent" | "Comment" | "Author"
            | "DockerVersion" | "Variant" | "OsVersion" | "MacAddress" | "Error" | "IPAddress"
            | "Gateway" | "Platform" | "CreatedAt" => json!(""),
            _ => Json::Null,
        };
        members.entry(*name).or_insert(absent);
    }
}

fn optional_fields(kind: Kind) -> OptionalFields {
    match kind {
        Kind::Container => CONTAINER_FIELDS,
        Kind::Image => IMAGE_FIELDS,
        Kind::Network => NETWORK_FIELDS,
        Kind::Volume => VOLUME_FIELDS,
    }
}
