//! The walk: directories in the order of the tar, names handed out in batches.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use wharf_safefs::{DirectoryEntry, Root};

use crate::error::LayerError;
use crate::sink::TarSink;
use crate::tree::{as_path, join};
use crate::whiteout::is_opaque;
use crate::write::{MAX_OPEN_LEVELS, TOP_OWNER, Writer, check_name};

use super::{BATCH_NAMES, Batch, Copying, Directory, Job, Latch, Step};

pub(super) struct Walk<'a> {
    steps: SyncSender<Step>,
    jobs: SyncSender<Job>,
    writer: Writer<'static>,
    batch: Option<Batch>,
    copying: Option<&'a Copying<'a>>,
    /// Held as long as there may be more to copy.
    latch: Option<Arc<Latch>>,
}

/// A directory of the walk: its path, which is also its name in the tar.
struct Level {
    directory: Option<Directory>,
    path: Vec<u8>,
    entries: std::vec::IntoIter<DirectoryEntry>,
}

/// Nobody waits for the rest.
struct Abandoned;

impl<'a> Walk<'a> {
    pub(super) fn new(
        steps: SyncSender<Step>,
        jobs: SyncSender<Job>,
        copying: Option<&'a Copying<'a>>,
        latch: Option<Latch>,
    ) -> Self {
        Self {
            steps,
            jobs,
            writer: Writer::new(TarSink::collecting(), true),
            batch: None,
            copying,
            latch: latch.map(Arc::new),
        }
    }

    /// Walks through all that is beneath `top`.
    pub(super) fn all(mut self, top: &Root) {
        if let Err(error) = self.walk(top) {
            let _nobody_waits = self.end_batch();
            let _nobody_waits = self.steps.send(Step::Failed(error));
        }
    }

    fn walk(&mut self, top: &Root) -> Result<(), LayerError> {
        let (opened, entries) = top.open_and_list("")?;
        let opaque = self.is_opaque(&opened, b"")?;
        if opaque {
            self.writer.opaque_marker(b"", TOP_OWNER)?;
        }
        let to = match self.copying {
            Some(copying) => {
                copying.note_directory(&opened, b"", &opened.metadata()?)?;
                Some(Arc::new(copying.top()?))
            }
            None => None,
        };
        let from = Arc::new(opened);
        let mut levels = vec![Level {
            directory: Some(Directory { from, to }),
            path: Vec::new(),
            entries: entries.into_iter(),
        }];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, found.name.as_bytes());
            if self
                .copying
                .is_some_and(|copying| copying.leaves_out(&path))
            {
                continue;
            }
            check_name(found.name.as_bytes(), &path)?;
            let directory = match &level.directory {
                Some(directory) => directory.clone(),
                None => self.open_again(top, &level.path)?,
            };
            if !found.file_type.is_dir() {
                if self.add(&directory, &level.path, found).is_err() {
                    return Ok(());
                }
                continue;
            }
            if self.end_batch().is_err() {
                return Ok(());
            }
            let (opened, entries) = self.enter(&directory, &found, &path)?;
            let is_kept = levels.len() < MAX_OPEN_LEVELS;
            levels.push(Level {
                directory: is_kept.then_some(opened),
                path,
                entries: entries.into_iter(),
            });
        }
        let _nobody_waits = self.end_batch().and_then(|()| self.send_entries());
        Ok(())
    }

    /// Writes a directory's entry, makes its copy and returns what is in it.
    fn enter(
        &mut self,
        parent: &Directory,
        found: &DirectoryEntry,
        path: &[u8],
    ) -> Result<(Directory, Vec<DirectoryEntry>), LayerError> {
        let (opened, entries) = parent.from.open_and_list(&found.name)?;
        let metadata = opened.metadata()?;
        let opaque = self.is_opaque(&opened, path)?;
        self.writer
            .directory_entry(&opened, path, &metadata, opaque)?;
        let to = match (self.copying, &parent.to) {
            (Some(copying), Some(to)) => {
                copying.note_directory(&opened, path, &metadata)?;
                Some(Arc::new(copying.make_directory(to, &found.name)?))
            }
            _ => None,
        };
        let from = Arc::new(opened);
        Ok((Directory { from, to }, entries))
    }

    fn open_again(&self, top: &Root, path: &[u8]) -> Result<Directory, LayerError> {
        let to = match self.copying {
            Some(copying) => Some(Arc::new(copying.top()?.open_dir(as_path(path))?)),
            None => None,
        };
        let from = Arc::new(top.open_dir(as_path(path))?);
        Ok(Directory { from, to })
    }

    /// Says whether a directory hides what is below and its mark is not one to leave out.
    fn is_opaque(&self, opened: &Root, path: &[u8]) -> Result<bool, LayerError> {
        let hides_nothing = self
            .copying
            .is_some_and(|copying| copying.hides_nothing(path));
        Ok(!hides_nothing && is_opaque(opened)?)
    }

    /// Adds a name to the batch of its directory.
    fn add(
        &mut self,
        directory: &Directory,
        name: &[u8],
        found: DirectoryEntry,
    ) -> Result<(), Abandoned> {
        let fits = |batch: &Batch| batch.name == name && batch.names.len() < BATCH_NAMES;
        if !self.batch.as_ref().is_some_and(fits) {
            self.end_batch()?;
        }
        let batch = self.batch.get_or_insert_with(|| Batch {
            directory: directory.clone(),
            name: name.to_vec(),
            names: Vec::with_capacity(BATCH_NAMES),
            latch: self.latch.clone(),
        });
        batch.names.push(found);
        Ok(())
    }

    /// Hands the batch out, behind the entries of directories that come before it.
    fn end_batch(&mut self) -> Result<(), Abandoned> {
        let Some(batch) = self.batch.take() else {
            return Ok(());
        };
        self.send_entries()?;
        let (answer, answered) = sync_channel(1);
        let step = Step::Batch(answered);
        self.steps.send(step).map_err(|_| Abandoned)?;
        let job = Job { batch, answer };
        self.jobs.send(job).map_err(|_| Abandoned)
    }

    fn send_entries(&mut self) -> Result<(), Abandoned> {
        if self.writer.sink.collected_bytes() == 0 {
            return Ok(());
        }
        let bytes = self.writer.sink.take(Vec::new());
        let entries = std::mem::take(&mut self.writer.entries);
        self.steps
            .send(Step::Bytes(bytes, entries))
            .map_err(|_| Abandoned)
    }
}
