//! Writing an archive whose members are produced, not read: the writer pushes, no temporary copy.

use std::io::{self, Write};
use tar::{EntryType, Header};

/// Writes members of known size one after the other.
pub(crate) struct ArchiveWriter<'a> {
    out: &'a mut dyn Write,
}

impl<'a> ArchiveWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }

    /// Writes a directory; `path` ends with a slash.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.header(path, EntryType::Directory, 0o755, 0)
    }

    /// Writes a file of bytes.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.stream(path, bytes.len() as u64, &mut |out| out.write_all(bytes))
    }

    /// Writes a file of exactly `size` bytes that `produce` writes.
    ///
    /// # Errors
    /// Those of `produce`, and another number of bytes than announced.
    pub(crate) fn stream(
        &mut self,
        path: &str,
        size: u64,
        produce: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.header(path, EntryType::Regular, 0o644, size)?;
        let mut counted = Counted {
            out: self.out,
            written: 0,
        };
        produce(&mut counted)?;
        let written = counted.written;
        if written != size {
            return Err(io::Error::other(format!(
                "{path}: expected {size} bytes, found {written}"
            )));
        }
        let padding = (512 - size % 512) % 512;
        self.out
            .write_all(&[0u8; 512][..usize::try_from(padding).unwrap_or(0)])
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.out.write_all(&[0u8; 1024])
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
