//! Writing a directory as a tar: a layer in its one canonical form, or any tree for `cp` and `export`.

mod entry;
mod walk;
mod xattrs;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_safefs::{DirectoryEntry, Root};

use crate::apply::LayerSummary;
use crate::error::LayerError;
use crate::sink::TarSink;
use crate::tar::{BLOCK_BYTES, Entry};
use crate::tree::{clean, split};

pub(crate) use entry::check_name;
pub(crate) use walk::MAX_OPEN_LEVELS;
pub(crate) use xattrs::is_layer_xattr;

/// Mode of the opaque marker of a layer's top directory, whose own mode no tar tells.
const TOP_MODE: u32 = 0o755;

/// User, group and mode of that marker.
pub(crate) const TOP_OWNER: (u32, u32, u32) = (0, 0, TOP_MODE);

/// Writes a layer directory (overlay form) as the one canonical tar (spec image-store §5.1–5.3).
///
/// A depth-first walk, each directory's names in byte order, directories before what is in them and
/// an opaque marker right after its directory; headers as Go's archive/tar writes them; numeric
/// owners, whole seconds, later names of an inode as hard links, sockets left out;
/// `security.capability` and `user.*` attributes of files and directories, `trusted.*` never.
/// A whiteout is an empty file `.wh.<name>` of mode, owner and time 0 where `<name>` stands in the order
/// (containerd's form). Two zero blocks end it. Same bytes for the same directory on every machine.
///
/// # Errors
/// [`LayerError::Unrepresentable`] for names that would mean something else in a layer, and
/// [`LayerError::Changed`] when a file shrinks or grows while it is read.
pub fn write_tar(dir: &Root, out: &mut dyn Write) -> Result<LayerSummary, LayerError> {
    layer_tar(dir, Some(out))
}

/// Writes or only hashes a layer's tar.
pub(crate) fn layer_tar(
    dir: &Root,
    out: Option<&mut dyn Write>,
) -> Result<LayerSummary, LayerError> {
    let mut writer = Writer::new(TarSink::new(out, true), true);
    writer.directory_content(dir, b"", b"", &[])?;
    writer.summary()
}

/// How an ordinary tree is written.
#[derive(Debug, Clone, Default)]
pub struct PlainTarOptions {
    /// Name of the top entry in the archive, `.` for `./` with names that begin so; `None` writes what is in the
    /// directory without an entry for itself (and a single file under its own name).
    pub name: Option<OsString>,
    /// Paths beneath the written directory that are left out with all below them.
    pub exclude: Vec<PathBuf>,
    /// Leave out what is mounted on directories below: the mount point is written empty.
    pub one_file_system: bool,
}

/// Writes an ordinary (merged) directory or file as a tar, for `export` and `cp`; returns the tar's length.
///
/// `subpath` is resolved within `dir`, its last component not followed. Names and attributes are
/// written as by [`write_tar`], but nothing means a whiteout.
pub fn write_plain_tar(
    dir: &Root,
    subpath: &Path,
    out: &mut dyn Write,
    options: &PlainTarOptions,
) -> Result<u64, LayerError> {
    let mut writer = Writer::new(TarSink::new(Some(out), false), false);
    let metadata = dir.lstat(subpath)?;
    writer.file_system = options.one_file_system.then_some(metadata.dev);
    let exclude: Vec<Vec<u8>> = options
        .exclude
        .iter()
        .filter_map(|path| clean(path.as_os_str().as_bytes()))
        .collect();
    let named = options.name.as_ref().map(|name| match name.as_bytes() {
        b"." => b".".to_vec(),
        name => clean(name).unwrap_or_default(),
    });
    if metadata.is_dir() {
        let top = dir.open_dir_nofollow(subpath)?;
        let name = named.unwrap_or_default();
        if !name.is_empty() {
            let (opened, _) = top.open_and_list("")?;
            writer.directory_entry(&opened, &name, &metadata, false)?;
        }
        writer.directory_content(&top, &name, b"", &exclude)?;
    } else {
        let cleaned = clean(subpath.as_os_str().as_bytes()).unwrap_or_default();
        let (_, own_name) = split(&cleaned);
        let name = named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| own_name.to_vec());
        let parent = match subpath.parent() {
            Some(parent) => dir.open_dir(parent)?,
            None => dir.try_clone()?,
        };
        let entry = DirectoryEntry {
            name: OsStr::from_bytes(own_name).to_os_string(),
            file_type: metadata.file_type,
            ino: metadata.ino,
        };
        writer.leaf(&parent, &entry, &name)?;
    }
    writer.finish().map(|(_, bytes)| bytes)
}

/// Writes entries into a sink.
pub(crate) struct Writer<'o> {
    pub(crate) sink: TarSink<'o>,
    /// Whether the directory is in overlay form.
    overlay: bool,
    /// Stay on this device.
    file_system: Option<u64>,
    /// First names of inodes with several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    entry: Entry,
    header: Vec<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether somebody else finds out which names are later ones.
    pub(crate) leaves_links: bool,
    pub(crate) size_bytes: u64,
    pub(crate) entries: u64,
}

impl<'o> Writer<'o> {
    /// Begins a tar; `overlay` says whether directories are in overlay form.
    pub(crate) fn new(sink: TarSink<'o>, overlay: bool) -> Self {
        Self {
            sink,
            overlay,
            file_system: None,
            first_names: HashMap::new(),
            entry: Entry::default(),
            header: Vec::new(),
            records: Vec::new(),
            leaves_links: false,
            size_bytes: 0,
            entries: 0,
        }
    }

    /// Ends a layer's tar and tells what it is.
    pub(crate) fn summary(self) -> Result<LayerSummary, LayerError> {
        let (size_bytes, entries) = (self.size_bytes, self.entries);
        let (diff_id, tar_bytes) = self.finish()?;
        Ok(LayerSummary {
            diff_id,
            size_bytes,
            entries,
            tar_bytes,
        })
    }

    fn finish(mut self) -> Result<(wharf_image::DiffId, u64), LayerError> {
        self.sink.zeros(2 * BLOCK_BYTES)?;
        self.sink.finish()
    }
}
