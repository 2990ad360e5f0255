//! Mounts of a container, parents before children (spec runtime §2.1, §4).

use super::namespaces;
use crate::container::mounts::wanted_propagation;
use crate::container::security::Security;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::container::{Container, MountPoint};
use crate::mount_syntax;
use serde_json::{Value, json};
use std::path::Path;
use wharf_safefs::{Root, trusted};

/// Default mounts that stay writable under a read-only root.
const ALWAYS_WRITABLE: [&str; 5] = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"];
/// Largest table of mounts that is read, in bytes.
const MAX_TABLE_BYTES: u64 = 64 * 1024 * 1024;
/// Option of this engine's own runtime: what of a mount's source is mounted.
const SUBPATH_OPTION: &str = "X-wharf.subpath=";
/// Option of this engine's own runtime: whose mount namespace a mount's source is in.
const NAMESPACE_OPTION: &str = "X-wharf.mount-namespace=";

/// Lists all mounts; a user's mount replaces a default one.
///
/// # Errors
/// Options of a tmpfs that are none; a propagation that the source does not allow.
pub(super) fn mounts(engine: &Engine, container: &Container, security: &Security) -> Result<Value> {
    let host = &container.host_config;
    let own: Vec<&MountPoint> = container
        .mounts
        .iter()
        .filter(|mount| !host.tmpfs.contains_key(&mount.destination))
        .collect();
    let is_covered = |destination: &str| {
        let under = |user: &str| {
            user == destination || (user == "/dev" && destination.starts_with("/dev/"))
        };
        own.iter().any(|mount| under(&mount.destination)) || host.tmpfs.keys().any(|key| under(key))
    };
    let mut list = default_mounts(engine, container, security)?;
    list.extend(name_files(container));
    list.retain(|mount| !is_covered(mount["destination"].as_str().unwrap_or_default()));
    if host.readonly_rootfs {
        let writable_cgroups = security.writable_cgroups.unwrap_or(host.privileged);
        list.iter_mut()
            .filter(|mount| match mount["destination"].as_str() {
                Some("/sys") => !host.privileged,
                Some("/sys/fs/cgroup") => !writable_cgroups,
                _ => true,
            })
            .for_each(make_read_only);
    }
    for mount in own {
        list.push(user_mount(engine, mount)?);
    }
    for (target, options) in &host.tmpfs {
        list.push(tmpfs(&mount_syntax::clean(target), options)?);
    }
    list.sort_by_key(|mount| {
        mount["destination"]
            .as_str()
            .map_or(0, |path| path.matches('/').count())
    });
    Ok(Value::Array(list))
}

fn default_mounts(
    engine: &Engine,
    container: &Container,
    security: &Security,
) -> Result<Vec<Value>> {
    let host = &container.host_config;
    let writable_cgroups = security.writable_cgroups.unwrap_or(host.privileged);
    let mut list: Vec<Value> = Vec::new();
    for mount in wharf_runtime::defaults::mounts(None) {
        let mut mount = serde_json::to_value(&mount).map_err(super::json_error)?;
        let writable = match mount["destination"].as_str() {
            Some("/sys") => host.privileged,
            Some("/sys/fs/cgroup") => writable_cgroups,
            _ => false,
        };
        if writable && let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "ro");
        }
        list.push(mount);
    }
    if host.ipc_mode == "host" {
        list.push(json!({ "destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"] }));
    } else if let Some(owner) = namespaces::shared_memory_owner(engine, container)? {
        let namespace = format!("{NAMESPACE_OPTION}/proc/{}/ns/mnt", owner.state.pid);
        list.push(json!({ "destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate", namespace] }));
    } else if host.ipc_mode != "none" {
        let size = format!("size={}", host.shm_size_bytes);
        list.push(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", size] }));
    }
    Ok(list)
}

/// Lists the binds of `/etc/hosts` and its like; a container without networking keeps its image's.
fn name_files(container: &Container) -> Vec<Value> {
    if container.config.network_disabled {
        return Vec::new();
    }
    let directory = Path::new(&container.directory);
    let access = if container.host_config.readonly_rootfs {
        "rro"
    } else {
        "rw"
    };
    ["resolv.conf", "hostname", "hosts"]
        .iter()
        .map(|name| {
            let options = ["rbind", access, "rprivate"];
            json!({ "destination": format!("/etc/{name}"), "type": "bind", "source": directory.join(name), "options": options })
        })
        .collect()
}

fn make_read_only(mount: &mut Value) {
    let destination = mount["destination"].as_str().unwrap_or_default();
    let is_bind = mount["type"] == "bind";
    if ALWAYS_WRITABLE.contains(&destination) || is_bind {
        return;
    }
    if let Some(options) = mount["options"].as_array_mut()
        && !options.iter().any(|option| option == "ro")
    {
        options.push(json!("ro"));
    }
}

fn tmpfs(destination: &str, options: &str) -> Result<Value> {
    let options = mount_syntax::tmpfs::merge_tmpfs_options(options)?;
    Ok(
        json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options }),
    )
}

fn user_mount(engine: &Engine, mount: &MountPoint) -> Result<Value> {
    match mount.kind.as_str() {
        "tmpfs" => return tmpfs(&mount.destination, &mount.options),
        "image" => return image_mount(engine, mount),
        _ => {}
    }
    let mut options = vec![if mount.non_recursive { "bind" } else { "rbind" }.to_owned()];
    if !mount.read_write {
        let access = if mount.read_only_top_only {
            "ro"
        } else {
            "rro"
        };
        options.push(access.to_owned());
    }
    if !mount.propagation.is_empty() {
        options.push(effective_propagation(mount)?);
    }
    if !mount.subpath.is_empty() {
        check_subpath(mount)?;
        options.push(format!("{SUBPATH_OPTION}{}", mount.subpath));
    }
    Ok(
        json!({ "destination": mount.destination, "type": "bind", "source": mount.source, "options": options }),
    )
}

/// Tells of a path that is not there yet before anything is mounted, as docker does.
fn check_subpath(mount: &MountPoint) -> Result<()> {
    let Ok(source) = Root::open(&mount.source) else {
        return Ok(());
    };
    match source.stat(Path::new(&mount.subpath)) {
        Err(error) if error.is_not_found() => {
            let path = format!("{}/{}", mount.source, mount.subpath);
            Err(EngineError::not_found(format!(
                "cannot access path {path}: lstat {path}: no such file or directory"
            )))
        }
        _ => Ok(()),
    }
}

/// Mounts an image's layers, read-only.
fn image_mount(engine: &Engine, mount: &MountPoint) -> Result<Value> {
    let layers = engine.layer_dirs(&mount.image_layers)?;
    // As overlayfs wants them: the highest first.
    let layers: Vec<String> = layers
        .iter()
        .rev()
        .map(|layer| layer.display().to_string())
        .collect();
    let mut options = vec![
        format!("lowerdir={}", layers.join(":")),
        "ro".to_owned(),
        mount.propagation.clone(),
    ];
    if !mount.subpath.is_empty() {
        options.push(format!("{SUBPATH_OPTION}{}", mount.subpath));
    }
    Ok(
        json!({ "destination": mount.destination, "type": "overlay", "source": "overlay", "options": options }),
    )
}

/// Returns a mount's propagation if its source allows it. Where it was chosen here, and not by the user,
/// a source that does not allow it is mounted as any other.
fn effective_propagation(mount: &MountPoint) -> Result<String> {
    let Some(propagation) = wanted_propagation(mount) else {
        return Ok(mount.propagation.clone());
    };
    let (source, options) = source_mount(&mount.source)?;
    let has = |tag: &str| options.split(' ').any(|option| option.starts_with(tag));
    let needs_shared = propagation.ends_with("shared");
    let allowed = has("shared:") || (!needs_shared && has("master:"));
    if allowed {
        return Ok(propagation.to_owned());
    }
    if mount.propagation_by_default {
        return Ok(propagation.to_owned());
    }
    let what = if needs_shared {
        "a shared mount"
    } else {
        "a shared or slave mount"
    };
    Err(EngineError::internal(format!(
        "path {} is mounted on {source} but it is not {what}",
        mount.source
    )))
}

/// Returns the mount point that holds a path, and its optional fields (`proc_pid_mountinfo(5)`).
fn source_mount(path: &str) -> Result<(String, String)> {
    let fail = |reason: String| {
        EngineError::internal(format!("Could not find source mount of {path}: {reason}"))
    };
    let real = trusted::canonicalize(path).map_err(|error| fail(error.to_string()))?;
    let table = trusted::read_limited("/proc/self/mountinfo", MAX_TABLE_BYTES)
        .map_err(|error| fail(error.to_string()))?;
    let table = String::from_utf8_lossy(&table);
    let mut best: Option<(String, String)> = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4).map(|point| unescape(point)) else {
            continue;
        };
        let optional = fields.iter().skip(6).take_while(|field| **field != "-");
        let optional: Vec<&str> = optional.copied().collect();
        let is_deeper = best
            .as_ref()
            .is_none_or(|(known, _)| point.len() >= known.len());
        if real.starts_with(&point) && is_deeper {
            best = Some((point, optional.join(" ")));
        }
    }
    best.ok_or_else(|| fail("no mount holds it".to_owned()))
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Returns the propagation of the root: as open as the most open mount needs it.
///
/// # Errors
/// As [`mounts`].
pub(super) fn root_propagation(container: &Container) -> Result<&'static str> {
    let mut propagation = "rprivate";
    for mount in &container.mounts {
        let Some(wanted) = wanted_propagation(mount) else {
            continue;
        };
        if mount.propagation_by_default {
            let (_, options) = source_mount(&mount.source)?;
            if options.is_empty() {
                continue;
            }
        }
        if wanted.ends_with("shared") {
            return Ok("shared");
        }
        propagation = "rslave";
    }
    Ok(propagation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_holds_a_path() {
        let (point, _) = source_mount("/proc/self/status").unwrap();
        assert_eq!(point, "/proc");
        assert!(source_mount("/no/such/path").is_err());
        assert_eq!(unescape("/a\\040b"), "/a b");
    }

    #[test]
    fn options_read_only_are_added_once() {
        let mut mount = json!({ "destination": "/sys", "type": "sysfs", "options": ["ro"] });
        make_read_only(&mut mount);
        assert_eq!(mount["options"], json!(["ro"]));
        let mut mount = json!({ "destination": "/dev", "type": "tmpfs", "options": [] });
        make_read_only(&mut mount);
        assert_eq!(mount["options"], json!([]));
    }
}
