//! What the kernel knows about a file.

use rustix::fs::Stat;

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A kind this kernel has and we do not know.
    Unknown,
}

impl FileType {
    /// Says whether this is a directory.
    pub fn is_dir(self) -> bool {
        self == Self::Directory
    }

    /// Says whether this is a regular file.
    pub fn is_file(self) -> bool {
        self == Self::File
    }

    /// Says whether this is a symbolic link.
    pub fn is_symlink(self) -> bool {
        self == Self::Symlink
    }
}

impl From<rustix::fs::FileType> for FileType {
    fn from(kind: rustix::fs::FileType) -> Self {
        use rustix::fs::FileType as Kernel;
        match kind {
            Kernel::RegularFile => Self::File,
            Kernel::Directory => Self::Directory,
            Kernel::Symlink => Self::Symlink,
            Kernel::CharacterDevice => Self::CharDevice,
            Kernel::BlockDevice => Self::BlockDevice,
            Kernel::Fifo => Self::Fifo,
            Kernel::Socket => Self::Socket,
            Kernel::Unknown => Self::Unknown,
        }
    }
}

/// A moment: whole seconds since 1970 (negative before) and nanoseconds (0–999 999 999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Makes a moment of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self {
            seconds,
            nanoseconds: 0,
        }
    }

    /// Returns the time now.
    pub fn now() -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: now.subsec_nanos(),
        }
    }
}

/// The attributes of one file, as `stat(2)` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The kind of file.
    pub file_type: FileType,
    /// Permission, setuid, setgid and sticky bits (`0o7777`), without the file type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Apparent size in bytes.
    pub size_bytes: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Last access.
    pub atime: Timestamp,
    /// The file system's device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names of this inode.
    pub nlink: u64,
    /// Device number of a device node, else 0.
    pub rdev: u64,
    /// Space taken on disk, in units of 512 bytes.
    pub blocks: u64,
}

impl Metadata {
    /// Says whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type.is_dir()
    }

    /// Says whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type.is_file()
    }

    /// Says whether this is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type.is_symlink()
    }

    /// Says whether this is overlayfs' mark of a deleted name: a character device 0:0
    /// (kernel, filesystems/overlayfs.rst, "whiteouts and opaque directories").
    pub fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharDevice && self.rdev == 0
    }

    /// Says whether these are the attributes of the same file, and its content and inode did not change since
    /// `earlier` was taken, as far as the kernel's clock for files tells.
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        let key = |file: &Self| {
            let inode = (file.dev, file.ino, file.file_type);
            (inode, file.size_bytes, file.mtime, file.ctime)
        };
        key(self) == key(earlier)
    }

    /// Returns the major number of a device node.
    pub fn rdev_major(&self) -> u32 {
        rustix::fs::major(self.rdev)
    }

    /// Returns the minor number of a device node.
    pub fn rdev_minor(&self) -> u32 {
        rustix::fs::minor(self.rdev)
    }
}

// The kernel's struct differs per architecture in width and sign; every cast widens or keeps bits.
#[allow(
    clippy::unnecessary_cast,
    reason = "the widths differ between machines"
)]
impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Self {
        Self {
            file_type: rustix::fs::FileType::from_raw_mode(stat.st_mode).into(),
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: timestamp(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: timestamp(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            atime: timestamp(stat.st_atime as i64, stat.st_atime_nsec as i64),
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            nlink: stat.st_nlink as u64,
            rdev: stat.st_rdev as u64,
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        }
    }
}

fn timestamp(seconds: i64, nanoseconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    }
}

/// What a tree takes on disk; a file with several names is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Sum of the apparent sizes of regular files and symlinks.
    pub apparent_bytes: u64,
    /// Sum of the allocated blocks of all files and directories.
    pub disk_bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}
