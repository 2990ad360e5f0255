//! Removing host interfaces of containers off the path of whoever waits for the container's end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::NetworkError;
use crate::netlink::Netlink;

/// How long an interface is left to the kernel.
///
/// A namespace that ends takes its veth pairs with it, many namespaces at once and cheaply (3 ms
/// measured); removing one by request takes 20 ms of waiting under the lock of all devices. So
/// only what is still there after this time is removed by request.
const GRACE: Duration = Duration::from_millis(250);

/// A thread that removes interfaces which did not go by themselves.
pub(crate) struct Reaper {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<ReaperState>,
    changed: Condvar,
}

#[derive(Default)]
struct ReaperState {
    /// Names with the time from which on they are removed, the earliest first.
    pending: Vec<(Instant, String)>,
    stopping: bool,
}

impl Reaper {
    /// Starts the thread; it works in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`] if the thread cannot be started.
    pub(crate) fn start() -> Result<Reaper, NetworkError> {
        let shared = Arc::new(Shared::default());
        let for_worker = Arc::clone(&shared);
        let worker = std::thread::Builder::new()
            .name("veth-reaper".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || work(&for_worker))
            .map_err(|source| NetworkError::Namespace {
                action: "watch",
                source,
            })?;
        Ok(Reaper {
            shared,
            worker: Some(worker),
        })
    }

    /// Has an interface removed soon.
    pub(crate) fn remove_soon(&self, name: &str) {
        lock(&self.shared.state)
            .pending
            .push((Instant::now() + GRACE, name.to_owned()));
        self.shared.changed.notify_one();
    }

    /// Removes everything that waits, now and on this thread.
    pub(crate) fn flush(&self) {
        let pending = std::mem::take(&mut lock(&self.shared.state).pending);
        remove(pending.into_iter().map(|(_, name)| name));
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.changed.notify_one();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to clean up.
            let _ = worker.join();
        }
        self.flush();
    }
}

fn work(shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.stopping {
        let now = Instant::now();
        let due = state
            .pending
            .iter()
            .take_while(|(time, _)| *time <= now)
            .count();
        if due > 0 {
            let names: Vec<String> = state.pending.drain(..due).map(|(_, name)| name).collect();
            drop(state);
            remove(names.into_iter());
            state = lock(&shared.state);
            continue;
        }
        let next = state
            .pending
            .first()
            .map(|(time, _)| time.duration_since(now));
        state = match next {
            Some(wait) => {
                shared
                    .changed
                    .wait_timeout(state, wait)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Removes interfaces; what cannot be removed now is swept by the next start.
fn remove(names: impl Iterator<Item = String>) {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return;
    }
    let Ok(mut netlink) = Netlink::open() else {
        return;
    };
    for name in names {
        let _ = netlink.delete_link(&name);
    }
}

fn lock(state: &Mutex<ReaperState>) -> MutexGuard<'_, ReaperState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
