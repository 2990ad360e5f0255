//! Running the steps of a build, each as the container that it is.

use crate::build::host::BuildHost;
use crate::build::mounts;
use crate::container::registry::Entry;
use crate::container::{files, runtime_error, spec};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::Container;
use crate::model::host_config::{HostConfig, Resources, Ulimit};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use wharf_build::{OutputStream, RunOutcome, RunStep};
use wharf_image::ContainerConfig;
use wharf_runtime::{LaunchRequest, RootMount, Shim, Stdio};
use wharf_safefs::{Root, trusted};

/// How often a running step looks whether its build was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// Name of the machine in a step that names none: BuildKit's, so that what a step keeps of it is the same everywhere.
const STEP_HOSTNAME: &str = "buildkitsandbox";

impl BuildHost {
    /// Runs a step as a container of its own that is gone afterwards.
    pub(super) fn run_step(
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

/// Mounts layers with a step's own on top, where nobody else sees it.
pub(super) fn overlay(lower_dirs: &[PathBuf], upper: &Path, work: &Path) -> Result<Root> {
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

/// Describes what every step of a build may use and is told.
pub(super) fn step_limits(
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
