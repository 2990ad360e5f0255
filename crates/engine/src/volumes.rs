//! Volumes of the local driver (spec engine-api §5.4).

use crate::container::create::{fs_error, store_error};
use crate::container::mounts::{check_driver, check_volume_name};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::filters::{self, values};
use crate::identity;
use crate::model::container::{Container, MountPoint};
use crate::model::request::Filters;
use crate::model::view::{Pruned, VolumeView};
use crate::volume_mounts::{self, VolumeUse};
use std::collections::BTreeMap;
use std::sync::Arc;
use wharf_safefs::trusted;
use wharf_store::Volume;

/// Label of volumes that were made without a name.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Engine {
    /// Makes a volume, or returns the one of that name and driver that is there.
    ///
    /// # Errors
    /// A malformed name, an unknown driver, driver options.
    pub async fn create_volume(
        self: &Arc<Self>,
        name: Option<&str>,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        check_driver(driver).map_err(|error| {
            let name = name.unwrap_or_default();
            EngineError::not_found(format!("create {name}: {}", error.message()))
        })?;
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        self.with_store(move |engine| {
            let anonymous = name.is_none();
            let name = match name {
                Some(name) => name,
                None => identity::random_id()?,
            };
            check_volume_name(&name)?;
            engine.ensure_volume(&name, labels, options, anonymous)
        })
        .await
    }

    /// Returns a volume, making it if it is not there.
    pub(crate) fn ensure_volume(
        &self,
        name: &str,
        mut labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<VolumeView> {
        if let Some(volume) = self
            .store
            .volume(name)
            .map_err(store_error("cannot read volumes"))?
        {
            return self.view(&volume);
        }
        volume_mounts::check_options(name, &options)?;
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let new = wharf_store::NewVolume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            labels,
            options,
            anonymous,
        };
        let volume = self
            .store
            .create_volume(&new)
            .map_err(store_error("cannot make the volume"))?;
        self.events
            .emit("volume", "create", name, [("driver", "local".to_owned())]);
        self.view(&volume)
    }

    /// Returns a volume.
    ///
    /// # Errors
    /// Docker's `get x: no such volume`.
    pub fn volume(&self, name: &str) -> Result<VolumeView> {
        let volume = self
            .store
            .volume(name)
            .map_err(store_error("cannot read volumes"))?;
        match volume {
            Some(volume) => self.view(&volume),
            None => Err(EngineError::not_found(format!(
                "get {name}: no such volume"
            ))),
        }
    }

    /// Lists volumes by name.
    ///
    /// # Errors
    /// Unknown filters.
    pub fn list_volumes(&self, filters: &Filters) -> Result<Vec<VolumeView>> {
        filters::allow(filters, &["dangling", "driver", "label", "label!", "name"])?;
        let dangling = filters::flag(filters, "dangling")?;
        let mut volumes: Vec<VolumeView> = self
            .store
            .volumes()
            .map_err(store_error("cannot read volumes"))?
            .iter()
            .map(|volume| self.view(volume))
            .collect::<Result<_>>()?;
        volumes.retain(|volume| {
            let any = |key: &str, test: &dyn Fn(&str) -> bool| {
                let wanted = values(filters, key);
                wanted.is_empty() || wanted.iter().any(|value| test(value))
            };
            dangling
                .is_none_or(|dangling| dangling == self.volume_users(&volume.name, None).is_empty())
                && any("driver", &|value| value == volume.driver)
                && any("name", &|value| {
                    crate::name_pattern::search(value, &volume.name)
                })
                && filters::labels_match(filters, &volume.labels)
        });
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume that no container has.
    ///
    /// # Errors
    /// Docker's texts when it is in use or not there (`force` makes the latter no error).
    pub async fn remove_volume(self: &Arc<Self>, name: &str, force: bool) -> Result<()> {
        let name = name.to_owned();
        self.with_store(move |engine| engine.remove_volume_blocking(&name, force, None).map(drop))
            .await
    }

    /// Removes a volume; containers other than `except` keep it alive. Returns bytes freed.
    pub(crate) fn remove_volume_blocking(
        &self,
        name: &str,
        force: bool,
        except: Option<&str>,
    ) -> Result<u64> {
        if self
            .store
            .volume(name)
            .map_err(store_error("cannot read volumes"))?
            .is_none()
        {
            return if force {
                Ok(0)
            } else {
                Err(EngineError::not_found(format!(
                    "get {name}: no such volume"
                )))
            };
        }
        let users = self.volume_users(name, except);
        if !users.is_empty() {
            return Err(EngineError::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let freed = self.measure_volume(name)?;
        // Never deletes what is only mounted there.
        wharf_runtime::unmount_volume(&self.volume_path(name)?)
            .map_err(crate::container::runtime_error("cannot unmount the volume"))?;
        self.store
            .delete_volume(name)
            .map_err(store_error("cannot remove the volume"))?;
        self.sizes.forget(&self.volume_path(name)?);
        self.events
            .emit("volume", "destroy", name, [("driver", "local".to_owned())]);
        Ok(freed)
    }

    /// Removes volumes that no container has; only anonymous ones unless `all`.
    ///
    /// # Errors
    /// Unknown filters, or another prune under way.
    pub async fn prune_volumes(
        self: &Arc<Self>,
        filters: &Filters,
        all: bool,
    ) -> Result<Pruned<String>> {
        filters::allow(filters, &["label", "label!", "all"])?;
        let _guard = self.pruning.volumes()?;
        let all = all || filters::flag(filters, "all")?.unwrap_or(false);
        let filters = filters.clone();
        let pruned = self
            .with_store(move |engine| {
                let mut pruned = Pruned::default();
                for volume in engine
                    .store
                    .volumes()
                    .map_err(store_error("cannot read volumes"))?
                {
                    if (!all && !volume.anonymous)
                        || !filters::labels_match(&filters, &volume.labels)
                    {
                        continue;
                    }
                    if let Ok(bytes) = engine.remove_volume_blocking(&volume.name, false, None) {
                        pruned.reclaimed_bytes += bytes;
                        pruned.removed.push(volume.name);
                    }
                }
                Ok(pruned)
            })
            .await?;
        self.events.emit(
            "volume",
            "prune",
            "",
            [("reclaimed", pruned.reclaimed_bytes.to_string())],
        );
        Ok(pruned)
    }

    /// Returns the bytes a volume takes here; what is mounted there takes none.
    pub(crate) fn measure_volume(&self, name: &str) -> Result<u64> {
        if volume_mounts::needs_mount(&self.volume(name)?.options) {
            return Ok(0);
        }
        let usage = trusted::disk_usage(self.volume_path(name)?)
            .map_err(fs_error("cannot measure the volume"))?;
        Ok(usage.disk_bytes)
    }

    /// Measures a volume as rarely as the disk usage needs it, given the containers that have it.
    pub(crate) fn recent_volume_size(&self, name: &str, users: &[String]) -> Result<u64> {
        if volume_mounts::needs_mount(&self.volume(name)?.options) {
            return Ok(0);
        }
        let is_in_use = users
            .iter()
            .filter_map(|id| self.containers.find(id).ok())
            .any(|entry| entry.snapshot().is_running());
        let usage = self.sizes.of(&self.volume_path(name)?, is_in_use)?;
        Ok(usage.disk_bytes)
    }

    pub(crate) fn volume_users(&self, name: &str, except: Option<&str>) -> Vec<String> {
        let uses = |container: &crate::model::container::Container| {
            except != Some(container.id.as_str())
                && container
                    .mounts
                    .iter()
                    .any(|mount| mount.kind == "volume" && mount.name == name)
        };
        self.containers
            .snapshots()
            .iter()
            .filter(|container| uses(container))
            .map(|container| container.id.clone())
            .collect()
    }

    /// Keeps a volume mounted for as long as what is returned lives; None for one that is a directory.
    pub(crate) fn use_volume(&self, name: &str) -> Result<Option<VolumeUse>> {
        let options = self.volume(name)?.options;
        if !volume_mounts::needs_mount(&options) {
            return Ok(None);
        }
        let path = self.volume_path(name)?;
        self.volume_mounts
            .hold_for_a_while(name, &path, &options)
            .map(Some)
    }

    /// Makes ready what a starting container mounts: host directories, volumes.
    pub(crate) fn hold_mounts(&self, container: &Container) -> Result<()> {
        for mount in &container.mounts {
            match mount.kind.as_str() {
                "volume" => self.hold_volume(container, mount)?,
                "bind" if mount.create_source => make_source(&mount.source)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hold_volume(&self, container: &Container, mount: &MountPoint) -> Result<()> {
        let volume = self.volume(&mount.name)?;
        if volume_mounts::needs_mount(&volume.options) {
            let path = self.volume_path(&mount.name)?;
            self.volume_mounts
                .hold(&mount.name, &container.id, &path, &volume.options)?;
        }
        self.events.emit(
            "volume",
            "mount",
            &mount.name,
            [
                ("driver", volume.driver),
                ("container", container.id.clone()),
                ("destination", mount.destination.clone()),
                ("read/write", mount.read_write.to_string()),
                ("propagation", mount.propagation.clone()),
            ],
        );
        Ok(())
    }

    /// Lets go of the volumes of a container that ended.
    pub(crate) fn release_mounts(&self, container: &Container) {
        for mount in container.mounts.iter().filter(|m| m.kind == "volume") {
            let Ok(volume) = self.volume(&mount.name) else {
                continue;
            };
            if volume_mounts::needs_mount(&volume.options)
                && let Ok(path) = self.volume_path(&mount.name)
            {
                let released = self
                    .volume_mounts
                    .release(&mount.name, &container.id, &path);
                if let Err(error) = released {
                    self.events.emit(
                        "daemon",
                        "error",
                        &self.id,
                        [("message", error.message().to_owned())],
                    );
                }
            }
            self.events.emit(
                "volume",
                "unmount",
                &mount.name,
                [
                    ("driver", volume.driver),
                    ("container", container.id.clone()),
                ],
            );
        }
    }

    /// Finds out again who uses which mounted volume; what nobody uses is unmounted.
    pub(crate) fn restore_volume_mounts(&self) -> Result<()> {
        let volumes = self
            .store
            .volumes()
            .map_err(store_error("cannot read volumes"))?;
        // One that cannot be unmounted keeps none of the others.
        let mut unmounted = Ok(());
        for volume in volumes {
            if !volume_mounts::needs_mount(&volume.options) {
                continue;
            }
            let mut used = false;
            for container in self.containers.snapshots() {
                let uses = container.mounts.iter().any(|m| m.name == volume.name);
                if container.is_running() && uses {
                    self.volume_mounts.adopt(&volume.name, &container.id);
                    used = true;
                }
            }
            if !used {
                let path = self.volume_path(&volume.name)?;
                unmounted = unmounted.and(
                    wharf_runtime::unmount_volume(&path)
                        .map_err(crate::container::runtime_error("cannot unmount a volume")),
                );
            }
        }
        unmounted
    }

    fn volume_path(&self, name: &str) -> Result<std::path::PathBuf> {
        self.store
            .volume_path(name)
            .map_err(store_error("cannot find the volume"))
    }

    fn view(&self, volume: &Volume) -> Result<VolumeView> {
        Ok(VolumeView {
            name: volume.name.clone(),
            driver: volume.driver.clone(),
            mountpoint: self
                .volume_path(&volume.name)?
                .to_string_lossy()
                .into_owned(),
            created_at_ns: volume.created_unix_ns,
            labels: volume.labels.clone(),
            options: volume.options.clone(),
            usage: None,
        })
    }
}

/// Makes the host directory of a bind, if nothing is there.
fn make_source(source: &str) -> Result<()> {
    if trusted::exists(source).unwrap_or(false) {
        return Ok(());
    }
    trusted::create_dir_all(source, 0o755).map_err(|error| {
        EngineError::wrap(
            ErrorKind::Internal,
            format!("error while creating mount source path '{source}'"),
            error,
        )
    })
}
