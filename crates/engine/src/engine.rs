//! The engine itself: what it owns, how it opens, how it stops.

use crate::container::registry::Registry;
use crate::error::{EngineError, ErrorKind, Result};
use crate::events::Events;
use crate::exec::Execs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::RuntimeFlavor;
use wharf_network::Networks;
use wharf_safefs::trusted;
use wharf_store::Store;

/// Says where an engine lives.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Data root, such as `/var/lib/wharf`.
    pub root: PathBuf,
    /// State that is gone with the boot, such as `/run/wharf`.
    pub run_dir: PathBuf,
    /// Bytes that builds may keep in caches; None for a share of the disk.
    pub cache_limit_bytes: Option<u64>,
    /// Program that is started as `… shim`; None means this program itself.
    pub shim_exe: Option<PathBuf>,
    /// What the administrator sets.
    pub settings: crate::settings::Settings,
}

/// Serves the use cases of one data root; always shared as an `Arc`.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) settings: crate::settings::Current,
    pub(crate) store: Store,
    /// The network room: devices, addresses, rules, names.
    pub(crate) network: Arc<Networks>,
    /// What users know of networks.
    pub(crate) networks: crate::network::NetworkRegistry,
    pub(crate) containers: Registry,
    pub(crate) execs: Execs,
    pub(crate) events: Events,
    pub(crate) registry: wharf_registry::Client,
    /// Name of this engine's kernel objects: `wharf`, or `wharf-<8 hex>` for a root of one's own.
    pub(crate) instance: String,
    pub(crate) id: String,
    pub(crate) downloads: crate::image::gate::Gate,
    pub(crate) uploads: crate::image::gate::Gate,
    pub(crate) running_builds: crate::build::RunningBuilds,
    pub(crate) image_claims: crate::build::ImageClaims,
    /// Prunes that are being pruned: docker allows one prune of a kind at a time.
    pub(crate) pruning: crate::prune::PruneGuards,
    pub(crate) volume_mounts: Arc<crate::volume_mounts::VolumeMounts>,
    /// What containers' own files and volumes were found to take.
    pub(crate) sizes: crate::sizes::Sizes,
    pub(crate) apparmor: crate::apparmor::AppArmor,
    /// What could not be set up of the networks when this engine began.
    network_failures: Vec<String>,
}

/// Data root of an engine that nobody told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/wharf";

impl Engine {
    /// Opens the data root, sweeps what an earlier engine left, finds running containers again.
    ///
    /// # Errors
    /// Fails when the root is in use, of a newer version, or cannot be written; when the bridge or
    /// the firewall table cannot be made.
    pub async fn open(options: EngineOptions) -> Result<Arc<Self>> {
        options.settings.check()?;
        let opened = blocking({
            let options = options.clone();
            move || open_rooms(&options)
        })
        .await?;
        let registry =
            wharf_registry::Client::new(options.settings.registry_options()).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, "cannot make a registry client", e)
            })?;
        let engine = Arc::new(Self {
            settings: crate::settings::Current::new(options.settings.clone()),
            options,
            store: opened.store,
            network: Arc::new(opened.networks.room),
            networks: opened.networks.registry,
            containers: Registry::default(),
            execs: Execs::default(),
            events: Events::new(),
            registry,
            instance: opened.instance,
            id: opened.id,
            downloads: crate::image::gate::Gate::default(),
            uploads: crate::image::gate::Gate::default(),
            running_builds: crate::build::RunningBuilds::default(),
            image_claims: crate::build::ImageClaims::default(),
            pruning: crate::prune::PruneGuards::default(),
            volume_mounts: Arc::default(),
            sizes: crate::sizes::Sizes::default(),
            apparmor: crate::apparmor::AppArmor::default(),
            network_failures: opened.networks.failures,
        });
        // A failure is told by `warnings`, and by each container that needs the profile.
        let profile = engine.with_store(|engine| engine.apparmor.ensure_default());
        for failure in &engine.network_failures {
            let message = [("message", failure.clone())];
            engine.events.emit("daemon", "error", &engine.id, message);
        }
        let (_told, ()) = tokio::join!(profile, engine.restore(opened.containers));
        Ok(engine)
    }

    /// Says what an administrator should know of the host, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.apparmor.complaint().into_iter().collect()
    }

    /// Says which networks could not be set up at the start, and why: they are tried again when a container joins them.
    pub fn network_failures(&self) -> &[String] {
        &self.network_failures
    }

    /// Ends the engine's own work; containers go on running. When none runs, bridge and firewall
    /// table go too: an idle machine shows no trace of the engine.
    pub async fn shutdown(self: &Arc<Self>) {
        self.events.emit(
            "daemon",
            "shutdown",
            &self.id,
            [("name", self.instance.clone())],
        );
        if self
            .containers
            .snapshots()
            .iter()
            .any(|container| container.is_running())
        {
            return;
        }
        let network = Arc::clone(&self.network);
        // What is left is adopted at the next start.
        let group = format!("/{}", self.instance);
        let _left =
            blocking(move || network.destroy().map_err(crate::network::network_error)).await;
        let _left = blocking(move || {
            wharf_runtime::remove_cgroup(&group).map_err(crate::container::runtime_error(
                "cannot remove the control group",
            ))
        })
        .await;
    }

    /// Returns a directory for files that a request needs for a moment; emptied at the next start.
    pub fn spool_dir(&self) -> PathBuf {
        self.store.root().join("tmp")
    }

    /// Returns the engine's state directory for one container.
    pub(crate) fn state_dir(&self, id: &str) -> PathBuf {
        self.options.run_dir.join("containers").join(id)
    }

    /// Runs work that blocks on a thread of its own.
    pub(crate) async fn with_store<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T> + Send + 'static,
    {
        let engine = Arc::clone(self);
        blocking(move || work(&engine)).await
    }
}

/// Runs short work that may wait for the disk, on this thread but without holding up the tasks that
/// share it.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let shares_thread = tokio::runtime::Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if shares_thread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Runs blocking work on a blocking thread.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(EngineError::internal(format!(
            "a worker thread failed: {e}"
        )))
    })
}

struct Opened {
    store: Store,
    networks: crate::network::OpenNetworks,
    instance: String,
    id: String,
    containers: Vec<crate::model::container::Container>,
}

fn open_rooms(options: &EngineOptions) -> Result<Opened> {
    let internal = |what: &str| {
        let what = what.to_owned();
        move |e: wharf_store::StoreError| EngineError::wrap(ErrorKind::Internal, what, e)
    };
    let store = Store::open(&options.root).map_err(internal("cannot open the data root"))?;
    trusted::create_dir_all(options.run_dir.join("containers"), 0o711).map_err(|e| {
        EngineError::wrap(ErrorKind::Internal, "cannot make the state directory", e)
    })?;
    let id = match store
        .setting("engine-id")
        .map_err(internal("cannot read settings"))?
    {
        Some(id) => id,
        None => {
            let id = crate::identity::random_id()?;
            store
                .set_setting("engine-id", &id)
                .map_err(internal("cannot write settings"))?;
            id
        }
    };
    let instance = instance_name(&options.root);
    let containers = crate::restore::load_containers(&store)?;
    let live: Vec<String> = containers
        .iter()
        .filter(|container| container.is_running())
        .map(|container| container.id.clone())
        .collect();
    wharf_runtime::sweep(
        &options.run_dir.join("containers"),
        &format!("/{instance}"),
        &live,
    );
    // Groups below others than our own.
    for container in &containers {
        let has_parent = !container.host_config.resources.cgroup_parent.is_empty();
        if has_parent && !container.is_running() {
            let group = crate::container::spec::cgroup_path(&instance, container);
            let state_dir = options.run_dir.join("containers").join(&container.id);
            // What cannot be removed now is removed with the container.
            let _removed_later = wharf_runtime::remove_remains(&state_dir, &group);
        }
    }
    crate::build::mounts::sweep_secrets(&options.run_dir);
    crate::build::groups::sweep(&options.run_dir);
    let networks =
        crate::network::open(&store, &options.root, &id, &containers, &options.settings)?;
    Ok(Opened {
        store,
        networks,
        instance,
        id,
        containers,
    })
}

/// Returns the name that this engine's cgroups and devices carry.
pub fn instance_name(root: &Path) -> String {
    if root == Path::new(DEFAULT_ROOT) {
        return "wharf".to_owned();
    }
    let digest = wharf_image::Digest::of(root.as_os_str().as_encoded_bytes());
    format!("wharf-{}", digest.hex().get(..8).unwrap_or_default())
}
