//! What must be kept beside a layer's directory to make its original tar again, bit for bit.
//!
//! Our own format (spec image-store §6 tells the idea). The tar is cut into raw bytes (headers,
//! padding, trailer, contents that did not survive) and references to file contents that lie in the
//! directory. The encoded form, all numbers little-endian:
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | magic `WHFRECIP` |
//! | 4 | version, 1 |
//! | 4 | flags: 1 complete, 2 canonical |
//! | 32 | DiffID of the tar |
//! | 8 | length of the tar |
//! | 3 × 8 | lengths of the three parts that follow, each compressed with zstd |
//! | … | pieces: per piece varints kind, raw length, then for a reference path length, path, offset, length |
//! | … | raw bytes |
//! | … | contents that did not survive |

mod builder;
mod rebuild;

use wharf_image::DiffId;

use crate::error::LayerError;

pub(crate) use builder::RecipeBuilder;

/// Most bytes of contents that are kept in a recipe because a later entry of the same tar replaced their file.
pub const MAX_RECIPE_CONTENT_BYTES: u64 = 64 << 20;

/// Most bytes of one recipe's compressed parts; a tar that needs more has no complete recipe.
pub const MAX_RECIPE_BYTES: u64 = 256 << 20;

const MAGIC: &[u8; 8] = b"WHFRECIP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 + 32 + 8 + 3 * 8;
const FLAG_COMPLETE: u32 = 1;
const FLAG_CANONICAL: u32 = 2;

// Kinds of pieces.
const KIND_END: u64 = 0;
const KIND_FILE: u64 = 1;
const KIND_KEPT: u64 = 2;

/// Everything of a tar but the contents of the files it unpacked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    diff_id: DiffId,
    tar_bytes: u64,
    complete: bool,
    canonical: bool,
    pieces: Vec<u8>,
    raw: Vec<u8>,
    kept: Vec<u8>,
}

impl Recipe {
    /// Returns the digest of the tar this recipe makes.
    pub fn diff_id(&self) -> DiffId {
        self.diff_id
    }

    /// Returns the length of the tar this recipe makes.
    pub fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }

    /// Says whether [`crate::write_tar`] makes the same tar from the directory, so that nothing needs keeping.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// Says whether the tar can be rebuilt; if not, the original must be kept. Only tars that replace
    /// their own large files, or whose headers alone exceed [`MAX_RECIPE_BYTES`], have no complete recipe.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the encoded form; a canonical tar's is a few bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let none = Vec::new();
        let parts = if self.canonical {
            [&none; 3]
        } else {
            [&self.pieces, &self.raw, &self.kept]
        };
        let mut bytes =
            Vec::with_capacity(HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let complete = if self.complete { FLAG_COMPLETE } else { 0 };
        let canonical = if self.canonical { FLAG_CANONICAL } else { 0 };
        bytes.extend_from_slice(&(complete | canonical).to_le_bytes());
        bytes.extend_from_slice(self.diff_id.as_bytes());
        bytes.extend_from_slice(&self.tar_bytes.to_le_bytes());
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        for part in parts {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// [`LayerError::InvalidRecipe`] for damaged bytes and versions this build does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LayerError> {
        let mut rest = bytes;
        let cut_short = || invalid("it is cut short");
        if take(&mut rest, 8).ok_or_else(cut_short)? != MAGIC {
            return Err(invalid("it does not begin with its magic"));
        }
        let version = take_u32(&mut rest).ok_or_else(cut_short)?;
        if version != VERSION {
            return Err(invalid(format!(
                "version {version} is not known; this build reads {VERSION}"
            )));
        }
        let flags = take_u32(&mut rest).ok_or_else(cut_short)?;
        let digest = take(&mut rest, 32)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(cut_short)?;
        let tar_bytes = take_u64(&mut rest).ok_or_else(cut_short)?;
        let mut lengths = [0; 3];
        for length in &mut lengths {
            *length = take_u64(&mut rest).ok_or_else(cut_short)?;
        }
        let mut part = |length: u64| {
            let length = usize::try_from(length).ok()?;
            take(&mut rest, length).map(<[u8]>::to_vec)
        };
        let [pieces, raw, kept] = lengths.map(&mut part);
        Ok(Self {
            diff_id: DiffId::from_bytes(digest),
            tar_bytes,
            complete: flags & FLAG_COMPLETE != 0,
            canonical: flags & FLAG_CANONICAL != 0,
            pieces: pieces.ok_or_else(cut_short)?,
            raw: raw.ok_or_else(cut_short)?,
            kept: kept.ok_or_else(cut_short)?,
        })
    }
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (first, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(first)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes, 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn invalid(reason: impl Into<String>) -> LayerError {
    LayerError::InvalidRecipe {
        reason: reason.into(),
    }
}
