//! What builds keep beside layers and records: cache mounts, logs, listings, stat caches, clones of repositories.

use std::path::PathBuf;

use wharf_safefs::trusted;

use crate::error::Result;
use crate::store::Store;

/// A part of the build area; each is a directory below `build/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BuildPart {
    /// Directories of `RUN --mount=type=cache`.
    CacheMounts,
    /// Output of steps.
    Logs,
    /// Which files a copied selection held, to explain later misses.
    Listings,
    /// Digests of files of build contexts by their attributes.
    Stat,
    /// Clones of git repositories.
    Git,
}

impl BuildPart {
    /// All parts.
    pub const ALL: [Self; 5] = [
        Self::CacheMounts,
        Self::Logs,
        Self::Listings,
        Self::Stat,
        Self::Git,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CacheMounts => "mounts",
            Self::Logs => "logs",
            Self::Listings => "listings",
            Self::Stat => "stat",
            Self::Git => "git",
        }
    }
}

impl Store {
    /// Returns the directory of a part of the build area, on the file system of the layers. What lies in it
    /// belongs to the build room, which also removes it; the bytes are counted by [`Store::disk_usage`].
    pub fn build_dir(&self, part: BuildPart) -> PathBuf {
        self.inner.layout.build_part(part)
    }

    /// Takes a file or directory of the build area out of its place at once and removes it in the background;
    /// returns the bytes that come free. Absence is no error.
    pub fn discard_build_entry(&self, part: BuildPart, name: &str) -> Result<u64> {
        let path = self.build_dir(part).join(name);
        let bytes = match trusted::disk_usage(&path) {
            Ok(usage) => usage.disk_bytes,
            Err(error) if error.is_not_found() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.inner.discard(&path)?;
        Ok(bytes)
    }
}
