//! Reading a tar entry by entry, keeping the raw header bytes for whoever wants to rebuild it.

use super::field::{number, octal, string};
use super::header::{checksum, signed_checksum};
use super::sparse::{self, SparseRecords};
use super::{BLOCK_BYTES, Entry, Kind, XATTR_RECORD_PREFIX, padding, pax};
use crate::error::{LayerError, display};
use crate::limits::{
    MAX_EXTENDED_HEADER_BYTES, MAX_HEADERS_BYTES, MAX_PATH_BYTES, MAX_XATTR_BYTES,
};
use crate::source::Source;

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

/// What extended headers said about the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<wharf_safefs::Timestamp>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
    gnu_path: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

impl<'s, 'r> TarReader<'s, 'r> {
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

    /// Reads the content of an extended header with its padding.
    fn read_extended(&mut self, block: &Block) -> Result<Vec<u8>, LayerError> {
        let position = self.source.position();
        let size = number(&block[124..136])
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| malformed(position, "the size of an extended header is no number"))?;
        if size > MAX_EXTENDED_HEADER_BYTES {
            return Err(LayerError::Limit {
                what: "bytes in an extended header",
                limit: MAX_EXTENDED_HEADER_BYTES,
            });
        }
        let length = size as usize;
        let mut content = Vec::with_capacity(length + padding(size));
        let mut part = [0_u8; BLOCK_BYTES];
        while content.len() < length {
            if !self.read_block(&mut part)? {
                return Err(truncated(self.source.position()));
            }
            content.extend_from_slice(&part);
        }
        content.truncate(length);
        Ok(content)
    }

    fn take_records(&self, content: &[u8], extended: &mut Extended) -> Result<(), LayerError> {
        let position = self.source.position();
        let mut rest = content;
        while !rest.is_empty() {
            let (key, value, after) = pax::next_record(rest)
                .ok_or_else(|| malformed(position, "a PAX record is malformed"))?;
            rest = after;
            take_record(key, value, extended)
                .ok_or_else(|| malformed(position, "the value of a PAX record is malformed"))?;
        }
        Ok(())
    }

    /// Fills `entry` from its header block and what extended headers said before it.
    fn take_entry(
        &mut self,
        block: &Block,
        extended: Extended,
        entry: &mut Entry,
    ) -> Result<(), LayerError> {
        let position = self.source.position() - BLOCK_BYTES as u64;
        let bad = |reason| malformed(position, reason);
        entry.sparse = None;
        take_names(block, &extended, entry);
        let flag = block[156];
        entry.kind = Kind::from_type_flag(flag).ok_or_else(|| {
            LayerError::invalid(&entry.name, format!("unknown type {:?}", char::from(flag)))
        })?;
        if flag == 0 && entry.name.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        check_names(entry)?;
        let field = |range: std::ops::Range<usize>| {
            number(block.get(range).unwrap_or_default()).and_then(|value| u64::try_from(value).ok())
        };
        let mode = number(&block[100..108]).ok_or_else(|| bad("the mode is no number"))?;
        entry.mode = (mode & 0o7777) as u32;
        entry.uid = extended
            .uid
            .or_else(|| field(108..116))
            .ok_or_else(|| bad("the user id is no number"))?;
        entry.gid = extended
            .gid
            .or_else(|| field(116..124))
            .ok_or_else(|| bad("the group id is no number"))?;
        let size = extended
            .size
            .or_else(|| field(124..136))
            .ok_or_else(|| bad("the size is no number"))?;
        let seconds = number(&block[136..148]).ok_or_else(|| bad("the time is no number"))?;
        entry.mtime = extended
            .mtime
            .unwrap_or(wharf_safefs::Timestamp::from_seconds(seconds));
        (entry.major, entry.minor) = match entry.kind {
            Kind::CharDevice | Kind::BlockDevice => {
                let half = |range| field(range).and_then(|value| u32::try_from(value).ok());
                let major = half(329..337).ok_or_else(|| bad("the device number is no number"))?;
                (
                    major,
                    half(337..345).ok_or_else(|| bad("the device number is no number"))?,
                )
            }
            _ => (0, 0),
        };
        entry.xattrs = extended.xattrs;
        // Only files have content, whatever size the header claims for others.
        self.remaining = if entry.kind == Kind::File { size } else { 0 };
        entry.size_bytes = self.remaining;
        self.padding = padding(self.remaining);
        self.take_sparse(block, &extended.sparse, entry, position)
    }

    fn take_sparse(
        &mut self,
        block: &Block,
        records: &SparseRecords,
        entry: &mut Entry,
        position: u64,
    ) -> Result<(), LayerError> {
        let bad = || malformed(position, "the map of a sparse file is malformed");
        let (regions, real_size) = if block[156] == b'S' {
            let mut regions = Vec::new();
            sparse::gnu_regions(&block[386..482], &mut regions).ok_or_else(bad)?;
            let mut more = block[482] != 0;
            let mut extension = [0_u8; BLOCK_BYTES];
            while more {
                if !self.read_block(&mut extension)? {
                    return Err(truncated(position));
                }
                sparse::gnu_regions(&extension[..504], &mut regions).ok_or_else(bad)?;
                more = extension[504] != 0;
            }
            let size = number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
            (regions, size.ok_or_else(bad)?)
        } else if entry.kind == Kind::File && records.is_sparse() {
            let regions = if records.map_in_content() {
                self.read_content_map(position)?
            } else {
                records.regions().ok_or_else(bad)?
            };
            (regions, records.real_size.ok_or_else(bad)?)
        } else {
            return Ok(());
        };
        if sparse::check(&regions, real_size) != Some(self.remaining) {
            return Err(bad());
        }
        entry.size_bytes = real_size;
        entry.sparse = Some(regions);
        Ok(())
    }

    fn read_content_map(&mut self, position: u64) -> Result<Vec<super::Region>, LayerError> {
        let bad = || malformed(position, "the map of a sparse file is malformed");
        let mut blocks = Vec::new();
        let mut block = [0_u8; BLOCK_BYTES];
        let (mut needed, mut newlines) = (1, 0);
        while newlines < needed {
            if self.remaining < BLOCK_BYTES as u64 || !self.read_block(&mut block)? {
                return Err(bad());
            }
            self.remaining -= BLOCK_BYTES as u64;
            if blocks.is_empty() {
                needed = sparse::content_map_lines(&block).ok_or_else(bad)?;
            }
            newlines += block.iter().filter(|&&byte| byte == b'\n').count();
            blocks.extend_from_slice(&block);
        }
        sparse::content_map(&blocks, needed).ok_or_else(bad)
    }
}

fn take_record(key: &[u8], value: &[u8], extended: &mut Extended) -> Option<()> {
    if let Some(name) = key.strip_prefix(XATTR_RECORD_PREFIX) {
        if name.is_empty() || name.contains(&0) || value.len() > MAX_XATTR_BYTES {
            return None;
        }
        extended.xattrs.retain(|(known, _)| known != name);
        extended.xattrs.push((name.to_vec(), value.to_vec()));
        return Some(());
    }
    if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
        extended.sparse.take(rest, value);
        return Some(());
    }
    // An empty value takes an earlier one back (POSIX pax).
    let optional = |parse: fn(&[u8]) -> Option<u64>| -> Option<Option<u64>> {
        if value.is_empty() {
            Some(None)
        } else {
            parse(value).map(Some)
        }
    };
    match key {
        b"path" => extended.path = (!value.is_empty()).then(|| value.to_vec()),
        b"linkpath" => extended.link = (!value.is_empty()).then(|| value.to_vec()),
        b"size" => extended.size = optional(pax::decimal)?,
        b"uid" => extended.uid = optional(pax::decimal)?,
        b"gid" => extended.gid = optional(pax::decimal)?,
        b"mtime" if value.is_empty() => extended.mtime = None,
        b"mtime" => extended.mtime = Some(pax::time(value)?),
        _ => {}
    }
    Some(())
}

fn take_names(block: &Block, extended: &Extended, entry: &mut Entry) {
    entry.name.clear();
    entry.link.clear();
    let path = extended
        .sparse
        .name
        .as_ref()
        .or(extended.path.as_ref())
        .or(extended.gnu_path.as_ref());
    match path {
        Some(path) => entry.name.extend_from_slice(path),
        None => {
            let prefix = string(&block[345..500]);
            // GNU puts other fields where ustar has the prefix.
            if block[257..263] == *b"ustar\0" && !prefix.is_empty() {
                entry.name.extend_from_slice(prefix);
                entry.name.push(b'/');
            }
            entry.name.extend_from_slice(string(&block[..100]));
        }
    }
    let link = extended.link.as_ref().or(extended.gnu_link.as_ref());
    entry
        .link
        .extend_from_slice(link.map_or(string(&block[157..257]), Vec::as_slice));
}

fn check_names(entry: &Entry) -> Result<(), LayerError> {
    for (text, what) in [(&entry.name, "name"), (&entry.link, "link target")] {
        if text.len() > MAX_PATH_BYTES {
            let start = text.get(..80).unwrap_or_default();
            let reason = format!(
                "its {what} has {} bytes, more than {MAX_PATH_BYTES}",
                text.len()
            );
            return Err(LayerError::InvalidEntry {
                name: format!("{}…", display(start)),
                reason,
            });
        }
        if text.contains(&0) {
            return Err(LayerError::invalid(
                &entry.name,
                format!("its {what} contains a NUL byte"),
            ));
        }
    }
    Ok(())
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
