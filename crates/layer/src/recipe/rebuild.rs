//! A layer's original tar, made again from its recipe and its directory.

use std::io::{Read, Write};

use wharf_image::{DiffId, Hasher};
use wharf_safefs::{OpenFlags, Root};

use crate::error::LayerError;
use crate::tree::{as_path, split};

use super::{KIND_END, KIND_FILE, KIND_KEPT, MAX_RECIPE_CONTENT_BYTES, Recipe, invalid};

const COPY_BUFFER_BYTES: usize = 256 << 10;

impl Recipe {
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

fn decoder(bytes: &[u8]) -> Result<impl Read, LayerError> {
    zstd::stream::read::Decoder::with_buffer(bytes)
        .map_err(LayerError::stream("start the zstd decoder"))
}
