//! Volumes whose driver options name something to mount: mounted while anything uses them, as docker does
//! (spec runtime §4).

use crate::error::{EngineError, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Driver options that are known.
const OPTIONS: [&str; 4] = ["device", "o", "size", "type"];
/// Which options an option needs beside it.
const NEEDED: [(&str, &[&str]); 3] = [
    ("device", &["type"]),
    ("o", &["device", "type"]),
    ("type", &["device"]),
];

/// Checks a volume's driver options.
///
/// # Errors
/// Docker's texts.
pub(crate) fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let fail = |text: String| Err(EngineError::invalid(format!("create {name}: {text}")));
    if let Some(unknown) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        return fail(format!("invalid option: {unknown:?}"));
    }
    if let Some(size) = options.get("size") {
        match wharf_units::ram_in_bytes(size) {
            Err(error) => return fail(error.to_string()),
            Ok(size) if size > 0 => {
                return fail("quota size requested but no quota support".to_owned());
            }
            Ok(_) => {}
        }
    }
    for (option, needed) in NEEDED {
        let missing = needed.iter().find(|other| !options.contains_key(**other));
        if let Some(missing) = missing.filter(|_| options.contains_key(option)) {
            return fail(format!("missing required option: {missing:?}"));
        }
    }
    Ok(())
}

/// Says whether a volume's options name something to mount.
pub(crate) fn needs_mount(options: &BTreeMap<String, String>) -> bool {
    ["device", "type"]
        .iter()
        .any(|key| options.get(*key).is_some_and(|value| !value.is_empty()))
}

/// Who uses which volume's mount. Each volume has a lock of its own: a server that does not answer
/// stalls nobody else.
#[derive(Default)]
pub(crate) struct VolumeMounts {
    volumes: Mutex<HashMap<String, Arc<Mutex<BTreeSet<String>>>>>,
    next_user: AtomicU64,
}

/// Keeps a volume mounted until it is dropped.
pub(crate) struct VolumeUse {
    mounts: Arc<VolumeMounts>,
    name: String,
    user: String,
    path: PathBuf,
}

impl Drop for VolumeUse {
    fn drop(&mut self) {
        // What stays mounted is unmounted at the next use's end, or at the next start.
        let _left = self.mounts.release(&self.name, &self.user, &self.path);
    }
}

impl VolumeMounts {
    fn users(&self, name: &str) -> Arc<Mutex<BTreeSet<String>>> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(volumes.entry(name.to_owned()).or_default())
    }

    /// Mounts a volume if it is not, and notes its user.
    pub(crate) fn hold(
        &self,
        name: &str,
        user: &str,
        path: &Path,
        options: &BTreeMap<String, String>,
    ) -> Result<()> {
        let users = self.users(name);
        let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_mounted(path)? {
            mount(path, options)?;
        }
        users.insert(user.to_owned());
        Ok(())
    }

    /// Notes a user of a volume that is mounted already.
    pub(crate) fn adopt(&self, name: &str, user: &str) {
        let users = self.users(name);
        users
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(user.to_owned());
    }

    /// Takes a user off; the last one's end unmounts the volume.
    pub(crate) fn release(&self, name: &str, user: &str, path: &Path) -> Result<()> {
        let users = self.users(name);
        let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
        users.remove(user);
        if !users.is_empty() {
            return Ok(());
        }
        wharf_runtime::unmount_volume(path).map_err(|error| {
            EngineError::wrap(ErrorKind::Internal, "error unmounting volume", error)
        })
    }

    /// Keeps a volume mounted for as long as what is returned lives.
    pub(crate) fn hold_for_a_while(
        self: &Arc<Self>,
        name: &str,
        path: &Path,
        options: &BTreeMap<String, String>,
    ) -> Result<VolumeUse> {
        let number = self.next_user.fetch_add(1, Ordering::Relaxed);
        let user = format!("use {number}");
        self.hold(name, &user, path, options)?;
        Ok(VolumeUse {
            mounts: Arc::clone(self),
            name: name.to_owned(),
            user,
            path: path.to_owned(),
        })
    }
}

fn is_mounted(path: &Path) -> Result<bool> {
    wharf_runtime::is_mount_point(path).map_err(|error| mount_error(path, &error.to_string(), ""))
}

fn mount(path: &Path, options: &BTreeMap<String, String>) -> Result<()> {
    let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    wharf_runtime::mount_volume(text("type"), text("device"), text("o"), path)
        .map_err(|error| mount_error(path, &error.to_string(), text("o")))
}

/// Says why a volume cannot be mounted, without the password that its options may hold.
fn mount_error(path: &Path, reason: &str, options: &str) -> EngineError {
    let password = options
        .split(',')
        .find_map(|option| option.strip_prefix("password="))
        .filter(|password| !password.is_empty());
    let reason = match password {
        Some(password) => reason.replace(password, "********"),
        None => reason.to_owned(),
    };
    EngineError::internal(format!(
        "error while mounting volume '{}': failed to mount local volume: {reason}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_belong_together() {
        let options = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        for (pairs, expected) in [
            (&[][..], None),
            (
                &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
                None,
            ),
            (&[("foo", "1")], Some("create v: invalid option: \"foo\"")),
            (
                &[("type", "tmpfs")],
                Some("create v: missing required option: \"device\""),
            ),
            (
                &[("device", "/x")],
                Some("create v: missing required option: \"type\""),
            ),
            (
                &[("size", "1g")],
                Some("create v: quota size requested but no quota support"),
            ),
        ] {
            let found = check_options("v", &options(pairs));
            let found = found.err().map(|error| error.message().to_owned());
            assert_eq!(found.as_deref(), expected);
        }
    }
}
