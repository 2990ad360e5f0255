//! Unpacking an ordinary tar into a merged directory tree: `docker cp`, ADD of an archive, build contexts.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wharf_safefs::{FileType, FsError, Root};

use crate::error::LayerError;
use crate::limits::Limits;
use crate::place::{self, Attributes, Placing};
use crate::source::with_source;
use crate::tar::reader::TarReader;
use crate::tar::{Entry, Kind};
use crate::tree::{Directory, Tree, as_path, clean, join, remove_tree, split};

/// How an archive is unpacked.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// Owner (user, group) of everything, instead of what the archive names.
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else or the other way round, as `docker cp` does.
    pub no_overwrite_dir_non_dir: bool,
    /// Take extended attributes that cannot be set as if they were not there.
    pub best_effort_xattrs: bool,
    /// Leave the directory that is unpacked to as it is, whatever the archive says of its own top (`./`).
    pub keep_top: bool,
    /// Leave device nodes out, as in a user namespace, where the kernel refuses them.
    pub skip_devices: bool,
    /// How much the archive may ask for.
    pub limits: Limits,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtractReport {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Length of the uncompressed archive.
    pub tar_bytes: u64,
}

/// Unpacks an uncompressed ordinary tar at the directory `at` beneath `root`, which must exist; names
/// and links are resolved within `root` as in a chroot, whatever changes there meanwhile. Names
/// beginning with `.wh.` mean nothing special.
///
/// # Errors
/// Names that climb out of `at`, malformed archives, what exceeds the limits, and
/// [`LayerError::OverwriteRefused`]. What was unpacked before stays.
pub fn extract(
    tar: impl Read + Send,
    root: &Root,
    at: &Path,
    options: &ExtractOptions,
) -> Result<ExtractReport, LayerError> {
    let base = root.resolve(at)?;
    let (report, _, tar_bytes) = with_source(tar, options.limits.max_tar_bytes, |source| {
        let mut extractor = Extractor {
            tree: Tree::chroot(root),
            base: base.as_os_str().as_bytes().to_vec(),
            options,
            placing: Placing {
                owner: options.owner,
                best_effort_xattrs: options.best_effort_xattrs,
                natural_owner: None,
                umask: place::umask(),
            },
            directories: BTreeMap::new(),
            report: ExtractReport::default(),
        };
        let mut reader = TarReader::new(source);
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            reader.clear_raw();
            extractor.entry(&mut reader, &entry)?;
        }
        reader.drain(|_| {})?;
        extractor.finish(root)
    })?;
    Ok(ExtractReport {
        tar_bytes,
        ..report
    })
}

struct Extractor<'a> {
    tree: Tree<'a>,
    base: Vec<u8>,
    options: &'a ExtractOptions,
    placing: Placing,
    /// Attributes of directories, set after what is in them.
    directories: BTreeMap<Vec<u8>, Attributes>,
    report: ExtractReport,
}

impl Extractor<'_> {
    fn entry(&mut self, reader: &mut TarReader<'_, '_>, entry: &Entry) -> Result<(), LayerError> {
        self.report.entries += 1;
        self.report.bytes = self.report.bytes.saturating_add(entry.size_bytes);
        let limits = &self.options.limits;
        if self.report.entries > limits.max_entries {
            return Err(LayerError::Limit {
                what: "entries",
                limit: limits.max_entries,
            });
        }
        if self.report.bytes > limits.max_unpacked_bytes {
            return Err(LayerError::Limit {
                what: "bytes of content",
                limit: limits.max_unpacked_bytes,
            });
        }
        let name = self.clean(entry, &entry.name)?;
        let attributes = self.placing.attributes(entry)?;
        if name.is_empty() {
            // The archive's own top: only its attributes count.
            if entry.kind == Kind::Directory && !self.options.keep_top {
                self.directories.insert(self.base.clone(), attributes);
            }
        } else {
            let path = self.below_base(&name);
            self.object(reader, entry, &path, attributes)?;
        }
        while reader.remaining() > 0 {
            let count = reader.content(u64::MAX)?.len();
            reader.consume(count);
        }
        Ok(())
    }

    fn object(
        &mut self,
        reader: &mut TarReader<'_, '_>,
        entry: &Entry,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        let failed = |error| LayerError::entry(&entry.name, error);
        let (parent, name) = split(path);
        let directory = self.tree.find_or_make(parent, &entry.name)?;
        self.own_implied(&entry.name)?;
        self.make_room(entry, &directory, name)?;
        match entry.kind {
            Kind::Directory => {
                match directory.root.mkdir(as_path(name), 0o700) {
                    Err(error) if error.is_already_exists() => {}
                    result => result.map_err(failed)?,
                }
                self.directories.insert(directory.child(name), attributes);
                Ok(())
            }
            Kind::File => {
                let mut file = directory
                    .root
                    .create_new_raw(as_path(name), 0o600)
                    .map_err(failed)?;
                place::write_content(reader, entry, &mut file, as_path(name), |_| {})?;
                // A mode no file is created with makes it be set in any case.
                self.placing
                    .set_on_file(&file, as_path(name), &attributes, u32::MAX)
                    .map_err(failed)
            }
            Kind::HardLink => self.hard_link(entry, &directory, name),
            Kind::CharDevice | Kind::BlockDevice if self.options.skip_devices => Ok(()),
            kind => {
                place::make_node(&directory.root, as_path(name), entry).map_err(failed)?;
                let is_symlink = kind == Kind::Symlink;
                self.placing
                    .set(&directory.root, as_path(name), &attributes, is_symlink)
                    .map_err(failed)
            }
        }
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
    ) -> Result<(), LayerError> {
        let target = self.clean(entry, &entry.link)?;
        let target = self.below_base(&target);
        let (parent, target_name) = split(&target);
        let missing = || LayerError::invalid(&entry.name, "its link target does not exist");
        let found = self.tree.find(parent, &entry.name)?.ok_or_else(missing)?;
        match found
            .root
            .hard_link_to(as_path(target_name), &directory.root, as_path(name))
        {
            Err(error) if error.is_not_found() => Err(missing()),
            result => result.map_err(|error| LayerError::entry(&entry.name, error)),
        }
    }

    /// Removes what is in an entry's way; a directory stays for a directory.
    fn make_room(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
    ) -> Result<(), LayerError> {
        let failed = |error: FsError| LayerError::entry(&entry.name, error);
        let Some(found) = directory
            .root
            .lstat_optional(as_path(name))
            .map_err(failed)?
        else {
            return Ok(());
        };
        let (was_dir, is_dir) = (found.is_dir(), entry.kind == Kind::Directory);
        if was_dir && is_dir {
            return Ok(());
        }
        if was_dir != is_dir && self.options.no_overwrite_dir_non_dir {
            let kind = |is_dir| if is_dir { "directory" } else { "non-directory" };
            return Err(LayerError::OverwriteRefused {
                name: crate::error::display(&entry.name),
                existing: kind(was_dir),
                new: kind(is_dir),
            });
        }
        if was_dir {
            directory.root.remove_all(as_path(name)).map_err(failed)?;
            remove_tree(&mut self.directories, &directory.child(name));
            self.tree.forget();
            return Ok(());
        }
        if found.file_type == FileType::Symlink {
            self.tree.forget();
        }
        directory.root.remove_file(as_path(name)).map_err(failed)
    }

    /// Gives directories that entries implied to the owner everything gets.
    fn own_implied(&mut self, entry: &[u8]) -> Result<(), LayerError> {
        let (uid, gid) = self.options.owner.unwrap_or((0, 0));
        for (path, _) in self.tree.take_implied() {
            let (parent, name) = split(&path);
            if let Some(parent) = self.tree.find(parent, entry)? {
                parent
                    .root
                    .chown(as_path(name), uid, gid)
                    .map_err(|error| LayerError::entry(entry, error))?;
            }
        }
        Ok(())
    }

    fn clean(&self, entry: &Entry, name: &[u8]) -> Result<Vec<u8>, LayerError> {
        clean(name)
            .ok_or_else(|| LayerError::invalid(&entry.name, "it leads out of the archive's root"))
    }

    fn below_base(&self, name: &[u8]) -> Vec<u8> {
        if name.is_empty() {
            self.base.clone()
        } else {
            join(&self.base, name)
        }
    }

    fn finish(self, root: &Root) -> Result<ExtractReport, LayerError> {
        for (path, attributes) in self.directories.iter().rev() {
            let failed = |error| LayerError::entry(path, error);
            let directory = root.open_dir(as_path(path)).map_err(failed)?;
            self.placing
                .set(&directory, as_path(b""), attributes, false)
                .map_err(failed)?;
        }
        Ok(self.report)
    }
}
