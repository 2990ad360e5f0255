//! The bytes of an archive, read ahead and hashed by a second thread when there are many.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use wharf_image::{DiffId, Hasher};

use crate::error::LayerError;

/// What is read before a second thread is worth its start.
const FIRST_CHUNK_BYTES: usize = 256 << 10;

const CHUNK_BYTES: usize = 1 << 20;

/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 4;

type Chunk = (Vec<u8>, usize);

/// Full chunks from the reading thread, and the way back for used ones.
type Ahead<'r> = (&'r Receiver<io::Result<Chunk>>, Sender<Vec<u8>>);

/// A stream of bytes handed out in large pieces.
pub(crate) struct Source<'r> {
    current: Vec<u8>,
    filled: usize,
    used: usize,
    /// Offset of the current chunk's start in the stream.
    start: u64,
    limit_bytes: u64,
    ahead: Option<Ahead<'r>>,
}

impl Source<'_> {
    /// Returns bytes not yet consumed; empty at the end of the stream.
    pub(crate) fn fill(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.filled {
            self.advance()?;
        }
        Ok(self.current.get(self.used..self.filled).unwrap_or_default())
    }

    /// Takes `count` bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.filled);
    }

    /// Returns the offset of the next byte in the stream.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.used as u64
    }

    fn advance(&mut self) -> Result<(), LayerError> {
        let Some((chunks, free)) = &self.ahead else {
            return Ok(());
        };
        let Ok(chunk) = chunks.recv() else {
            return Ok(());
        };
        let (buffer, filled) = chunk.map_err(LayerError::stream("read the archive"))?;
        self.start += self.filled as u64;
        if self.start + filled as u64 > self.limit_bytes {
            return Err(LayerError::Limit {
                what: "bytes",
                limit: self.limit_bytes,
            });
        }
        let empty = std::mem::replace(&mut self.current, buffer);
        // The reader may have ended already; then the buffer is not needed.
        let _ = free.send(empty);
        self.filled = filled;
        self.used = 0;
        Ok(())
    }
}

/// Gives `work` the stream's bytes and returns its result with the digest and length of the whole
/// stream. `work` reads to the end.
pub(crate) fn with_source<T>(
    mut stream: impl Read + Send,
    limit_bytes: u64,
    work: impl FnOnce(&mut Source<'_>) -> Result<T, LayerError>,
) -> Result<(T, DiffId, u64), LayerError> {
    let mut first = vec![0_u8; FIRST_CHUNK_BYTES];
    let filled = fill(&mut stream, &mut first).map_err(LayerError::stream("read the archive"))?;
    if filled as u64 > limit_bytes {
        return Err(LayerError::Limit {
            what: "bytes",
            limit: limit_bytes,
        });
    }
    let mut hasher = Hasher::new();
    hasher.update(first.get(..filled).unwrap_or_default());
    let all_read = filled < first.len();
    let mut source = Source {
        current: first,
        filled,
        used: 0,
        start: 0,
        limit_bytes,
        ahead: None,
    };
    if all_read {
        let result = work(&mut source)?;
        return Ok((result, hasher.finish(), filled as u64));
    }
    let (full_sender, full) = sync_channel(CHUNKS_AHEAD);
    let (free, free_receiver) = channel();
    for _ in 0..=CHUNKS_AHEAD {
        let _ = free.send(vec![0_u8; CHUNK_BYTES]);
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_ahead(stream, hasher, full_sender, free_receiver));
        // The receiver must be gone before the reader is joined, so that a failed `work` frees it.
        let result = {
            let full = full;
            let mut source = Source {
                ahead: Some((&full, free)),
                ..source
            };
            work(&mut source)
        };
        let (digest, bytes) = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((result?, digest, filled as u64 + bytes))
    })
}

fn read_ahead(
    mut stream: impl Read,
    mut hasher: Hasher,
    full: SyncSender<io::Result<Chunk>>,
    free: Receiver<Vec<u8>>,
) -> (DiffId, u64) {
    let mut bytes = 0;
    while let Ok(mut buffer) = free.recv() {
        if buffer.len() < CHUNK_BYTES {
            buffer.resize(CHUNK_BYTES, 0);
        }
        match fill(&mut stream, &mut buffer) {
            Ok(0) => break,
            Ok(filled) => {
                hasher.update(buffer.get(..filled).unwrap_or_default());
                bytes += filled as u64;
                if full.send(Ok((buffer, filled))).is_err() {
                    break;
                }
            }
            Err(error) => {
                let _ = full.send(Err(error));
                break;
            }
        }
    }
    (hasher.finish(), bytes)
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
