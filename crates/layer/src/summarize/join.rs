//! Putting everything into the tar, in order.

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::Receiver;

use crate::apply::LayerSummary;
use crate::error::LayerError;
use crate::sink::TarSink;
use crate::tree::join;
use crate::write::Writer;

use super::{Copying, Left, Read, Step};

/// Hashes what the steps lead to.
pub(super) fn join_steps(
    steps: Receiver<Step>,
    copying: Option<&Copying<'_>>,
) -> Result<LayerSummary, LayerError> {
    let mut writer = Writer::new(TarSink::new(None, true), true);
    for step in steps {
        match step {
            Step::Bytes(bytes, entries) => {
                writer.sink.write(&bytes)?;
                writer.entries += entries;
            }
            Step::Batch(answer) => {
                // A thread that ends without an answer has panicked, and so will the scope of the threads.
                let Ok(read) = answer.recv() else { continue };
                join_batch(&mut writer, &read?, copying)?;
            }
            Step::Failed(error) => return Err(error),
        }
    }
    writer.summary()
}

fn join_batch(
    writer: &mut Writer<'_>,
    read: &Read,
    copying: Option<&Copying<'_>>,
) -> Result<(), LayerError> {
    let directory = &read.batch.directory;
    let mut written = 0;
    writer.size_bytes += read.size_bytes;
    writer.entries += read.entries;
    for turn in &read.turns {
        let Some(found) = read.batch.names.get(turn.number) else {
            continue;
        };
        let name = join(&read.batch.name, found.name.as_bytes());
        let before = read.bytes.get(written..turn.range.start);
        writer.sink.write(before.unwrap_or_default())?;
        written = turn.range.start;
        match (&turn.left, copying) {
            (Left::Link(metadata), _) => {
                if writer.later_name(metadata, &name)? {
                    // It was counted as a file of its own.
                    writer.entries -= 1;
                    if metadata.is_file() {
                        writer.size_bytes -= metadata.size_bytes;
                    }
                    written = turn.range.end;
                }
            }
            (Left::Copy(metadata), Some(copying)) => {
                copying.copy_linked(writer, directory, found, &name, metadata)?;
            }
            _ => writer.leaf(directory.settled(), found, &name)?,
        }
    }
    writer
        .sink
        .write(read.bytes.get(written..).unwrap_or_default())
}
