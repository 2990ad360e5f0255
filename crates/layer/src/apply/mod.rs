//! Unpacking one layer tar into a directory in overlay form, without its lower layers.

mod object;
mod replace;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;

use wharf_image::DiffId;
use wharf_safefs::{FileType, Root, Timestamp};

use crate::canonical::CanonicalCheck;
use crate::error::LayerError;
use crate::limits::Limits;
use crate::place::{self, Attributes, Placing};
use crate::recipe::{Recipe, RecipeBuilder};
use crate::source::with_source;
use crate::tar::Entry;
use crate::tar::reader::TarReader;
use crate::tree::{Directory, Tree, as_path, clean, split};
use crate::whiteout::{self, LINK_DIRECTORY, Meaning, OPAQUE_USER_XATTR, OPAQUE_XATTR};

/// What a layer's directory holds, counted while it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSummary {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Sum of the apparent sizes of regular files, each inode once: docker's `Size`.
    pub size_bytes: u64,
    /// Number of entries in the tar.
    pub entries: u64,
    /// Length of the uncompressed tar.
    pub tar_bytes: u64,
}

/// How a layer is unpacked.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// How much the tar may ask for.
    pub limits: Limits,
    /// Mark opaque directories with `user.overlay.opaque`, for mounts in a user namespace.
    pub user_xattrs: bool,
    /// Leave device nodes out, as in a user namespace, where the kernel refuses them.
    pub skip_devices: bool,
}

/// What unpacking a layer gave.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Counts and digest.
    pub summary: LayerSummary,
    /// How to make the same tar again.
    pub recipe: Recipe,
    /// Directories the tar only implied (no entry of their own): made 0755, owner 0:0, time 0. Where a lower
    /// layer has the directory, its attributes must win. Sorted, parents first.
    pub implied_dirs: Vec<PathBuf>,
    /// Hard links whose target is not in this layer, in the tar's order: (link path, target path); not created.
    pub pending_links: Vec<(PathBuf, PathBuf)>,
    /// The layer hides everything below it. overlayfs does not look for the mark on a layer's top
    /// directory, so whoever stacks layers must leave the lower ones out.
    pub opaque_root: bool,
}

/// Unpacks one uncompressed layer tar into an empty directory in overlay form: a whiteout is a
/// character device 0:0, an opaque directory has `trusted.overlay.opaque=y` (spec image-store §5.3–5.4).
/// Never depends on lower layers. The digest covers all bytes to the end of the stream.
///
/// An entry survives a whiteout of its own name in the same tar, whichever comes first: a whiteout
/// hides lower layers only.
///
/// # Errors
/// Names that leave the layer, malformed or truncated archives, and what exceeds the limits. The
/// directory then holds a part and is to be removed.
pub fn apply(
    tar: impl Read + Send,
    into: &Root,
    options: impl Borrow<ApplyOptions>,
) -> Result<Applied, LayerError> {
    let options = options.borrow();
    let limit = options.limits.max_tar_bytes;
    let (unpacked, diff_id, tar_bytes) = with_source(tar, limit, |source| {
        let mut unpacker = Unpacker::new(into, options)?;
        let mut reader = TarReader::new(source);
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            unpacker.entry(&mut reader, &entry)?;
        }
        unpacker.end(&mut reader)?;
        unpacker.finish()
    })?;
    let summary = LayerSummary {
        diff_id,
        size_bytes: unpacked.size_bytes,
        entries: unpacked.entries,
        tar_bytes,
    };
    Ok(Applied {
        summary,
        recipe: unpacked
            .recipe
            .finish(diff_id, tar_bytes, unpacked.canonical)?,
        implied_dirs: unpacked.implied_dirs,
        pending_links: unpacked.pending_links,
        opaque_root: unpacked.opaque_root,
    })
}

struct Unpacked {
    recipe: RecipeBuilder,
    canonical: bool,
    size_bytes: u64,
    entries: u64,
    implied_dirs: Vec<PathBuf>,
    pending_links: Vec<(PathBuf, PathBuf)>,
    opaque_root: bool,
}

/// What becomes of a directory at the end; its attributes are set after all that is in it.
#[derive(Default)]
struct DirectoryState {
    /// What its entry says; `None` while only implied.
    attributes: Option<Attributes>,
    opaque: bool,
}

struct Unpacker<'a> {
    into: &'a Root,
    options: &'a ApplyOptions,
    tree: Tree<'a>,
    placing: Placing,
    recipe: RecipeBuilder,
    check: CanonicalCheck,
    directories: BTreeMap<Vec<u8>, DirectoryState>,
    /// Hard links to lower layers in the tar's order; one counts while it has a target below.
    pending: Vec<Vec<u8>>,
    pending_targets: BTreeMap<Vec<u8>, Vec<u8>>,
    has_link_directory: bool,
    size_bytes: u64,
    unpacked_bytes: u64,
    entries: u64,
}

impl<'a> Unpacker<'a> {
    fn new(into: &'a Root, options: &'a ApplyOptions) -> Result<Self, LayerError> {
        let inherits_group = into.metadata()?.mode & 0o2000 != 0;
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let placing = Placing {
            owner: None,
            best_effort_xattrs: false,
            natural_owner: (!inherits_group).then_some(own),
            umask: place::umask(),
        };
        Ok(Self {
            into,
            options,
            tree: Tree::layer(into),
            placing,
            recipe: RecipeBuilder::new()?,
            check: CanonicalCheck::new(),
            directories: BTreeMap::new(),
            pending: Vec::new(),
            pending_targets: BTreeMap::new(),
            has_link_directory: false,
            size_bytes: 0,
            unpacked_bytes: 0,
            entries: 0,
        })
    }

    fn entry(&mut self, reader: &mut TarReader<'_, '_>, entry: &Entry) -> Result<(), LayerError> {
        self.entries += 1;
        let limits = &self.options.limits;
        if self.entries > limits.max_entries {
            return Err(LayerError::Limit {
                what: "entries",
                limit: limits.max_entries,
            });
        }
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(entry.size_bytes);
        if self.unpacked_bytes > limits.max_unpacked_bytes {
            return Err(LayerError::Limit {
                what: "bytes of content",
                limit: limits.max_unpacked_bytes,
            });
        }
        let path = clean(&entry.name)
            .ok_or_else(|| LayerError::invalid(&entry.name, "its name leads out of the layer"))?;
        self.check.entry(entry, &path, reader.raw());
        self.recipe.raw(reader.raw())?;
        reader.clear_raw();
        if !path.is_empty() {
            match whiteout::meaning(&path)? {
                Meaning::Metadata => self.check.refuse(),
                Meaning::Opaque => self.opaque(entry, split(&path).0)?,
                Meaning::Whiteout(name) => self.whiteout(entry, split(&path).0, name)?,
                Meaning::LinkTarget => self.link_target(reader, entry, &path)?,
                Meaning::Object => self.object(reader, entry, &path)?,
            }
        }
        self.keep_rest(reader)
    }

    /// Takes content that nothing was made of into the recipe.
    fn keep_rest(&mut self, reader: &mut TarReader<'_, '_>) -> Result<(), LayerError> {
        while reader.remaining() > 0 {
            let piece = reader.content(u64::MAX)?;
            let count = piece.len();
            self.recipe.raw(piece)?;
            reader.consume(count);
            self.check.refuse();
        }
        Ok(())
    }

    fn end(&mut self, reader: &mut TarReader<'_, '_>) -> Result<(), LayerError> {
        if reader.raw().iter().any(|&byte| byte != 0) {
            self.check.refuse();
        }
        self.recipe.raw(reader.raw())?;
        reader.clear_raw();
        let mut result = Ok(());
        reader.drain(|bytes| {
            if result.is_ok() {
                result = self.recipe.raw(bytes);
            }
        })?;
        result?;
        if !reader.ended_cleanly() {
            self.check.refuse();
        }
        Ok(())
    }

    /// Returns the directory an entry lies in, noting what it implied.
    fn parent(&mut self, entry: &Entry, path: &[u8]) -> Result<std::rc::Rc<Directory>, LayerError> {
        let directory = self.tree.find_or_make(path, &entry.name)?;
        if directory.path != path {
            self.check.refuse();
        }
        for (implied, how) in self.tree.take_implied() {
            self.check.refuse();
            self.directories.entry(implied).or_default().opaque |= how.over_whiteout;
        }
        Ok(directory)
    }

    fn opaque(&mut self, entry: &Entry, parent: &[u8]) -> Result<(), LayerError> {
        let directory = self.parent(entry, parent)?;
        let state = self.directories.entry(directory.path.clone()).or_default();
        if state.opaque {
            self.check.refuse();
        }
        state.opaque = true;
        Ok(())
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<(), LayerError> {
        let directory = self.parent(entry, parent)?;
        let failed = |error| LayerError::entry(&entry.name, error);
        let made = directory
            .root
            .mknod(as_path(name), FileType::CharDevice, 0, (0, 0));
        match made {
            Err(error) if error.is_already_exists() => {
                self.check.refuse();
                let path = directory.child(name);
                if let Some(state) = self.directories.get_mut(&path) {
                    state.opaque = true;
                }
                return Ok(());
            }
            result => result.map_err(failed)?,
        }
        let epoch = Timestamp::default();
        directory
            .root
            .set_times(as_path(name), epoch, epoch)
            .map_err(failed)
    }

    /// Sets the attributes of all directories, deepest first.
    fn finish(mut self) -> Result<Unpacked, LayerError> {
        if self.has_link_directory {
            self.into.remove_all(as_path(LINK_DIRECTORY))?;
        }
        let mut implied_dirs = Vec::new();
        let opaque = if self.options.user_xattrs {
            OPAQUE_USER_XATTR
        } else {
            OPAQUE_XATTR
        };
        for (path, state) in self.directories.iter().rev() {
            let failed = |error| LayerError::entry(path, error);
            let directory = self.into.open_dir(as_path(path)).map_err(failed)?;
            if state.opaque {
                directory
                    .set_xattr("", OsStr::new(opaque), b"y")
                    .map_err(failed)?;
            }
            match &state.attributes {
                Some(attributes) => {
                    self.placing
                        .set(&directory, as_path(b""), attributes, false)
                        .map_err(failed)?;
                }
                None if path.is_empty() => {}
                None => {
                    implied_dirs.push(as_path(path).to_path_buf());
                    let epoch = Timestamp::default();
                    directory.set_times("", epoch, epoch).map_err(failed)?;
                }
            }
        }
        implied_dirs.reverse();
        let pending_links = std::mem::take(&mut self.pending)
            .into_iter()
            .filter_map(|link| {
                let target = self.pending_targets.remove(&link)?;
                Some((as_path(&link).to_path_buf(), as_path(&target).to_path_buf()))
            })
            .collect();
        Ok(Unpacked {
            canonical: self.check.is_canonical(),
            size_bytes: self.size_bytes,
            entries: self.entries,
            implied_dirs,
            pending_links,
            opaque_root: self
                .directories
                .get(&b""[..])
                .is_some_and(|state| state.opaque),
            recipe: self.recipe,
        })
    }
}
