//! Turning batches into the bytes that stand for them.

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use wharf_safefs::{DirectoryEntry, OpenFlags, Root};

use crate::error::LayerError;
use crate::sink::TarSink;
use crate::tree::join;
use crate::write::Writer;

use super::{BATCH_BYTES, Batch, Copying, Done, Job, LARGE_FILE_BYTES, Left, Read, Turn};

/// Reads batches until there are no more.
pub(super) fn read_batches(to_do: &Mutex<Receiver<Job>>, copying: Option<&Copying<'_>>) {
    loop {
        let job = to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { batch, answer }) = job else {
            return;
        };
        // Whoever waited may have failed meanwhile.
        let _nobody_waits = answer.send(read_batch(batch, copying));
    }
}

fn read_batch(mut batch: Batch, copying: Option<&Copying<'_>>) -> Result<Read, LayerError> {
    let mut writer = Writer::new(TarSink::collecting(), true);
    writer.leaves_links = true;
    let mut turns = Vec::new();
    let mut buffer = Vec::new();
    for (number, found) in batch.names.iter().enumerate() {
        let start = writer.sink.collected_bytes();
        let name = join(&batch.name, found.name.as_bytes());
        let is_full = start >= BATCH_BYTES;
        let directory = &batch.directory;
        let done = match (copying, &directory.to) {
            (Some(copying), Some(to)) => {
                let (from, keep) = (&directory.from, !is_full);
                copying.copy_entry(&mut writer, (from, to), found, &name, keep, &mut buffer)?
            }
            _ if is_full => Done::Left(Left::Read),
            _ => read_entry(&mut writer, &directory.from, found, &name)?,
        };
        if let Done::Left(left) = done {
            turns.push(Turn {
                number,
                range: start..writer.sink.collected_bytes(),
                left,
            });
        }
    }
    if !turns.iter().any(|turn| matches!(turn.left, Left::Copy(_))) {
        batch.latch = None;
    }
    Ok(Read {
        bytes: writer.sink.take(Vec::new()),
        turns,
        size_bytes: writer.size_bytes,
        entries: writer.entries,
        batch,
    })
}

fn read_entry(
    writer: &mut Writer<'_>,
    directory: &Root,
    found: &DirectoryEntry,
    name: &[u8],
) -> Result<Done, LayerError> {
    let start = writer.sink.collected_bytes();
    let metadata = if found.file_type.is_file() {
        let opened = directory.open_regular_nofollow(&found.name, OpenFlags::RDONLY)?;
        let (file, metadata) = opened;
        if metadata.size_bytes > LARGE_FILE_BYTES {
            return Ok(Done::Left(Left::Read));
        }
        writer.opened(file, metadata, name)?;
        metadata
    } else {
        writer.leaf(directory, found, name)?;
        directory.lstat(&found.name)?
    };
    let is_empty = writer.sink.collected_bytes() == start;
    if metadata.nlink > 1 && !metadata.is_whiteout() && !is_empty {
        return Ok(Done::Left(Left::Link(metadata)));
    }
    Ok(Done::Whole)
}
