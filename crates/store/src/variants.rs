//! Layers that depend on what lies below them.
//!
//! A layer is unpacked without its parents. Two things then need the layers below: a directory that the
//! tar only implied must not hide the mode and owner it has there, and a hard link to a file of a lower
//! layer can only be made on top of it (design §3). Where a chain needs either, the layer gets a variant:
//! a copy that shares all files by hard link and differs in just that.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rusqlite::{OptionalExtension, Row};
use wharf_image::{DiffId, Digest, Hasher};
use wharf_safefs::{CopyOptions, FileType, FsError, Metadata, Root, trusted};

use crate::db::{Durability, digest_column, paths_from_bytes, sql_size};
use crate::error::{Kind, Result, StoreError};
use crate::layers::check_chain_length;
use crate::layout::FILES;
use crate::staging::Staging;
use crate::store::Store;

/// What a directory has that the tar only implied.
const IMPLIED_MODE: u32 = 0o755;
/// Overlayfs' own attributes say how a layer lies on those below; they are not inherited
/// (kernel, filesystems/overlayfs.rst).
const OVERLAY_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const OPAQUE: &str = "trusted.overlay.opaque";

/// What of a layer depends on those below.
struct Dependent {
    number: i64,
    diff_id: DiffId,
    implied_dirs: Vec<PathBuf>,
    pending_links: Vec<(PathBuf, PathBuf)>,
    hides_lower: bool,
}

/// Attributes that an implied directory takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inherited {
    path: PathBuf,
    metadata: Metadata,
    attributes: Vec<(OsString, Vec<u8>)>,
}

/// A hard link to a file of a lower layer, by its place among the resolved ones.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    path: PathBuf,
    target: PathBuf,
    lower: usize,
}

/// How a variant differs from its layer.
#[derive(Debug, Default)]
struct Corrections {
    directories: Vec<Inherited>,
    links: Vec<Link>,
}

/// A layer of a chain after resolution: its number or its variant's.
struct Resolved {
    number: i64,
    root: Root,
}

impl Store {
    /// Returns the directories of a chain for mounting, lowest first. Makes variants where the chain
    /// needs them; most layers need none. Layers below one that hides all of them are left out:
    /// overlayfs does not look for an opaque mark on a layer's top directory.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names a missing layer, [`StoreError::LinkTargetMissing`] a hard link that
    /// leads nowhere on this chain.
    pub fn layer_dirs(&self, diff_ids: &[DiffId]) -> Result<Vec<PathBuf>> {
        check_chain_length(diff_ids)?;
        let mut layers = diff_ids
            .iter()
            .map(|diff_id| self.dependent(diff_id))
            .collect::<Result<Vec<_>>>()?;
        let lowest = layers
            .iter()
            .rposition(|layer| layer.hides_lower)
            .unwrap_or(0);
        layers.drain(..lowest);
        if layers.iter().all(Dependent::is_independent) {
            return Ok(layers
                .iter()
                .map(|layer| self.inner.layout.layer_files(layer.number))
                .collect());
        }
        let mut resolved: Vec<Resolved> = Vec::with_capacity(layers.len());
        for layer in &layers {
            let number = self.resolve_layer(layer, &resolved)?;
            let root = Root::open(self.inner.layout.layer_files(number))?;
            resolved.push(Resolved { number, root });
        }
        Ok(resolved
            .iter()
            .map(|layer| self.inner.layout.layer_files(layer.number))
            .collect())
    }

    fn dependent(&self, diff_id: &DiffId) -> Result<Dependent> {
        self.inner.database.read("look up a layer", |connection| {
            let sql = "SELECT number, diff_id, implied_dirs, pending_links, hides_lower FROM layers WHERE diff_id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row([diff_id.to_string()], dependent_row).optional()?;
            found.ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))
        })
    }

    /// Returns the number of the directory that stands for `layer` on top of `lowers`.
    fn resolve_layer(&self, layer: &Dependent, lowers: &[Resolved]) -> Result<i64> {
        if layer.is_independent() {
            return Ok(layer.number);
        }
        let corrections = find_corrections(layer, lowers)?;
        if corrections.directories.is_empty() && corrections.links.is_empty() {
            return Ok(layer.number);
        }
        let key = corrections.key(lowers);
        if let Some(number) = self.find_variant(&layer.diff_id, &key)? {
            return Ok(number);
        }
        let staging = self.build_variant(layer, &corrections, lowers)?;
        self.publish_variant(staging, layer, &key)
    }

    fn find_variant(&self, diff_id: &DiffId, key: &Digest) -> Result<Option<i64>> {
        self.inner
            .database
            .read("look up a layer variant", |connection| {
                let sql = "SELECT number FROM variants WHERE diff_id = ?1 AND corrections = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement
                    .query_row([diff_id.to_string(), key.to_string()], |row| row.get(0))
                    .optional()?)
            })
    }

    fn build_variant(
        &self,
        layer: &Dependent,
        corrections: &Corrections,
        lowers: &[Resolved],
    ) -> Result<Staging> {
        let staging = self.stage()?;
        let from = Root::open(self.inner.layout.layer_files(layer.number))?;
        let options = CopyOptions {
            hard_link: true,
            ..CopyOptions::default()
        };
        wharf_safefs::copy_tree(&from, staging.root(), &options)?;
        for directory in &corrections.directories {
            inherit(staging.root(), directory)?;
        }
        for link in &corrections.links {
            if let Some(lower) = lowers.get(link.lower) {
                make_link(staging.root(), link, &lower.root)?;
            }
        }
        Ok(staging)
    }

    fn publish_variant(&self, staging: Staging, layer: &Dependent, key: &Digest) -> Result<i64> {
        let disk_bytes = own_disk_bytes(staging.path())?;
        let number = self.inner.next_layer_number();
        let place = self.inner.layout.layer(number);
        staging.publish(&place)?;
        let inserted = self.inner.database.write(Durability::Process, "publish a layer variant", |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO variants (number, diff_id, corrections, disk_bytes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (diff_id, corrections) DO NOTHING",
            )?;
            Ok(statement.execute((number, layer.diff_id.to_string(), key.to_string(), sql_size(disk_bytes)))? == 1)
        });
        match inserted {
            Ok(true) => Ok(number),
            other => {
                self.inner.discard(&place)?;
                other?;
                // Another thread made the same one first.
                self.find_variant(&layer.diff_id, key)?
                    .ok_or_else(|| StoreError::not_found(Kind::Layer, layer.diff_id))
            }
        }
    }
}

fn dependent_row(row: &Row<'_>) -> rusqlite::Result<Dependent> {
    let paths = |index| -> rusqlite::Result<Vec<PathBuf>> {
        let bytes: Option<Vec<u8>> = row.get(index)?;
        Ok(paths_from_bytes(&bytes.unwrap_or_default()))
    };
    let mut links = paths(3)?.into_iter();
    Ok(Dependent {
        number: row.get(0)?,
        diff_id: digest_column(row, 1)?,
        implied_dirs: paths(2)?,
        pending_links: std::iter::from_fn(|| links.next().zip(links.next())).collect(),
        hides_lower: row.get(4)?,
    })
}

impl Dependent {
    fn is_independent(&self) -> bool {
        self.implied_dirs.is_empty() && self.pending_links.is_empty()
    }
}

impl Corrections {
    /// Names a variant by all that makes it differ from its layer.
    fn key(&self, lowers: &[Resolved]) -> Digest {
        let mut hasher = Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for directory in &self.directories {
            let metadata = &directory.metadata;
            field(b"directory");
            field(directory.path.as_os_str().as_bytes());
            field(format!("{:o} {} {}", metadata.mode, metadata.uid, metadata.gid).as_bytes());
            for (name, value) in &directory.attributes {
                field(name.as_bytes());
                field(value);
            }
        }
        for link in &self.links {
            field(b"link");
            field(link.path.as_os_str().as_bytes());
            field(link.target.as_os_str().as_bytes());
            let number = lowers.get(link.lower).map_or(0, |lower| lower.number);
            field(&number.to_le_bytes());
        }
        // Writing to a hasher cannot fail.
        let _ = hasher.flush();
        hasher.finish()
    }
}

fn find_corrections(layer: &Dependent, lowers: &[Resolved]) -> Result<Corrections> {
    let mut corrections = Corrections::default();
    for path in &layer.implied_dirs {
        if let Some((_, root, metadata)) = find_below(lowers, path)?
            && metadata.is_dir()
        {
            let inherited = Inherited {
                path: path.clone(),
                metadata,
                attributes: inheritable(root, path)?,
            };
            if !inherited.is_as_implied() {
                corrections.directories.push(inherited);
            }
        }
    }
    for (path, target) in &layer.pending_links {
        match find_below(lowers, target)? {
            Some((lower, _, metadata)) if !metadata.is_dir() => {
                corrections.links.push(Link {
                    path: path.clone(),
                    target: target.clone(),
                    lower,
                });
            }
            _ => {
                return Err(StoreError::LinkTargetMissing {
                    diff_id: layer.diff_id,
                    link: path.clone(),
                    target: target.clone(),
                });
            }
        }
    }
    Ok(corrections)
}

impl Inherited {
    fn is_as_implied(&self) -> bool {
        let metadata = &self.metadata;
        metadata.mode == IMPLIED_MODE
            && metadata.uid == 0
            && metadata.gid == 0
            && self.attributes.is_empty()
    }
}

/// Returns the topmost of `lowers` that shows something at `path`, as overlayfs would merge them.
fn find_below<'a>(
    lowers: &'a [Resolved],
    path: &Path,
) -> Result<Option<(usize, &'a Root, Metadata)>> {
    for (index, lower) in lowers.iter().enumerate().rev() {
        match look(&lower.root, path)? {
            Look::Found(metadata) => return Ok(Some((index, &lower.root, metadata))),
            Look::Hidden => return Ok(None),
            Look::Absent => {}
        }
    }
    Ok(None)
}

enum Look {
    Found(Metadata),
    /// A whiteout, an opaque directory or another kind of file hides what lies below.
    Hidden,
    Absent,
}

fn look(root: &Root, path: &Path) -> Result<Look> {
    let mut at = PathBuf::new();
    let mut hides = false;
    let mut found = None;
    let mut names = path
        .components()
        .filter(|name| matches!(name, Component::Normal(_)))
        .peekable();
    while let Some(name) = names.next() {
        at.push(name);
        let Some(metadata) = root.lstat_optional(&at)? else {
            return Ok(if hides { Look::Hidden } else { Look::Absent });
        };
        if metadata.is_whiteout() || (names.peek().is_some() && !metadata.is_dir()) {
            return Ok(Look::Hidden);
        }
        if metadata.is_dir() {
            hides |= root.xattr(&at, OPAQUE)?.is_some_and(|value| value == b"y");
        }
        found = Some(metadata);
    }
    Ok(found.map_or(Look::Absent, Look::Found))
}

fn inheritable(root: &Root, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for name in root.xattrs(path)? {
        if OVERLAY_PREFIXES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix))
        {
            continue;
        }
        if let Some(value) = root.xattr(path, &name)? {
            attributes.push((name, value));
        }
    }
    Ok(attributes)
}

fn inherit(root: &Root, directory: &Inherited) -> Result<()> {
    let path = &directory.path;
    let metadata = &directory.metadata;
    root.chown(path, metadata.uid, metadata.gid)?;
    root.chmod(path, metadata.mode)?;
    for (name, value) in &directory.attributes {
        root.set_xattr(path, name, value)?;
    }
    Ok(root.set_times(path, metadata.atime, metadata.mtime)?)
}

/// Makes a hard link without changing the times of the directory it is in.
fn make_link(root: &Root, link: &Link, lower: &Root) -> Result<()> {
    let parent = link.path.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        root.mkdir_all(parent, IMPLIED_MODE, None)?;
    }
    let before = root.stat(parent)?;
    match lower.hard_link_to(&link.target, root, &link.path) {
        // A second name for the same file may stand there from the copy.
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    if !parent.as_os_str().is_empty() {
        root.set_times(parent, before.atime, before.mtime)?;
    }
    Ok(())
}

/// Counts what a variant takes beyond its layer: the directories, since all else is hard links.
fn own_disk_bytes(path: &Path) -> Result<u64> {
    let root = Root::open(path)?;
    let mut disk_bytes = trusted::symlink_metadata(path)?.blocks * 512;
    let mut stack = vec![PathBuf::from(FILES)];
    while let Some(at) = stack.pop() {
        let (directory, entries) = root.open_and_list(&at)?;
        disk_bytes += directory.metadata()?.blocks * 512;
        let below = entries
            .into_iter()
            .filter(|entry| entry.file_type == FileType::Directory);
        stack.extend(below.map(|entry| at.join(entry.name)));
    }
    Ok(disk_bytes)
}
