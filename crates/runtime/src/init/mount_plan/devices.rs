//! Device nodes and links of `/dev`, prepared from the OCI form.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use crate::init::mount_plan::paths::{clean, path_string};
use crate::init::plan::c_string;

/// Name, major and minor number of the devices that every container has (OCI runtime spec, default devices).
const STANDARD_DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The kernel's memory, which not every kernel shows.
const KERNEL_CORE: &str = "/proc/kcore";

/// Name and target of the links in `/dev` (OCI runtime spec, `/dev` symbolic links).
const STANDARD_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", KERNEL_CORE),
    ("ptmx", "pts/ptmx"),
];

/// A device node or symlink in `/dev`.
pub struct DevicePlan {
    /// The directory, from the container's root.
    pub directory: CString,
    /// The name in it.
    pub name: CString,
    /// What it is.
    pub kind: DeviceKind,
}

/// What is made in `/dev`.
pub enum DeviceKind {
    /// A node.
    Node {
        /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO` with permissions.
        mode: u32,
        /// The device number.
        device: u64,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A symlink with this target.
    Link(CString),
}

/// Prepares the standard devices and links, and those that were asked for.
pub(super) fn plan_devices(extra: &[LinuxDevice]) -> Result<Vec<DevicePlan>> {
    let mut devices = Vec::new();
    for (name, major, minor) in STANDARD_DEVICES {
        devices.push(DevicePlan {
            directory: CString::from(c"dev"),
            name: c_string("device", name)?,
            kind: DeviceKind::Node {
                mode: libc::S_IFCHR | 0o666,
                device: libc::makedev(major, minor),
                uid: 0,
                gid: 0,
            },
        });
    }
    for (name, target) in STANDARD_LINKS {
        if target == KERNEL_CORE && !trusted::exists(target).unwrap_or(false) {
            continue;
        }
        devices.push(DevicePlan {
            directory: CString::from(c"dev"),
            name: c_string("device", name)?,
            kind: DeviceKind::Link(c_string("device", target)?),
        });
    }
    for device in extra {
        devices.push(plan_device(device)?);
    }
    Ok(devices)
}

fn plan_device(device: &LinuxDevice) -> Result<DevicePlan> {
    let path = clean(device.path());
    let invalid = |reason: &str| {
        let path = device.path().display();
        RuntimeError::invalid("device", format!("{path}: {reason}"))
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => return Err(invalid("a device node needs one type")),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| invalid("number out of range"));
    let name = path.file_name().ok_or_else(|| invalid("no file name"))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    Ok(DevicePlan {
        directory: path_string("device", parent)?,
        name: path_string("device", Path::new(name))?,
        kind: DeviceKind::Node {
            mode: kind | (device.file_mode().unwrap_or(0o666) & 0o7777),
            device: libc::makedev(number(device.major())?, number(device.minor())?),
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        },
    })
}
