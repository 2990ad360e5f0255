//! Mounting, in the new mount namespace. Every path of the container is resolved by descriptor
//! beneath its root, so that no symlink of an image or a volume leads elsewhere.

pub(in crate::init) mod restrictions;
mod sources;
pub(in crate::init) mod targets;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::init::child::{IN_ROOT, Position};
use crate::init::mount_plan::devices::{DeviceKind, DevicePlan};
use crate::init::mount_plan::{MountKind, MountPlan, MountsPlan};
use crate::init::mounts::sources::{mount_layers, open_source, take_source};
use crate::init::mounts::targets::ensure_target;
use crate::init::overlay::RootPlan;
use crate::init::report::Stage;
use crate::sys::{self, SysResult};

const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;

/// Opens the bind sources, cuts all mounts off from the host's and mounts the root; returns it.
pub fn mount_root(plan: &MountsPlan, position: &mut Position) -> SysResult<OwnedFd> {
    for (index, source) in plan.sources.iter().enumerate() {
        position.at_item(Stage::Source, index);
        // Before the mounts turn private, so that a shared source stays in its group.
        if source.layers.is_none() {
            let fd = open_source(source)?;
            source.fd.set(fd.into_raw_fd());
        }
    }
    position.at(Stage::Private);
    mount_change(c"/", libc::MS_PRIVATE | libc::MS_REC)?;
    for (index, source) in plan.sources.iter().enumerate() {
        position.at_item(Stage::Source, index);
        if let Some(layers) = &source.layers {
            let fd = mount_layers(plan, source, layers)?;
            source.fd.set(fd.into_raw_fd());
        }
    }
    position.at(Stage::Root);
    match &plan.root {
        RootPlan::Overlay { base, options } => {
            // SAFETY: all strings are null-terminated and outlive the calls.
            unsafe {
                sys::check(libc::chdir(base.as_ptr()).into())?;
                sys::check(
                    libc::mount(
                        c"overlay".as_ptr(),
                        plan.staging.as_ptr(),
                        c"overlay".as_ptr(),
                        0,
                        options.as_ptr().cast(),
                    )
                    .into(),
                )?;
            }
        }
        RootPlan::Directory { path, readonly } => {
            let flags = libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
            let mount = sys::open_tree(libc::AT_FDCWD, path, flags)?;
            if *readonly {
                sys::mount_setattr(mount.as_raw_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
            }
            let target = sys::openat2(libc::AT_FDCWD, &plan.staging, libc::O_PATH, 0, 0)?;
            sys::attach_mount(mount.as_raw_fd(), target.as_raw_fd())?;
        }
    }
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat2(libc::AT_FDCWD, &plan.staging, flags, 0, 0)
}

/// Makes the container's mounts and devices.
pub fn mount_all(plan: &MountsPlan, root: RawFd, position: &mut Position) -> SysResult<()> {
    for (index, mount) in plan.mounts.iter().enumerate() {
        position.at_item(Stage::Mount, index);
        mount_one(plan, mount, root, position, index)?;
    }
    for (index, device) in plan.devices.iter().flatten().enumerate() {
        position.at_item(Stage::Device, index);
        make_device(root, device)?;
    }
    Ok(())
}

fn mount_one(
    plan: &MountsPlan,
    mount: &MountPlan,
    root: RawFd,
    position: &mut Position,
    index: usize,
) -> SysResult<()> {
    let made = match &mount.kind {
        MountKind::Bind(source) => take_source(plan, *source)?,
        MountKind::New {
            filesystem,
            parameters,
        } => {
            let fs = sys::fsopen(filesystem)?;
            if mount.keeps_mode {
                keep_mode(root, &mount.target, fs.as_raw_fd())?;
            }
            for (key, value) in parameters {
                sys::fsconfig(fs.as_raw_fd(), key, value.as_deref())?;
            }
            sys::fsmount(fs.as_raw_fd(), mount.set)?
        }
        MountKind::CgroupV1 { .. } => {
            let fs = sys::fsopen(c"tmpfs")?;
            sys::fsconfig(fs.as_raw_fd(), c"mode", Some(c"755"))?;
            sys::fsmount(fs.as_raw_fd(), mount.set & !libc::MOUNT_ATTR_RDONLY)?
        }
    };
    let directory = is_directory(made.as_raw_fd())?;
    let resolve = if mount.strict {
        IN_ROOT | libc::RESOLVE_NO_SYMLINKS
    } else {
        IN_ROOT
    };
    position.at_item(Stage::Target, index);
    let target = ensure_target(root, &mount.target, directory, resolve)?;
    position.at_item(Stage::Mount, index);
    if directory != is_directory(target.as_raw_fd())? {
        // The kernel would say "invalid argument"; clients look for this.
        return Err(libc::ENOTDIR);
    }
    let fd = made.as_raw_fd();
    if matches!(mount.kind, MountKind::Bind(_)) {
        let (propagation, recursive) = mount.propagation.unwrap_or((libc::MS_PRIVATE, true));
        sys::mount_setattr(fd, 0, 0, propagation, recursive)?;
        if mount.set | mount.clear != 0 {
            sys::mount_setattr(fd, mount.set, mount.clear, 0, false)?;
        }
    }
    if mount.set_recursive != 0 {
        sys::mount_setattr(fd, mount.set_recursive, 0, 0, true)?;
    }
    sys::attach_mount(fd, target.as_raw_fd())?;
    if let MountKind::CgroupV1 { hierarchies, links } = &mount.kind {
        for (name, source) in hierarchies {
            mount_hierarchy(plan, fd, name, *source, mount.set)?;
        }
        for (name, target) in links {
            // SAFETY: both strings are null-terminated.
            let result = unsafe { libc::symlinkat(target.as_ptr(), fd, name.as_ptr()) };
            sys::check(result.into())?;
        }
        sys::mount_setattr(fd, mount.set & libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    }
    if !matches!(mount.kind, MountKind::Bind(_))
        && let Some((propagation, recursive)) = mount.propagation
    {
        sys::mount_setattr(fd, 0, 0, propagation, recursive)?;
    }
    if mount.readonly_late {
        mount.fd.set(made.into_raw_fd());
    }
    Ok(())
}

/// Gives a new tmpfs the mode of the directory that it hides, if there is one, as runc does.
fn keep_mode(root: RawFd, target: &CStr, fs: RawFd) -> SysResult<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let Ok(hidden) = sys::openat2(root, target, flags, 0, IN_ROOT) else {
        // It is made for the mount, or nothing can be mounted on it, which is told then.
        return Ok(());
    };
    let mode = sys::fstat(hidden.as_raw_fd())?.st_mode & 0o7777;
    let digit = |shift: u32| b'0' + (mode >> shift & 7) as u8;
    let text = [digit(9), digit(6), digit(3), digit(0), 0];
    let text = CStr::from_bytes_with_nul(&text).map_err(|_| libc::EINVAL)?;
    sys::fsconfig(fs, c"mode", Some(text))
}

fn is_directory(fd: RawFd) -> SysResult<bool> {
    Ok(sys::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn mount_hierarchy(
    plan: &MountsPlan,
    parent: RawFd,
    name: &CStr,
    source: usize,
    attributes: u64,
) -> SysResult<()> {
    // SAFETY: the name is null-terminated.
    sys::check(unsafe { libc::mkdirat(parent, name.as_ptr(), 0o755) }.into())?;
    let target = sys::openat2(parent, name, libc::O_PATH, 0, IN_ROOT)?;
    let mount = take_source(plan, source)?;
    sys::mount_setattr(mount.as_raw_fd(), attributes, 0, libc::MS_PRIVATE, false)?;
    sys::attach_mount(mount.as_raw_fd(), target.as_raw_fd())
}

fn make_device(root: RawFd, device: &DevicePlan) -> SysResult<()> {
    let directory = ensure_target(root, &device.directory, true, IN_ROOT)?;
    let at = directory.as_raw_fd();
    let name = device.name.as_ptr();
    // SAFETY: all strings are null-terminated and outlive the calls.
    unsafe {
        match &device.kind {
            DeviceKind::Link(target) => {
                match sys::check(libc::symlinkat(target.as_ptr(), at, name).into()) {
                    Err(libc::EEXIST) => Ok(()),
                    result => result.map(drop),
                }
            }
            DeviceKind::Node {
                mode,
                device,
                uid,
                gid,
            } => {
                match sys::check(libc::mknodat(at, name, *mode, *device).into()) {
                    // Listed twice, or bound there by the user.
                    Err(libc::EEXIST) => return Ok(()),
                    result => result.map(drop)?,
                }
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                sys::check(libc::fchownat(at, name, *uid, *gid, flags).into()).map(drop)
            }
        }
    }
}

/// Makes the container's root the process's, and lets go of the host's mounts.
pub fn pivot(plan: &MountsPlan, root: RawFd, position: &mut Position) -> SysResult<()> {
    position.at(Stage::Pivot);
    // SAFETY: all strings are null-terminated.
    unsafe {
        sys::check(libc::fchdir(root).into())?;
        sys::check(libc::syscall(
            libc::SYS_pivot_root,
            c".".as_ptr(),
            c".".as_ptr(),
        ))?;
        sys::check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into())?;
        sys::check(libc::chdir(c"/".as_ptr()).into())?;
    }
    match plan.root_propagation {
        Some(flag) => mount_change(c"/", flag),
        None => Ok(()),
    }
}

fn mount_change(path: &CStr, flags: u64) -> SysResult<()> {
    let none = std::ptr::null();
    // SAFETY: the path is null-terminated; a change of propagation takes nothing else.
    let result = unsafe { libc::mount(none, path.as_ptr(), none, flags, std::ptr::null()) };
    sys::check(result.into()).map(drop)
}
