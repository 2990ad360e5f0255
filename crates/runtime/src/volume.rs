//! Mounting what a volume's driver options name: the one thing wharf mounts in the host's mount namespace,
//! where docker does, so that all containers share one mount and it can be seen at the volume's directory.

use std::ffi::CString;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Result, RuntimeError};
use crate::init::mount_plan::paths::path_string;
use crate::init::options::MountOptions;
use crate::init::plan::c_string;
use crate::sys::{self, SysResult};

/// The most bytes of one parameter that the kernel takes (`fsconfig(2)`).
const MAX_PARAMETER_BYTES: usize = 255;

/// Mounts `device` of type `kind` with options as in fstab over an existing directory.
///
/// `addr=` of a network file system may hold a name; the kernel wants a number.
///
/// # Errors
/// [`RuntimeError::Invalid`] for options that cannot be, [`RuntimeError::Io`] with the kernel's answer.
pub fn mount_volume(kind: &str, device: &str, options: &str, target: &Path) -> Result<()> {
    let words: Vec<String> = options
        .split(',')
        .filter(|word| !word.is_empty())
        .map(|word| resolve_address(kind, word))
        .collect::<Result<_>>()?;
    let parsed = MountOptions::parse(&words)?;
    let plan = VolumePlan {
        device: c_string("volume device", device)?,
        kind: c_string("volume type", kind)?,
        target: path_string("volume directory", target)?,
        parameters: parameters(&parsed)?,
        options: parsed,
    };
    let mounted = if plan.options.bind {
        plan.bind()
    } else {
        plan.mount()
    };
    mounted.map_err(|errno| {
        let action = format!("mount {device}:{}", target.display());
        RuntimeError::io(action, std::io::Error::from_raw_os_error(errno))
    })
}

/// Takes a volume's mount away; open files keep what they have.
///
/// # Errors
/// The kernel's answer; a directory that is no mount point is none.
pub fn unmount_volume(target: &Path) -> Result<()> {
    if !is_mount_point(target)? {
        return Ok(());
    }
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)
        .map_err(|errno| RuntimeError::io(format!("unmount {}", target.display()), errno))
}

/// Says whether something is mounted on a directory.
///
/// # Errors
/// A directory that is not there.
pub fn is_mount_point(target: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    // Without asking a network file system that is mounted there.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(CWD, target, flags, StatxFlags::TYPE)
        .map_err(|errno| RuntimeError::io(format!("look at {}", target.display()), errno))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

struct VolumePlan {
    device: CString,
    kind: CString,
    target: CString,
    parameters: Vec<(CString, Option<CString>)>,
    options: MountOptions,
}

impl VolumePlan {
    fn bind(&self) -> SysResult<()> {
        let recursive = if self.options.recursive {
            libc::AT_RECURSIVE as u32
        } else {
            0
        };
        let flags = libc::OPEN_TREE_CLONE | recursive;
        let mount = sys::open_tree(libc::AT_FDCWD, &self.device, flags)?;
        self.attach(mount.as_raw_fd(), libc::MS_PRIVATE)
    }

    fn mount(&self) -> SysResult<()> {
        let fs = sys::fsopen(&self.kind)?;
        sys::fsconfig(fs.as_raw_fd(), c"source", Some(&self.device))?;
        for (key, value) in &self.parameters {
            sys::fsconfig(fs.as_raw_fd(), key, value.as_deref())?;
        }
        if self.options.set & libc::MOUNT_ATTR_RDONLY != 0 {
            sys::fsconfig(fs.as_raw_fd(), c"ro", None)?;
        }
        let mount = sys::fsmount(fs.as_raw_fd(), self.options.set)?;
        self.attach(mount.as_raw_fd(), 0)
    }

    fn attach(&self, mount: i32, default_propagation: u64) -> SysResult<()> {
        let (propagation, recursive) = self
            .options
            .propagation
            .unwrap_or((default_propagation, true));
        sys::mount_setattr(
            mount,
            self.options.set,
            self.options.clear,
            propagation,
            recursive,
        )?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let target = sys::openat2(libc::AT_FDCWD, &self.target, flags, 0, 0)?;
        sys::attach_mount(mount, target.as_raw_fd())
    }
}

fn parameters(options: &MountOptions) -> Result<Vec<(CString, Option<CString>)>> {
    let data = options.data.iter();
    data.map(|word| {
        if word.len() > MAX_PARAMETER_BYTES {
            let reason = format!("{} bytes, at most {MAX_PARAMETER_BYTES}", word.len());
            return Err(RuntimeError::invalid("volume option", reason));
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(c_string("volume option", value)?)),
            None => (word.as_str(), None),
        };
        Ok((c_string("volume option", key)?, value))
    })
    .collect()
}

/// Turns the name in a network file system's `addr=` into a number.
fn resolve_address(kind: &str, word: &str) -> Result<String> {
    let name = match word.strip_prefix("addr=") {
        Some(name) if matches!(kind, "nfs" | "nfs4" | "cifs") => name,
        _ => return Ok(word.to_owned()),
    };
    if name.parse::<IpAddr>().is_ok() {
        return Ok(word.to_owned());
    }
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|error| RuntimeError::io("resolve the address of a network volume", error))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    found.sort();
    let first = found
        .first()
        .ok_or_else(|| RuntimeError::invalid("volume option", format!("{name} has no address")))?;
    Ok(format!("addr={first}"))
}
