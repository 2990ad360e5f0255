//! Extended headers: PAX records and the long names of GNU tar.

use crate::error::LayerError;
use crate::limits::{MAX_EXTENDED_HEADER_BYTES, MAX_XATTR_BYTES};
use crate::tar::field::number;
use crate::tar::sparse::SparseRecords;
use crate::tar::{BLOCK_BYTES, XATTR_RECORD_PREFIX, padding, pax};

use super::{Block, TarReader, malformed, truncated};

/// What extended headers said about the entry that follows them.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<wharf_safefs::Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
}

impl TarReader<'_, '_> {
    /// Reads the content of an extended header with its padding.
    pub(super) fn read_extended(&mut self, block: &Block) -> Result<Vec<u8>, LayerError> {
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

    /// Takes PAX records over.
    pub(super) fn take_records(
        &self,
        content: &[u8],
        extended: &mut Extended,
    ) -> Result<(), LayerError> {
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
