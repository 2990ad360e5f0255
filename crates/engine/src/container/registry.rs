//! The containers of this engine in memory: snapshots for readers, one lock a container for writers.

use crate::error::{EngineError, Result};
use crate::model::container::{Container, Status};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use wharf_runtime::Shim;

/// How long after the end of a process it may take until the end is known.
pub(crate) const END_WAIT: Duration = Duration::from_secs(2);

/// What waiters watch: it only ever grows towards `removed`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    /// True while a process runs.
    pub running: bool,
    /// True while the policy waits to start it again; docker counts that as running.
    pub restarting: bool,
    /// Number of exits so far.
    pub exits: u64,
    /// Exit code of the last exit.
    pub exit_code: i32,
    /// True when the container is gone.
    pub removed: bool,
    /// Why the removal failed.
    pub removal_error: Option<String>,
}

/// One container: the current snapshot and what belongs to its running process.
pub(crate) struct Entry {
    snapshot: RwLock<Arc<Container>>,
    /// Serialises start, stop, remove and the like; held across waits on purpose, readers never take it.
    pub(crate) operation: tokio::sync::Mutex<()>,
    pub(crate) life: watch::Sender<Life>,
    shim: Mutex<Option<Shim>>,
    /// Attach calls that came before the start; connected before the process runs.
    pub(crate) early_attaches: Mutex<Vec<super::attach::EarlyAttach>>,
    /// True once a stop or a signal to end by a user forbids this run's restart (spec runtime §6).
    pub(crate) restart_cancelled: AtomicBool,
    /// The last wait before a restart by the policy, if there was one since a user's start.
    pub(crate) last_wait: Mutex<Option<Duration>>,
    /// Bumped by every stop by a user: a pending restart of an older number is dropped.
    pub(crate) restart_epoch: AtomicU64,
}

impl Entry {
    pub(crate) fn new(container: Container) -> Self {
        let life = Life {
            running: container.is_running(),
            exit_code: container.state.exit_code,
            ..Life::default()
        };
        Self {
            snapshot: RwLock::new(Arc::new(container)),
            operation: tokio::sync::Mutex::new(()),
            life: watch::channel(life).0,
            shim: Mutex::new(None),
            early_attaches: Mutex::new(Vec::new()),
            restart_cancelled: AtomicBool::new(false),
            last_wait: Mutex::new(None),
            restart_epoch: AtomicU64::new(0),
        }
    }

    /// Returns the container as it is now.
    pub(crate) fn snapshot(&self) -> Arc<Container> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the snapshot by a changed copy and returns it. The caller persists it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Container)) -> Arc<Container> {
        let mut guard = self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut container = Container::clone(&guard);
        change(&mut container);
        *guard = Arc::new(container);
        Arc::clone(&guard)
    }

    /// Takes the operation lock, once the end of a run that is over is written down.
    ///
    /// # Errors
    /// No such container, where it was removed while others had the lock.
    pub(crate) async fn operate(&self, name: &str) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let guard = self.operation.lock().await;
        if self.shim().is_none() {
            // What is not told in this time will not be; whoever asked finds the container as it is.
            let _told = self.ends_now().await;
        }
        if self.life.borrow().removed {
            return Err(EngineError::not_found(format!("No such container: {name}")));
        }
        Ok(guard)
    }

    /// Tells whether the run is over, or is told to be in a moment: what fails on a process that has just ended,
    /// fails for that.
    pub(crate) async fn ends_now(&self) -> bool {
        let mut life = self.life.subscribe();
        let ended = life.wait_for(|life| !life.running);
        tokio::time::timeout(END_WAIT, ended).await.is_ok()
    }

    /// Returns docker's conflict text where an error came from the end of the process, else the error itself.
    pub(crate) async fn not_running_or(&self, error: EngineError) -> EngineError {
        if !self.ends_now().await {
            return error;
        }
        EngineError::conflict(format!("container {} is not running", self.snapshot().id))
    }

    /// Drops a pending restart and counts restarts anew: a user starts the container.
    pub(crate) fn forget_restarts(&self) {
        self.restart_epoch.fetch_add(1, Ordering::SeqCst);
        *self
            .last_wait
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.change(|container| container.restart_count = 0);
    }

    /// Returns the shim of the running process.
    pub(crate) fn shim(&self) -> Option<Shim> {
        self.shim
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_shim(&self, shim: Option<Shim>) {
        *self.shim.lock().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    /// Returns the shim, or docker's conflict text when the container does not run.
    pub(crate) fn running_shim(&self) -> Result<Shim> {
        let container = self.snapshot();
        self.shim()
            .filter(|_| container.is_running())
            .ok_or_else(|| {
                EngineError::conflict(format!("container {} is not running", container.id))
            })
    }
}

/// All containers by ID, with names and prefixes resolved by docker's rules (spec engine-api §4).
#[derive(Default)]
pub(crate) struct Registry {
    entries: RwLock<HashMap<String, Arc<Entry>>>,
    /// Names that are taken, also by a create call that is still under way.
    names: Mutex<HashMap<String, String>>,
}

impl Registry {
    pub(crate) fn insert(&self, container: Container) -> Arc<Entry> {
        let (id, name) = (container.id.clone(), container.name.clone());
        let entry = Arc::new(Entry::new(container));
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, id.clone());
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&entry));
        entry
    }

    pub(crate) fn remove(&self, container: &Container) {
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&container.id);
        self.release_name(&container.name, &container.id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Returns snapshots of all containers.
    pub(crate) fn snapshots(&self) -> Vec<Arc<Container>> {
        self.all().iter().map(|entry| entry.snapshot()).collect()
    }

    /// Reserves a name for `id`.
    ///
    /// # Errors
    /// Docker's conflict text when the name is taken.
    pub(crate) fn reserve_name(&self, name: &str, id: &str) -> Result<()> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = names.get(name) {
            return Err(EngineError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    pub(crate) fn release_name(&self, name: &str, id: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.get(name).is_some_and(|owner| owner == id) {
            names.remove(name);
        }
    }

    /// Finds a container by full ID, name (also the one a link gives it, `parent/alias`), or unique
    /// ID prefix, in this order.
    ///
    /// # Errors
    /// Docker's texts when none or several match.
    pub(crate) fn find(&self, name_or_id: &str) -> Result<Arc<Entry>> {
        if name_or_id.is_empty() {
            return Err(EngineError::invalid("container name or ID is empty"));
        }
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name_or_id) {
            return Ok(Arc::clone(entry));
        }
        let name = name_or_id.strip_prefix('/').unwrap_or(name_or_id);
        let by_name = self
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(entry) = by_name.and_then(|id| entries.get(&id)) {
            return Ok(Arc::clone(entry));
        }
        if let Some((parent, alias)) = name.rsplit_once('/') {
            drop(entries);
            return self.find_linked(parent, alias, name_or_id);
        }
        let is_prefix = name_or_id.len() <= 64 && name_or_id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut matches = entries
            .iter()
            .filter(|(id, _)| is_prefix && id.starts_with(name_or_id))
            .map(|(_, entry)| entry);
        match (matches.next(), matches.next()) {
            (Some(entry), None) => Ok(Arc::clone(entry)),
            (Some(_), Some(_)) => Err(EngineError::invalid(format!(
                "multiple IDs found with provided prefix: {name_or_id}"
            ))),
            (None, _) => Err(EngineError::not_found(format!(
                "No such container: {name_or_id}"
            ))),
        }
    }

    fn find_linked(&self, parent: &str, alias: &str, given: &str) -> Result<Arc<Entry>> {
        let parent = self.find(parent).ok().map(|entry| entry.snapshot());
        parent
            .filter(|parent| !crate::network::is_user_defined(&parent.host_config.network_mode))
            .and_then(|parent| crate::network::target_of(&parent, alias))
            .and_then(|child| self.find(&child).ok())
            .ok_or_else(|| EngineError::not_found(format!("No such container: {given}")))
    }

    /// Returns the containers, of any state, that were made from an image.
    pub(crate) fn using_image(&self, image: &wharf_image::ImageId) -> Vec<Arc<Container>> {
        self.snapshots()
            .into_iter()
            .filter(|container| {
                container.image_id.as_ref() == Some(image)
                    && container.state.status != Status::Removing
            })
            .collect()
    }

    /// Returns the images that containers of any state were made from.
    pub(crate) fn used_images(&self) -> HashSet<wharf_image::ImageId> {
        self.snapshots()
            .into_iter()
            .filter(|container| container.state.status != Status::Removing)
            .filter_map(|container| container.image_id)
            .collect()
    }
}
