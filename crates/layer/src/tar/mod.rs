//! The tar format: one entry's facts, reading them, writing them.
//!
//! POSIX.1-2017 pax interchange format, the ustar format, and the GNU extensions for long names,
//! large numbers and sparse files (GNU tar manual, "Basic Tar Format").

mod field;
pub(crate) mod header;
mod pax;
pub(crate) mod reader;
mod sparse;

use wharf_safefs::Timestamp;

/// Size of a block; headers and contents are padded to it.
pub(crate) const BLOCK_BYTES: usize = 512;

/// The prefix of extended attributes among PAX records.
pub(crate) const XATTR_RECORD_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

impl Kind {
    pub(crate) fn type_flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    pub(crate) fn from_type_flag(flag: u8) -> Option<Self> {
        Some(match flag {
            0 | b'0' | b'7' | b'S' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::CharDevice,
            b'4' => Self::BlockDevice,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            _ => return None,
        })
    }
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What one entry says. Reused from entry to entry, so that reading allocates little.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// The name as the archive has it.
    pub(crate) name: Vec<u8>,
    /// The target of a symlink or hard link.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission, setuid, setgid and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Bytes of content, holes included.
    pub(crate) size_bytes: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Extended attributes in the order of their records.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The regions that hold data, for a sparse file.
    pub(crate) sparse: Option<Vec<Region>>,
}

/// Returns the bytes that fill the last block of `size` bytes.
pub(crate) fn padding(size_bytes: u64) -> usize {
    let rest = (size_bytes % BLOCK_BYTES as u64) as usize;
    (BLOCK_BYTES - rest) % BLOCK_BYTES
}
