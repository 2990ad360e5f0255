//! Mounting, in the new mount namespace. Every path of the container is resolved by descriptor
//! beneath its root, so that no symlink of an image or a volume leads elsewhere.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::init::child::{IN_ROOT, Position};
use crate::init::mount_plan::{
    DeviceKind, DevicePlan, MountKind, MountPlan, MountsPlan, SourcePlan,
};
use crate::init::overlay::RootPlan;
use crate::init::report::Stage;
use crate::sys::{self, SysResult};

/// How many dangling symlinks are followed while a mount point is made.
const MAX_LINKS: u32 = 8;

const PATH_BYTES: usize = libc::PATH_MAX as usize;

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

fn open_source(source: &SourcePlan) -> SysResult<OwnedFd> {
    let recursive = if source.recursive {
        libc::AT_RECURSIVE as u32
    } else {
        0
    };
    let flags = libc::OPEN_TREE_CLONE | recursive;
    if let Some(namespace) = &source.namespace {
        return clone_elsewhere(namespace.as_raw_fd(), &source.path, flags);
    }
    let Some(subpath) = &source.subpath else {
        return sys::open_tree(libc::AT_FDCWD, &source.path, flags);
    };
    let top = sys::openat2(libc::AT_FDCWD, &source.path, libc::O_PATH, 0, 0)?;
    clone_inside(top.as_raw_fd(), subpath, flags)
}

/// Clones a mount of another mount namespace, whose root the path is resolved beneath.
fn clone_elsewhere(namespace: RawFd, path: &CStr, flags: u32) -> SysResult<OwnedFd> {
    let own = sys::openat2(libc::AT_FDCWD, c"/proc/self/ns/mnt", 0, 0, 0)?;
    sys::setns(namespace, libc::CLONE_NEWNS)?;
    let clone = sys::openat2(libc::AT_FDCWD, c"/", libc::O_PATH, 0, 0).and_then(|root| {
        let inside = sys::openat2(root.as_raw_fd(), path, libc::O_PATH, 0, IN_ROOT)?;
        sys::open_tree(inside.as_raw_fd(), c"", flags | EMPTY_PATH)
    });
    sys::setns(own.as_raw_fd(), libc::CLONE_NEWNS)?;
    clone
}

/// Clones the mount of a path inside a directory; links in the path lead nowhere outside of it.
fn clone_inside(top: RawFd, subpath: &CStr, flags: u32) -> SysResult<OwnedFd> {
    let inside = sys::openat2(top, subpath, libc::O_PATH, 0, IN_ROOT)?;
    sys::open_tree(inside.as_raw_fd(), c"", flags | EMPTY_PATH)
}

/// Mounts layers where nobody else sees it, takes a copy of the mount, and unmounts them again.
fn mount_layers(plan: &MountsPlan, source: &SourcePlan, layers: &CStr) -> SysResult<OwnedFd> {
    // SAFETY: all strings are null-terminated and outlive the calls.
    unsafe {
        sys::check(libc::chdir(source.path.as_ptr()).into())?;
        let staging = plan.staging.as_ptr();
        let overlay = c"overlay".as_ptr();
        let result = libc::mount(
            overlay,
            staging,
            overlay,
            libc::MS_RDONLY,
            layers.as_ptr().cast(),
        );
        sys::check(result.into())?;
    }
    let flags = libc::OPEN_TREE_CLONE;
    let mount = sys::openat2(libc::AT_FDCWD, &plan.staging, libc::O_PATH, 0, 0).and_then(|top| {
        let subpath = source.subpath.as_deref().unwrap_or(c".");
        clone_inside(top.as_raw_fd(), subpath, flags)
    });
    // SAFETY: both strings are null-terminated.
    unsafe {
        sys::check(libc::umount2(plan.staging.as_ptr(), libc::MNT_DETACH).into())?;
        sys::check(libc::chdir(c"/".as_ptr()).into())?;
    }
    mount
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

fn take_source(plan: &MountsPlan, index: usize) -> SysResult<OwnedFd> {
    let source = plan.sources.get(index).ok_or(libc::EINVAL)?;
    let fd = source.fd.replace(-1);
    if fd < 0 {
        return Err(libc::EBADF);
    }
    // SAFETY: the descriptor was made by `mount_root` and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

/// Hides and write-protects what the container must not have.
pub fn restrict(plan: &MountsPlan, root: RawFd, position: &mut Position) -> SysResult<()> {
    for (index, path) in plan.readonly.iter().enumerate() {
        position.at_item(Stage::Readonly, index);
        make_readonly(root, path)?;
    }
    let null = if plan.masked.is_empty() {
        None
    } else {
        position.at(Stage::Mask);
        Some(open_null()?)
    };
    let mut empty = None;
    for (index, path) in plan.masked.iter().enumerate() {
        position.at_item(Stage::Mask, index);
        if let Some(null) = &null {
            mask(root, path, null.as_raw_fd(), &mut empty)?;
        }
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        if mount.fd.get() >= 0 {
            position.at_item(Stage::Mount, index);
            sys::mount_setattr(mount.fd.get(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
        }
    }
    if plan.root_readonly {
        position.at(Stage::Root);
        sys::mount_setattr(root, libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    }
    Ok(())
}

fn make_readonly(root: RawFd, path: &CStr) -> SysResult<()> {
    let place = match sys::openat2(root, path, libc::O_PATH, 0, IN_ROOT) {
        Err(libc::ENOENT) => return Ok(()),
        place => place?,
    };
    let flags = libc::OPEN_TREE_CLONE | EMPTY_PATH | libc::AT_RECURSIVE as u32;
    let mount = sys::open_tree(place.as_raw_fd(), c"", flags)?;
    sys::mount_setattr(mount.as_raw_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, true)?;
    sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd())
}

/// Opens the host's `/dev/null` and makes sure that it is the null device (CVE-2025-31133).
fn open_null() -> SysResult<OwnedFd> {
    let null = sys::openat2(
        libc::AT_FDCWD,
        c"/dev/null",
        libc::O_PATH | libc::O_NOFOLLOW,
        0,
        libc::RESOLVE_NO_SYMLINKS,
    )?;
    let stat = sys::fstat(null.as_raw_fd())?;
    let is_null =
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
    if is_null { Ok(null) } else { Err(libc::ENODEV) }
}

fn mask(root: RawFd, path: &CStr, null: RawFd, empty: &mut Option<OwnedFd>) -> SysResult<()> {
    let place = match sys::openat2(root, path, libc::O_PATH, 0, IN_ROOT) {
        Err(libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        place => place?,
    };
    let clone = libc::OPEN_TREE_CLONE | EMPTY_PATH;
    if !is_directory(place.as_raw_fd())? {
        let mount = sys::open_tree(null, c"", clone)?;
        // Read-only, so that nobody inside changes mode or owner of the host's node.
        let attributes =
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        sys::mount_setattr(mount.as_raw_fd(), attributes, 0, 0, false)?;
        return sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd());
    }
    if let Some(first) = empty {
        let mount = sys::open_tree(first.as_raw_fd(), c"", clone)?;
        return sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd());
    }
    let fs = sys::fsopen(c"tmpfs")?;
    sys::fsconfig(fs.as_raw_fd(), c"nr_blocks", Some(c"1"))?;
    sys::fsconfig(fs.as_raw_fd(), c"nr_inodes", Some(c"1"))?;
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let mount = sys::fsmount(fs.as_raw_fd(), attributes)?;
    sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd())?;
    *empty = Some(mount);
    Ok(())
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

/// Opens a path beneath the root, making what is missing: directories (0755), and in the last
/// place a directory or an empty file.
pub fn ensure_target(
    root: RawFd,
    path: &CStr,
    directory: bool,
    resolve: u64,
) -> SysResult<OwnedFd> {
    ensure_following(root, path.to_bytes(), directory, resolve, MAX_LINKS)
}

fn ensure_following(
    root: RawFd,
    path: &[u8],
    directory: bool,
    resolve: u64,
    links: u32,
) -> SysResult<OwnedFd> {
    let mut buffer = [0_u8; PATH_BYTES];
    let whole = terminated(&mut buffer, path)?;
    match sys::openat2(root, whole, libc::O_PATH, 0, resolve) {
        Err(libc::ENOENT) => {}
        result => return result,
    }
    let mut parent = sys::openat2(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0, resolve)?;
    let mut end = 0;
    while end < path.len() {
        let start = end + usize::from(path.get(end) == Some(&b'/'));
        end = path
            .iter()
            .skip(start)
            .position(|byte| *byte == b'/')
            .map_or(path.len(), |length| start + length);
        let prefix = path.get(..end).ok_or(libc::EINVAL)?;
        let name = path.get(start..end).ok_or(libc::EINVAL)?;
        if name.is_empty() {
            continue;
        }
        let step = terminated(&mut buffer, prefix)?;
        match sys::openat2(root, step, libc::O_PATH, 0, resolve) {
            Ok(opened) => {
                parent = opened;
                continue;
            }
            Err(libc::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let last = end == path.len();
        match make(parent.as_raw_fd(), name, directory || !last) {
            Ok(made) => parent = made,
            // It exists and leads nowhere: a dangling symlink. Make what it points at.
            Err(libc::EEXIST) if links > 0 && resolve & libc::RESOLVE_NO_SYMLINKS == 0 => {
                let before = path.get(..start).ok_or(libc::EINVAL)?;
                let after = path.get(end..).ok_or(libc::EINVAL)?;
                let mut target = [0_u8; PATH_BYTES];
                let length = follow(parent.as_raw_fd(), name, before, after, &mut target)?;
                let target = target.get(..length).ok_or(libc::EINVAL)?;
                return ensure_following(root, target, directory, resolve, links - 1);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(parent)
}

/// Makes one name in a directory and opens it.
fn make(parent: RawFd, name: &[u8], directory: bool) -> SysResult<OwnedFd> {
    let mut buffer = [0_u8; PATH_BYTES];
    let name = terminated(&mut buffer, name)?;
    // SAFETY: the name is null-terminated; a descriptor returned is ours.
    unsafe {
        if directory {
            sys::check(libc::mkdirat(parent, name.as_ptr(), 0o755).into())?;
        } else {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let fd = libc::openat(parent, name.as_ptr(), flags, 0o755);
            drop(OwnedFd::from_raw_fd(sys::check(fd.into())? as RawFd));
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let fd = libc::openat(parent, name.as_ptr(), flags);
        Ok(OwnedFd::from_raw_fd(sys::check(fd.into())? as RawFd))
    }
}

/// Writes the path a symlink stands for into `target`; returns its length.
fn follow(
    parent: RawFd,
    name: &[u8],
    before: &[u8],
    after: &[u8],
    target: &mut [u8; PATH_BYTES],
) -> SysResult<usize> {
    let mut buffer = [0_u8; PATH_BYTES];
    let name = terminated(&mut buffer, name)?;
    let mut link = [0_u8; PATH_BYTES];
    // SAFETY: the buffer is writable for its whole length.
    let length =
        unsafe { libc::readlinkat(parent, name.as_ptr(), link.as_mut_ptr().cast(), link.len()) };
    let length = sys::check(length as libc::c_long)? as usize;
    let link = link.get(..length).ok_or(libc::ENAMETOOLONG)?;
    let before: &[u8] = if link.first() == Some(&b'/') {
        b""
    } else {
        before
    };
    let mut used = 0;
    for part in [before, link, after] {
        let room = target.get_mut(used..used + part.len());
        room.ok_or(libc::ENAMETOOLONG)?.copy_from_slice(part);
        used += part.len();
    }
    Ok(used)
}

fn terminated<'a>(buffer: &'a mut [u8; PATH_BYTES], path: &[u8]) -> SysResult<&'a CStr> {
    if path.len() >= PATH_BYTES {
        return Err(libc::ENAMETOOLONG);
    }
    buffer.fill(0);
    if let Some(room) = buffer.get_mut(..path.len()) {
        room.copy_from_slice(path);
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| libc::EINVAL)
}
