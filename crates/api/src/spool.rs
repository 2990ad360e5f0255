//! Request bodies that are needed as a file: written to the engine's spool directory.

use crate::body::{self, RequestBody};
use crate::limits::MAX_CONTEXT_BYTES;
use crate::respond::Failure;
use bytes::Bytes;
use http::StatusCode;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use wharf_safefs::trusted;

/// Numbers the files of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that is removed with this value.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    path: PathBuf,
}

impl SpoolFile {
    /// Returns where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn create(directory: &Path) -> io::Result<(Self, File)> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("context-{}-{number}", std::process::id()));
        let file = trusted::create_new(&path, 0o600).map_err(io::Error::other)?;
        Ok((Self { path }, file))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // What stays behind is swept at the engine's next start.
        let _ = trusted::remove_file(&self.path);
    }
}

/// Writes a body of at most [`MAX_CONTEXT_BYTES`] to a file, as fast as it comes: a client that
/// sends everything before it reads must not wait for us.
///
/// # Errors
/// 413 past the limit, 400 when the connection breaks, 500 when the disk does not take it.
pub(crate) async fn receive(
    directory: &Path,
    body: Option<RequestBody>,
) -> Result<SpoolFile, Failure> {
    receive_chunks(directory, body::into_stream(body)).await
}

/// Writes chunks to a file like [`receive`].
pub(crate) async fn receive_chunks(
    directory: &Path,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<SpoolFile, Failure> {
    let directory = directory.to_owned();
    let written = tokio::task::spawn_blocking(move || write(&directory, chunks, MAX_CONTEXT_BYTES));
    written
        .await
        .unwrap_or_else(|_| Err(disk_failure(io::Error::other("the writer ended early"))))
}

/// Writes chunks until they end; blocks.
fn write(
    directory: &Path,
    mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    limit_bytes: u64,
) -> Result<SpoolFile, Failure> {
    let (spooled, mut file) = SpoolFile::create(directory).map_err(disk_failure)?;
    let mut total_bytes = 0_u64;
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk
            .map_err(|error| Failure::bad_request(format!("reading the build context: {error}")))?;
        total_bytes += chunk.len() as u64;
        if total_bytes > limit_bytes {
            return Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("build context is larger than the limit of {limit_bytes} bytes"),
            ));
        }
        file.write_all(&chunk).map_err(disk_failure)?;
    }
    Ok(spooled)
}

fn disk_failure(error: io::Error) -> Failure {
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot keep the build context on disk: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(parts: &[&'static [u8]], limit_bytes: u64) -> Result<SpoolFile, Failure> {
        let (sender, chunks) = mpsc::channel(parts.len().max(1));
        for part in parts {
            sender
                .try_send(Ok(Bytes::from_static(part)))
                .expect("room for every part");
        }
        drop(sender);
        write(&std::env::temp_dir(), chunks, limit_bytes)
    }

    #[test]
    fn a_context_may_be_as_large_as_the_limit() {
        let spooled = spool(&[b"ab", b"cd"], 4).expect("at the limit");
        let path = spooled.path().to_owned();
        assert_eq!(std::fs::read(&path).expect("a file"), b"abcd");
        drop(spooled);
        assert!(!path.exists());
        let failure = spool(&[b"ab", b"cde"], 4).expect_err("past the limit");
        assert_eq!(failure.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
