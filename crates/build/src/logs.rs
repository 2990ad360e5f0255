//! Output of steps, kept on disk whole.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use wharf_image::Digest;
use wharf_safefs::trusted;
use wharf_store::{BuildPart, Store};

use crate::BuildError;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Most bytes that are kept of one step's output.
const MAX_LOG_BYTES: u64 = 256 << 20;
/// What a log ends with where there was more.
const CLIPPED: &[u8] = b"\n[output clipped: the log's limit is 256 MiB]\n";

/// The logs of one build.
#[derive(Debug, Clone)]
pub(crate) struct BuildLogs {
    directory: PathBuf,
}

/// The log of one step; made when the first byte comes.
pub(crate) struct StepLog {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl BuildLogs {
    /// Returns the place of a build's logs.
    pub fn of(store: &Store, build: &str) -> Self {
        Self {
            directory: store.build_dir(BuildPart::Logs).join(build),
        }
    }

    /// Returns the log of a vertex.
    pub fn step(&self, vertex: &Digest) -> StepLog {
        StepLog {
            path: self.directory.join(vertex.hex()),
            file: Mutex::new(None),
        }
    }

    /// Returns what a vertex wrote; nothing where it wrote nothing.
    pub fn read(&self, vertex: &Digest) -> Result<Option<Vec<u8>>, BuildError> {
        match trusted::read_limited(
            self.directory.join(vertex.hex()),
            MAX_LOG_BYTES + CLIPPED.len() as u64,
        ) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl StepLog {
    /// Adds output. A disk that does not take it costs the log, not the build.
    pub fn write(&self, bytes: &[u8]) {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = self.create().map(|file| (file, 0));
        }
        let Some((file, written)) = slot.as_mut() else {
            return;
        };
        if *written > MAX_LOG_BYTES {
            return;
        }
        *written += bytes.len() as u64;
        let bytes = if *written > MAX_LOG_BYTES {
            CLIPPED
        } else {
            bytes
        };
        let _log_is_lost = file.write_all(bytes);
    }

    fn create(&self) -> Option<File> {
        let parent = self.path.parent()?;
        trusted::create_dir_all(parent, DIRECTORY_MODE).ok()?;
        trusted::create(&self.path, FILE_MODE).ok()
    }
}
