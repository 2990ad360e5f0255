//! An entry of its header block, of what extended headers said before it, and of the map of a sparse file.

use crate::error::{LayerError, display};
use crate::limits::MAX_PATH_BYTES;
use crate::tar::field::{number, string};
use crate::tar::sparse::{self, SparseRecords};
use crate::tar::{BLOCK_BYTES, Entry, Kind, Region, padding};

use super::extended::Extended;
use super::{Block, TarReader, malformed, truncated};

impl TarReader<'_, '_> {
    /// Fills `entry` from its header block and what extended headers said before it.
    pub(super) fn take_entry(
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

    /// Takes the map of a sparse file, wherever it stands.
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

    /// Reads the map that a sparse file's content begins with (PAX format 1.0).
    fn read_content_map(&mut self, position: u64) -> Result<Vec<Region>, LayerError> {
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
