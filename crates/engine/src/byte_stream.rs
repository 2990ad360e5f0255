//! Byte streams between asynchronous callers and blocking workers.

use crate::error::{EngineError, Result};
use bytes::Bytes;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Chunks of bytes in order; an error ends the stream.
pub type ByteStream = mpsc::Receiver<io::Result<Bytes>>;

/// Bytes that are gathered before a chunk is sent.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for the reader.
const CHUNKS_IN_FLIGHT: usize = 8;

/// Runs `produce` on a blocking thread and returns what it writes as a stream; its error ends the stream.
pub(crate) fn produce<F>(produce: F) -> ByteStream
where
    F: FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter {
            sender: sender.clone(),
            chunk: Vec::with_capacity(CHUNK_BYTES),
        };
        let done = produce(&mut writer).and_then(|()| {
            writer
                .flush()
                .map_err(|e| EngineError::internal(e.to_string()))
        });
        if let Err(error) = done {
            let _reader_gone = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    receiver
}

struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender
            .blocking_send(Ok(Bytes::from(chunk)))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away"))
    }
}

/// Reads a stream on a blocking thread.
pub(crate) struct ChunkReader {
    stream: ByteStream,
    chunk: Bytes,
}

impl ChunkReader {
    pub(crate) fn new(stream: ByteStream) -> Self {
        Self {
            stream,
            chunk: Bytes::new(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.stream.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(into.len());
        into[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
