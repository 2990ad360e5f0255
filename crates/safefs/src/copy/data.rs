//! Copying the bytes of one open file into another.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::{FsError, Result};

/// Most bytes one `copy_file_range` is asked for.
const COPY_CHUNK_BYTES: u64 = 1 << 30;
const MIN_BUFFER_BYTES: usize = 4 << 10;
const MAX_BUFFER_BYTES: usize = 1 << 20;

/// Whether blocks are to be shared between files, as far as is known of their file system.
pub(super) struct Sharing(AtomicBool);

impl Sharing {
    pub fn new(wanted: bool) -> Self {
        Self(AtomicBool::new(wanted))
    }

    /// Shares all blocks (`FICLONE`). A file system that cannot is not asked again.
    fn share(&self, source: &File, target: &File) -> bool {
        if !self.0.load(Ordering::Relaxed) {
            return false;
        }
        match rustix::fs::ioctl_ficlone(target.as_fd(), source.as_fd()) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS) => {
                self.0.store(false, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }
}

/// Copies the content of one open file into another empty one: by sharing blocks where asked and
/// possible, else inside the kernel, else through a buffer. `path` is for the error.
pub fn copy_file_data(
    source: &mut File,
    target: &mut File,
    path: &Path,
    reflink: bool,
) -> Result<u64> {
    let size_bytes = crate::root::metadata_of(source.as_fd(), path)?.size_bytes;
    copy_data(source, target, path, size_bytes, &Sharing::new(reflink))
}

/// Copies a file whose size is known: what is appended meanwhile is left out. Files that tell no size, as
/// those of `/proc`, are read to their end.
pub(super) fn copy_data(
    source: &mut File,
    target: &mut File,
    path: &Path,
    size_bytes: u64,
    sharing: &Sharing,
) -> Result<u64> {
    if size_bytes > 0 {
        if sharing.share(source, target) {
            return Ok(size_bytes);
        }
        let copied = copy_in_kernel(source, target, path, size_bytes)?;
        if copied > 0 {
            return Ok(copied);
        }
    }
    copy_through_buffer(source, target, path, size_bytes)
}

/// Reads `size_bytes` of a file into the buffer, or what there is where the file became shorter; `name` is for
/// the error.
pub fn read_whole(
    source: &mut File,
    buffer: &mut Vec<u8>,
    size_bytes: u64,
    name: &OsStr,
) -> Result<()> {
    buffer.resize(usize::try_from(size_bytes).unwrap_or(usize::MAX), 0);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::io("read", name, error)),
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// Returns how much was copied; 0 where the kernel cannot do it for these files.
fn copy_in_kernel(source: &File, target: &File, path: &Path, size_bytes: u64) -> Result<u64> {
    let mut copied = 0;
    while copied < size_bytes {
        let length = (size_bytes - copied).min(COPY_CHUNK_BYTES);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source.as_fd(), None, target.as_fd(), None, length) {
            // The file became shorter, or its file system claims 0 at the start of one that has content.
            Ok(0) => break,
            Ok(count) => copied += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
                if copied == 0 =>
            {
                break;
            }
            Err(errno) => return Err(FsError::io("copy", path, errno)),
        }
    }
    Ok(copied)
}

fn copy_through_buffer(
    source: &mut File,
    target: &mut File,
    path: &Path,
    size_bytes: u64,
) -> Result<u64> {
    let failed = |error: std::io::Error| FsError::io("copy", path, error);
    let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
    let mut buffer = vec![0_u8; length.clamp(MIN_BUFFER_BYTES, MAX_BUFFER_BYTES)];
    let mut copied = 0;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        target
            .write_all(buffer.get(..count).unwrap_or_default())
            .map_err(failed)?;
        copied += count as u64;
    }
}
