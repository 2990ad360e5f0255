//! Taking the compression off a layer or archive, in this process and as a stream.

use std::io::{BufRead, Chain, Cursor, Read};

use crate::error::LayerError;

/// Memory an xz stream may ask for, in KiB: its dictionary.
const XZ_MEMORY_LIMIT_KIB: u32 = 128 << 10;

/// Largest zstd window accepted, as a power of two (128 MiB, zstd's own default for decoders).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Longest of the magic numbers.
const MAGIC_BYTES: usize = 6;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain bytes.
    None,
    /// gzip (RFC 1952), of any number of members.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878), of any number of frames, skippable ones included.
    Zstd,
}

impl Compression {
    /// Returns the format that bytes begin with (spec image-store §5.4).
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x42, 0x5a, 0x68, ..] => Self::Bzip2,
            [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Detects compression by magic and decompresses as a stream; plain bytes pass through.
///
/// # Errors
/// [`LayerError::Stream`] when the first bytes cannot be read. Damage later in the stream is an
/// error of the returned reader.
pub fn decompress<'a>(
    mut reader: impl BufRead + Send + 'a,
) -> Result<(Compression, Box<dyn Read + Send + 'a>), LayerError> {
    let failed = LayerError::stream;
    let mut magic = [0_u8; MAGIC_BYTES];
    let mut filled = 0;
    while filled < MAGIC_BYTES {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result.map_err(failed("read the archive"))?,
        };
        if available.is_empty() {
            break;
        }
        let length = available.len().min(MAGIC_BYTES - filled);
        magic[filled..filled + length].copy_from_slice(&available[..length]);
        reader.consume(length);
        filled += length;
    }
    let start = magic.get(..filled).unwrap_or_default().to_vec();
    let compression = Compression::detect(&start);
    let whole: Chain<Cursor<Vec<u8>>, _> = Read::chain(Cursor::new(start), reader);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            whole,
            true,
            XZ_MEMORY_LIMIT_KIB,
        )),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)
                .map_err(failed("start the zstd decoder"))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(failed("set up the zstd decoder"))?;
            Box::new(decoder)
        }
    };
    Ok((compression, plain))
}
