//! The digest of a layer directory's canonical tar: files are read by several threads, hashed in the one order.
//!
//! One thread walks the directories and hands out batches of names ([`walk`]), others turn a batch into the bytes that
//! stand for it in the tar ([`read`]), and the caller's thread joins those in the order of the walk ([`join`]). The
//! result does not depend on how many threads there are. A directory that is to be copied anyway is copied on the
//! same way ([`copying`]), so that its files are read once.

mod copying;
mod join;
mod read;
mod walk;

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use wharf_safefs::{DirectoryEntry, Metadata, Root};

use crate::apply::LayerSummary;
use crate::error::LayerError;
use crate::tree::{as_path, join as join_path};
use crate::write::layer_tar;

pub(crate) use copying::{Copying, Latch};
use walk::Walk;

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
    summarize_with(dir, None, threads.min(MAX_THREADS))
}

/// Copies a directory, of about as many names, and returns what [`summarize`] says of the copy. The latch is let go
/// of as soon as nothing is read from the directory any more.
pub(crate) fn copy_and_summarize(
    from: &Root,
    copying: &Copying<'_>,
    names: usize,
    latch: Latch,
) -> Result<LayerSummary, LayerError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if names < FEW_NAMES { 1 } else { threads };
    let summary = summarize_with(from, Some((copying, latch)), threads.min(MAX_THREADS))?;
    copying.finish()?;
    Ok(summary)
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
                open.push(join_path(&path, found.name.as_bytes()));
            }
        }
    }
    Ok(true)
}

fn summarize_with(
    dir: &Root,
    copying: Option<(&Copying<'_>, Latch)>,
    threads: usize,
) -> Result<LayerSummary, LayerError> {
    let (steps, in_order) = sync_channel::<Step>(BATCHES_AHEAD);
    let (jobs, to_do) = sync_channel::<Job>(BATCHES_AHEAD);
    let to_do = Mutex::new(to_do);
    let (copying, latch) = copying.unzip();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| read::read_batches(&to_do, copying));
        }
        scope.spawn(move || Walk::new(steps, jobs, copying, latch).all(dir));
        join::join_steps(in_order, copying)
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

/// A directory that is read and, where it is copied, its copy.
#[derive(Clone)]
struct Directory {
    from: Arc<Root>,
    to: Option<Arc<Root>>,
}

impl Directory {
    /// Returns where files are read whose turn has come: a copy does not change any more.
    fn settled(&self) -> &Root {
        self.to.as_ref().unwrap_or(&self.from)
    }
}

/// Names of one directory.
struct Batch {
    directory: Directory,
    /// The directory's name in the tar.
    name: Vec<u8>,
    names: Vec<DirectoryEntry>,
    /// Held until all of it is copied.
    latch: Option<Arc<Latch>>,
}

struct Job {
    batch: Batch,
    answer: SyncSender<Result<Read, LayerError>>,
}

/// A batch turned into bytes.
struct Read {
    batch: Batch,
    bytes: Vec<u8>,
    /// The names for which these bytes are not all there is to it, in order.
    turns: Vec<Turn>,
    size_bytes: u64,
    entries: u64,
}

/// A name that something is left to do for when its turn comes.
struct Turn {
    number: usize,
    /// The range of the bytes that stands for it so far.
    range: std::ops::Range<usize>,
    left: Left,
}

/// What is left to do.
enum Left {
    /// To find out whether its file, which has several names, has been there: then that is all to say of it.
    Link(Metadata),
    /// To read it.
    Read,
    /// To copy it, or to link it to its copy, and to read that: its file has several names.
    Copy(Metadata),
}

/// How a name was dealt with.
enum Done {
    /// The bytes are all there is to it.
    Whole,
    Left(Left),
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
            assert_eq!(summarize_with(&root, None, threads).unwrap(), expected);
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
        assert_eq!(summarize_with(&root, None, 2).unwrap(), expected);
    }

    #[test]
    fn errors_end_all_threads() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fill(&root);
        root.create_file("a/.wh.x", 0o600).unwrap();
        let error = summarize_with(&root, None, 2).unwrap_err();
        assert!(error.to_string().contains(".wh."), "{error}");
    }
}
