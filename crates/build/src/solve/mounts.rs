//! What is mounted into a step besides its root file system.

use std::path::{Path, PathBuf};

use wharf_image::Digest;
use wharf_llb::{ExecOp, Mount, MountKind};
use wharf_safefs::{Root, trusted};
use wharf_store::Staging;

use super::Solver;
use super::agent::{Agent, no_agent};
use super::cache_mounts::{Beginning, CacheSharing, CacheUse};
use super::exec::{WORK, empty_dir, input_of, no_secret};
use super::run::Inputs;
use super::snapshot::Snapshot;
use crate::lower::OWNED_CACHE;
use crate::{BuildError, MountSource, RunMount, SecretFile};

/// Where the agent's socket is where the mount names no place.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Digits that tell caches of one name apart which began as different files.
const BEGINNING_DIGITS: usize = 12;

/// The mounts of one step, and what they live on.
#[derive(Default)]
pub(super) struct ExecMounts {
    /// The mounts, parents before children.
    pub list: Vec<RunMount>,
    /// Variables that come with them.
    pub env: Vec<String>,
    /// Mounts whose changes are results.
    pub kept: Vec<KeptChanges>,
    /// Directories of changes that nobody keeps.
    dropped: Vec<Staging>,
    caches: Vec<CacheUse>,
    agents: Vec<Agent>,
}

/// A mount whose changes are a result.
pub(super) struct KeptChanges {
    /// Number of the output.
    pub output: u32,
    /// What the changes stand on.
    pub below: Snapshot,
    /// The changes.
    pub staging: Staging,
}

/// A part of some layers, seen as overlayfs would show it.
enum Part {
    /// A directory: the layers' directories of it, lowest first.
    Directory(Vec<PathBuf>),
    /// A file, where the topmost layer has it.
    File(PathBuf),
}

impl Solver<'_> {
    pub(super) fn mount_all(
        &self,
        exec: &ExecOp,
        inputs: &Inputs,
    ) -> Result<ExecMounts, BuildError> {
        let mut mounts = ExecMounts::default();
        for mount in exec.mounts.iter().filter(|mount| mount.destination != "/") {
            match &mount.kind {
                MountKind::Bind => self.bind(mount, inputs, &mut mounts)?,
                MountKind::Cache { id, sharing } => {
                    let sharing = match sharing {
                        wharf_llb::CacheSharing::Private => CacheSharing::Private,
                        wharf_llb::CacheSharing::Locked => CacheSharing::Locked,
                        _ => CacheSharing::Shared,
                    };
                    self.cache(mount, id, sharing, inputs, &mut mounts)?;
                }
                MountKind::Tmpfs { size_bytes } => {
                    let size_bytes = u64::try_from(*size_bytes).unwrap_or(0);
                    mounts.add(mount, MountSource::Tmpfs { size_bytes });
                }
                MountKind::Secret(secret) => {
                    match self.input.options.secrets.get(&secret.id) {
                        Some(value) => {
                            let file = SecretFile {
                                value: value.clone(),
                                uid: secret.uid,
                                gid: secret.gid,
                                mode: secret.mode,
                            };
                            mounts.add(mount, MountSource::Secret(file));
                        }
                        // Nothing is mounted where nothing was passed.
                        None if secret.optional => {}
                        None => return Err(no_secret(&secret.id)),
                    }
                }
                MountKind::Ssh(ssh) => {
                    let id = if ssh.id.is_empty() {
                        "default"
                    } else {
                        &ssh.id
                    };
                    let Some(given) = self.input.options.ssh.get(id) else {
                        if ssh.optional {
                            continue;
                        }
                        return Err(no_agent(id));
                    };
                    let caller = self.input.options.caller.as_ref();
                    let agent =
                        Agent::start(self.store, given, caller, (ssh.uid, ssh.gid, ssh.mode))?;
                    mounts.add(mount, MountSource::Path(agent.path().to_path_buf()));
                    if mounts.agents.is_empty() {
                        mounts
                            .env
                            .push(format!("{AGENT_VARIABLE}={}", mount.destination));
                    }
                    mounts.agents.push(agent);
                }
            }
        }
        mounts
            .list
            .sort_by_key(|mount| Path::new(&mount.destination).components().count());
        Ok(mounts)
    }

    fn bind(
        &self,
        mount: &Mount,
        inputs: &Inputs,
        mounts: &mut ExecMounts,
    ) -> Result<(), BuildError> {
        let below = input_of(inputs, mount.input);
        let staging = self.store.stage()?;
        if mount.output.is_some() && !matches!(mount.selector.as_str(), "" | "/") {
            return Err(BuildError::Graph {
                message: "a mount of a part of an input cannot be a result".to_owned(),
            });
        }
        let part = self.part(&below, &mount.selector, &staging)?;
        let source = match part {
            Part::File(path) if mount.read_only => MountSource::Path(path),
            Part::File(path) => {
                // Overlayfs is for directories: what is written to one file goes to a copy of it.
                let copy = staging.path().join("file");
                copy_file(&path, &copy)?;
                MountSource::Path(copy)
            }
            Part::Directory(lower_dirs) => {
                let changes = if mount.read_only {
                    None
                } else {
                    let work = staging.path().join(WORK);
                    trusted::create_dir(&work, 0o700)?;
                    Some((staging.files(), work))
                };
                MountSource::Layers {
                    lower_dirs,
                    changes,
                }
            }
        };
        mounts.add(mount, source);
        match mount.output {
            Some(output) => mounts.kept.push(KeptChanges {
                output,
                below,
                staging,
            }),
            None => mounts.dropped.push(staging),
        }
        Ok(())
    }

    fn cache(
        &self,
        mount: &Mount,
        id: &str,
        sharing: CacheSharing,
        inputs: &Inputs,
        mounts: &mut ExecMounts,
    ) -> Result<(), BuildError> {
        let below = input_of(inputs, mount.input);
        let view = if below.is_empty() {
            None
        } else {
            Some(self.view(&below)?)
        };
        let beginning = view.as_ref().map(|root| Beginning {
            root,
            selector: &mount.selector,
        });
        // Caches that began as other files are others. A directory that only brings owner and mode is no such beginning.
        let id = if below.is_empty() || mount.selector == OWNED_CACHE {
            id.to_owned()
        } else {
            let layers: Vec<String> = below.diff_ids()?.iter().map(ToString::to_string).collect();
            let digest = Digest::of(layers.join(" ")).hex();
            let short: String = digest.chars().take(BEGINNING_DIGITS).collect();
            format!("{id}@{short}")
        };
        let used = CacheUse::begin(self.store, &id, sharing, beginning, &|| self.is_stopped())?;
        let mut path = used.path().to_path_buf();
        if below.is_empty() && !matches!(mount.selector.as_str(), "" | "/") {
            // A part of a cache that began empty: a step has to have made it.
            let root = Root::open(&path)?;
            let part = root.resolve(&mount.selector)?;
            if root.lstat_optional(&part)?.is_none() {
                return Err(no_part(&mount.selector));
            }
            path.push(part);
        }
        mounts.add(mount, MountSource::Path(path));
        mounts.caches.push(used);
        Ok(())
    }

    /// Finds a part of some layers without mounting them.
    fn part(
        &self,
        below: &Snapshot,
        selector: &str,
        staging: &Staging,
    ) -> Result<Part, BuildError> {
        let dirs = below.dirs(self.store)?;
        if dirs.is_empty() {
            return Ok(Part::Directory(vec![empty_dir(staging)?]));
        }
        let path = if matches!(selector, "" | "/") {
            PathBuf::new()
        } else {
            // Symlinks lead where they would lead in the merged tree.
            self.view(below)?.resolve(selector)?
        };
        let mut found: Vec<PathBuf> = Vec::new();
        for dir in dirs.iter().rev() {
            let root = Root::open(dir)?;
            let Some(entry) = root.lstat_optional(&path)? else {
                if hides_lower(&root, &path)? {
                    break;
                }
                continue;
            };
            if entry.is_dir() {
                found.push(dir.join(&path));
                if hides_lower(&root, &path)? {
                    break;
                }
                continue;
            }
            if found.is_empty() && !entry.is_whiteout() {
                return Ok(Part::File(dir.join(&path)));
            }
            break;
        }
        if found.is_empty() {
            return Err(no_part(selector));
        }
        // Overlayfs takes no single layer without an upper one.
        found.push(empty_dir(staging)?);
        found.reverse();
        Ok(Part::Directory(found))
    }
}

fn no_part(selector: &str) -> BuildError {
    BuildError::Source {
        message: format!("stat {selector}: file does not exist"),
    }
}

impl ExecMounts {
    fn add(&mut self, mount: &Mount, source: MountSource) {
        self.list.push(RunMount {
            destination: mount.destination.clone(),
            source,
            read_only: mount.read_only,
        });
    }
}

/// Says whether a layer shows nothing of lower ones at a path: something above it is opaque or no directory.
fn hides_lower(root: &Root, path: &Path) -> Result<bool, BuildError> {
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        let Some(found) = root.lstat_optional(part)? else {
            continue;
        };
        let is_opaque = found.is_dir()
            && root
                .xattr(part, std::ffi::OsStr::new("trusted.overlay.opaque"))?
                .is_some_and(|value| value == b"y");
        if !found.is_dir() || is_opaque {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BuildError> {
    let (Some(parent), Some(name)) = (from.parent(), from.file_name()) else {
        return Ok(());
    };
    let root = Root::open(parent)?;
    let metadata = root.lstat(name)?;
    let mut source = root.open_file_nofollow(name, wharf_safefs::OpenFlags::RDONLY)?;
    let mut target = trusted::create_new(to, metadata.mode)?;
    wharf_safefs::copy_file_data(&mut source, &mut target, to, true)?;
    Ok(trusted::chown(to, Some(metadata.uid), Some(metadata.gid))?)
}
