//! How much an archive from outside may ask for.

/// Longest path of an entry or link target in bytes (`PATH_MAX`, linux/limits.h, less its NUL).
pub const MAX_PATH_BYTES: usize = 4095;

/// Most entries of one archive.
pub const MAX_ENTRIES: u64 = 4_000_000;

/// Most bytes of one uncompressed archive, padding included: bounds decompression bombs.
pub const MAX_TAR_BYTES: u64 = 1 << 40;

/// Most bytes of file content one archive may unpack to, holes included: bounds sparse bombs.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 40;

/// Most bytes of one extended header: PAX records or a GNU long name (as Go's archive/tar allows).
pub const MAX_EXTENDED_HEADER_BYTES: u64 = 1 << 20;

/// Most bytes of all headers before one entry's content, sparse maps included.
pub const MAX_HEADERS_BYTES: usize = 64 << 20;

/// Most bytes of one extended attribute's value (`XATTR_SIZE_MAX`, linux/limits.h).
pub const MAX_XATTR_BYTES: usize = 64 << 10;

/// Most data regions of one sparse file.
pub const MAX_SPARSE_REGIONS: usize = 1 << 20;

/// Limits of one unpacking; the default is the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub max_entries: u64,
    /// Most bytes of the uncompressed archive.
    pub max_tar_bytes: u64,
    /// Most bytes of file content.
    pub max_unpacked_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entries: MAX_ENTRIES,
            max_tar_bytes: MAX_TAR_BYTES,
            max_unpacked_bytes: MAX_UNPACKED_BYTES,
        }
    }
}
