//! Fields that the daemon leaves out when they are empty: asking a template for them is no mistake.

use wharf_template::Shape;

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

/// Texts that are left out when they are empty.
const TEXTS: &[&str] = &[
    "StopSignal",
    "User",
    "WorkingDir",
    "Parent",
    "Comment",
    "Author",
    "DockerVersion",
    "Variant",
    "OsVersion",
    "MacAddress",
    "Error",
    "IPAddress",
    "Gateway",
    "Platform",
    "CreatedAt",
];

/// Lists, of Go's types.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "Peers",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];

/// Maps, of Go's types.
const MAPS: &[&str] = &[
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "Ports",
    "Services",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Names of fields in Go's types where JSON has others: templates take both.
const GO_NAMES: &[(&str, &str, &str)] = &[
    ("", "ID", "Id"),
    ("HostConfig", "CPUCount", "CpuCount"),
    ("HostConfig", "CPUPercent", "CpuPercent"),
    ("HostConfig", "CPUPeriod", "CpuPeriod"),
    ("HostConfig", "CPUQuota", "CpuQuota"),
    ("HostConfig", "CPURealtimePeriod", "CpuRealtimePeriod"),
    ("HostConfig", "CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("HostConfig", "CPUShares", "CpuShares"),
    ("HostConfig", "DNS", "Dns"),
    ("HostConfig", "DNSOptions", "DnsOptions"),
    ("HostConfig", "DNSSearch", "DnsSearch"),
    ("HostConfig", "NanoCPUs", "NanoCpus"),
];

/// Returns what the objects of a kind have beyond their JSON.
pub(super) fn shape(kind: Kind) -> Shape {
    Shape {
        lists: LISTS,
        maps: MAPS,
        texts: TEXTS,
        flags: &["ArgsEscaped", "NetworkDisabled"],
        optional: optional_fields(kind),
        go_names: GO_NAMES,
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
