//! Copying files in and out, export, and the list of changes (spec engine-api §12).

use super::create::fs_error;
use crate::byte_stream::{self, ByteStream, ChunkReader};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use crate::model::view::{FileChange, FileChangeKind, PathStat};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wharf_safefs::{FileType, Metadata, Root};

/// Says how files are put into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchivePut {
    /// Refuses to replace a directory by a file and the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Gives the files to the container's user instead of the owners in the archive.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// Describes a path in a container; a symbolic link is described itself, with its target resolved.
    ///
    /// # Errors
    /// Docker's `Could not find the file …`.
    pub async fn archive_stat(self: &Arc<Self>, name: &str, path: &str) -> Result<PathStat> {
        let container = self.usable(name)?;
        let path = path.to_owned();
        let stat = {
            let container = Arc::clone(&container);
            self.with_store(move |engine| engine.stat_path(&container, &path))
                .await
        };
        self.unless_removed(name, &container, stat)
    }

    /// Streams a path of a container as a tar whose first entry is the path's base name.
    ///
    /// # Errors
    /// Docker's `Could not find the file …`.
    pub async fn archive_get(
        self: &Arc<Self>,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, ByteStream)> {
        let container = self.usable(name)?;
        let stat = self.archive_stat(name, path).await?;
        self.events.container(&container, "archive-path", []);
        let (engine, path) = (Arc::clone(self), path.to_owned());
        let stream = byte_stream::produce(move |out| {
            let files = engine.open_files(&container)?;
            let (root, inside, _) = files.locate(&absolute(&path))?;
            let inside = followed(&root, inside, &path)
                .map_err(|error| not_found_or(error, &container, &path))?;
            let name = if path.ends_with("/.") || path == "." {
                OsString::from(".")
            } else {
                base_name(&path)
            };
            let options = wharf_layer::PlainTarOptions {
                name: Some(name),
                ..Default::default()
            };
            wharf_layer::write_plain_tar(&root, &inside, out, &options).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, "cannot read the container's files", e)
            })?;
            Ok(())
        });
        Ok((stat, stream))
    }

    /// Unpacks a tar (any compression, decompressed in this process) into a directory of a container.
    ///
    /// # Errors
    /// A path that is no directory; a read-only root or mount; a broken tar.
    pub async fn archive_put(
        self: &Arc<Self>,
        name: &str,
        path: &str,
        options: ArchivePut,
        body: ByteStream,
    ) -> Result<()> {
        let container = self.usable(name)?;
        let (engine, path) = (Arc::clone(self), path.to_owned());
        let put = {
            let container = Arc::clone(&container);
            crate::engine::blocking(move || engine.put_path(&container, &path, options, body)).await
        };
        self.unless_removed(name, &container, put)?;
        self.sizes.forget_container(&container);
        self.events.container(&container, "extract-to-dir", []);
        Ok(())
    }

    fn put_path(
        &self,
        container: &Container,
        path: &str,
        options: ArchivePut,
        body: ByteStream,
    ) -> Result<()> {
        let files = self.open_files(container)?;
        let wanted = absolute(path);
        let (root, inside, writable) = files.locate(&wanted)?;
        let stat = root
            .stat(&inside)
            .map_err(|e| not_found_or(e, container, path))?;
        if !stat.is_dir() {
            return Err(EngineError::invalid("extraction point is not a directory"));
        }
        self.check_writable(container, &wanted, writable)?;
        let (_, reader) = wharf_layer::decompress(std::io::BufReader::new(ChunkReader::new(body)))
            .map_err(|e| EngineError::wrap(ErrorKind::Invalid, "cannot read the archive", e))?;
        // Only a user that was asked for takes the files from the owners in the archive.
        let owner = if options.copy_uid_gid && !container.config.user.is_empty() {
            Some(super::spec::owner_of(self, container)?)
        } else {
            None
        };
        let extract = wharf_layer::ExtractOptions {
            owner,
            no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
            best_effort_xattrs: true,
            keep_top: true,
            ..Default::default()
        };
        wharf_layer::extract(reader, &root, &inside, &extract)
            .map_err(|e| EngineError::wrap(ErrorKind::Invalid, "cannot unpack the archive", e))?;
        Ok(())
    }

    fn check_writable(&self, container: &Container, path: &Path, writable: bool) -> Result<()> {
        let mount = container
            .mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.destination))
            .max_by_key(|mount| mount.destination.len());
        match mount {
            Some(mount) if !mount.read_write || !writable => {
                Err(EngineError::invalid("mounted volume is marked read-only"))
            }
            None if container.host_config.readonly_rootfs => {
                Err(EngineError::invalid("container rootfs is marked read-only"))
            }
            _ => Ok(()),
        }
    }

    fn stat_path(&self, container: &Container, path: &str) -> Result<PathStat> {
        let files = self.open_files(container)?;
        let wanted = absolute(path);
        let (root, inside) = match wanted.file_name().filter(|_| !follows(path)) {
            Some(name) => {
                let parent = wanted.parent().unwrap_or(Path::new("/"));
                let (root, directory, _) = files.locate(parent)?;
                let inside = directory.join(name);
                match root.lstat(&inside) {
                    Ok(stat) if !stat.is_dir() => (root, inside),
                    // A mount point itself is described by what is mounted, also where the container was never
                    // started and the image has nothing there.
                    _ => {
                        let (root, inside, _) = files.locate(&wanted)?;
                        (root, inside)
                    }
                }
            }
            None => {
                let (root, inside, _) = files.locate(&wanted)?;
                let inside = followed(&root, inside, path)
                    .map_err(|error| not_found_or(error, container, path))?;
                (root, inside)
            }
        };
        let stat = root
            .lstat(&inside)
            .map_err(|e| not_found_or(e, container, path))?;
        if !stat.is_dir() && follows(path) {
            return Err(EngineError::invalid(format!(
                "lstat {path}: not a directory"
            )));
        }
        let described = describe(&root, &inside, &wanted, &stat);
        Ok(match path.ends_with("/.") {
            true => PathStat {
                name: ".".to_owned(),
                ..described
            },
            false => described,
        })
    }

    /// Streams a container's whole file system, without its mounts, as a tar.
    ///
    /// # Errors
    /// A container that is being removed.
    pub async fn export_container(self: &Arc<Self>, name: &str) -> Result<ByteStream> {
        let container = self.usable(name)?;
        self.events.container(&container, "export", []);
        let engine = Arc::clone(self);
        Ok(byte_stream::produce(move |out| {
            let root = engine.export_root(&container)?;
            let options = wharf_layer::PlainTarOptions {
                one_file_system: true,
                ..Default::default()
            };
            wharf_layer::write_plain_tar(&root, Path::new("/"), out, &options).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, "cannot read the container's files", e)
            })?;
            Ok(())
        }))
    }

    fn export_root(&self, container: &Container) -> Result<Root> {
        if container.is_running() && container.state.pid != 0 {
            // Else it ended meanwhile: its files are where a stopped container's are.
            if let Ok(fd) = wharf_runtime::open_root(container.state.pid) {
                return Ok(Root::from_fd(fd));
            }
        }
        self.detached_root(container, false)
    }

    /// Lists what a container changed against its image.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub async fn container_changes(self: &Arc<Self>, name: &str) -> Result<Vec<FileChange>> {
        let container = self.usable(name)?;
        let of = Arc::clone(&container);
        let changes = self.with_store(move |engine| {
            let container = of;
            let upper = Root::open(Path::new(&container.directory).join("upper"))
                .map_err(fs_error("cannot open the container's layer"))?;
            let lowers = engine.open_layers(&container.diff_ids)?;
            let excluded = super::commit::excluded_paths(&container);
            let changes = wharf_layer::changes(&upper, &lowers, &excluded).map_err(|e| {
                EngineError::wrap(
                    ErrorKind::Internal,
                    "cannot compare the container with its image",
                    e,
                )
            })?;
            Ok(changes.into_iter().map(file_change).collect())
        });
        let changes = changes.await;
        self.unless_removed(name, &container, changes)
    }

    /// Tells of a container that was removed in the meantime, where that may be why something failed.
    pub(crate) fn unless_removed<T>(
        &self,
        name: &str,
        container: &Container,
        result: Result<T>,
    ) -> Result<T> {
        let is_going = || match self.containers.find(&container.id) {
            Ok(entry) => entry.snapshot().state.status == Status::Removing,
            Err(_) => true,
        };
        match result {
            Err(error) if error.kind() == ErrorKind::Internal && is_going() => {
                Err(EngineError::not_found(format!("No such container: {name}")))
            }
            result => result,
        }
    }

    fn usable(&self, name: &str) -> Result<Arc<Container>> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Dead | Status::Removing => Err(EngineError::conflict(format!(
                "container {} is being removed or dead",
                container.id
            ))),
            _ => Ok(container),
        }
    }
}

fn file_change(change: wharf_layer::Change) -> FileChange {
    let kind = match change.kind {
        wharf_layer::ChangeKind::Added => FileChangeKind::Added,
        wharf_layer::ChangeKind::Modified => FileChangeKind::Modified,
        wharf_layer::ChangeKind::Deleted => FileChangeKind::Deleted,
    };
    FileChange {
        path: Path::new("/")
            .join(&change.path)
            .to_string_lossy()
            .into_owned(),
        kind,
    }
}

/// Returns a client's path from the root on, cleaned by its text.
fn absolute(path: &str) -> PathBuf {
    PathBuf::from(super::mounts::clean(&format!("/{path}")))
}

/// Tells whether a path asks for what a symbolic link names: by a separator or a dot at its end.
fn follows(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// Returns where a path leads, through a link at its end only where it asks for that.
fn followed(root: &Root, inside: PathBuf, path: &str) -> wharf_safefs::Result<PathBuf> {
    if follows(path) {
        root.resolve(&inside)
            .map(|resolved| Path::new("/").join(resolved))
    } else {
        Ok(inside)
    }
}

fn base_name(path: &str) -> OsString {
    Path::new(path.trim_end_matches('/'))
        .file_name()
        .map_or_else(|| OsString::from("/"), OsString::from)
}

fn describe(root: &Root, inside: &Path, wanted: &Path, stat: &Metadata) -> PathStat {
    let link_target = if stat.is_symlink() {
        let target = root.read_link(inside).unwrap_or_default();
        let parent = wanted.parent().unwrap_or(Path::new("/"));
        super::mounts::clean(&parent.join(target).to_string_lossy())
    } else {
        String::new()
    };
    PathStat {
        name: wanted.file_name().map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
        size_bytes: i64::try_from(stat.size_bytes).unwrap_or(i64::MAX),
        mode: stat.mode | type_bits(stat.file_type),
        modified_at_ns: stat
            .mtime
            .seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(stat.mtime.nanoseconds)),
        link_target,
    }
}

/// Returns the file type bits of `st_mode`.
const fn type_bits(kind: FileType) -> u32 {
    match kind {
        FileType::File | FileType::Unknown => 0o100_000,
        FileType::Directory => 0o040_000,
        FileType::Symlink => 0o120_000,
        FileType::CharDevice => 0o020_000,
        FileType::BlockDevice => 0o060_000,
        FileType::Fifo => 0o010_000,
        FileType::Socket => 0o140_000,
    }
}

fn not_found_or(error: wharf_safefs::FsError, container: &Container, path: &str) -> EngineError {
    if error.is_not_found() {
        return EngineError::not_found(format!(
            "Could not find the file {path} in container {}",
            container.name.trim_start_matches('/')
        ));
    }
    EngineError::wrap(ErrorKind::Internal, format!("cannot look at {path}"), error)
}
