//! Making a container (spec runtime §1, engine-api §7).

use super::{defaults, merge, mounts};
use crate::clock::now_ns;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::identity;
use crate::model::container::{Container, MountPoint};
use crate::model::request::{CreateContainer, Created};
use std::path::Path;
use std::sync::Arc;
use wharf_safefs::{Root, trusted};
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
        if let Some(name) = &mut request.name {
            *name = name.trim_start_matches('/').to_owned();
            check_name(name)?;
        }
        let image = self.image_of_request(&request)?;
        let empty = wharf_image::ContainerConfig::default();
        merge::merge_image_config(
            &mut request.config,
            image.config.config.as_ref().unwrap_or(&empty),
        )?;
        let id = identity::random_id()?;
        let warnings = defaults::complete_and_check(self, &id, &mut request)?;
        let find = |name: &str| self.containers.find(name).map(|entry| entry.snapshot());
        let planned = mounts::plan(
            &request.host_config,
            request.config.volumes.keys().cloned(),
            &find,
        )?;
        let name = self.take_name(request.name.as_deref(), &id)?;
        let made = self.make_container(&id, &name, request, &image, planned);
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

    fn image_of_request(&self, request: &CreateContainer) -> Result<Image> {
        let name = &request.config.image;
        if name.is_empty() {
            return Err(EngineError::invalid(
                "no image specified: give the name or ID of an image",
            ));
        }
        let image = self.find_image(name)?;
        if let Some(platform) = &request.platform {
            let have = wharf_image::DescriptorPlatform {
                architecture: image.config.architecture.clone(),
                os: image.config.os.clone(),
                variant: image.config.variant.clone(),
                ..Default::default()
            };
            if platform.rank(&have).is_none() {
                return Err(EngineError::not_found(format!(
                    "image with reference {name} was found but does not provide the specified platform ({}/{})",
                    platform.os, platform.architecture
                )));
            }
        }
        Ok(image)
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
        image: &Image,
        planned: Vec<mounts::PlannedMount>,
    ) -> Result<Container> {
        let diff_ids = image.config.rootfs.diff_ids.clone();
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
            image_id: Some(image.id),
            diff_ids: diff_ids.clone(),
            networks: crate::network::endpoints_of(self, &request),
            config: request.config,
            host_config: request.host_config,
            ..Container::default()
        };
        let row = wharf_store::ContainerRow {
            id: id.to_owned(),
            name: name.to_owned(),
            image: Some(image.id),
            diff_ids,
            document: crate::restore::to_document(&container)?,
        };
        let directory = self
            .store
            .create_container(row)
            .map_err(store_error("cannot make the container's directory"))?;
        let finished = self.finish_container(&mut container, &directory, planned);
        if let Err(error) = finished {
            let _best_effort = self.store.delete_container(id);
            return Err(error);
        }
        Ok(container)
    }

    fn finish_container(
        &self,
        container: &mut Container,
        directory: &Path,
        planned: Vec<mounts::PlannedMount>,
    ) -> Result<()> {
        container.directory = directory.to_string_lossy().into_owned();
        for mount in planned {
            let point = self.make_mount(container, mount)?;
            container.mounts.push(point);
        }
        self.persist(container)
    }

    /// Makes what a mount needs on the host: directory, volume, copied-up files.
    fn make_mount(&self, container: &Container, mount: mounts::PlannedMount) -> Result<MountPoint> {
        let mut point = mount.point;
        if mount.volume {
            let volume = self.ensure_volume(
                &point.name,
                mount.labels,
                mount.driver_options,
                point.anonymous,
            )?;
            point.source = volume.mountpoint.clone();
            if mount.copy_up {
                self.copy_up(container, &point)?;
            }
        } else if point.kind == "bind"
            && mount.create_source
            && !trusted::exists(&point.source).unwrap_or(false)
        {
            trusted::create_dir_all(&point.source, 0o755).map_err(|e| {
                EngineError::wrap(
                    ErrorKind::Internal,
                    format!("error while creating mount source path '{}'", point.source),
                    e,
                )
            })?;
        }
        Ok(point)
    }

    /// Fills an empty volume with what the image has at its path (spec runtime §4, copy-up).
    fn copy_up(&self, container: &Container, point: &MountPoint) -> Result<()> {
        let volume = Root::open(&point.source).map_err(fs_error("cannot open the volume"))?;
        if !volume
            .entries()
            .map_err(fs_error("cannot read the volume"))?
            .is_empty()
        {
            return Ok(());
        }
        let image_root = self.detached_root(container, true)?;
        let path = Path::new(&point.destination);
        let Ok(stat) = image_root.stat(path) else {
            return Ok(());
        };
        if !stat.is_dir() {
            return Err(EngineError::invalid(format!(
                "cannot mount volume over existing file, file exists {}",
                point.destination
            )));
        }
        let source = image_root
            .open_dir(path)
            .map_err(fs_error("cannot open the image's directory"))?;
        wharf_safefs::copy_tree(&source, &volume, &wharf_safefs::CopyOptions::default())
            .map_err(fs_error("cannot copy the image's files into the volume"))?;
        Ok(())
    }
}

/// Checks a container name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if identity::is_valid_name(name) {
        return Ok(());
    }
    Err(EngineError::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
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
