//! Compressing a layer in parallel, to the same bytes whatever the number of threads.
//!
//! The input is cut into blocks of a fixed size, each compressed on its own. gzip: the blocks are
//! joined to one member (RFC 1952), each ended by a full flush so that it refers to nothing before
//! it, checksums combined. zstd: each block is a frame, and frames follow each other (RFC 8878 §3).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use flate2::{Compress, Crc, FlushCompress, Status};
use wharf_image::{Digest, Hasher};

use crate::decompress::Compression;
use crate::error::LayerError;

/// Input bytes of one block. Part of the output's form: another size gives other bytes.
pub const COMPRESS_BLOCK_BYTES: usize = 1 << 20;

/// gzip level. Part of the output's form.
const GZIP_LEVEL: u32 = 5;

/// zstd level. Part of the output's form.
const ZSTD_LEVEL: i32 = 3;

/// Most threads that are used, however many are asked for.
const MAX_THREADS: usize = 64;

/// gzip's header: deflate, no name, no time, unknown system (RFC 1952 §2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty last deflate block.
const DEFLATE_END: [u8; 2] = [0x03, 0x00];

/// What was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressReport {
    /// Bytes read.
    pub in_bytes: u64,
    /// Bytes written.
    pub out_bytes: u64,
    /// Digest of what was written.
    pub digest: Digest,
}

/// Compresses a stream; `Compression::None` copies it.
///
/// # Errors
/// [`LayerError::Stream`] when reading or writing fails, and for bzip2 and xz, which are only read.
pub fn compress(
    input: impl Read,
    out: impl Write,
    compression: Compression,
    threads: usize,
) -> Result<CompressReport, LayerError> {
    let codec = match compression {
        Compression::None => Codec::Copy,
        Compression::Gzip => Codec::Gzip,
        Compression::Zstd => Codec::Zstd,
        Compression::Bzip2 | Compression::Xz => {
            let source = io::Error::new(
                io::ErrorKind::Unsupported,
                "layers are written as gzip, zstd or plain tar",
            );
            return Err(LayerError::Stream {
                operation: "compress the layer",
                source,
            });
        }
    };
    let mut output = Output {
        out,
        hasher: Hasher::new(),
        bytes: 0,
        crc: Crc::new(),
        in_bytes: 0,
        codec,
    };
    output.begin()?;
    if threads <= 1 || codec == Codec::Copy {
        compress_here(input, &mut output, codec)?;
    } else {
        compress_in_threads(input, &mut output, codec, threads.min(MAX_THREADS))?;
    }
    output.end()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Copy,
    Gzip,
    Zstd,
}

/// A block after compression, and of what it was made.
struct Block {
    bytes: Vec<u8>,
    crc: Crc,
    in_bytes: u64,
}

struct Job {
    input: Vec<u8>,
    done: SyncSender<io::Result<Block>>,
}

fn compress_here(
    mut input: impl Read,
    output: &mut Output<impl Write>,
    codec: Codec,
) -> Result<(), LayerError> {
    while let Some(block) = next_block(&mut input)? {
        output.put(
            compress_block(&block, codec).map_err(LayerError::stream("compress the layer"))?,
        )?;
    }
    Ok(())
}

fn compress_in_threads(
    mut input: impl Read,
    output: &mut Output<impl Write>,
    codec: Codec,
    threads: usize,
) -> Result<(), LayerError> {
    let (jobs, queue) = sync_channel::<Job>(threads);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let queue = queue.clone();
        std::thread::spawn(move || work(&queue, codec));
    }
    let mut waiting: VecDeque<Receiver<io::Result<Block>>> = VecDeque::new();
    loop {
        let block = next_block(&mut input)?;
        let ended = block.is_none();
        if let Some(input) = block {
            let (done, result) = sync_channel(1);
            // Workers live as long as the sender; a lost one shows as a missing result below.
            let _ = jobs.send(Job { input, done });
            waiting.push_back(result);
        }
        while let Some(first) = waiting.front() {
            if !ended && waiting.len() < threads * 2 {
                break;
            }
            let block = first
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("a compressing thread died")))
                .map_err(LayerError::stream("compress the layer"))?;
            waiting.pop_front();
            output.put(block)?;
        }
        if ended {
            return Ok(());
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, codec: Codec) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        // Nobody waits for the result after an error elsewhere.
        let _ = job.done.send(compress_block(&job.input, codec));
    }
}

fn next_block(input: &mut impl Read) -> Result<Option<Vec<u8>>, LayerError> {
    let mut block = Vec::with_capacity(COMPRESS_BLOCK_BYTES);
    input
        .by_ref()
        .take(COMPRESS_BLOCK_BYTES as u64)
        .read_to_end(&mut block)
        .map_err(LayerError::stream("read the layer"))?;
    Ok((!block.is_empty()).then_some(block))
}

fn compress_block(input: &[u8], codec: Codec) -> io::Result<Block> {
    let mut crc = Crc::new();
    let bytes = match codec {
        Codec::Copy => input.to_vec(),
        Codec::Zstd => zstd::bulk::compress(input, ZSTD_LEVEL)?,
        Codec::Gzip => {
            crc.update(input);
            deflate(input)?
        }
    };
    Ok(Block {
        bytes,
        crc,
        in_bytes: input.len() as u64,
    })
}

/// Returns raw deflate blocks that end on a byte and are not the last.
fn deflate(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = Compress::new(flate2::Compression::new(GZIP_LEVEL), false);
    let mut output = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let used = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
        let rest = input.get(used..).unwrap_or_default();
        let status = compressor
            .compress_vec(rest, &mut output, FlushCompress::Full)
            .map_err(io::Error::other)?;
        let all_used = compressor.total_in() == input.len() as u64;
        // Room left over means that the flush is complete.
        if status == Status::BufError || (all_used && output.len() < output.capacity()) {
            return Ok(output);
        }
        output.reserve(input.len() / 4 + 1024);
    }
}

struct Output<W> {
    out: W,
    hasher: Hasher,
    bytes: u64,
    crc: Crc,
    in_bytes: u64,
    codec: Codec,
}

impl<W: Write> Output<W> {
    fn begin(&mut self) -> Result<(), LayerError> {
        if self.codec == Codec::Gzip {
            self.write(&GZIP_HEADER)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, block: Block) -> Result<(), LayerError> {
        self.in_bytes += block.in_bytes;
        self.crc.combine(&block.crc);
        self.write(&block.bytes)
    }

    fn end(mut self) -> Result<CompressReport, LayerError> {
        if self.codec == Codec::Gzip {
            self.write(&DEFLATE_END)?;
            self.write(&self.crc.sum().to_le_bytes())?;
            self.write(&self.crc.amount().to_le_bytes())?;
        }
        if self.codec == Codec::Zstd && self.in_bytes == 0 {
            let empty = zstd::bulk::compress(&[], ZSTD_LEVEL)
                .map_err(LayerError::stream("compress the layer"))?;
            self.write(&empty)?;
        }
        self.out
            .flush()
            .map_err(LayerError::stream("write the compressed layer"))?;
        Ok(CompressReport {
            in_bytes: self.in_bytes,
            out_bytes: self.bytes,
            digest: self.hasher.finish(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(LayerError::stream("write the compressed layer"))
    }
}
