//! The background thread: removes what was deleted and measures what was published.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use wharf_safefs::trusted;

use crate::db::{Database, lock};
use crate::error::{Result, StoreError};
use crate::family::measure;
use crate::layout::Layout;

/// Something to do while nobody waits.
pub(crate) enum Job {
    /// Removes a name in `tmp/` with all below it.
    Remove(PathBuf),
    /// Writes what a layer takes on disk into its row.
    Measure(i64),
    /// Answers once all that was asked for before is done.
    Answer(Sender<()>),
}

/// The thread and the way to it. Dropping it leaves what is not removed yet in `tmp/`, for the next start.
pub(crate) struct Worker {
    sender: std::sync::Mutex<Option<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    pub(crate) fn start(database: Arc<Database>, layout: Layout) -> Result<Self> {
        let (sender, receiver) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("store-worker".to_owned())
            .spawn(move || run(&receiver, &stop, &database, &layout))
            .map_err(|error| {
                StoreError::io(
                    "start the background thread for",
                    "the store".as_ref(),
                    error,
                )
            })?;
        Ok(Self {
            sender: std::sync::Mutex::new(Some(sender)),
            thread: Some(thread),
            stopping,
        })
    }

    pub(crate) fn submit(&self, job: Job) {
        if let Some(sender) = lock(&self.sender).as_ref() {
            // The thread ends only after the sender is gone.
            let _ = sender.send(job);
        }
    }

    /// Waits until all that was submitted before is done.
    pub(crate) fn wait(&self) {
        let (answer, answered) = channel();
        self.submit(Job::Answer(answer));
        let _ = answered.recv();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        lock(&self.sender).take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(jobs: &Receiver<Job>, stopping: &AtomicBool, database: &Database, layout: &Layout) {
    for job in jobs {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match job {
            // What cannot be removed now is tried again at the next start.
            Job::Remove(path) => drop(trusted::remove_all(path)),
            // What was deleted meanwhile needs no measure; all else is measured when asked for.
            Job::Measure(number) => drop(measure(database, layout, number)),
            Job::Answer(sender) => drop(sender.send(())),
        }
    }
}
