//! Where things lie below the data root (design §3).

use std::path::{Path, PathBuf};

use wharf_image::Digest;
use wharf_safefs::trusted;

use crate::build_area::BuildPart;
use crate::error::Result;

/// The data root can be passed through but not listed by others (CVE-2024-25621).
const ROOT_MODE: u32 = 0o711;
/// What only the engine itself opens.
const PRIVATE_MODE: u32 = 0o700;
/// Volumes are reached by path once they are known.
const PASSAGE_MODE: u32 = 0o711;

/// Space kept for deletions on a full disk, in bytes: a few pages of the database's log.
pub(crate) const RESERVE_BYTES: usize = 512 * 1024;

/// Files that only the engine reads.
pub(crate) const FILE_MODE: u32 = 0o600;
/// The part of a layer's directory that holds its files.
pub(crate) const FILES: &str = "fs";
/// The part of a layer's directory that holds its recipe, where it has one.
pub(crate) const RECIPE: &str = "recipe";
/// The part of a layer's directory that lists what its files hold, where that is known.
pub(crate) const CONTENTS: &str = "contents";
/// The part of a volume's directory that holds its files.
pub(crate) const VOLUME_FILES: &str = "_data";

/// Paths below one data root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// Creates all directories and corrects their modes.
    pub(crate) fn create(&self) -> Result<()> {
        let private = [
            self.blobs_parent(),
            self.blobs(),
            self.layers(),
            self.containers(),
            self.temporary(),
            self.build(),
        ]
        .into_iter()
        .chain(BuildPart::ALL.map(|part| self.build_part(part)));
        trusted::create_dir_all(&self.root, ROOT_MODE)?;
        trusted::chmod(&self.root, ROOT_MODE)?;
        for path in private {
            trusted::create_dir_all(&path, PRIVATE_MODE)?;
            trusted::chmod(&path, PRIVATE_MODE)?;
        }
        trusted::create_dir_all(self.volumes(), PASSAGE_MODE)?;
        trusted::chmod(self.volumes(), PASSAGE_MODE)?;
        Ok(())
    }

    /// Keeps a little space aside for deletions on a full disk; on one that is full already there is none to keep.
    pub(crate) fn make_reserve(&self) {
        let path = self.reserve();
        let is_there =
            trusted::metadata(&path).is_ok_and(|file| file.size_bytes == RESERVE_BYTES as u64);
        if !is_there {
            let _full_already =
                trusted::write_atomic(&path, &[0x5a; RESERVE_BYTES], FILE_MODE, false);
        }
    }

    /// Gives the reserve up; false when there is none left.
    pub(crate) fn give_up_reserve(&self) -> bool {
        trusted::remove_file(self.reserve()).is_ok()
    }

    fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("wharf.db")
    }

    fn blobs_parent(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// A layer's or variant's own directory.
    pub(crate) fn layer(&self, number: i64) -> PathBuf {
        self.layers().join(number.to_string())
    }

    /// A layer's or variant's files, in overlay form.
    pub(crate) fn layer_files(&self, number: i64) -> PathBuf {
        self.layer(number).join(FILES)
    }

    pub(crate) fn recipe(&self, number: i64) -> PathBuf {
        self.layer(number).join(RECIPE)
    }

    pub(crate) fn contents(&self, number: i64) -> PathBuf {
        self.layer(number).join(CONTENTS)
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The database with its log and the log's index.
    pub(crate) fn database_files(&self) -> [PathBuf; 3] {
        ["wharf.db", "wharf.db-wal", "wharf.db-shm"].map(|name| self.root.join(name))
    }

    /// The files and directories that are nobody's content: the database and what everything lies in.
    pub(crate) fn own_paths(&self) -> Vec<PathBuf> {
        let directories = [
            self.root.clone(),
            self.blobs_parent(),
            self.blobs(),
            self.layers(),
            self.containers(),
            self.volumes(),
            self.build(),
        ];
        let files = self
            .database_files()
            .into_iter()
            .chain([self.lock(), self.reserve()]);
        files.chain(directories).collect()
    }

    fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    pub(crate) fn build_part(&self, part: BuildPart) -> PathBuf {
        self.build().join(part.name())
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
