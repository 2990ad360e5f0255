//! What the engine tells of itself and of its host.

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::filters;
use crate::model::container::Status;
use crate::model::request::{CacheLimits, Filters, ListContainers, ListImages};
use crate::model::view::{
    BuildCacheRecord, DiskUsage, Event, Pruned, SupportedLimits, SystemInfo, UsageKinds,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::broadcast;
use wharf_image::{DiffId, Digest};
use wharf_safefs::trusted;

impl Engine {
    /// Describes the engine and its host.
    pub fn info(&self) -> SystemInfo {
        let (host, settings) = (crate::host::host(), self.settings());
        let containers = self.containers.snapshots();
        let count = |test: &dyn Fn(Status) -> bool| {
            containers
                .iter()
                .filter(|container| test(container.state.status))
                .count()
        };
        let (name, version) = operating_system();
        let open_files =
            trusted::read_dir_sorted(Path::new("/proc/self/fd")).map_or(0, |entries| entries.len());
        SystemInfo {
            id: self.id.clone(),
            host_name: host.name.clone(),
            containers: (
                count(&|status| status == Status::Running),
                count(&|status| status == Status::Paused),
                count(&|status| !matches!(status, Status::Running | Status::Paused)),
            ),
            images: self.store.images().map_or(0, |images| images.len()),
            root: self.store.root().to_string_lossy().into_owned(),
            kernel_version: host.info.kernel_release.clone(),
            operating_system: name,
            os_version: version,
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: host.info.cpus,
            memory_bytes: host.info.memory_bytes,
            cgroup_version: host.info.cgroup_version,
            limits: SupportedLimits {
                memory: host.has_controller("memory"),
                swap: host.info.swap_limit,
                cpu_cfs: host.has_controller("cpu"),
                cpu_shares: host.has_controller("cpu"),
                cpuset: host.has_controller("cpuset"),
                pids: host.has_controller("pids"),
                oom_kill_disable: !host.is_cgroup_v2() && host.has_controller("memory"),
                ipv4_forwarding: read_text("/proc/sys/net/ipv4/ip_forward").trim() == "1",
            },
            backing_file_system: backing_file_system(self.store.root()),
            seccomp: host.info.seccomp,
            apparmor: host.info.apparmor && wharf_runtime::apparmor::shows_profiles(),
            event_listeners: self.events.listeners(),
            open_files,
            runtimes: crate::container::runtimes::all(&settings),
            default_runtime: match settings.default_runtime.as_str() {
                "" => "wharf".to_owned(),
                configured => configured.to_owned(),
            },
            warnings: self
                .warnings()
                .iter()
                .map(|warning| format!("WARNING: {warning}"))
                .collect(),
        }
    }

    /// Returns the kept events since a time and a receiver of those that follow.
    pub fn events(&self, since_ns: Option<i64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.events.subscribe(since_ns)
    }

    /// Measures what the wanted kinds of objects take on disk; nothing else is looked at. Layers are
    /// known by their records; volumes and containers' own files are walked now and then.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub async fn disk_usage(self: &Arc<Self>, wanted: UsageKinds) -> Result<DiskUsage> {
        let everything = ListImages {
            all: true,
            shared_size: true,
            ..ListImages::default()
        };
        self.with_store(move |engine| {
            let mut found = DiskUsage::default();
            if wanted.images {
                let usage = engine.store.layer_usage();
                let usage = usage.map_err(store_error("cannot measure the disk"))?;
                // What only the build cache keeps is told with it.
                found.layers_bytes = usage.layers_bytes - usage.cache_only_bytes;
                found.images = engine.list_images_blocking(&everything)?;
            }
            if wanted.containers {
                found.containers = engine.list_containers(&ListContainers {
                    all: true,
                    ..ListContainers::default()
                })?;
                for summary in &mut found.containers {
                    summary.size_bytes = Some(engine.recent_sizes(&summary.container)?);
                }
            }
            if wanted.volumes {
                found.volumes = engine.list_volumes(&Filters::new())?;
            }
            for volume in &mut found.volumes {
                let users = engine.volume_users(&volume.name, None);
                let bytes = engine.recent_volume_size(&volume.name, &users)?;
                volume.usage = Some((bytes, users.len()));
            }
            if wanted.build_cache {
                found.build_cache = engine.kept_by_builds()?;
            }
            Ok(found)
        })
        .await
    }

    /// Returns what builds keep, as users see it: steps and cache mounts. The sizes of those that are not shared add up to
    /// what is on disk: a layer that several records have counts for the first.
    fn kept_by_builds(&self) -> Result<Vec<BuildCacheRecord>> {
        let usage = self.store.layer_usage();
        let usage = usage.map_err(store_error("cannot measure the disk"))?;
        let by_key: HashMap<String, &wharf_store::CacheUsage> =
            usage.cache.iter().map(|it| (it.key.hex(), it)).collect();
        let mut counted = HashSet::new();
        let mut kept = self.cache_records(false)?;
        for record in &mut kept {
            let Some(usage) = by_key.get(&record.id) else {
                continue;
            };
            record.size_bytes = usage.disk_bytes;
            record.shared = usage.shared || usage.layer.is_none_or(|layer| !counted.insert(layer));
        }
        let mounts = wharf_build::cache_mounts(&self.store).map_err(cache_error)?;
        for (mount, disk_bytes) in mounts {
            kept.push(BuildCacheRecord {
                kind: "exec.cachemount",
                id: mount.name,
                shared: false,
                description: format!("cache mount {}", mount.id),
                size_bytes: disk_bytes,
                created_at_s: mount.created_unix_ns / 1_000_000_000,
                last_used_at_s: mount.last_used_unix_ns / 1_000_000_000,
                usage_count: mount.use_count,
            });
        }
        Ok(kept)
    }

    /// Returns the records of the build cache; those of configs take no space of their own and are told only on demand.
    fn cache_records(&self, with_configs: bool) -> Result<Vec<BuildCacheRecord>> {
        let held = self.layers_of_images()?;
        let records = self
            .store
            .caches()
            .map_err(store_error("cannot read the build cache"))?;
        let is_told = |record: &wharf_store::CacheRecord| {
            let kind = record
                .explain
                .get("kind")
                .and_then(serde_json::Value::as_str);
            with_configs || !matches!(kind, Some("config" | "times"))
        };
        Ok(records
            .into_iter()
            .filter(is_told)
            .map(|record| BuildCacheRecord {
                kind: "regular",
                id: record.key.hex(),
                shared: record.diff_ids.last().is_none_or(|top| held.contains(top)),
                description: record.description,
                size_bytes: record.size_bytes,
                created_at_s: record.created_unix_ns / 1_000_000_000,
                last_used_at_s: record.last_used_unix_ns / 1_000_000_000,
                usage_count: record.use_count,
            })
            .collect())
    }

    fn layers_of_images(&self) -> Result<HashSet<DiffId>> {
        let images = self
            .store
            .images()
            .map_err(store_error("cannot read images"))?;
        Ok(images
            .iter()
            .flat_map(|image| image.config.rootfs.diff_ids.iter().copied())
            .collect())
    }

    /// Removes build cache records: those whose layers no image has, or with `all` every one; with limits only the
    /// longest unused, until they hold.
    ///
    /// # Errors
    /// Unknown filters, or another prune under way.
    pub async fn prune_build_cache(
        self: &Arc<Self>,
        all: bool,
        request: &Filters,
        limits: Option<CacheLimits>,
    ) -> Result<Pruned<String>> {
        filters::allow(request, &["until", "id", "label", "label!"])?;
        if filters::values(request, "until").len() > 1 {
            return Err(EngineError::invalid("filters expect only one value"));
        }
        // Records have no labels: none has one that is asked for, and none one that is not.
        let matches_labels = filters::values(request, "label").is_empty();
        let _guard = self.pruning.cache()?;
        let until = filters::until_ns(request).map_err(|error| {
            EngineError::invalid(format!(
                "\"until\" filter expects a duration (e.g., '24h') or a timestamp: {}",
                error.message()
            ))
        })?;
        let ids = filters::values(request, "id").to_vec();
        let pruned = self
            .with_store(move |engine| {
                if let Some(limits) = limits.filter(|_| matches_labels) {
                    let kept = wharf_build::kept_bytes(&engine.store).map_err(cache_error)?;
                    let disk = rustix::fs::statvfs(engine.store.root());
                    let free = disk.map_or(0, |disk| disk.f_bavail * disk.f_frsize);
                    let most = limits.most_bytes(kept, free);
                    let pruned = wharf_build::collect(&engine.store, most).map_err(cache_error)?;
                    return Ok(Pruned {
                        removed: pruned.keys.iter().map(Digest::hex).collect(),
                        reclaimed_bytes: pruned.freed_bytes,
                    });
                }
                let told: HashSet<String> = engine
                    .cache_records(false)?
                    .into_iter()
                    .map(|record| record.id)
                    .collect();
                let chosen = engine.cache_records(true)?.into_iter().filter(|record| {
                    matches_labels
                        && (all || !record.shared)
                        && until.is_none_or(|until| {
                            record.last_used_at_s.saturating_mul(1_000_000_000) < until
                        })
                        && (ids.is_empty() || ids.iter().any(|id| record.id.starts_with(id)))
                });
                let keys: Vec<Digest> = chosen
                    .filter_map(|record| format!("sha256:{}", record.id).parse().ok())
                    .collect();
                let reclaimed_bytes =
                    wharf_build::remove(&engine.store, &keys).map_err(cache_error)?;
                Ok(Pruned {
                    removed: keys
                        .iter()
                        .map(Digest::hex)
                        .filter(|key| told.contains(key))
                        .collect(),
                    reclaimed_bytes,
                })
            })
            .await?;
        self.events.emit(
            "builder",
            "prune",
            "",
            [("reclaimed", pruned.reclaimed_bytes.to_string())],
        );
        Ok(pruned)
    }

    /// Asks a registry whether it takes credentials.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unauthorized`] when it does not; a registry that cannot be reached.
    pub async fn check_credentials(
        &self,
        credentials: &wharf_registry::Credentials,
        server: &str,
    ) -> Result<String> {
        let host = server
            .split_once("://")
            .map_or(server, |(_, rest)| rest)
            .split('/')
            .next()
            .unwrap_or_default();
        let host = if matches!(host, "" | "index.docker.io") {
            "docker.io"
        } else {
            host
        };
        let repository = crate::image::naming::parse(&format!("{host}/library/login"))?;
        self.registry
            .check(&repository, credentials)
            .await
            .map_err(crate::image::pull::registry_error)?;
        Ok("Login Succeeded".to_owned())
    }
}

fn cache_error(error: wharf_build::BuildError) -> EngineError {
    EngineError::wrap(ErrorKind::Internal, "cannot change the build cache", error)
}

fn read_text(path: &str) -> String {
    trusted::read_limited(Path::new(path), 1024 * 1024)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Returns the name and version that `/etc/os-release` gives.
fn operating_system() -> (String, String) {
    let text = read_text("/etc/os-release");
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let name = value("PRETTY_NAME");
    (
        if name.is_empty() {
            "Linux".to_owned()
        } else {
            name
        },
        value("VERSION_ID"),
    )
}

fn backing_file_system(root: &Path) -> String {
    let Ok(stat) = rustix::fs::statfs(root) else {
        return "<unknown>".to_owned();
    };
    match stat.f_type {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2FC1_2FC1 => "zfs",
        _ => "<unknown>",
    }
    .to_owned()
}
