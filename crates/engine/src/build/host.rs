//! What the build room asks of the engine: base images, views of layers, running steps, fetching.

use super::claims::Claim;
use super::groups::BuildGroup;
use super::mounts;
use crate::container::registry::Entry;
use crate::container::{files, runtime_error, spec};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::image::pull::registry_error;
use crate::model::container::Container;
use crate::model::host_config::{HostConfig, Resources, Ulimit};
use crate::model::request::Build;
use crate::model::view::ProgressSender;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use wharf_build::{
    BaseImage, FetchRequest, Fetched, Host, HostError, OutputStream, RunOutcome, RunStep,
};
use wharf_image::{ContainerConfig, Digest, ImageConfig, ImageId, Platform, Reference};
use wharf_registry::Credentials;
use wharf_runtime::{LaunchRequest, RootMount, Shim, Stdio};
use wharf_safefs::{Caller, Root, trusted};
use wharf_store::Lease;

/// How often a running step looks whether its build was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a registry may take to tell of an image that is only checked against.
const CONFIG_PATIENCE: Duration = Duration::from_secs(10);

/// Name of the machine in a step that names none: BuildKit's, so that what a step keeps of it is the same everywhere.
const STEP_HOSTNAME: &str = "buildkitsandbox";

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

    fn credentials_for(&self, reference: &Reference) -> Credentials {
        let domain = reference.domain();
        let aliases: &[&str] = if domain == "docker.io" {
            &[
                "https://index.docker.io/v1/",
                "index.docker.io",
                "docker.io",
            ]
        } else {
            &[]
        };
        let known = std::iter::once(domain)
            .chain(aliases.iter().copied())
            .find_map(|key| self.credentials.get(key));
        known.cloned().unwrap_or_default()
    }

    fn find_base(&self, name: &str, pull: bool, platform: Option<&Platform>) -> Result<BaseImage> {
        let reference = crate::image::naming::parse(name).map(Reference::with_default_tag);
        let local = self.engine.find_image(name);
        let image = match (local, reference) {
            (Ok(image), _) if !pull => image,
            (Ok(image), Err(_)) => image,
            (local, Ok(reference)) => {
                let platform = platform.cloned().unwrap_or_else(Platform::host);
                let credentials = self.credentials_for(&reference);
                let pulled = self.runtime.block_on(self.engine.pull_one(
                    &reference,
                    &platform,
                    &credentials,
                    &self.progress,
                ));
                match (pulled, local) {
                    (Ok(_), _) => self.engine.find_image(name)?,
                    (Err(error), Ok(_) | Err(_)) => return Err(error),
                }
            }
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(base_image(image))
    }

    /// Returns the config of an image as its registry has it; nothing is kept.
    fn find_config(&self, name: &str, platform: &Platform) -> Result<BaseImage> {
        let reference = crate::image::naming::parse(name)?.with_default_tag();
        let credentials = self.credentials_for(&reference);
        let asked = self
            .engine
            .registry
            .resolve(&reference, platform, &credentials);
        let answer = async { tokio::time::timeout(CONFIG_PATIENCE, asked).await };
        let resolved = self.runtime.block_on(answer).map_err(|_| {
            let seconds = CONFIG_PATIENCE.as_secs();
            EngineError::invalid(format!(
                "{} did not answer within {seconds} s",
                reference.domain()
            ))
        })?;
        let resolved = resolved.map_err(registry_error)?;
        let config = ImageConfig::parse(&resolved.config).map_err(|error| {
            EngineError::invalid(format!("the config of {name} cannot be read: {error}"))
        })?;
        Ok(BaseImage {
            id: Digest::of(&resolved.config),
            digest: Some(resolved.top.0.digest),
            config: Arc::new(config),
        })
    }

    fn find_layout(&self, name: &str, platform: Option<&Platform>) -> Result<BaseImage> {
        let Some(caller) = &self.caller else {
            return Err(EngineError::invalid(format!(
                "build context oci-layout://{name}: a directory can only be used from the same machine"
            )));
        };
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let found = self.engine.layout_image(name, &platform, Some(caller))?;
        self.layouts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(found.lease);
        Ok(BaseImage {
            id: found.id,
            digest: Some(found.digest),
            config: Arc::new(found.config),
        })
    }

    fn run_step(
        &self,
        step: &RunStep,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome> {
        let work = StepDirectory::make(&self.engine, &step.id)?;
        let entry = Entry::new(self.step_container(step, &work.0));
        let outcome = self
            .step_network(&entry)
            .and_then(|namespace| self.launch_step(step, &entry, namespace, cancelled, output));
        self.engine.leave_network(&entry);
        outcome
    }

    /// Describes a step as the container that it is.
    fn step_container(&self, step: &RunStep, directory: &Path) -> Container {
        let mut host_config = self.host_config.clone();
        host_config.network_mode = match step.network.as_str() {
            "" | "default" => "bridge".to_owned(),
            other => other.to_owned(),
        };
        host_config.readonly_rootfs = step.read_only;
        host_config.privileged = step.is_insecure;
        let hosts = step.extra_hosts.iter();
        host_config
            .extra_hosts
            .extend(hosts.map(|(name, address)| format!("{name}:{address}")));
        let ulimits = step.ulimits.iter();
        host_config
            .ulimits
            .extend(ulimits.map(|(name, soft, hard)| Ulimit {
                name: name.clone(),
                soft: *soft,
                hard: *hard,
            }));
        let (path, args) = step
            .args
            .split_first()
            .map_or((String::new(), Vec::new()), |(path, args)| {
                (path.clone(), args.to_vec())
            });
        let endpoint = crate::model::container::NetworkEndpoint::default();
        Container {
            id: step.id.clone(),
            name: step.id.get(..12).unwrap_or(&step.id).to_owned(),
            path,
            args,
            config: ContainerConfig {
                hostname: if step.hostname.is_empty() {
                    STEP_HOSTNAME.to_owned()
                } else {
                    step.hostname.clone()
                },
                user: step.user.clone(),
                env: step.env.clone(),
                working_dir: step.cwd.clone(),
                ..ContainerConfig::default()
            },
            networks: [(host_config.network_mode.clone(), endpoint)].into(),
            host_config,
            directory: directory.to_string_lossy().into_owned(),
            ..Container::default()
        }
    }

    fn step_network(&self, entry: &Entry) -> Result<Option<OwnedFd>> {
        let mode = entry.snapshot().host_config.network_mode.clone();
        if mode.starts_with("container:") {
            return Err(EngineError::invalid(format!(
                "network mode {mode:?} is not supported in a build: use default, none, host or a network's name"
            )));
        }
        let namespace = self.engine.join_networks(entry)?;
        files::write(&self.engine, &entry.snapshot(), None)?;
        Ok(namespace)
    }

    fn launch_step(
        &self,
        step: &RunStep,
        entry: &Entry,
        namespace: Option<OwnedFd>,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome> {
        let container = entry.snapshot();
        let mut spec = {
            let view = overlay(&step.lower_dirs, &step.upper, &step.work)?;
            spec::build(&self.engine, &container, &view)?
        };
        // Overlayfs marks the work directory of a volatile mount and refuses it from then on.
        trusted::remove_all(step.work.join("work")).map_err(|e| {
            EngineError::wrap(
                ErrorKind::Internal,
                "cannot clear the step's work directory",
                e,
            )
        })?;
        let _secrets = mounts::add(&mut spec, step, &self.engine.options.run_dir)?;
        // A group around the container's own: it outlives that and tells the peak of its memory.
        let group = format!("{}/{}", self.group.path(), step.id);
        let request = LaunchRequest {
            id: step.id.clone(),
            state_dir: self.engine.state_dir(&step.id),
            spec,
            root: RootMount::Overlay {
                lower_dirs: step.lower_dirs.clone(),
                upper: Some(step.upper.clone()),
                work: Some(step.work.clone()),
                volatile: true,
            },
            stdio: Stdio {
                tty: false,
                open_stdin: false,
                stdin_once: false,
                console_size: None,
            },
            log: None,
            cgroup_path: format!("{group}/step"),
            init: false,
            stop_on_disconnect: true,
            runtime: None,
        };
        let outcome = self.runtime.block_on(async {
            let shim = wharf_runtime::launch(&request, namespace.as_ref().map(AsFd::as_fd))
                .await
                .map_err(runtime_error("cannot run the step"))?;
            let outcome = self.follow_step(&shim, cancelled, output).await;
            // What cannot be cleaned now is swept at the next start.
            let _swept_later = shim.release().await;
            outcome
        });
        let peak_memory_bytes = wharf_runtime::peak_memory_bytes(&group).unwrap_or(0);
        let peak_processes = wharf_runtime::peak_processes(&group).unwrap_or(0);
        let _swept_later = wharf_runtime::remove_cgroup(&group);
        let limits = &container.host_config.resources;
        let limit = |value: i64| u64::try_from(value).unwrap_or(0);
        outcome.map(|outcome| RunOutcome {
            peak_memory_bytes,
            memory_limit_bytes: limit(limits.memory_bytes),
            peak_processes,
            processes_limit: limit(limits.pids_limit.unwrap_or(0)),
            ..outcome
        })
    }

    async fn follow_step(
        &self,
        shim: &Shim,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome> {
        let attach = wharf_runtime::AttachRequest {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let mut stream = shim
            .attach(attach)
            .await
            .map_err(runtime_error("cannot read the step's output"))?;
        shim.start()
            .await
            .map_err(runtime_error("cannot run the step"))?;
        let mut tick = tokio::time::interval(CANCEL_INTERVAL);
        let mut header = [0u8; 8];
        let mut filled = 0;
        loop {
            let rest = header.get_mut(filled..).unwrap_or_default();
            tokio::select! {
                count = stream.read(rest) => match count {
                    Ok(0) | Err(_) => break,
                    Ok(count) => filled += count,
                },
                _ = tick.tick() => {
                    if self.cancelled.load(Ordering::SeqCst) || cancelled.load(Ordering::SeqCst) {
                        shim.signal(9, true).await.map_err(runtime_error("cannot stop the step"))?;
                        break;
                    }
                }
            }
            if filled == header.len() {
                filled = 0;
                let length =
                    u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
                let mut bytes = vec![0u8; length];
                if stream.read_exact(&mut bytes).await.is_err() {
                    break;
                }
                output(
                    if header[0] == 2 {
                        OutputStream::Stderr
                    } else {
                        OutputStream::Stdout
                    },
                    &bytes,
                );
            }
        }
        let status = shim
            .wait()
            .await
            .map_err(runtime_error("cannot wait for the step"))?;
        Ok(RunOutcome {
            exit_code: status.code,
            oom_killed: status.oom_killed,
            ..RunOutcome::default()
        })
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
        let image = self.engine.find_image(reference).ok()?;
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
            .block_on(super::fetch::fetch(request))
            .map_err(Into::into)
    }

    fn can_run(&self, platform: &Platform) -> bool {
        super::emulation::can_run(platform)
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

/// Returns an image of the store as builds take it.
fn base_image(image: wharf_store::Image) -> BaseImage {
    let named = image.index.as_ref().or(image.manifest.as_ref());
    BaseImage {
        id: image.id,
        digest: named.map(|descriptor| descriptor.digest),
        config: image.config,
    }
}

fn overlay(lower_dirs: &[PathBuf], upper: &Path, work: &Path) -> Result<Root> {
    let mount = RootMount::Overlay {
        lower_dirs: lower_dirs.to_vec(),
        upper: Some(upper.to_owned()),
        work: Some(work.to_owned()),
        // Unmounting would write the whole file system to disk; the store does that where it matters.
        volatile: true,
    };
    let fd = wharf_runtime::mount_detached(&mount, false)
        .map_err(runtime_error("cannot mount the step's files"))?;
    Ok(Root::from_fd(fd))
}

fn step_limits(
    resources: &Resources,
    ulimits: &[Ulimit],
    shm_size_bytes: i64,
    extra_hosts: &[String],
) -> HostConfig {
    HostConfig {
        resources: resources.clone(),
        ulimits: ulimits.to_vec(),
        shm_size_bytes: if shm_size_bytes > 0 {
            shm_size_bytes
        } else {
            crate::container::defaults::DEFAULT_SHM_BYTES
        },
        extra_hosts: extra_hosts.to_vec(),
        ipc_mode: "private".to_owned(),
        cgroupns_mode: if crate::host::host().is_cgroup_v2() {
            "private".to_owned()
        } else {
            "host".to_owned()
        },
        ..HostConfig::default()
    }
}

/// The directory of a step's name files; gone with the step.
struct StepDirectory(PathBuf);

impl StepDirectory {
    fn make(engine: &Engine, id: &str) -> Result<Self> {
        let path = engine.spool_dir().join(format!("step-{id}"));
        trusted::create_dir_all(&path, 0o700).map_err(|e| {
            EngineError::wrap(ErrorKind::Internal, "cannot make the step's directory", e)
        })?;
        Ok(Self(path))
    }
}

impl Drop for StepDirectory {
    fn drop(&mut self) {
        let _swept_at_the_next_start = trusted::remove_all(&self.0);
    }
}
