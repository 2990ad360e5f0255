//! Whose a state directory is: one shim's at a time.
//!
//! The launcher makes the directory, locks it (`flock(2)`) and hands the locked descriptor to its shim, which
//! keeps it until it ends. A lock that can be taken thus says that nothing of an earlier start is under way any
//! more, also when the launcher was killed before its shim wrote down who it is.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};

/// How long a shim whose launcher is gone may take to end.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often a lock is asked for again.
const ASK_INTERVAL: Duration = Duration::from_millis(5);

/// The right to a state directory, until it and all copies of its descriptor are closed.
#[derive(Debug)]
pub struct Claim {
    directory: File,
}

impl Claim {
    /// Makes a directory if there is none and takes it; none if another has it.
    pub fn try_make(path: &Path) -> Result<Option<Self>> {
        loop {
            trusted::create_dir_all(path, 0o700)?;
            match Self::try_take(path)? {
                Taken::Claim(claim) => return Ok(Some(claim)),
                Taken::Busy => return Ok(None),
                // Removed since it was made: by whoever had it.
                Taken::Missing => {}
            }
        }
    }

    /// Makes a directory if there is none and takes it, waiting for a shim that is about to end.
    pub fn make(path: &Path, patience: Duration) -> Result<Self> {
        wait(path, patience, || Self::try_make(path))
    }

    /// Takes a directory, waiting for a shim that is about to end; none if there is no directory.
    pub fn take(path: &Path, patience: Duration) -> Result<Option<Self>> {
        wait(path, patience, || match Self::try_take(path)? {
            Taken::Claim(claim) => Ok(Some(Some(claim))),
            Taken::Missing => Ok(Some(None)),
            Taken::Busy => Ok(None),
        })
    }

    /// Takes the descriptor over that a launcher has sent.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self {
            directory: File::from(fd),
        }
    }

    fn try_take(path: &Path) -> Result<Taken> {
        let directory = match trusted::open(path) {
            Ok(directory) => directory,
            Err(error) if error.is_not_found() => return Ok(Taken::Missing),
            Err(error) => return Err(error.into()),
        };
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Taken::Busy),
            Err(errno) => {
                let action = format!("lock {}", path.display());
                return Err(RuntimeError::io(action, errno));
            }
        }
        // Between opening and locking another may have removed it, and a third made it anew.
        let own = trusted::file_metadata(&directory, path)?;
        match trusted::symlink_metadata(path) {
            Ok(named) if (named.dev, named.ino) == (own.dev, own.ino) => {
                Ok(Taken::Claim(Self { directory }))
            }
            Ok(_) => Ok(Taken::Missing),
            Err(error) if error.is_not_found() => Ok(Taken::Missing),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for Claim {
    fn as_raw_fd(&self) -> RawFd {
        self.directory.as_raw_fd()
    }
}

/// What came of asking for a directory.
enum Taken {
    Claim(Claim),
    Busy,
    Missing,
}

fn wait<T>(
    path: &Path,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Err(RuntimeError::Busy {
                state_dir: path.to_path_buf(),
            });
        }
        thread::sleep(ASK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        assert!(Claim::take(&path, Duration::ZERO).unwrap().is_none());
        let claim = Claim::try_make(&path).unwrap().unwrap();
        assert!(Claim::try_make(&path).unwrap().is_none());
        let busy = Claim::take(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(busy, RuntimeError::Busy { .. }), "{busy}");
        // A copy of the descriptor, as a shim has it, counts as much.
        let copy = Claim::from_fd(claim.directory.try_clone().unwrap().into());
        drop(claim);
        assert!(Claim::try_make(&path).unwrap().is_none());
        drop(copy);
        assert!(Claim::take(&path, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn who_waits_gets_a_directory_that_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let old = Claim::try_make(&path).unwrap().unwrap();
        let waiting = {
            let path = path.clone();
            thread::spawn(move || {
                let claim = Claim::make(&path, PATIENCE).unwrap();
                let own = trusted::file_metadata(&claim.directory, &path).unwrap();
                (own.ino, trusted::metadata(&path).unwrap().ino)
            })
        };
        trusted::remove_all(&path).unwrap();
        drop(old);
        let (own, named) = waiting.join().unwrap();
        assert_eq!(own, named);
    }
}
