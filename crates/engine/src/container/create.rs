//! Making a container (spec runtime §1, engine-api §7).

use super::{check, defaults, merge, mounts};
use crate::clock::now_ns;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::identity;
use crate::model::container::{Container, MountPoint};
use crate::model::request::{CreateContainer, Created};
use std::path::Path;
use std::sync::Arc;
use wharf_image::{DiffId, Platform};
use wharf_safefs::Root;
use wharf_store::Image;

impl Engine {
    /// Makes a container: merges the image's config, checks and completes the request, makes its
    /// directories and volumes.
    ///
    /// # Errors
    /// Docker's texts (spec engine-api §7.3); `No such image` as [`ErrorKind::NotFound`].
    pub async fn create_container(self: &Arc<Self>, request: CreateContainer) -> Result<Created> {
        self.with_store(move |engine| engine.create_container_blocking(request))
            .await
    }

    fn create_container_blocking(&self, mut request: CreateContainer) -> Result<Created> {
        let mut warnings = check::check_request(self, &mut request)?;
        let image = self.image_of_request(&request)?;
        if let Some(image) = &image
            && request.platform.is_none()
        {
            warnings.extend(platform_warning(image));
        }
        defaults::complete(self, &mut request)?;
        crate::network::check_endpoints(self, &request.host_config, &request)?;
        crate::network::keep_links(self, &mut request.host_config)?;
        merge::complete_config(
            &mut request.config,
            image.as_ref().map(|image| &*image.config),
        )?;
        defaults::check_log(&request.host_config)?;
        let name = request.name.take().unwrap_or_default();
        let name = name.trim_start_matches('/');
        if !name.is_empty() {
            check_name(name)?;
        }
        let id = identity::random_id()?;
        defaults::complete_hostname(&id, &mut request);
        let name = self.take_name(Some(name), &id)?;
        let made = self.make_checked(&id, &name, request, image.as_ref());
        match made {
            Ok(container) => {
                self.events.container(&container, "create", []);
                self.containers.insert(container);
                Ok(Created { id, warnings })
            }
            Err(error) => {
                self.containers.release_name(&name, &id);
                Err(error)
            }
        }
    }

    /// Makes a container whose name is taken; looks at what docker looks at only then.
    fn make_checked(
        &self,
        id: &str,
        name: &str,
        request: CreateContainer,
        image: Option<&Image>,
    ) -> Result<Container> {
        let host = &request.host_config;
        crate::network::check_links(self, host)?;
        super::security::Security::parse(host)?;
        defaults::check_storage(host)?;
        let find = |name: &str| self.containers.find(name).map(|entry| entry.snapshot());
        let planned = mounts::Plan {
            host_config: host,
            config_volumes: request.config.volumes.keys().cloned().collect(),
            read_only_top_only: request.read_only_top_only,
            data_root: self.store.root(),
            find: &find,
        }
        .mounts()?;
        self.make_container(id, name, request, image, planned)
    }

    /// Finds the image of a request; an empty name means a container made from nothing.
    fn image_of_request(&self, request: &CreateContainer) -> Result<Option<Image>> {
        let name = &request.config.image;
        if name.is_empty() {
            return Ok(None);
        }
        let image = self.find_image(name)?;
        if let Some(platform) = &request.platform {
            crate::image::platform::require(name, &image.config, platform)?;
        }
        Ok(Some(image))
    }

    fn take_name(&self, wanted: Option<&str>, id: &str) -> Result<String> {
        if let Some(name) = wanted.filter(|name| !name.is_empty()) {
            self.containers.reserve_name(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..8 {
            let name = identity::made_up_name(attempt)?;
            if self.containers.reserve_name(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.get(..12).unwrap_or(id).to_owned();
        self.containers.reserve_name(&name, id)?;
        Ok(name)
    }

    fn make_container(
        &self,
        id: &str,
        name: &str,
        request: CreateContainer,
        image: Option<&Image>,
        planned: Vec<mounts::PlannedMount>,
    ) -> Result<Container> {
        let diff_ids = image
            .map(|image| image.config.rootfs.diff_ids.clone())
            .unwrap_or_default();
        let command: Vec<String> = request
            .config
            .entrypoint
            .iter()
            .flatten()
            .chain(request.config.cmd.iter().flatten())
            .cloned()
            .collect();
        let (path, args) = command
            .split_first()
            .map_or((String::new(), Vec::new()), |(path, args)| {
                (path.clone(), args.to_vec())
            });
        let mut container = Container {
            id: id.to_owned(),
            name: name.to_owned(),
            created_at_ns: now_ns(),
            path,
            args,
            platform: "linux".to_owned(),
            image_id: image.map(|image| image.id),
            diff_ids: diff_ids.clone(),
            networks: crate::network::endpoints_of(self, &request),
            config: request.config,
            host_config: request.host_config,
            ..Container::default()
        };
        let planned = self.resolve_images(planned)?;
        let row = wharf_store::ContainerRow {
            id: id.to_owned(),
            name: name.to_owned(),
            image: image.map(|image| image.id),
            diff_ids: layers_to_keep(diff_ids, &planned),
            document: crate::restore::to_document(&container)?,
        };
        let directory = self
            .store
            .create_container(row)
            .map_err(store_error("cannot make the container's directory"))?;
        let finished = self.finish_container(&mut container, &directory, planned);
        if let Err(error) = finished {
            let _best_effort = self.store.delete_container(id);
            self.remove_anonymous_volumes(&container);
            return Err(error);
        }
        Ok(container)
    }

    /// Finds the images that are mounted.
    fn resolve_images(
        &self,
        mut planned: Vec<mounts::PlannedMount>,
    ) -> Result<Vec<mounts::PlannedMount>> {
        let images = planned
            .iter_mut()
            .filter(|mount| mount.need == mounts::Need::Image);
        for mount in images {
            let image = self.find_image(&mount.point.name)?;
            mount.point.source = image.id.to_string();
            mount.point.image_layers = image.config.rootfs.diff_ids.clone();
        }
        Ok(planned)
    }

    fn finish_container(
        &self,
        container: &mut Container,
        directory: &Path,
        planned: Vec<mounts::PlannedMount>,
    ) -> Result<()> {
        container.directory = directory.to_string_lossy().into_owned();
        for mount in planned {
            self.make_mount(container, mount)?;
        }
        self.persist(container)
    }

    /// Makes what a mount needs, volume and copied-up files, and adds it to its container.
    fn make_mount(&self, container: &mut Container, mount: mounts::PlannedMount) -> Result<()> {
        let mut point = mount.point;
        match mount.need {
            mounts::Need::Nothing | mounts::Need::Image => container.mounts.push(point),
            mounts::Need::ExistingVolume => {
                point.source = self.volume(&point.name)?.mountpoint;
                container.mounts.push(point);
            }
            mounts::Need::Volume {
                copy_up,
                labels,
                driver_options,
            } => {
                let volume =
                    self.ensure_volume(&point.name, labels, driver_options, point.anonymous)?;
                point.source = volume.mountpoint;
                container.mounts.push(point.clone());
                if copy_up {
                    self.copy_up(container, &point)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the volumes that were made for a container that could not be made.
    fn remove_anonymous_volumes(&self, container: &Container) {
        for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
            // A volume of another container stays: it is in use.
            let _kept = self.remove_volume_blocking(&mount.name, false, Some(&container.id));
        }
    }

    /// Fills an empty volume with what the image has at its path (spec runtime §4, copy-up).
    fn copy_up(&self, container: &Container, point: &MountPoint) -> Result<()> {
        if container.diff_ids.is_empty() {
            return Ok(());
        }
        let image_root = self.detached_root(container, true)?;
        let path = Path::new(&point.destination);
        let Ok(stat) = image_root.stat(path) else {
            return Ok(());
        };
        if !stat.is_dir() {
            // Only a volume that the config names must not hide a file.
            if point.mode.is_empty() {
                return Err(EngineError::internal(format!(
                    "cannot mount volume over existing file, file exists {}",
                    point.destination
                )));
            }
            return Ok(());
        }
        let source = image_root
            .open_dir(path)
            .map_err(fs_error("cannot open the image's directory"))?;
        let _mounted = self.use_volume(&point.name)?;
        let volume = open_inside(&point.source, &point.subpath)?;
        let is_empty = volume
            .entries()
            .map_err(fs_error("cannot read the volume"))?
            .is_empty();
        if is_empty {
            wharf_safefs::copy_tree(&source, &volume, &wharf_safefs::CopyOptions::default())
                .map_err(fs_error("cannot copy the image's files into the volume"))?;
        }
        Ok(())
    }
}

/// Opens a directory inside a host directory; no link in it leads out of it.
pub(crate) fn open_inside(directory: &str, subpath: &str) -> Result<Root> {
    let root = Root::open(directory).map_err(fs_error("cannot open the volume"))?;
    if subpath.is_empty() {
        return Ok(root);
    }
    root.open_dir(Path::new(subpath))
        .map_err(fs_error("cannot open the path in the volume"))
}

/// Lists the layers that must stay while a container is there: its own and those of mounted images.
fn layers_to_keep(mut own: Vec<DiffId>, planned: &[mounts::PlannedMount]) -> Vec<DiffId> {
    let mounted = planned.iter().flat_map(|mount| &mount.point.image_layers);
    for layer in mounted {
        if !own.contains(layer) {
            own.push(*layer);
        }
    }
    own
}

/// Warns of an image that was made for another machine.
fn platform_warning(image: &Image) -> Option<String> {
    let host = Platform::host();
    let have = wharf_image::DescriptorPlatform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        variant: image.config.variant.clone(),
        ..Default::default()
    };
    if image.config.architecture.is_empty() || host.rank(&have).is_some() {
        return None;
    }
    let variant = image.config.variant.as_deref().unwrap_or_default();
    let slash = if variant.is_empty() { "" } else { "/" };
    Some(format!(
        "The requested image's platform ({}/{}{slash}{variant}) does not match the detected host platform ({host}) and no specific platform was requested",
        image.config.os, image.config.architecture
    ))
}

/// Checks a container name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if identity::is_valid_name(name) {
        return Ok(());
    }
    Err(invalid_name(name))
}

/// Says that a container cannot be called this.
pub(crate) fn invalid_name(name: &str) -> EngineError {
    EngineError::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    ))
}

/// Says what was being done when the store failed.
pub(crate) fn store_error(
    context: &str,
) -> impl Fn(wharf_store::StoreError) -> EngineError + use<> {
    let context = context.to_owned();
    move |e| EngineError::wrap(ErrorKind::Internal, &context, e)
}

/// Says what was being done when the file system failed.
pub(crate) fn fs_error(context: &str) -> impl Fn(wharf_safefs::FsError) -> EngineError + use<> {
    let context = context.to_owned();
    move |e| EngineError::wrap(ErrorKind::Internal, &context, e)
}
