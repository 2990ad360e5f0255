//! One process per data root.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use wharf_safefs::trusted;

use crate::error::{Result, StoreError};
use crate::layout::FILE_MODE;

/// Most bytes read from the lock file: a process ID and a line end.
const MAX_LOCK_BYTES: u64 = 32;

/// Holds the data root until dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock or says which process has it.
    pub(crate) fn acquire(path: &Path, root: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE);
        let mut file = trusted::open_with(path, &options)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked {
                    root: root.to_path_buf(),
                    pid: read_pid(path),
                });
            }
            Err(errno) => return Err(StoreError::io("lock", path, errno.into())),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| StoreError::io("write", path, error))?;
        Ok(Self { file })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // The lock belongs to the open file: a child between fork and exec would keep it past our close.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    trusted::read_to_string(path, MAX_LOCK_BYTES)
        .ok()?
        .trim()
        .parse()
        .ok()
}
