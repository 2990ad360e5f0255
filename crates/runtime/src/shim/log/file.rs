//! A log file that is rotated, so that output never fills a disk.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use crate::request::{LogConfig, LogDriver};
use crate::sys;

use super::{json, local};

/// Permissions of a log file (spec runtime §7).
const LOG_MODE: u32 = 0o640;

/// A file of entries; a disk that is full or gone loses entries but never the container.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    max_size_bytes: Option<u64>,
    max_files: u32,
    compress: bool,
    /// Returns the bytes of the fewest whole entries that take at least so many.
    whole_entries: fn(&[u8], usize) -> usize,
    /// The process that compresses the file rotated last, if it may still run.
    compressor: Option<i32>,
}

impl RotatingFile {
    /// Opens the file, its directory made if missing.
    ///
    /// # Errors
    /// [`RuntimeError::Invalid`] for compression without rotation; file errors.
    pub(super) fn open(config: &LogConfig) -> Result<Self> {
        let rotates = config.max_files >= 2 && config.max_size_bytes.is_some_and(|size| size > 0);
        if config.compress && !rotates {
            let reason = "compression needs a max-size and a max-file of at least 2";
            return Err(RuntimeError::invalid("log option compress", reason));
        }
        if let Some(directory) = config.path.parent() {
            trusted::create_dir_all(directory, 0o711)?;
        }
        let (file, size_bytes) = open_file(&config.path)?;
        Ok(Self {
            path: config.path.clone(),
            file: Some(file),
            size_bytes,
            max_size_bytes: config.max_size_bytes.filter(|size| *size > 0),
            max_files: config.max_files.max(1),
            compress: config.compress,
            whole_entries: match config.driver {
                LogDriver::Local => local::whole_entries,
                LogDriver::JsonFile | LogDriver::None => json::whole_entries,
            },
            compressor: None,
        })
    }

    /// Writes whole entries, as many at a time as go into one file. The last of a file is the one that makes it
    /// as large as it may get, or larger (spec runtime §7).
    pub(super) fn write(&mut self, mut entries: &[u8]) {
        while !entries.is_empty() {
            // Looked at before a write, so that the current file is never left empty.
            if self.room_bytes() == Some(0) {
                self.rotate();
            }
            let fitting = match self.room_bytes() {
                Some(room) if room < entries.len() => (self.whole_entries)(entries, room),
                _ => entries.len(),
            };
            let (now, later) = entries.split_at_checked(fitting).unwrap_or((entries, &[]));
            self.append(now);
            entries = later;
        }
    }

    /// Returns how many bytes are missing from the size at which the file is rotated, if there is one.
    fn room_bytes(&self) -> Option<usize> {
        let room = self.max_size_bytes?.saturating_sub(self.size_bytes);
        Some(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn append(&mut self, entries: &[u8]) {
        if self.file.is_none() {
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(entries) {
                Ok(()) => self.size_bytes += entries.len() as u64,
                // A full disk: these are lost, the next ones may fit again.
                Err(_) => self.file = None,
            }
        }
    }

    fn reopen(&mut self) {
        if let Ok((file, size_bytes)) = open_file(&self.path) {
            self.file = Some(file);
            self.size_bytes = size_bytes;
        }
    }

    /// Moves `log` to `log.1`, `log.1` to `log.2` and so on, and starts a new file.
    fn rotate(&mut self) {
        if let Some(compressor) = self.compressor.take() {
            // It knows its file by a name that is about to change.
            // SAFETY: plain system call; somebody else may have reaped it already.
            unsafe { libc::waitpid(compressor, std::ptr::null_mut(), 0) };
        }
        self.file = None;
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            for ending in ["", ".gz"] {
                let from = self.rotated(number, ending);
                // A file that is not there yet, early in the log's life.
                if trusted::rename(from, self.rotated(number + 1, ending)).is_ok() {
                    let other = if ending.is_empty() { ".gz" } else { "" };
                    let _ = trusted::remove_file(self.rotated(number + 1, other));
                }
            }
        }
        if self.max_files > 1 {
            let _ = trusted::rename(&self.path, self.rotated(1, ""));
        } else {
            let _ = trusted::remove_file(&self.path);
        }
        if self.compress {
            self.compress_last();
        }
        self.size_bytes = 0;
        self.reopen();
    }

    fn rotated(&self, number: u32, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}{ending}"));
        PathBuf::from(path)
    }

    /// Compresses the file rotated last in a process of its own, so that the container never waits.
    fn compress_last(&mut self) {
        let plain = self.rotated(1, "");
        let temporary = self.rotated(1, ".gz.tmp");
        let compressed = self.rotated(1, ".gz");
        // SAFETY: the shim has one thread.
        match unsafe { sys::fork() } {
            Ok(0) => {
                sys::close_from(3);
                let done = compress(&plain, &temporary)
                    .and_then(|()| Ok(trusted::rename(&temporary, &compressed)?))
                    .and_then(|()| Ok(trusted::remove_file(&plain)?));
                sys::exit_now(i32::from(done.is_err()))
            }
            Ok(compressor) => self.compressor = Some(compressor),
            // Without a process the file stays as it is, which readers take as well.
            Err(_) => {}
        }
    }
}

fn compress(from: &Path, to: &Path) -> Result<()> {
    let mut source = trusted::open(from)?;
    let target = trusted::create(to, LOG_MODE)?;
    let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::default());
    std::io::copy(&mut source, &mut encoder)
        .and_then(|_| encoder.finish())
        .map(drop)
        .map_err(|error| RuntimeError::io("compress a rotated log", error))
}

fn open_file(path: &Path) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(LOG_MODE);
    let file = trusted::open_with(path, &options)?;
    let size = trusted::file_metadata(&file, path)?.size_bytes;
    if size == 0 {
        // The shim's umask is stricter than docker's log files are.
        file.set_permissions(Permissions::from_mode(LOG_MODE))
            .map_err(|error| RuntimeError::io("set the log's mode", error))?;
    }
    Ok((file, size))
}
