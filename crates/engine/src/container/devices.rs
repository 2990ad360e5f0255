//! Devices of the host that a container is given.

use crate::error::{EngineError, Result};
use std::path::{Path, PathBuf};
use wharf_safefs::{FileType, Metadata, trusted};

/// Directories below `/dev` that are made anew in every container.
const NOT_DEVICES: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", ".lxc"];
/// Levels of directories below a device directory that are searched.
const MAX_DEPTH: usize = 8;

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: &'static str,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Lists the device at a path (links followed), or every device below a directory.
///
/// # Errors
/// A path that is neither.
pub(crate) fn devices_at(path: &Path) -> Result<Vec<HostDevice>> {
    let fail = |reason: &str| {
        EngineError::internal(format!(
            "error gathering device information while adding custom device \"{}\": {reason}",
            path.display()
        ))
    };
    let metadata = trusted::metadata(path).map_err(|error| {
        if error.is_not_found() {
            fail("no such file or directory")
        } else {
            fail(&error.to_string())
        }
    })?;
    if let Some(device) = device_of(path, &metadata) {
        return Ok(vec![device]);
    }
    if !metadata.is_dir() {
        return Err(fail("not a device node"));
    }
    let mut found = Vec::new();
    collect(path, 0, &mut found);
    if found.is_empty() {
        return Err(fail("not a device node"));
    }
    Ok(found)
}

/// Lists every device of the host, for privileged containers.
pub(crate) fn host_devices() -> Vec<HostDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), 0, &mut found);
    found
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<HostDevice>) {
    // A directory that vanished or cannot be read has no devices to give.
    let Ok(entries) = trusted::read_dir_sorted(directory) else {
        return;
    };
    for entry in entries {
        let path = directory.join(&entry.name);
        let hidden =
            directory == Path::new("/dev") && NOT_DEVICES.iter().any(|name| entry.name == *name);
        let Ok(metadata) = trusted::symlink_metadata(&path) else {
            continue;
        };
        if hidden {
            continue;
        }
        if let Some(device) = device_of(&path, &metadata) {
            found.push(device);
        } else if metadata.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, found);
        }
    }
}

fn device_of(path: &Path, metadata: &Metadata) -> Option<HostDevice> {
    let kind = match metadata.file_type {
        FileType::CharDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(HostDevice {
        path: path.to_owned(),
        kind,
        major: metadata.rdev_major(),
        minor: metadata.rdev_minor(),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_directories_and_others() {
        let null = devices_at(Path::new("/dev/null")).unwrap();
        assert_eq!((null[0].kind, null[0].major, null[0].minor), ("c", 1, 3));
        assert!(
            host_devices()
                .iter()
                .any(|device| device.path == Path::new("/dev/null"))
        );
        assert!(
            devices_at(Path::new("/etc/passwd"))
                .unwrap_err()
                .message()
                .contains("not a device node")
        );
        assert!(devices_at(Path::new("/no/such")).is_err());
    }
}
