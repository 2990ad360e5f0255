//! Sparse files: GNU's own format and the three PAX ones (GNU tar manual, "Storing Sparse Files").

use super::Region;
use super::field::number;
use super::pax::decimal;
use crate::limits::MAX_SPARSE_REGIONS;

/// What PAX records said about sparseness.
#[derive(Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) real_size: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Numbers of the map in order: offset, length, offset, length, …
    numbers: Vec<u64>,
    seen: bool,
    broken: bool,
}

impl SparseRecords {
    /// Takes a `GNU.sparse.*` record; `key` is what follows that prefix.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) {
        self.seen = true;
        match key {
            b"major" => self.major = decimal(value),
            b"minor" | b"numblocks" => {}
            b"size" | b"realsize" => self.real_size = decimal(value),
            b"name" => self.name = Some(value.to_vec()),
            b"offset" | b"numbytes" => self.push(value),
            b"map" => {
                for number in value
                    .split(|&byte| byte == b',')
                    .filter(|number| !number.is_empty())
                {
                    self.push(number);
                }
            }
            _ => self.broken = true,
        }
    }

    fn push(&mut self, value: &[u8]) {
        match decimal(value) {
            Some(value) if self.numbers.len() < MAX_SPARSE_REGIONS * 2 => self.numbers.push(value),
            _ => self.broken = true,
        }
    }

    pub(crate) fn is_sparse(&self) -> bool {
        self.seen
    }

    /// Says whether the map lies at the start of the content (format 1.0).
    pub(crate) fn map_in_content(&self) -> bool {
        self.major == Some(1)
    }

    /// Returns the map that the records themselves hold (formats 0.0 and 0.1).
    pub(crate) fn regions(&self) -> Option<Vec<Region>> {
        if self.broken {
            None
        } else {
            pairs(&self.numbers)
        }
    }
}

/// Reads up to `count` regions of a GNU header; an empty field ends the list.
pub(crate) fn gnu_regions(fields: &[u8], regions: &mut Vec<Region>) -> Option<()> {
    for field in fields.chunks_exact(24) {
        if field.first() == Some(&0) {
            break;
        }
        let (offset, length) = field.split_at(12);
        if regions.len() >= MAX_SPARSE_REGIONS {
            return None;
        }
        regions.push(Region {
            offset: u64::try_from(number(offset)?).ok()?,
            length: u64::try_from(number(length)?).ok()?,
        });
    }
    Some(())
}

/// Returns how many lines the map at the start of the content has (format 1.0: decimal numbers each
/// on a line, the number of regions first), from its first block.
pub(crate) fn content_map_lines(first_block: &[u8]) -> Option<usize> {
    let end = first_block.iter().position(|&byte| byte == b'\n')?;
    let count = usize::try_from(decimal(first_block.get(..end)?)?).ok()?;
    (count <= MAX_SPARSE_REGIONS).then_some(count * 2 + 1)
}

/// Parses the map at the start of the content, of which `blocks` holds all lines.
pub(crate) fn content_map(blocks: &[u8], lines: usize) -> Option<Vec<Region>> {
    let numbers: Option<Vec<u64>> = blocks
        .split(|&byte| byte == b'\n')
        .take(lines)
        .skip(1)
        .map(decimal)
        .collect();
    pairs(&numbers?)
}

/// Checks that regions are in order, apart, and within `size`, and returns the bytes they hold.
pub(crate) fn check(regions: &[Region], size: u64) -> Option<u64> {
    let (mut end, mut stored) = (0_u64, 0_u64);
    for region in regions {
        if region.offset < end {
            return None;
        }
        end = region.offset.checked_add(region.length)?;
        stored = stored.checked_add(region.length)?;
    }
    (end <= size).then_some(stored)
}

fn pairs(numbers: &[u64]) -> Option<Vec<Region>> {
    let chunks = numbers.chunks_exact(2);
    if !chunks.remainder().is_empty() {
        return None;
    }
    Some(
        chunks
            .filter_map(|pair| match pair {
                [offset, length] => Some(Region {
                    offset: *offset,
                    length: *length,
                }),
                _ => None,
            })
            .collect(),
    )
}
