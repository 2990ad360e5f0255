//! Tar archives going up: written by a thread while they are sent, so that memory stays flat.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Upload;

/// Bytes collected before they are handed over.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that may wait to be sent.
const CHUNKS_WAITING: usize = 8;

/// Returns the upload of what `write` writes; it runs on a thread of its own.
pub fn upload(write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Upload {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    std::thread::spawn(move || {
        let mut pipe = Pipe {
            sender: sender.clone(),
            buffer: Vec::with_capacity(CHUNK_BYTES),
        };
        let result = write(&mut pipe).map_err(|error| io::Error::other(error.to_string()));
        let result = result.and_then(|()| pipe.flush());
        if let Err(error) = result {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}

/// Whether an archive is made smaller on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// With gzip.
    Gzip,
}

/// Returns the upload of what `write` writes, compressed if that is wanted.
pub fn upload_as(
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Upload {
    match compression {
        Compression::None => upload(write),
        Compression::Gzip => upload(move |sink| {
            let mut gzip = GzEncoder::new(sink, flate2::Compression::default());
            write(&mut gzip)?;
            gzip.finish()
                .map(drop)
                .map_err(|error| CliError::io("compressing the upload", error))
        }),
    }
}

/// Returns the upload of everything a reader gives.
pub fn upload_reader(reader: impl io::Read + Send + 'static) -> Upload {
    upload_reader_as(Compression::None, reader)
}

/// Returns the upload of everything a reader gives, compressed if that is wanted.
pub fn upload_reader_as(
    compression: Compression,
    mut reader: impl io::Read + Send + 'static,
) -> Upload {
    upload_as(compression, move |sink| {
        io::copy(&mut reader, sink)
            .map(drop)
            .map_err(|error| CliError::io("reading the upload", error))
    })
}

struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Pipe {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.sender
            .blocking_send(Ok(Bytes::from(chunk)))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the daemon stopped reading"))
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            self.send()
        }
    }
}

/// Adds one path to an archive under the given name; sockets are left out, as tar has no entry for them.
pub fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    path: &Path,
    name: &Path,
) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let metadata = host_files::link_metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(&metadata, tar::HeaderMode::Complete);
    if kind.is_symlink() {
        header.set_size(0);
        return archive.append_link(&mut header, name, host_files::read_link(path)?);
    }
    if kind.is_file() {
        let file = host_files::open(path).map_err(|error| io::Error::other(error.to_string()))?;
        // A file that grows while it is sent is sent as long as it was.
        let content = io::Read::take(file, metadata.len());
        return archive.append_data(
            &mut header,
            name,
            Exactly {
                content,
                left: metadata.len(),
            },
        );
    }
    header.set_size(0);
    if kind.is_block_device() || kind.is_char_device() {
        header.set_device_major(rustix::fs::major(metadata.rdev()))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
    }
    archive.append_data(&mut header, name, io::empty())
}

/// Gives exactly the announced number of bytes: a file that shrank is filled up, so that the archive stays whole.
struct Exactly<R> {
    content: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(window) = buffer.get_mut(..wanted).filter(|window| !window.is_empty()) else {
            return Ok(0);
        };
        let length = match self.content.read(window)? {
            0 => {
                window.fill(0);
                wanted
            }
            length => length,
        };
        self.left -= length as u64;
        Ok(length)
    }
}
