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

use std::collections::HashMap;
use std::io::{Read, Write};

use wharf_image::{DiffId, Hasher};
use wharf_safefs::{OpenFlags, Root};

use crate::error::LayerError;
use crate::tree::{as_path, split};

/// Most bytes of contents that are kept in a recipe because a later entry of the same tar replaced their file.
pub const MAX_RECIPE_CONTENT_BYTES: u64 = 64 << 20;

/// Most bytes of one recipe's compressed parts; a tar that needs more has no complete recipe.
pub const MAX_RECIPE_BYTES: u64 = 256 << 20;

const MAGIC: &[u8; 8] = b"WHFRECIP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 + 32 + 8 + 3 * 8;
const FLAG_COMPLETE: u32 = 1;
const FLAG_CANONICAL: u32 = 2;
const ZSTD_LEVEL: i32 = 3;
const COPY_BUFFER_BYTES: usize = 256 << 10;

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

    /// Writes the original tar, taking file contents from the layer's directory.
    ///
    /// # Errors
    /// [`LayerError::RebuildMismatch`] when what was written is not the original (the directory was
    /// changed): the caller must throw the output away.
    pub fn rebuild(&self, directory: &Root, out: &mut dyn Write) -> Result<(), LayerError> {
        let found = if self.canonical {
            crate::write_tar(directory, out)?.diff_id
        } else if self.complete {
            self.rebuild_from_pieces(directory, out)?
        } else {
            return Err(invalid(
                "it is not complete: the original tar was to be kept",
            ));
        };
        if found == self.diff_id {
            return Ok(());
        }
        Err(LayerError::RebuildMismatch {
            expected: self.diff_id,
            found,
        })
    }

    fn rebuild_from_pieces(
        &self,
        directory: &Root,
        out: &mut dyn Write,
    ) -> Result<DiffId, LayerError> {
        let pieces = decoder(&self.pieces)?;
        let mut pieces = PieceReader {
            input: std::io::BufReader::new(pieces),
        };
        let (mut raw, mut kept) = (decoder(&self.raw)?, decoder(&self.kept)?);
        let mut writer = Rebuild {
            out,
            hasher: Hasher::new(),
            buffer: vec![0; COPY_BUFFER_BYTES],
            parent: None,
            directory,
        };
        // Kept contents were kept in the order their files disappeared, not in the tar's order.
        let mut kept_bytes = Vec::new();
        (&mut kept)
            .take(MAX_RECIPE_CONTENT_BYTES)
            .read_to_end(&mut kept_bytes)
            .map_err(LayerError::stream("decompress a layer recipe"))?;
        loop {
            let kind = pieces.number()?;
            let raw_length = pieces.number()?;
            writer.copy(&mut raw, raw_length)?;
            match kind {
                KIND_END => break,
                KIND_FILE => {
                    let (path, offset, length) = pieces.reference()?;
                    writer.copy_file(&path, offset, length)?;
                }
                KIND_KEPT => {
                    let (offset, length) = (pieces.number()?, pieces.number()?);
                    let start = usize::try_from(offset).unwrap_or(usize::MAX);
                    let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
                    let bytes = kept_bytes
                        .get(start..end)
                        .ok_or_else(|| invalid("a reference is out of range"))?;
                    writer.write(bytes)?;
                }
                other => return Err(invalid(format!("unknown kind of piece {other}"))),
            }
        }
        Ok(writer.hasher.finish())
    }
}

struct Rebuild<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
    buffer: Vec<u8>,
    directory: &'a Root,
    /// The directory of the file before; neighbours share it.
    parent: Option<(Vec<u8>, Root)>,
}

impl Rebuild<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.hasher.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(LayerError::stream("write the rebuilt layer"))
    }

    fn copy(&mut self, from: &mut impl Read, length: u64) -> Result<(), LayerError> {
        let mut left = length;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let limit = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = buffer.get_mut(..limit).unwrap_or_default();
            let count = from
                .read(part)
                .map_err(LayerError::stream("read for a rebuilt layer"))?;
            if count == 0 {
                return Err(invalid(
                    "it, or a file it refers to, is shorter than expected",
                ));
            }
            self.write(buffer.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn copy_file(&mut self, path: &[u8], offset: u64, length: u64) -> Result<(), LayerError> {
        let (parent, name) = split(path);
        if self
            .parent
            .as_ref()
            .is_none_or(|(known, _)| known != parent)
        {
            let opened = self.directory.open_dir(as_path(parent))?;
            self.parent = Some((parent.to_vec(), opened));
        }
        let Some((_, parent)) = &self.parent else {
            return Ok(());
        };
        let mut file = parent.open_file_nofollow(as_path(name), OpenFlags::RDONLY)?;
        if offset > 0 {
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset))
                .map_err(LayerError::stream("read for a rebuilt layer"))?;
        }
        self.copy(&mut file, length)
    }
}

struct PieceReader<R> {
    input: R,
}

impl<R: Read> PieceReader<R> {
    fn number(&mut self) -> Result<u64, LayerError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input
                .read_exact(&mut byte)
                .map_err(|_| invalid("its pieces end early"))?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("a number in it is too long"))
    }

    fn reference(&mut self) -> Result<(Vec<u8>, u64, u64), LayerError> {
        let length = self.number()?;
        if length > crate::limits::MAX_PATH_BYTES as u64 * 2 {
            return Err(invalid("a path in it is too long"));
        }
        let mut path = vec![0; length as usize];
        self.input
            .read_exact(&mut path)
            .map_err(|_| invalid("its pieces end early"))?;
        Ok((path, self.number()?, self.number()?))
    }
}

struct Piece {
    /// Raw bytes before the content.
    raw_length: u64,
    /// Where the path lies among all paths; empty for kept content.
    path: std::ops::Range<usize>,
    offset: u64,
    length: u64,
    kept: bool,
}

/// Collects a recipe while a tar is unpacked.
pub(crate) struct RecipeBuilder {
    raw: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
    raw_length: u64,
    pieces: Vec<Piece>,
    paths: Vec<u8>,
    kept: Vec<u8>,
    /// Pieces by path, made when the first file is replaced.
    by_path: Option<HashMap<Vec<u8>, Vec<usize>>>,
    complete: bool,
}

impl RecipeBuilder {
    pub(crate) fn new() -> Result<Self, LayerError> {
        Ok(Self {
            raw: Some(encoder()?),
            raw_length: 0,
            pieces: Vec::new(),
            paths: Vec::new(),
            kept: Vec::new(),
            by_path: None,
            complete: true,
        })
    }

    /// Adds raw bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let Some(encoder) = &mut self.raw else {
            return Ok(());
        };
        encoder
            .write_all(bytes)
            .map_err(LayerError::stream("compress a layer recipe"))?;
        self.raw_length += bytes.len() as u64;
        if encoder.get_ref().len() as u64 > MAX_RECIPE_BYTES {
            self.give_up();
        }
        Ok(())
    }

    /// Adds a reference to content that lies in the directory.
    pub(crate) fn content(&mut self, path: &[u8], offset: u64, length: u64) {
        if !self.complete || length == 0 {
            return;
        }
        let start = self.paths.len();
        self.paths.extend_from_slice(path);
        if let Some(by_path) = &mut self.by_path {
            by_path
                .entry(path.to_vec())
                .or_default()
                .push(self.pieces.len());
        }
        let raw_length = std::mem::take(&mut self.raw_length);
        self.pieces.push(Piece {
            raw_length,
            path: start..self.paths.len(),
            offset,
            length,
            kept: false,
        });
    }

    /// Takes the content of a file into the recipe, because the file is about to disappear.
    pub(crate) fn keep_content(
        &mut self,
        path: &[u8],
        directory: &Root,
        name: &[u8],
    ) -> Result<(), LayerError> {
        if !self.complete {
            return Ok(());
        }
        let (pieces, paths) = (&self.pieces, &self.paths);
        let by_path = self.by_path.get_or_insert_with(|| index(pieces, paths));
        let Some(indexes) = by_path.remove(path) else {
            return Ok(());
        };
        let mut file = directory.open_file_nofollow(as_path(name), OpenFlags::RDONLY)?;
        for index in indexes {
            let Some(piece) = self.pieces.get_mut(index) else {
                continue;
            };
            if self.kept.len() as u64 + piece.length > MAX_RECIPE_CONTENT_BYTES {
                self.give_up();
                return Ok(());
            }
            let start = self.kept.len();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(piece.offset))
                .and_then(|_| (&mut file).take(piece.length).read_to_end(&mut self.kept))
                .map_err(|error| {
                    LayerError::entry(
                        path,
                        wharf_safefs::FsError::io("read", as_path(name), error),
                    )
                })?;
            (piece.kept, piece.offset) = (true, start as u64);
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.complete = false;
        self.raw = None;
        self.pieces = Vec::new();
        self.paths = Vec::new();
        self.kept = Vec::new();
        self.by_path = None;
    }

    pub(crate) fn finish(
        self,
        diff_id: DiffId,
        tar_bytes: u64,
        canonical: bool,
    ) -> Result<Recipe, LayerError> {
        let failed = LayerError::stream;
        let mut recipe = Recipe {
            diff_id,
            tar_bytes,
            complete: self.complete || canonical,
            canonical,
            pieces: Vec::new(),
            raw: Vec::new(),
            kept: Vec::new(),
        };
        let Some(raw) = self.raw else {
            return Ok(recipe);
        };
        if canonical {
            return Ok(recipe);
        }
        let mut pieces = encoder()?;
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            bytes.clear();
            put_number(&mut bytes, if piece.kept { KIND_KEPT } else { KIND_FILE });
            put_number(&mut bytes, piece.raw_length);
            if !piece.kept {
                put_number(&mut bytes, piece.path.len() as u64);
                bytes.extend_from_slice(self.paths.get(piece.path.clone()).unwrap_or_default());
            }
            put_number(&mut bytes, piece.offset);
            put_number(&mut bytes, piece.length);
            pieces
                .write_all(&bytes)
                .map_err(failed("compress a layer recipe"))?;
        }
        bytes.clear();
        put_number(&mut bytes, KIND_END);
        put_number(&mut bytes, self.raw_length);
        pieces
            .write_all(&bytes)
            .map_err(failed("compress a layer recipe"))?;
        recipe.pieces = pieces.finish().map_err(failed("compress a layer recipe"))?;
        recipe.raw = raw.finish().map_err(failed("compress a layer recipe"))?;
        let mut kept = encoder()?;
        kept.write_all(&self.kept)
            .map_err(failed("compress a layer recipe"))?;
        recipe.kept = kept.finish().map_err(failed("compress a layer recipe"))?;
        Ok(recipe)
    }
}

fn index(pieces: &[Piece], paths: &[u8]) -> HashMap<Vec<u8>, Vec<usize>> {
    let mut by_path: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (index, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.kept) {
        let path = paths.get(piece.path.clone()).unwrap_or_default();
        by_path.entry(path.to_vec()).or_default().push(index);
    }
    by_path
}

fn encoder() -> Result<zstd::stream::write::Encoder<'static, Vec<u8>>, LayerError> {
    zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)
        .map_err(LayerError::stream("start the zstd encoder"))
}

fn decoder(bytes: &[u8]) -> Result<impl Read, LayerError> {
    zstd::stream::read::Decoder::with_buffer(bytes)
        .map_err(LayerError::stream("start the zstd decoder"))
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
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
