//! Collecting a recipe while a tar is unpacked.

use std::collections::HashMap;
use std::io::{Read, Write};

use wharf_image::DiffId;
use wharf_safefs::{OpenFlags, Root};

use crate::error::LayerError;
use crate::tree::as_path;

use super::{KIND_END, KIND_FILE, KIND_KEPT, MAX_RECIPE_BYTES, MAX_RECIPE_CONTENT_BYTES, Recipe};

const ZSTD_LEVEL: i32 = 3;

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
    /// Begins the recipe of a tar.
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

    /// Drops what was collected: the tar has no complete recipe.
    fn give_up(&mut self) {
        self.complete = false;
        self.raw = None;
        self.pieces = Vec::new();
        self.paths = Vec::new();
        self.kept = Vec::new();
        self.by_path = None;
    }

    /// Returns the recipe of a tar that is read to its end.
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

struct Piece {
    /// Raw bytes before the content.
    raw_length: u64,
    /// Where the path lies among all paths; empty for kept content.
    path: std::ops::Range<usize>,
    offset: u64,
    length: u64,
    kept: bool,
}

/// Returns the numbers of the pieces of each path.
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

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
