//! One process per data root.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use wharf_safefs::trusted;

use crate::error::{Result, StoreError};
use crate::layout::FILE_MODE;

/// Most bytes read from the lock file: a process ID and a line end.
const MAX_LOCK_BYTES: u64 = 32;
/// Longest wait for the lock of a process that has ended, and the pause between two tries.
const MAX_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Holds the data root until dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock or says which process has it.
    ///
    /// A process that was killed while it started a program keeps the lock until that child executes
    /// it, so the lock of one that has ended is waited for.
    pub(crate) fn acquire(path: &Path, root: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE);
        let mut file = trusted::open_with(path, &options)?;
        let until = Instant::now() + MAX_WAIT;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {
                    let pid = read_pid(path);
                    if !pid.is_some_and(has_ended) || Instant::now() >= until {
                        return Err(StoreError::Locked {
                            root: root.to_path_buf(),
                            pid,
                        });
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(errno) => return Err(StoreError::io("lock", path, errno.into())),
            }
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

fn has_ended(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn read_pid(path: &Path) -> Option<u32> {
    trusted::read_to_string(path, MAX_LOCK_BYTES)
        .ok()?
        .trim()
        .parse()
        .ok()
}
