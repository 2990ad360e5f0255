//! Executing programs (spec llb §2.1).

use std::sync::atomic::{AtomicU64, Ordering};

use wharf_image::Digest;
use wharf_llb::{ExecOp, NetworkMode, ProxyEnv, SecurityMode, VertexId};
use wharf_safefs::{Root, trusted};
use wharf_store::Staging;

use super::mounts::{ExecMounts, KeptChanges};
use super::run::{Inputs, Made, MadeOutput, StepOutput};
use super::snapshot::Snapshot;
use super::{Solver, stubs};
use crate::{BuildError, RunOutcome, RunStep, SolveEvent};

/// Tells steps of one moment apart.
static NEXT_STEP: AtomicU64 = AtomicU64::new(0);

/// Names of the directories beside a step's changes.
pub(super) const WORK: &str = "work";
pub(super) const EMPTY: &str = "empty";
/// What a program finds where its environment has no `PATH`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Solver<'_> {
    /// Runs a program; what it changes in mounts that have outputs is the result.
    pub(super) fn exec(
        &self,
        id: VertexId,
        exec: &ExecOp,
        key: Digest,
        inputs: &Inputs,
        output: &StepOutput<'_, '_>,
    ) -> Result<Made, BuildError> {
        let root = exec
            .mounts
            .iter()
            .find(|mount| mount.destination == "/")
            .ok_or_else(|| BuildError::Graph {
                message: "a program is run without a root file system".to_owned(),
            })?;
        if root.output.is_some() && root.read_only {
            return Err(BuildError::Graph {
                message: "a root file system that is read-only cannot be a result".to_owned(),
            });
        }
        let below = input_of(inputs, root.input);
        let staging = self.store.stage()?;
        let work = staging.path().join(WORK);
        trusted::create_dir(&work, 0o700)?;
        let mut lower_dirs = below.dirs(self.store)?;
        if lower_dirs.is_empty() {
            // Overlayfs needs something below.
            lower_dirs.push(empty_dir(&staging)?);
        }
        let mounts = self.mount_all(exec, inputs)?;
        let mut destinations: Vec<&str> = exec
            .mounts
            .iter()
            .map(|mount| mount.destination.as_str())
            .filter(|destination| *destination != "/")
            .collect();
        destinations.sort_unstable();
        let points = stubs::missing(&below.lowers(self.store)?, &destinations)?;
        let step = self.step(exec, key, &mounts, (lower_dirs, staging.files(), work))?;
        let step = RunStep {
            read_only: root.read_only,
            ..step
        };
        let outcome = self.run_step(id, &step, output)?;
        self.check_outcome(id, exec, &step, outcome, (&below, staging.root()))?;
        self.collect(exec, &below, staging, &points, mounts)
    }

    fn step(
        &self,
        exec: &ExecOp,
        key: Digest,
        mounts: &ExecMounts,
        (lower_dirs, upper, work): (
            Vec<std::path::PathBuf>,
            std::path::PathBuf,
            std::path::PathBuf,
        ),
    ) -> Result<RunStep, BuildError> {
        let meta = &exec.meta;
        let mut env = meta.env.clone();
        if !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        if let Some(proxy) = &meta.proxy_env {
            env.extend(proxy_variables(proxy));
        }
        env.extend(mounts.env.iter().cloned());
        self.secret_variables(exec, &mut env)?;
        let hosts = meta.extra_hosts.iter();
        let ulimits = meta.ulimits.iter();
        Ok(RunStep {
            id: step_id(&key),
            lower_dirs,
            upper,
            work,
            args: meta.args.clone(),
            env,
            cwd: if meta.cwd.is_empty() {
                "/".to_owned()
            } else {
                meta.cwd.clone()
            },
            user: meta.user.clone(),
            network: self.network(exec),
            text: meta.args.join(" "),
            mounts: mounts.list.clone(),
            read_only: false,
            hostname: meta.hostname.clone(),
            extra_hosts: hosts
                .map(|extra| (extra.host.clone(), extra.ip.clone()))
                .collect(),
            ulimits: ulimits
                .map(|limit| (limit.name.clone(), limit.soft, limit.hard))
                .collect(),
            is_insecure: exec.security == SecurityMode::Insecure,
            build: self.input.options.build.clone(),
        })
    }

    /// Returns the network of a step: its own flag counts before the request's.
    fn network(&self, exec: &ExecOp) -> String {
        let asked = self.input.options.network.as_str();
        match exec.network {
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            _ if asked.is_empty() => "default".to_owned(),
            _ => asked.to_owned(),
        }
    }

    fn secret_variables(&self, exec: &ExecOp, env: &mut Vec<String>) -> Result<(), BuildError> {
        for secret in &exec.secret_env {
            match self.input.options.secrets.get(&secret.id) {
                Some(value) => {
                    let text = std::str::from_utf8(value.bytes()).map_err(|_| {
                        BuildError::instruction(format!(
                            "secret {} is no UTF-8 text: it cannot be a variable",
                            secret.id
                        ))
                    })?;
                    env.push(format!("{}={text}", secret.name));
                }
                // As BuildKit: the variable is there and empty, whatever the image says.
                None if secret.optional => env.push(format!("{}=", secret.name)),
                None => return Err(no_secret(&secret.id)),
            }
        }
        Ok(())
    }

    fn run_step(
        &self,
        id: VertexId,
        step: &RunStep,
        output: &StepOutput<'_, '_>,
    ) -> Result<RunOutcome, BuildError> {
        let digest = self.digest(id);
        self.tell(SolveEvent::Running {
            digest,
            container: step.id.clone(),
        });
        let outcome = self.host.run(step, &self.stopped, &mut |stream, bytes| {
            output.write(stream, bytes);
        });
        self.check_stopped()?;
        outcome.map_err(BuildError::Host)
    }

    fn check_outcome(
        &self,
        id: VertexId,
        exec: &ExecOp,
        step: &RunStep,
        outcome: RunOutcome,
        files: (&Snapshot, &Root),
    ) -> Result<(), BuildError> {
        let valid = &exec.meta.valid_exit_codes;
        let is_valid = if valid.is_empty() {
            outcome.exit_code == 0
        } else {
            valid.contains(&outcome.exit_code)
        };
        if is_valid {
            return Ok(());
        }
        // A failure is told as it is, whether or not its files could be kept.
        let _nothing_to_look_at = self.keep_failed(id, exec, step, files);
        Err(BuildError::Run {
            command: step.text.clone(),
            exit_code: outcome.exit_code,
            oom_killed: outcome.oom_killed,
            peak_memory_bytes: outcome.peak_memory_bytes,
            memory_limit_bytes: outcome.memory_limit_bytes,
            peak_processes: outcome.peak_processes,
            processes_limit: outcome.processes_limit,
        })
    }

    /// Turns what was changed into layers, in the order of the outputs.
    fn collect(
        &self,
        exec: &ExecOp,
        below: &Snapshot,
        staging: Staging,
        points: &[std::path::PathBuf],
        mounts: ExecMounts,
    ) -> Result<Made, BuildError> {
        let mut made: Vec<(u32, MadeOutput)> = Vec::new();
        let root = exec.mounts.iter().find(|mount| mount.destination == "/");
        if let Some(number) = root.and_then(|mount| mount.output) {
            let left = stubs::left_behind(staging.root(), &below.lowers(self.store)?, points)?;
            let layer = self.place(staging, below, &left)?;
            let below = below.clone();
            made.push((number, MadeOutput { below, layer }));
        }
        for KeptChanges {
            output,
            below,
            staging,
        } in mounts.kept
        {
            let layer = self.place(staging, &below, &[])?;
            made.push((output, MadeOutput { below, layer }));
        }
        made.sort_by_key(|(number, _)| *number);
        Ok(made.into_iter().map(|(_, output)| output).collect())
    }
}

pub(super) fn input_of(inputs: &Inputs, input: Option<usize>) -> Snapshot {
    let snapshot = input.and_then(|input| inputs.snapshots.get(input));
    snapshot.cloned().flatten().unwrap_or_default()
}

pub(super) fn empty_dir(staging: &Staging) -> Result<std::path::PathBuf, BuildError> {
    let empty = staging.path().join(EMPTY);
    if !trusted::exists(&empty)? {
        trusted::create_dir(&empty, 0o755)?;
    }
    Ok(empty)
}

pub(super) fn no_secret(id: &str) -> BuildError {
    BuildError::instruction(format!(
        "secret {id}: not found: pass it with --secret id={id},src=FILE or --secret id={id},env=NAME"
    ))
}

/// Returns the proxy variables in both spellings.
fn proxy_variables(proxy: &ProxyEnv) -> Vec<String> {
    let pairs = [
        ("HTTP_PROXY", &proxy.http),
        ("HTTPS_PROXY", &proxy.https),
        ("FTP_PROXY", &proxy.ftp),
        ("NO_PROXY", &proxy.no),
        ("ALL_PROXY", &proxy.all),
    ];
    let filled = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    filled
        .flat_map(|(name, value)| {
            [
                format!("{name}={value}"),
                format!("{}={value}", name.to_lowercase()),
            ]
        })
        .collect()
}

/// Returns a name that no other execution has.
fn step_id(key: &Digest) -> String {
    let number = NEXT_STEP.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    Digest::of(format!("{key} {now} {number} {}", std::process::id())).hex()
}
