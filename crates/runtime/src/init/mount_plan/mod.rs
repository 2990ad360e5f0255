//! The container's mounts, prepared from the OCI form.

pub mod devices;
pub mod paths;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use wharf_safefs::trusted;

use crate::cgroup::Cgroup;
use crate::error::{Result, RuntimeError};
use crate::init::mount_plan::devices::{DevicePlan, plan_devices};
use crate::init::mount_plan::paths::{inside_path, inside_paths, path_string};
use crate::init::options::{MountOptions, propagation};
use crate::init::overlay::{RootPlan, plan_root};
use crate::init::plan::c_string;
use crate::request::RootMount;

/// The most mounts of one container.
pub const MAX_MOUNTS: usize = 4096;

/// The root and all that is mounted below it, in order.
pub struct MountsPlan {
    /// The root file system.
    pub root: RootPlan,
    /// An existing directory of wharf's own that the root is mounted over, in the container's
    /// mount namespace only.
    pub staging: CString,
    /// Sources of bind mounts, opened before anything is mounted.
    pub sources: Vec<SourcePlan>,
    /// The mounts, parents first.
    pub mounts: Vec<MountPlan>,
    /// Device nodes; none where `/dev` is not the container's own.
    pub devices: Option<Vec<DevicePlan>>,
    /// Paths hidden from the container, from its root.
    pub masked: Vec<CString>,
    /// Paths made read-only, from its root.
    pub readonly: Vec<CString>,
    /// Whether the root is read-only in the end.
    pub root_readonly: bool,
    /// The root's propagation in the end (`MS_*`).
    pub root_propagation: Option<u64>,
}

/// A path of the host that is mounted into the container.
pub struct SourcePlan {
    /// The path on the host; of layers, their common parent.
    pub path: CString,
    /// Options for `mount(2)` where the source is an overlay of layers, with names relative to `path`.
    pub layers: Option<CString>,
    /// What of it is mounted, if not all.
    pub subpath: Option<CString>,
    /// The mount namespace that the path is in, if not the host's.
    pub namespace: Option<OwnedFd>,
    /// Whether mounts below it come along.
    pub recursive: bool,
    /// The detached copy; set by the child.
    pub fd: std::cell::Cell<i32>,
}

/// One mount.
pub struct MountPlan {
    /// Where, from the container's root.
    pub target: CString,
    /// What, for errors.
    pub source_text: String,
    /// What.
    pub kind: MountKind,
    /// Whether the new file system gets the mode of the directory that it hides.
    pub keeps_mode: bool,
    /// Whether no symlink may lead to the target (`/proc`, `/sys`).
    pub strict: bool,
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MOUNT_ATTR_*` bits to set on everything below too.
    pub set_recursive: u64,
    /// Propagation (`MS_*` without `MS_REC`), and whether for everything below too.
    pub propagation: Option<(u64, bool)>,
    /// Whether the mount turns read-only only after devices and mount points in it were made.
    pub readonly_late: bool,
    /// The attached mount; set by the child where `readonly_late`.
    pub fd: std::cell::Cell<i32>,
}

/// What is mounted.
pub enum MountKind {
    /// A bind of the numbered source.
    Bind(usize),
    /// A new file system.
    New {
        /// Its name.
        filesystem: CString,
        /// Its parameters.
        parameters: Vec<(CString, Option<CString>)>,
    },
    /// The control groups of a version 1 host: a small tmpfs with one bind for each hierarchy.
    CgroupV1 {
        /// Directory name and numbered source.
        hierarchies: Vec<(CString, usize)>,
        /// Symlink name and target, for controllers that share a hierarchy.
        links: Vec<(CString, CString)>,
    },
}

/// Prepares a container's mounts.
///
/// # Errors
/// [`RuntimeError::Invalid`] and [`RuntimeError::Unsupported`], naming the mount.
pub fn plan_mounts(
    spec: &Spec,
    root: &RootMount,
    state_dir: &Path,
    cgroup: &Cgroup,
) -> Result<MountsPlan> {
    let mut plan = MountsPlan {
        root: plan_root(root)?,
        staging: path_string("state directory", state_dir)?,
        sources: Vec::new(),
        mounts: Vec::new(),
        devices: None,
        masked: Vec::new(),
        readonly: Vec::new(),
        root_readonly: spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly)
            .unwrap_or(false),
        root_propagation: None,
    };
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    if mounts.len() > MAX_MOUNTS {
        let reason = format!("{} of at most {MAX_MOUNTS}", mounts.len());
        return Err(RuntimeError::invalid("mounts", reason));
    }
    for mount in mounts {
        let planned = plan_mount(mount, &mut plan.sources, cgroup)?;
        plan.mounts.push(planned);
    }
    let own_dev = plan.mounts.iter().any(|mount| {
        mount.target.as_bytes() == b"dev" && matches!(mount.kind, MountKind::New { .. })
    });
    let Some(linux) = spec.linux().as_ref() else {
        return Ok(plan);
    };
    if own_dev {
        plan.devices = Some(plan_devices(
            linux.devices().as_deref().unwrap_or_default(),
        )?);
    }
    plan.masked = inside_paths("masked path", linux.masked_paths().as_deref())?;
    plan.readonly = inside_paths("read-only path", linux.readonly_paths().as_deref())?;
    plan.root_propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => None,
        Some(name) => Some(propagation(name).map(|(flag, _)| flag).ok_or_else(|| {
            RuntimeError::invalid("rootfsPropagation", format!("{name} is not known"))
        })?),
    };
    Ok(plan)
}

fn plan_mount(mount: &Mount, sources: &mut Vec<SourcePlan>, cgroup: &Cgroup) -> Result<MountPlan> {
    let target = inside_path("mount destination", mount.destination())?;
    if target.as_bytes() == b"." {
        let reason = "destination can't be '/'".to_owned();
        return Err(RuntimeError::invalid("mount", reason));
    }
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(RuntimeError::Unsupported {
            what: "an id-mapped mount".to_owned(),
        });
    }
    let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default())?;
    let kind_name = mount.typ().as_deref().unwrap_or("none");
    let source = mount.source().as_deref();
    let is_bind = options.bind || kind_name == "bind";
    let kind = if is_bind {
        let source = source.ok_or_else(|| {
            RuntimeError::invalid("mount", format!("{target:?} is a bind without a source"))
        })?;
        let index = add_source(sources, source, options.recursive)?;
        refine_source(sources, index, &options)?;
        MountKind::Bind(index)
    } else if kind_name == "overlay" && options.data.len() == 1 {
        let index = add_layers(sources, &options)?;
        refine_source(sources, index, &options)?;
        MountKind::Bind(index)
    } else if kind_name == "cgroup" || kind_name == "cgroup2" {
        plan_cgroup(sources, cgroup)?
    } else {
        plan_new(kind_name, source, &options)?
    };
    let readonly_late = target.as_bytes() == b"dev" && !is_bind && options.is_readonly();
    let has_mode = options
        .data
        .iter()
        .any(|option| option.starts_with("mode="));
    Ok(MountPlan {
        keeps_mode: kind_name == "tmpfs" && !is_bind && !has_mode,
        strict: matches!(kind_name, "proc" | "sysfs") && !is_bind,
        source_text: source.map_or_else(
            || kind_name.to_owned(),
            |source| source.display().to_string(),
        ),
        set: if readonly_late {
            options.set & !libc::MOUNT_ATTR_RDONLY
        } else {
            options.set
        },
        clear: options.clear,
        set_recursive: options.set_recursive,
        propagation: options.propagation,
        readonly_late,
        fd: std::cell::Cell::new(-1),
        target,
        kind,
    })
}

fn add_source(sources: &mut Vec<SourcePlan>, path: &Path, recursive: bool) -> Result<usize> {
    if !path.is_absolute() {
        let reason = format!("source {} is not an absolute path", path.display());
        return Err(RuntimeError::invalid("mount", reason));
    }
    sources.push(SourcePlan {
        path: path_string("mount source", path)?,
        layers: None,
        subpath: None,
        namespace: None,
        recursive,
        fd: std::cell::Cell::new(-1),
    });
    Ok(sources.len() - 1)
}

fn refine_source(sources: &mut [SourcePlan], index: usize, options: &MountOptions) -> Result<()> {
    let Some(source) = sources.get_mut(index) else {
        return Ok(());
    };
    if !options.subpath.is_empty() {
        source.subpath = Some(c_string("subpath", &options.subpath)?);
    }
    if !options.namespace.is_empty() {
        source.namespace = Some(OwnedFd::from(trusted::open(&options.namespace)?));
    }
    Ok(())
}

/// Adds layers that are mounted read-only, as `lowerdir=` lists them.
fn add_layers(sources: &mut Vec<SourcePlan>, options: &MountOptions) -> Result<usize> {
    let list = options
        .data
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="));
    let (Some(list), 1) = (list, options.data.len()) else {
        return Err(RuntimeError::Unsupported {
            what: "an overlay mount with other options than lowerdir".to_owned(),
        });
    };
    let lower_dirs: Vec<PathBuf> = list.split(':').rev().map(PathBuf::from).collect();
    let (path, layers) = match plan_root(&RootMount::Overlay {
        lower_dirs,
        upper: None,
        work: None,
        volatile: false,
    })? {
        RootPlan::Directory { path, .. } => (path, None),
        RootPlan::Overlay { base, options } => (base, Some(options)),
    };
    sources.push(SourcePlan {
        path,
        layers,
        subpath: None,
        namespace: None,
        recursive: false,
        fd: std::cell::Cell::new(-1),
    });
    Ok(sources.len() - 1)
}

fn plan_cgroup(sources: &mut Vec<SourcePlan>, cgroup: &Cgroup) -> Result<MountKind> {
    if cgroup.is_v2() {
        // With a namespace of its own the container's group is the root of what it sees.
        return if cgroup.namespace() {
            Ok(MountKind::New {
                filesystem: CString::from(c"cgroup2"),
                parameters: Vec::new(),
            })
        } else {
            Ok(MountKind::Bind(add_source(
                sources,
                cgroup.v2_mount(),
                true,
            )?))
        };
    }
    let mut hierarchies = Vec::new();
    let mut links = Vec::new();
    for hierarchy in cgroup.v1_hierarchies() {
        let name = hierarchy.directory_name();
        let source = add_source(sources, &hierarchy.directory(cgroup.path()), false)?;
        hierarchies.push((c_string("control group", name)?, source));
        for controller in &hierarchy.controllers {
            if controller != name && !controller.starts_with("name=") {
                let link = c_string("control group", controller)?;
                links.push((link, c_string("control group", name)?));
            }
        }
    }
    Ok(MountKind::CgroupV1 { hierarchies, links })
}

fn plan_new(kind: &str, source: Option<&Path>, options: &MountOptions) -> Result<MountKind> {
    let mut parameters = Vec::with_capacity(options.data.len() + 1);
    if let Some(source) = source {
        parameters.push((
            CString::from(c"source"),
            Some(path_string("mount source", source)?),
        ));
    }
    for option in &options.data {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(c_string("mount option", value)?)),
            None => (option.as_str(), None),
        };
        parameters.push((c_string("mount option", key)?, value));
    }
    Ok(MountKind::New {
        filesystem: c_string("file system type", kind)?,
        parameters,
    })
}
