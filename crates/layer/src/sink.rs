//! Where a tar that is being made goes: hashed by a second thread when there is much, and written on.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use wharf_image::{DiffId, Hasher};

use crate::error::LayerError;

const CHUNK_BYTES: usize = 1 << 20;

/// Chunks that may wait for the hashing thread.
const CHUNKS_AHEAD: usize = 4;

/// A thread that hashes the chunks it is sent.
type Hashing = (SyncSender<Arc<Vec<u8>>>, JoinHandle<Hasher>);

/// Collects a tar's bytes in chunks.
pub(crate) struct TarSink<'o> {
    out: Option<&'o mut dyn Write>,
    chunk: Vec<u8>,
    hashing: Option<Hashing>,
    spent: Vec<Arc<Vec<u8>>>,
    bytes: u64,
    hash: bool,
    /// A chunk is handed on when it has this many bytes.
    chunk_bytes: usize,
}

impl<'o> TarSink<'o> {
    /// Starts a sink that writes to `out` where there is one, and hashes if asked.
    pub(crate) fn new(out: Option<&'o mut dyn Write>, hash: bool) -> Self {
        Self {
            out,
            chunk: Vec::new(),
            hashing: None,
            spent: Vec::new(),
            bytes: 0,
            hash,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// Starts a sink that only collects, until [`TarSink::take`].
    pub(crate) fn collecting() -> Self {
        Self {
            chunk_bytes: usize::MAX,
            ..Self::new(None, false)
        }
    }

    /// Returns how many bytes were collected.
    pub(crate) fn collected_bytes(&self) -> usize {
        self.chunk.len()
    }

    /// Returns what was collected and starts anew with a buffer that is done with.
    pub(crate) fn take(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        std::mem::replace(&mut self.chunk, buffer)
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let room = self.chunk_bytes - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            self.send_if_full()?;
        }
        Ok(())
    }

    /// Lets `fill` put up to `limit` bytes into the chunk itself and returns how many it put.
    pub(crate) fn write_with(
        &mut self,
        limit: u64,
        fill: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> Result<std::io::Result<usize>, LayerError> {
        let start = self.chunk.len();
        let room = (self.chunk_bytes - start).min(usize::try_from(limit).unwrap_or(usize::MAX));
        self.chunk.resize(start + room, 0);
        let result = fill(self.chunk.get_mut(start..).unwrap_or_default());
        self.chunk
            .truncate(start + result.as_ref().map_or(0, |count| *count));
        self.send_if_full()?;
        Ok(result)
    }

    /// Adds zeros.
    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), LayerError> {
        const ZEROS: [u8; 1024] = [0; 1024];
        self.write(ZEROS.get(..count).unwrap_or(&ZEROS))
    }

    /// Ends the tar and returns its digest (of nothing where hashing was not asked) and length.
    pub(crate) fn finish(mut self) -> Result<(DiffId, u64), LayerError> {
        let last = std::mem::take(&mut self.chunk);
        self.bytes += last.len() as u64;
        if let Some(out) = &mut self.out {
            out.write_all(&last)
                .and_then(|()| out.flush())
                .map_err(LayerError::stream("write the archive"))?;
        }
        let mut hasher = match self.hashing.take() {
            None => Hasher::new(),
            Some((sender, thread)) => {
                drop(sender);
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        if self.hash {
            hasher.update(&last);
        }
        Ok((hasher.finish(), self.bytes))
    }

    fn send_if_full(&mut self) -> Result<(), LayerError> {
        if self.chunk.len() < self.chunk_bytes {
            return Ok(());
        }
        let next = self.reuse();
        let full = std::mem::replace(&mut self.chunk, next);
        self.bytes += full.len() as u64;
        if !self.hash {
            if let Some(out) = &mut self.out {
                out.write_all(&full)
                    .map_err(LayerError::stream("write the archive"))?;
            }
            self.spent.push(Arc::new(full));
            return Ok(());
        }
        let full = Arc::new(full);
        let (sender, _) = self.hashing.get_or_insert_with(start_hashing);
        // The thread ends only when the sender is dropped; a panic there shows when it is joined.
        let _ = sender.send(full.clone());
        if let Some(out) = &mut self.out {
            out.write_all(&full)
                .map_err(LayerError::stream("write the archive"))?;
        }
        self.spent.push(full);
        Ok(())
    }

    /// Returns an empty buffer, one that everybody is done with if there is one.
    fn reuse(&mut self) -> Vec<u8> {
        if let Some(index) = self
            .spent
            .iter()
            .position(|chunk| Arc::strong_count(chunk) == 1)
            && let Ok(mut buffer) = Arc::try_unwrap(self.spent.swap_remove(index))
        {
            buffer.clear();
            return buffer;
        }
        Vec::with_capacity(CHUNK_BYTES)
    }
}

fn start_hashing() -> Hashing {
    let (sender, receiver) = sync_channel::<Arc<Vec<u8>>>(CHUNKS_AHEAD);
    let thread = std::thread::spawn(move || {
        let mut hasher = Hasher::new();
        for chunk in receiver {
            hasher.update(&chunk);
        }
        hasher
    });
    (sender, thread)
}
