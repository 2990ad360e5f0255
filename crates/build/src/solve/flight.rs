//! What is being executed right now in this process: equal steps of concurrent builds run once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_image::Digest;

use super::snapshot::Snapshot;
use crate::{BuildError, OutputStream};

/// How often a waiting build looks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Output of a running step that is kept for builds that join late.
const MAX_KEPT_BYTES: usize = 4 << 20;

type Key = (PathBuf, Digest);

static FLIGHTS: LazyLock<Mutex<HashMap<Key, Arc<Flight>>>> = LazyLock::new(Mutex::default);

/// One execution.
#[derive(Default)]
pub(crate) struct Flight {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    output: Vec<(OutputStream, Vec<u8>)>,
    kept_bytes: usize,
    end: Option<End>,
}

/// How an execution ended.
#[derive(Clone)]
enum End {
    Done(Vec<Snapshot>),
    Failed(Arc<BuildError>),
    /// Whoever executed it went away; somebody else has to.
    Abandoned,
}

/// The part of a build in an execution.
pub(crate) enum Part {
    /// It executes.
    Lead(Lead),
    /// Another one does.
    Follow(Arc<Flight>),
}

/// The right to execute; when it is dropped without an end, a follower takes over.
pub(crate) struct Lead {
    key: Key,
    flight: Arc<Flight>,
    is_ended: bool,
}

/// Starts an execution, or joins the one of the same key under the same data root.
pub(crate) fn join(root: &Path, key: Digest) -> Part {
    let key = (root.to_path_buf(), key);
    let mut flights = lock(&FLIGHTS);
    if let Some(flight) = flights.get(&key) {
        return Part::Follow(Arc::clone(flight));
    }
    let flight = Arc::new(Flight::default());
    flights.insert(key.clone(), Arc::clone(&flight));
    Part::Lead(Lead {
        key,
        flight,
        is_ended: false,
    })
}

impl Lead {
    /// Passes output on to all that wait.
    pub fn output(&self, stream: OutputStream, bytes: &[u8]) {
        let mut state = lock(&self.flight.state);
        if state.kept_bytes < MAX_KEPT_BYTES {
            state.kept_bytes += bytes.len();
            state.output.push((stream, bytes.to_vec()));
            self.flight.changed.notify_all();
        }
    }

    /// Tells all that wait how it ended.
    pub fn end(
        mut self,
        result: Result<Vec<Snapshot>, BuildError>,
    ) -> Result<Vec<Snapshot>, BuildError> {
        let (end, result) = match result {
            Ok(snapshots) => (End::Done(snapshots.clone()), Ok(snapshots)),
            Err(BuildError::Cancelled) => (End::Abandoned, Err(BuildError::Cancelled)),
            Err(error) => {
                let error = Arc::new(error);
                (
                    End::Failed(Arc::clone(&error)),
                    Err(BuildError::Shared(error)),
                )
            }
        };
        self.finish(end);
        result
    }

    fn finish(&mut self, end: End) {
        self.is_ended = true;
        lock(&FLIGHTS).remove(&self.key);
        lock(&self.flight.state).end = Some(end);
        self.flight.changed.notify_all();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.is_ended {
            self.finish(End::Abandoned);
        }
    }
}

impl Flight {
    /// Waits for the end and hands out all output from the beginning; nothing where it was abandoned.
    ///
    /// # Errors
    /// The execution's own, or [`BuildError::Cancelled`] for the one who waits.
    pub fn follow(
        &self,
        is_cancelled: &dyn Fn() -> bool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<Option<Vec<Snapshot>>, BuildError> {
        let mut shown = 0;
        loop {
            if is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let (news, end) = self.wait(shown);
            shown += news.len();
            for (stream, bytes) in news {
                output(stream, &bytes);
            }
            match end {
                None => {}
                Some(End::Done(snapshots)) => return Ok(Some(snapshots)),
                Some(End::Failed(error)) => return Err(BuildError::Shared(error)),
                Some(End::Abandoned) => return Ok(None),
            }
        }
    }

    fn wait(&self, shown: usize) -> (Vec<(OutputStream, Vec<u8>)>, Option<End>) {
        let mut state = lock(&self.state);
        if state.output.len() == shown && state.end.is_none() {
            state = self
                .changed
                .wait_timeout(state, POLL_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let news = state.output.get(shown..).unwrap_or_default().to_vec();
        (news, state.end.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Part, join};
    use crate::{BuildError, OutputStream};
    use std::path::Path;
    use wharf_image::Digest;

    #[test]
    fn followers_see_the_output_and_the_end() {
        let (root, key) = (Path::new("/a"), Digest::of("flight"));
        let Part::Lead(lead) = join(root, key) else {
            panic!("somebody flies already")
        };
        let Part::Follow(flight) = join(root, key) else {
            panic!("two lead")
        };
        assert!(matches!(join(Path::new("/b"), key), Part::Lead(_)));
        lead.output(OutputStream::Stdout, b"one ");
        let follower = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut keep = |_: OutputStream, bytes: &[u8]| seen.extend_from_slice(bytes);
            let end = flight.follow(&|| false, &mut keep);
            (seen, end.map(|snapshots| snapshots.map(|list| list.len())))
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        lead.output(OutputStream::Stderr, b"two");
        lead.end(Ok(Vec::new())).unwrap();
        let (seen, end) = follower.join().unwrap();
        assert_eq!((seen.as_slice(), end.unwrap()), (&b"one two"[..], Some(0)));
        assert!(matches!(join(root, key), Part::Lead(_)));
    }

    #[test]
    fn failures_are_everybodys_and_cancelling_is_ones_own() {
        let (root, key) = (Path::new("/a"), Digest::of("failing flight"));
        let follow = |end: Option<BuildError>, cancelled: bool| {
            let Part::Lead(lead) = join(root, key) else {
                panic!("somebody flies already")
            };
            let Part::Follow(flight) = join(root, key) else {
                panic!("two lead")
            };
            match end {
                Some(error) => drop(lead.end(Err(error))),
                None => drop(lead),
            }
            flight
                .follow(&|| cancelled, &mut |_, _| {})
                .map(|snapshots| snapshots.is_some())
                .map_err(|error| error.to_string())
        };
        let failure = || Some(BuildError::instruction("no"));
        assert_eq!(follow(failure(), false), Err("no".to_owned()));
        assert_eq!(follow(failure(), true), Err("build cancelled".to_owned()));
        assert_eq!(follow(Some(BuildError::Cancelled), false), Ok(false));
        assert_eq!(follow(None, false), Ok(false));
    }
}
