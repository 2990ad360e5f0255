//! What a container gets when nothing is asked for, as OCI types (spec runtime §2).

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxNamespace, LinuxNamespaceType, Mount,
};
use wharf_safefs::trusted;

use crate::capabilities;

pub use crate::seccomp::default_profile as seccomp_profile;

/// Size of `/dev/shm` in bytes.
pub const SHM_SIZE_BYTES: u64 = 64 << 20;

/// `PATH` of a container that sets none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Destination, type, source, options of the default mounts (spec runtime §2.1), parents first.
const MOUNTS: [(&str, &str, &str, &[&str]); 6] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
];

const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Kernel parameters of a container with a network namespace of its own (spec runtime §2.7).
const SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.ip_unprivileged_port_start", "0"),
];

/// Character devices every container may use: major, minor (spec runtime §2.6).
const DEVICES: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];

/// Returns the default mounts; `shm_size_bytes` none leaves `/dev/shm` out.
pub fn mounts(shm_size_bytes: Option<u64>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = MOUNTS
        .iter()
        .map(|(destination, kind, source, options)| {
            let options = options.iter().map(|option| (*option).to_owned()).collect();
            mount(destination, kind, source, options)
        })
        .collect();
    if let Some(size) = shm_size_bytes {
        let mut options: Vec<String> = ["nosuid", "noexec", "nodev", "mode=1777"]
            .iter()
            .map(|option| (*option).to_owned())
            .collect();
        options.push(format!("size={size}"));
        mounts.push(mount("/dev/shm", "tmpfs", "shm", options));
    }
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options));
    mount
}

/// Returns the paths hidden from a container, those that depend on this host included.
pub fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED_PATHS.iter().map(|path| (*path).to_owned()).collect();
    let directory = "/sys/devices/system/cpu";
    // A host without this directory has nothing there to hide.
    for entry in trusted::read_dir_sorted(directory).unwrap_or_default() {
        let name = entry.name.to_string_lossy().into_owned();
        let is_cpu = name
            .strip_prefix("cpu")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        let path = format!("{directory}/{name}/thermal_throttle");
        if is_cpu && trusted::exists(&path).unwrap_or(false) {
            paths.push(path);
        }
    }
    paths
}

/// Returns the paths a container may only read.
pub fn readonly_paths() -> Vec<String> {
    READONLY_PATHS
        .iter()
        .map(|path| (*path).to_owned())
        .collect()
}

/// Returns the kernel parameters of a container with a network namespace of its own.
pub fn sysctls() -> std::collections::HashMap<String, String> {
    let pairs = SYSCTLS.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Returns the namespaces of a container, all new; the cgroup namespace on version 2 hosts only.
pub fn namespaces(cgroup_v2: bool) -> Vec<LinuxNamespace> {
    let mut kinds = vec![
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
    ];
    if cgroup_v2 {
        kinds.push(LinuxNamespaceType::Cgroup);
    }
    kinds
        .into_iter()
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

/// Returns the device rules: nothing, then the standard devices, and explicitly no fuse.
pub fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |allow: bool, number: Option<(i64, i64)>| {
        let builder = LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .access("rwm".to_owned());
        let builder = match number {
            Some((major, minor)) => builder.typ(LinuxDeviceType::C).major(major).minor(minor),
            None => builder,
        };
        // Every field has a default, so the builder has nothing to refuse.
        builder.build().unwrap_or_default()
    };
    let mut rules = vec![rule(false, None)];
    rules.extend(DEVICES.iter().map(|number| rule(true, Some(*number))));
    rules.push(rule(false, Some((10, 229))));
    rules
}

/// Returns capability sets for a container: the names are bounding, permitted and effective;
/// inheritable and ambient stay empty (CVE-2022-29162).
pub fn capability_sets(names: &[String]) -> LinuxCapabilities {
    let set = capabilities::to_set(names);
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}
