//! The digest of a layer directory's canonical tar: files are read by several threads, hashed in the one order.
//!
//! One thread walks the directories and hands out batches of names, others turn a batch into the bytes that stand for
//! it in the tar, and the caller's thread joins those in the order of the walk. The result does not depend on how many
//! threads there are.

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use wharf_safefs::{DirectoryEntry, Metadata, OpenFlags, Root};

use crate::apply::LayerSummary;
use crate::error::LayerError;
use crate::sink::TarSink;
use crate::tree::{as_path, join};
use crate::whiteout::is_opaque;
use crate::write::{MAX_OPEN_LEVELS, TOP_OWNER, Writer, check_name, layer_tar};

/// Names that a thread takes at once.
const BATCH_NAMES: usize = 64;
/// A file of more bytes is read by the caller's thread, when its turn comes.
const LARGE_FILE_BYTES: u64 = 256 << 10;
/// What a thread reads ahead of one batch; the rest of it waits for its turn.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait for their turn.
const BATCHES_AHEAD: usize = 16;
/// Most threads that read; the hash is one thread's work and takes no more.
const MAX_THREADS: usize = 4;

/// Directories with fewer names below them are read as fast by one thread.
const FEW_NAMES: usize = 256;

/// Hashes what [`write_tar`](crate::write_tar) would write, without keeping it.
pub fn summarize(dir: &Root) -> Result<LayerSummary, LayerError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if threads == 1 || has_few_names(dir)? {
        return layer_tar(dir, None);
    }
    summarize_with(dir, threads.min(MAX_THREADS))
}

fn has_few_names(dir: &Root) -> Result<bool, LayerError> {
    let mut names = 0;
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        for found in dir.open_and_list(as_path(&path))?.1 {
            names += 1;
            if names >= FEW_NAMES {
                return Ok(false);
            }
            if found.file_type.is_dir() {
                open.push(join(&path, found.name.as_bytes()));
            }
        }
    }
    Ok(true)
}

fn summarize_with(dir: &Root, threads: usize) -> Result<LayerSummary, LayerError> {
    let (steps, in_order) = sync_channel::<Step>(BATCHES_AHEAD);
    let (jobs, to_do) = sync_channel::<Job>(BATCHES_AHEAD);
    let to_do = Mutex::new(to_do);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| read_batches(&to_do));
        }
        scope.spawn(move || Walk::new(steps, jobs).all(dir));
        join_steps(in_order)
    })
}

/// What comes next in the tar.
enum Step {
    /// Entries of directories, and how many.
    Bytes(Vec<u8>, u64),
    /// What a batch leads to.
    Batch(Receiver<Result<Read, LayerError>>),
    /// The walk failed here.
    Failed(LayerError),
}

/// Names of one directory.
struct Batch {
    directory: Arc<Root>,
    /// The directory's name in the tar.
    name: Vec<u8>,
    names: Vec<DirectoryEntry>,
}

struct Job {
    batch: Batch,
    answer: SyncSender<Result<Read, LayerError>>,
}

/// A batch turned into bytes.
struct Read {
    batch: Batch,
    bytes: Vec<u8>,
    /// How many names of the batch the bytes stand for, from its beginning.
    done: usize,
    /// Those of them whose file has several names: with their range of the bytes.
    linked: Vec<Linked>,
    size_bytes: u64,
    entries: u64,
}

struct Linked {
    number: usize,
    metadata: Metadata,
    range: std::ops::Range<usize>,
}

/// A directory of the walk: its path, which is also its name in the tar.
struct Level {
    directory: Option<Arc<Root>>,
    path: Vec<u8>,
    entries: std::vec::IntoIter<DirectoryEntry>,
}

struct Walk {
    steps: SyncSender<Step>,
    jobs: SyncSender<Job>,
    writer: Writer<'static>,
    batch: Option<Batch>,
}

/// Nobody waits for the rest.
struct Abandoned;

impl Walk {
    fn new(steps: SyncSender<Step>, jobs: SyncSender<Job>) -> Self {
        Self {
            steps,
            jobs,
            writer: Writer::new(TarSink::collecting(), true),
            batch: None,
        }
    }

    fn all(mut self, top: &Root) {
        if let Err(error) = self.walk(top) {
            let _nobody_waits = self.end_batch();
            let _nobody_waits = self.steps.send(Step::Failed(error));
        }
    }

    fn walk(&mut self, top: &Root) -> Result<(), LayerError> {
        let (opened, entries) = top.open_and_list("")?;
        if is_opaque(&opened)? {
            self.writer.opaque_marker(b"", TOP_OWNER)?;
        }
        let mut levels = vec![Level {
            directory: Some(Arc::new(opened)),
            path: Vec::new(),
            entries: entries.into_iter(),
        }];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, found.name.as_bytes());
            check_name(found.name.as_bytes(), &path)?;
            let directory = match &level.directory {
                Some(directory) => Arc::clone(directory),
                None => Arc::new(top.open_dir(as_path(&level.path))?),
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
            let (opened, entries) = directory.open_and_list(&found.name)?;
            let metadata = opened.metadata()?;
            let opaque = is_opaque(&opened)?;
            self.writer
                .directory_entry(&opened, &path, &metadata, opaque)?;
            let is_kept = levels.len() < MAX_OPEN_LEVELS;
            levels.push(Level {
                directory: is_kept.then(|| Arc::new(opened)),
                path,
                entries: entries.into_iter(),
            });
        }
        let _nobody_waits = self.end_batch().and_then(|()| self.send_entries());
        Ok(())
    }

    /// Adds a name to the batch of its directory.
    fn add(
        &mut self,
        directory: &Arc<Root>,
        name: &[u8],
        found: DirectoryEntry,
    ) -> Result<(), Abandoned> {
        let fits = |batch: &Batch| batch.name == name && batch.names.len() < BATCH_NAMES;
        if !self.batch.as_ref().is_some_and(fits) {
            self.end_batch()?;
        }
        let batch = self.batch.get_or_insert_with(|| Batch {
            directory: Arc::clone(directory),
            name: name.to_vec(),
            names: Vec::with_capacity(BATCH_NAMES),
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

/// Reads batches until there are no more.
fn read_batches(to_do: &Mutex<Receiver<Job>>) {
    loop {
        let job = to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { batch, answer }) = job else {
            return;
        };
        // Whoever waited may have failed meanwhile.
        let _nobody_waits = answer.send(read_batch(batch));
    }
}

fn read_batch(batch: Batch) -> Result<Read, LayerError> {
    let mut writer = Writer::new(TarSink::collecting(), true);
    writer.leaves_links = true;
    let (mut done, mut linked) = (0, Vec::new());
    for (number, found) in batch.names.iter().enumerate() {
        let start = writer.sink.collected_bytes();
        if start >= BATCH_BYTES {
            break;
        }
        let name = join(&batch.name, found.name.as_bytes());
        let metadata = if found.file_type.is_file() {
            let opened = batch
                .directory
                .open_regular_nofollow(&found.name, OpenFlags::RDONLY)?;
            let (file, metadata) = opened;
            if metadata.size_bytes > LARGE_FILE_BYTES {
                break;
            }
            writer.opened(file, metadata, &name)?;
            metadata
        } else {
            writer.leaf(&batch.directory, found, &name)?;
            batch.directory.lstat(&found.name)?
        };
        done += 1;
        let range = start..writer.sink.collected_bytes();
        if metadata.nlink > 1 && !metadata.is_whiteout() && !range.is_empty() {
            linked.push(Linked {
                number,
                metadata,
                range,
            });
        }
    }
    Ok(Read {
        bytes: writer.sink.take(Vec::new()),
        done,
        linked,
        size_bytes: writer.size_bytes,
        entries: writer.entries,
        batch,
    })
}

/// Puts everything into the tar, in order.
fn join_steps(steps: Receiver<Step>) -> Result<LayerSummary, LayerError> {
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
                join_batch(&mut writer, &read?)?;
            }
            Step::Failed(error) => return Err(error),
        }
    }
    writer.summary()
}

fn join_batch(writer: &mut Writer<'_>, read: &Read) -> Result<(), LayerError> {
    let name_of = |found: &DirectoryEntry| join(&read.batch.name, found.name.as_bytes());
    let mut written = 0;
    writer.size_bytes += read.size_bytes;
    writer.entries += read.entries;
    for linked in &read.linked {
        let Some(found) = read.batch.names.get(linked.number) else {
            continue;
        };
        let before = read.bytes.get(written..linked.range.start);
        writer.sink.write(before.unwrap_or_default())?;
        written = linked.range.start;
        if writer.later_name(&linked.metadata, &name_of(found))? {
            // It was counted as a file of its own.
            writer.entries -= 1;
            if linked.metadata.is_file() {
                writer.size_bytes -= linked.metadata.size_bytes;
            }
            written = linked.range.end;
        }
    }
    writer
        .sink
        .write(read.bytes.get(written..).unwrap_or_default())?;
    for found in read.batch.names.get(read.done..).unwrap_or_default() {
        writer.leaf(&read.batch.directory, found, &name_of(found))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BATCH_BYTES, LARGE_FILE_BYTES, has_few_names, summarize, summarize_with};
    use crate::write_tar;
    use std::io::Write;
    use wharf_safefs::{FileType, Root};

    /// Fills a directory with all that a tar tells apart, more than one batch of it.
    fn fill(root: &Root) {
        let file = |path: &str, bytes: usize| {
            let mut file = root.create_file(path, 0o640).unwrap();
            file.write_all(&vec![b'x'; bytes]).unwrap();
        };
        for directory in ["a", "a/b", "a/b/c", "empty", "z"] {
            root.mkdir(directory, 0o750).unwrap();
        }
        for number in 0..200 {
            file(&format!("a/{number}"), number * 7);
            file(&format!("a/b/{number}"), 3);
        }
        file("a/b/c/large", LARGE_FILE_BYTES as usize + 1);
        for number in 0..9 {
            file(&format!("z/{number}"), BATCH_BYTES / 5);
        }
        // Second names within a batch, in a later one, before and behind their first name.
        root.hard_link("a/0", "a/1-again").unwrap();
        root.hard_link("a/b/7", "a/a").unwrap();
        root.hard_link("a/b/c/large", "z/large").unwrap();
        root.symlink("target", "a/link").unwrap();
        root.hard_link("a/link", "z/link").unwrap();
        root.fifo("z/pipe", 0o600).unwrap();
    }

    #[test]
    fn the_digest_does_not_depend_on_the_number_of_threads() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fill(&root);
        let mut tar = Vec::new();
        let expected = write_tar(&root, &mut tar).unwrap();
        assert!(!has_few_names(&root).unwrap());
        for threads in 1..4 {
            assert_eq!(summarize_with(&root, threads).unwrap(), expected);
        }
        assert_eq!(summarize(&root).unwrap(), expected);
    }

    #[test]
    fn whiteouts_and_marks_are_the_same_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fill(&root);
        if root
            .mknod("a/gone", FileType::CharDevice, 0, (0, 0))
            .and_then(|()| root.set_xattr("z", "trusted.overlay.opaque", b"y"))
            .is_err()
        {
            println!("SKIP: whiteouts need root");
            return;
        }
        root.hard_link("a/gone", "z/gone").unwrap();
        let expected = write_tar(&root, &mut std::io::sink()).unwrap();
        assert_eq!(summarize_with(&root, 2).unwrap(), expected);
    }

    #[test]
    fn errors_end_all_threads() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fill(&root);
        root.create_file("a/.wh.x", 0o600).unwrap();
        let error = summarize_with(&root, 2).unwrap_err();
        assert!(error.to_string().contains(".wh."), "{error}");
    }
}
