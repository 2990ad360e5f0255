//! What the build room asks of the engine: base images, views of layers, running steps, fetching.

mod images;
mod steps;

use crate::build::claims::Claim;
use crate::build::groups::BuildGroup;
use crate::build::host::images::base_image;
use crate::build::host::steps::{overlay, step_limits};
use crate::build::{emulation, fetch};
use crate::container::runtime_error;
use crate::engine::Engine;
use crate::model::host_config::HostConfig;
use crate::model::request::Build;
use crate::model::view::ProgressSender;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use wharf_build::{
    BaseImage, FetchRequest, Fetched, Host, HostError, OutputStream, RunOutcome, RunStep,
};
use wharf_image::{ImageId, Platform};
use wharf_registry::Credentials;
use wharf_runtime::RootMount;
use wharf_safefs::{Caller, Root};
use wharf_store::Lease;

/// Serves one build.
pub(super) struct BuildHost {
    engine: Arc<Engine>,
    runtime: Handle,
    cancelled: Arc<AtomicBool>,
    progress: ProgressSender,
    credentials: BTreeMap<String, Credentials>,
    host_config: HostConfig,
    /// Who asks, where that is known.
    caller: Option<Caller>,
    /// Whether the image stays when the build's client is done with it.
    image_stays: bool,
    /// Keeps the image.
    claim: Mutex<Option<Claim>>,
    /// Keep the layers of images that came out of directories.
    layouts: Mutex<Vec<Lease>>,
    /// The control group of the build; each step's is below it.
    group: BuildGroup,
}

impl BuildHost {
    /// Remembers what every step of the build needs.
    pub(super) fn new(
        engine: Arc<Engine>,
        request: &Build,
        cancelled: Arc<AtomicBool>,
        progress: ProgressSender,
        build: &str,
    ) -> Self {
        let group = BuildGroup::new(
            &engine.options.run_dir,
            &engine.instance,
            &request.resources.cgroup_parent,
            build,
        );
        let host_config = step_limits(
            &request.resources,
            &request.ulimits,
            request.shm_size_bytes,
            &request.extra_hosts,
        );
        Self {
            engine,
            runtime: Handle::current(),
            cancelled,
            progress,
            credentials: request.credentials.clone(),
            host_config,
            caller: request.options.caller.clone(),
            image_stays: !request.options.drops_image || !request.tags.is_empty(),
            claim: Mutex::default(),
            layouts: Mutex::default(),
            group,
        }
    }

    /// Returns the hold on the image, once it is stored.
    pub(super) fn take_claim(&self) -> Option<Claim> {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.take()
    }
}

impl Host for BuildHost {
    fn base_image(
        &self,
        reference: &str,
        pull: bool,
        platform: Option<&Platform>,
    ) -> std::result::Result<BaseImage, HostError> {
        self.find_base(reference, pull, platform)
            .map_err(Into::into)
    }

    fn layout_image(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> std::result::Result<BaseImage, HostError> {
        self.find_layout(name, platform).map_err(Into::into)
    }

    fn local_image(&self, reference: &str, platform: &Platform) -> Option<BaseImage> {
        let image = self.engine.find_image_of_build(reference).ok()?;
        let is_meant = image.config.architecture == platform.architecture;
        is_meant.then(|| base_image(image))
    }

    fn image_config(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> std::result::Result<BaseImage, HostError> {
        self.find_config(reference, platform).map_err(Into::into)
    }

    fn view(&self, lower_dirs: &[PathBuf]) -> std::result::Result<Root, HostError> {
        let mount = RootMount::Overlay {
            lower_dirs: lower_dirs.to_vec(),
            upper: None,
            work: None,
            volatile: false,
        };
        let fd = wharf_runtime::mount_detached(&mount, true)
            .map_err(runtime_error("cannot mount the layers"))?;
        Ok(Root::from_fd(fd))
    }

    fn writable_view(
        &self,
        lower_dirs: &[PathBuf],
        upper: &Path,
        work: &Path,
    ) -> std::result::Result<Root, HostError> {
        overlay(lower_dirs, upper, work).map_err(Into::into)
    }

    fn run(
        &self,
        step: &RunStep,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> std::result::Result<RunOutcome, HostError> {
        self.run_step(step, cancelled, output).map_err(Into::into)
    }

    fn fetch(&self, request: &FetchRequest) -> std::result::Result<Fetched, HostError> {
        self.runtime
            .block_on(fetch::fetch(request))
            .map_err(Into::into)
    }

    fn can_run(&self, platform: &Platform) -> bool {
        emulation::can_run(platform)
    }

    fn claim_image(&self, id: &ImageId) -> std::result::Result<(), HostError> {
        let claimed = self.engine.claim_image(id, self.image_stays)?;
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        *claim = Some(claimed);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}
