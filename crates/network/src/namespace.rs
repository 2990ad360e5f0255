//! Network namespaces: making them ahead of need, and speaking to one from outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::sysctl;

/// Namespaces kept ready; making one takes about half a millisecond of kernel time.
const POOL_SIZE: usize = 4;

/// A small stock of namespaces with `lo` up, refilled by a thread of its own.
///
/// Dropping the pool closes them all; nothing else keeps them alive.
pub(crate) struct NamespacePool {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<PoolState>,
    wanted: Condvar,
}

#[derive(Default)]
struct PoolState {
    ready: Vec<OwnedFd>,
    stopping: bool,
}

impl NamespacePool {
    /// Starts the pool's thread.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`] if the thread cannot be started.
    pub(crate) fn start() -> Result<NamespacePool, NetworkError> {
        let shared = Arc::new(Shared::default());
        let for_worker = Arc::clone(&shared);
        let worker = std::thread::Builder::new()
            .name("netns-pool".to_owned())
            .spawn(move || refill(&for_worker))
            .map_err(|source| NetworkError::Namespace {
                action: "create",
                source,
            })?;
        Ok(NamespacePool {
            shared,
            worker: Some(worker),
        })
    }

    /// Returns a namespace from the stock, or makes one if the stock is empty.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`].
    pub(crate) fn take(&self) -> Result<OwnedFd, NetworkError> {
        let taken = lock(&self.shared.state).ready.pop();
        self.shared.wanted.notify_one();
        match taken {
            Some(namespace) => Ok(namespace),
            None => on_own_thread(create),
        }
    }
}

impl Drop for NamespacePool {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.wanted.notify_one();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to clean up.
            let _ = worker.join();
        }
    }
}

/// Puts the calling thread into a namespace; only for threads of [`on_own_thread`].
///
/// # Errors
/// [`NetworkError::Namespace`].
pub(crate) fn enter_namespace(namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
    enter(namespace).map_err(|source| NetworkError::Namespace {
        action: "enter",
        source,
    })
}

/// Runs `work` on a thread that lives for nothing else, since a thread that has changed its
/// namespace must never go back to other work.
pub(crate) fn on_own_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)
            .map_err(|source| NetworkError::Namespace {
                action: "enter",
                source,
            })?;
        worker.join().unwrap_or_else(|_| {
            let source = io::Error::other("the thread inside the namespace panicked");
            Err(NetworkError::Namespace {
                action: "enter",
                source,
            })
        })
    })
}

/// Keeps the stock filled until told to stop.
///
/// Between two namespaces the thread goes back to where it came from: a thread left inside a
/// namespace would keep it alive after its container is gone.
fn refill(shared: &Shared) {
    let Ok(home) = current() else { return };
    loop {
        {
            let mut state = lock(&shared.state);
            while !state.stopping && state.ready.len() >= POOL_SIZE {
                state = shared
                    .wanted
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopping {
                return;
            }
        }
        let created = create();
        // Not being able to go back or to make one here is no loss: `take` makes its own and
        // reports why it cannot.
        let (Ok(namespace), Ok(())) = (created, enter(home.as_fd())) else {
            return;
        };
        lock(&shared.state).ready.push(namespace);
    }
}

/// Puts the calling thread into a new namespace with `lo` up, and returns it.
///
/// IPv6 is off on devices that come later, since the bridge has no IPv6 to offer: no link-local
/// address, no router solicitation (spec runtime §8.1).
fn create() -> Result<OwnedFd, NetworkError> {
    let failed = |source| NetworkError::Namespace {
        action: "create",
        source,
    };
    // SAFETY: only CLONE_NEWNET is unshared, on a thread of this module's own; the file
    // descriptor table and everything else stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| failed(error.into()))?;
    sysctl::ensure_if_present("net/ipv6/conf/default/disable_ipv6", "1")?;
    let mut netlink = Netlink::open().map_err(failed)?;
    netlink.set_up(LOOPBACK_INDEX).map_err(failed)?;
    current().map_err(failed)
}

/// Number of `lo` in every namespace (`LOOPBACK_IFINDEX` in the kernel's `net_namespace.h`).
const LOOPBACK_INDEX: u32 = 1;

fn current() -> io::Result<OwnedFd> {
    Ok(wharf_safefs::trusted::open("/proc/thread-self/ns/net")?.into())
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(
        namespace,
        Some(LinkNameSpaceType::Network),
    )?)
}

fn lock(state: &Mutex<PoolState>) -> MutexGuard<'_, PoolState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
