//! A pipe of chunks, from the network to a thread that reads.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks that wait in a pipe for the thread that reads.
const CHUNKS_WAITING: usize = 8;

/// Returns the two ends of a pipe of chunks: one for the network, one that a thread reads.
pub fn pipe() -> (mpsc::Sender<Bytes>, ChunkReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    (
        sender,
        ChunkReader {
            receiver,
            current: Bytes::new(),
        },
    )
}

/// Reads what was sent into a pipe of chunks.
pub struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
