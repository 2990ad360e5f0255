//! Reading a tar entry by entry, keeping the raw header bytes for whoever wants to rebuild it.

mod entry;
mod extended;

use super::field::{octal, string};
use super::header::{checksum, signed_checksum};
use super::{BLOCK_BYTES, Entry};
use crate::error::LayerError;
use crate::limits::MAX_HEADERS_BYTES;
use crate::source::Source;

use extended::Extended;

type Block = [u8; BLOCK_BYTES];

/// A tar being read.
pub(crate) struct TarReader<'s, 'r> {
    source: &'s mut Source<'r>,
    /// Raw bytes read since [`TarReader::take_raw`]: padding, headers, trailer.
    raw: Vec<u8>,
    /// Stored bytes of the present entry's content that were not consumed yet.
    remaining: u64,
    padding: usize,
    ended: bool,
    /// Whether the archive ended with exactly two zero blocks and nothing after.
    clean_end: bool,
}

impl<'s, 'r> TarReader<'s, 'r> {
    /// Begins to read a tar.
    pub(crate) fn new(source: &'s mut Source<'r>) -> Self {
        Self {
            source,
            raw: Vec::new(),
            remaining: 0,
            padding: 0,
            ended: false,
            clean_end: false,
        }
    }

    /// Reads the next entry's headers into `entry`; `false` at the end of the archive.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool, LayerError> {
        if self.ended {
            return Ok(false);
        }
        self.skip_content()?;
        self.read_padding()?;
        let mut extended = Extended::default();
        let mut any = false;
        loop {
            let Some(block) = self.read_header_block(any)? else {
                self.ended = true;
                return Ok(false);
            };
            any = true;
            let flag = block[156];
            match flag {
                b'x' | b'g' | b'L' | b'K' => {
                    let content = self.read_extended(&block)?;
                    match flag {
                        b'x' => self.take_records(&content, &mut extended)?,
                        b'L' => extended.gnu_path = Some(string(&content).to_vec()),
                        b'K' => extended.gnu_link = Some(string(&content).to_vec()),
                        _ => {}
                    }
                }
                _ => {
                    self.take_entry(&block, extended, entry)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Returns the raw bytes of padding and headers read since the last call of [`TarReader::clear_raw`].
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Forgets the raw bytes.
    pub(crate) fn clear_raw(&mut self) {
        self.raw.clear();
    }

    /// Says whether the archive ended with exactly two zero blocks.
    pub(crate) fn ended_cleanly(&self) -> bool {
        self.clean_end
    }

    /// Returns how many stored bytes of content are left.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the next piece of content, at most `limit` bytes; empty at its end.
    pub(crate) fn content(&mut self, limit: u64) -> Result<&[u8], LayerError> {
        let wanted = self.remaining.min(limit);
        if wanted == 0 {
            return Ok(&[]);
        }
        let position = self.source.position();
        let available = self.source.fill()?;
        if available.is_empty() {
            return Err(truncated(position));
        }
        let length = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .min(available.len());
        Ok(available.get(..length).unwrap_or_default())
    }

    /// Takes `count` bytes of content as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.remaining = self.remaining.saturating_sub(count as u64);
    }

    /// Reads on to the end of the stream, past the archive's end, handing what follows to `take`.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), LayerError> {
        loop {
            let available = self.source.fill()?;
            if available.is_empty() {
                return Ok(());
            }
            self.clean_end = false;
            let length = available.len();
            take(available);
            self.source.consume(length);
        }
    }

    /// Passes over what is left of the content, keeping it among the raw bytes.
    pub(crate) fn skip_content(&mut self) -> Result<(), LayerError> {
        while self.remaining > 0 {
            let piece = self.content(u64::MAX)?;
            let length = piece.len();
            let piece = piece.to_vec();
            self.raw.extend_from_slice(&piece);
            self.consume(length);
        }
        Ok(())
    }

    fn read_padding(&mut self) -> Result<(), LayerError> {
        while self.padding > 0 {
            let available = self.source.fill()?;
            if available.is_empty() {
                // An archive may end right after its last byte of content, as Go reads it.
                self.padding = 0;
                return Ok(());
            }
            let length = available.len().min(self.padding);
            self.raw
                .extend_from_slice(available.get(..length).unwrap_or_default());
            self.source.consume(length);
            self.padding -= length;
        }
        Ok(())
    }

    /// Reads a header block; `None` at the archive's end: two zero blocks, or the end of the stream.
    fn read_header_block(&mut self, inside: bool) -> Result<Option<Block>, LayerError> {
        let position = self.source.position();
        let mut block = [0_u8; BLOCK_BYTES];
        if !self.read_block(&mut block)? {
            return if inside {
                Err(truncated(position))
            } else {
                Ok(None)
            };
        }
        if block.iter().any(|&byte| byte != 0) {
            verify(&block, position)?;
            return Ok(Some(block));
        }
        let mut second = [0_u8; BLOCK_BYTES];
        if self.read_block(&mut second)? {
            if second.iter().any(|&byte| byte != 0) {
                return Err(malformed(position, "data after a single zero block"));
            }
            self.clean_end = !inside;
        }
        if inside {
            return Err(malformed(
                position,
                "an extended header with no entry after it",
            ));
        }
        Ok(None)
    }

    /// Reads one block and keeps it among the raw bytes; `false` at the end of the stream.
    fn read_block(&mut self, block: &mut Block) -> Result<bool, LayerError> {
        let position = self.source.position();
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let available = self.source.fill()?;
            if available.is_empty() {
                return if filled == 0 {
                    Ok(false)
                } else {
                    Err(truncated(position))
                };
            }
            let length = available.len().min(BLOCK_BYTES - filled);
            block[filled..filled + length]
                .copy_from_slice(available.get(..length).unwrap_or_default());
            self.source.consume(length);
            filled += length;
        }
        if self.raw.len() + BLOCK_BYTES > MAX_HEADERS_BYTES {
            return Err(LayerError::Limit {
                what: "bytes of headers before one entry",
                limit: MAX_HEADERS_BYTES as u64,
            });
        }
        self.raw.extend_from_slice(block);
        Ok(true)
    }
}

fn verify(block: &Block, position: u64) -> Result<(), LayerError> {
    let bad = || malformed(position, "the checksum does not match");
    let stated = octal(&block[148..156]).ok_or_else(bad)?;
    let signed = i64::try_from(stated).is_ok_and(|stated| stated == signed_checksum(block));
    if stated == checksum(block) || signed {
        Ok(())
    } else {
        Err(bad())
    }
}

fn malformed(position: u64, reason: &'static str) -> LayerError {
    LayerError::Format { position, reason }
}

fn truncated(position: u64) -> LayerError {
    malformed(position, "the archive ends in the middle of an entry")
}
