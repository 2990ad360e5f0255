//! A container's file system seen from outside: running or not (DESIGN invariant 4).

use super::create::{fs_error, open_inside, store_error};
use super::runtime_error;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::container::{Container, MountPoint};
use crate::volume_mounts::VolumeUse;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wharf_image::DiffId;
use wharf_runtime::RootMount;
use wharf_safefs::Root;

/// A view of a container's files with its volumes and binds in place.
pub(crate) struct ContainerFiles {
    root: Root,
    /// Mounts that the view itself does not show, deepest first.
    mounts: Vec<Shown>,
    /// Keeps volumes mounted that are mounted only while they are used.
    _volumes: Vec<VolumeUse>,
}

/// A mount of a container that does not run.
struct Shown {
    destination: PathBuf,
    root: Root,
    read_write: bool,
}

impl ContainerFiles {
    /// Returns the root to work beneath for `path`, the path inside it, and whether it may be written.
    pub(crate) fn locate(&self, path: &Path) -> Result<(Root, PathBuf, bool)> {
        let absolute = match self.root.resolve(path) {
            Ok(resolved) => Path::new("/").join(resolved),
            Err(_) => path.to_owned(),
        };
        for mount in &self.mounts {
            if let Ok(rest) = absolute.strip_prefix(&mount.destination) {
                let root = mount.root.try_clone();
                let root = root.map_err(fs_error("cannot open the mount's source"))?;
                return Ok((root, Path::new("/").join(rest), mount.read_write));
            }
        }
        Ok((
            self.root
                .try_clone()
                .map_err(fs_error("cannot open the container's files"))?,
            path.to_owned(),
            true,
        ))
    }
}

impl Engine {
    /// Returns the directories of a stack of layers, lowest first.
    pub(crate) fn layer_dirs(&self, diff_ids: &[DiffId]) -> Result<Vec<PathBuf>> {
        self.store
            .layer_dirs(diff_ids)
            .map_err(store_error("cannot find the image's layers"))
    }

    /// Returns the directories of a container's image, lowest first; none when a layer is gone.
    pub async fn image_dirs_of(self: &Arc<Self>, container: &Arc<Container>) -> Vec<String> {
        let container = Arc::clone(container);
        let found = self.with_store(move |engine| engine.layer_dirs(&container.diff_ids));
        let directories = found.await.unwrap_or_default().into_iter();
        directories
            .map(|directory| directory.display().to_string())
            .collect()
    }

    /// Returns the overlay of a container's layers, mounted nowhere; `image_only` leaves its own layer out.
    pub(crate) fn detached_root(&self, container: &Container, image_only: bool) -> Result<Root> {
        let directory = Path::new(&container.directory);
        let lower_dirs = self.layer_dirs(&container.diff_ids)?;
        let mount = if image_only {
            RootMount::Overlay {
                lower_dirs,
                upper: None,
                work: None,
                volatile: false,
            }
        } else {
            RootMount::Overlay {
                lower_dirs,
                upper: Some(directory.join("upper")),
                work: Some(directory.join("work")),
                volatile: false,
            }
        };
        let fd = wharf_runtime::mount_detached(&mount, image_only)
            .map_err(runtime_error("cannot mount the container's files"))?;
        Ok(Root::from_fd(fd))
    }

    /// Opens a container's files: through its process when it runs, else by a detached mount.
    pub(crate) fn open_files(&self, container: &Container) -> Result<ContainerFiles> {
        if container.is_running() && container.state.pid != 0 {
            // A process that ended meanwhile has no root any more; its files are where a stopped container's are.
            if let Ok(fd) = wharf_runtime::open_root(container.state.pid) {
                return Ok(ContainerFiles {
                    root: Root::from_fd(fd),
                    mounts: Vec::new(),
                    _volumes: Vec::new(),
                });
            }
        }
        let mut files = ContainerFiles {
            root: self.detached_root(container, false)?,
            mounts: Vec::new(),
            _volumes: Vec::new(),
        };
        for mount in container.mounts.iter().filter(|m| m.kind != "tmpfs") {
            if mount.kind == "volume" {
                files._volumes.extend(self.use_volume(&mount.name)?);
            }
            // What a bind lost its source for shows what the image has there.
            if let Ok(root) = self.open_mount(mount) {
                files.mounts.push(Shown {
                    destination: PathBuf::from(&mount.destination),
                    root,
                    read_write: mount.read_write,
                });
            }
        }
        files
            .mounts
            .sort_by_key(|mount| std::cmp::Reverse(mount.destination.components().count()));
        Ok(files)
    }

    fn open_mount(&self, mount: &MountPoint) -> Result<Root> {
        if mount.kind != "image" {
            return open_inside(&mount.source, &mount.subpath);
        }
        let layers = RootMount::Overlay {
            lower_dirs: self.layer_dirs(&mount.image_layers)?,
            upper: None,
            work: None,
            volatile: false,
        };
        let fd = wharf_runtime::mount_detached(&layers, true)
            .map_err(runtime_error("cannot mount the image's files"))?;
        let root = Root::from_fd(fd);
        if mount.subpath.is_empty() {
            return Ok(root);
        }
        root.open_dir(Path::new(&mount.subpath))
            .map_err(fs_error("cannot open the path in the image"))
    }
}
