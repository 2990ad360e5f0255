//! A step's mounts in its OCI runtime spec.

use crate::error::{EngineError, ErrorKind, Result};
use oci_spec::runtime::{Mount, Spec};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use wharf_build::{MountSource, RunMount, RunStep, SecretFile};
use wharf_safefs::trusted;

/// How the names of secrets' files begin.
const SECRET_PREFIX: &str = "secret-";

/// Bytes of one option that `fsconfig(2)` takes: 256 with the final NUL.
const MAX_OPTION_BYTES: usize = 255;

/// Files in memory that hold a step's secrets; gone when this is dropped.
#[derive(Default)]
pub(super) struct SecretFiles(Vec<PathBuf>);

impl Drop for SecretFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // Swept at the next start.
            let _swept_later = trusted::remove_all(path);
        }
    }
}

/// Removes the secrets of builds that ended with the engine before this one.
pub(crate) fn sweep_secrets(run_dir: &Path) {
    for entry in trusted::read_dir_sorted(run_dir).unwrap_or_default() {
        if entry
            .name
            .as_encoded_bytes()
            .starts_with(SECRET_PREFIX.as_bytes())
        {
            // The directory is gone with the boot at the latest.
            let _gone_with_the_boot = trusted::remove_all(run_dir.join(entry.name));
        }
    }
}

/// Adds a step's mounts to its spec, parents before children. Secrets lie in `run_dir` as long as what is returned.
///
/// # Errors
/// A secret that cannot be written.
pub(super) fn add(spec: &mut Spec, step: &RunStep, run_dir: &Path) -> Result<SecretFiles> {
    let mut secrets = SecretFiles::default();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (number, mount) in step.mounts.iter().enumerate() {
        let value = match &mount.source {
            MountSource::Path(path) => bind(mount, path),
            MountSource::Secret(file) => {
                let path = run_dir.join(format!("{SECRET_PREFIX}{}-{number}", step.id));
                secrets.0.push(path.clone());
                write(&path, file).map_err(|error| {
                    EngineError::wrap(
                        ErrorKind::Internal,
                        "cannot pass a secret to the step",
                        error,
                    )
                })?;
                bind(mount, &path)
            }
            MountSource::Tmpfs { size_bytes } => tmpfs(mount, *size_bytes),
            MountSource::Layers {
                lower_dirs,
                changes,
            } => layers(mount, lower_dirs, changes.as_ref())?,
        };
        let mount: Mount = serde_json::from_value(value).map_err(|error| {
            EngineError::wrap(
                ErrorKind::Internal,
                "cannot express a mount of the step",
                error,
            )
        })?;
        mounts.push(mount);
    }
    if !step.mounts.is_empty() {
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
    spec.set_mounts(Some(mounts));
    Ok(secrets)
}

fn access(mount: &RunMount) -> &'static str {
    if mount.read_only { "ro" } else { "rw" }
}

fn bind(mount: &RunMount, path: &Path) -> Value {
    let options = ["bind", "private", access(mount)];
    json!({ "destination": mount.destination, "type": "bind", "source": path, "options": options })
}

fn tmpfs(mount: &RunMount, size_bytes: u64) -> Value {
    let mut options = vec![
        "nosuid".to_owned(),
        "nodev".to_owned(),
        access(mount).to_owned(),
    ];
    if size_bytes > 0 {
        options.push(format!("size={size_bytes}"));
    }
    json!({ "destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn layers(
    mount: &RunMount,
    lower_dirs: &[PathBuf],
    changes: Option<&(PathBuf, PathBuf)>,
) -> Result<Value> {
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| EngineError::internal(format!("{} is not UTF-8", path.display())))
    };
    // The topmost comes first.
    let lower: Vec<String> = lower_dirs
        .iter()
        .rev()
        .map(|path| text(path))
        .collect::<Result<_>>()?;
    let escaped: Vec<String> = lower
        .iter()
        .map(|path| path.replace('\\', "\\\\").replace(':', "\\:"))
        .collect();
    let joined = escaped.join(":");
    let mut options: Vec<String> = vec![access(mount).to_owned()];
    if joined.len() <= MAX_OPTION_BYTES {
        options.push(format!("lowerdir={joined}"));
    } else {
        // One by one, from kernel 6.8.
        options.extend(lower.iter().map(|path| format!("lowerdir+={path}")));
    }
    if let Some((upper, work)) = changes {
        options.push(format!("upperdir={}", text(upper)?));
        options.push(format!("workdir={}", text(work)?));
        options.push("volatile".to_owned());
    }
    options.extend(["redirect_dir=off", "index=off", "metacopy=off"].map(str::to_owned));
    Ok(
        json!({ "destination": mount.destination, "type": "overlay", "source": "overlay", "options": options }),
    )
}

fn write(path: &Path, secret: &SecretFile) -> std::result::Result<(), wharf_safefs::FsError> {
    let mut file = trusted::create_new(path, 0o600)?;
    file.write_all(secret.value.bytes())
        .map_err(|error| wharf_safefs::FsError::io("write", path, error))?;
    trusted::chown(path, Some(secret.uid), Some(secret.gid))?;
    trusted::chmod(path, secret.mode & 0o777)
}
