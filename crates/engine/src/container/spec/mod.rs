//! From a container's config to an OCI runtime spec (spec runtime §2).
//!
//! The document is written in the spec's own JSON and read back as [`Spec`]: what an external OCI
//! runtime would be given is what ours is given.

mod devices;
mod init;
mod mounts;
mod namespaces;
mod resources;

pub(crate) use init::add_init;
pub(crate) use namespaces::joined_network;
pub(crate) use resources::linux_resources;

use super::merge::process_env;
use super::security::Security;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::Container;
use crate::model::host_config::Ulimit;
use crate::model::request::CreateExec;
use oci_spec::runtime::{PosixRlimitType, Process, Spec};
use serde_json::{Value, json};
use std::path::Path;
use wharf_runtime::{capabilities as capability_rules, defaults};
use wharf_safefs::Root;

/// Builds the spec of a container whose files are seen through `root`.
///
/// # Errors
/// An unknown user, capability, seccomp profile or device; a default AppArmor profile that cannot be loaded.
pub(crate) fn build(engine: &Engine, container: &Container, root: &Root) -> Result<Spec> {
    let host = &container.host_config;
    let security = Security::parse(host)?;
    let joined = namespaces::joined_host_name(engine, container)?;
    let container = joined.as_ref().unwrap_or(container);
    let limits = serde_json::to_value(linux_resources(&host.resources)?).map_err(json_error)?;
    let user = resolve_user(root, &container.config.user, &host.group_add)?;
    let (devices, device_rules) = devices::devices(container)?;
    let capabilities = capabilities(container)?;
    ensure_working_dir(container, root)?;
    let mut linux = json!({
        "namespaces": namespaces::namespaces(engine, container)?,
        "resources": limits,
        "cgroupsPath": cgroup_path(&engine.instance, container),
        "maskedPaths": security.masked_paths,
        "readonlyPaths": security.readonly_paths,
        "devices": devices,
        "sysctl": namespaces::sysctls(container),
    });
    linux["resources"]["devices"] = Value::Array(device_rules);
    if let Some(profile) = security.seccomp_profile(&capabilities)? {
        linux["seccomp"] = profile;
    }
    let mounts = mounts::mounts(engine, container, &security)?;
    linux["rootfsPropagation"] = json!(mounts::root_propagation(container)?);
    let mut process = json!({
        "terminal": container.config.tty,
        "user": user_json(&user),
        "args": std::iter::once(&container.path).chain(&container.args).collect::<Vec<_>>(),
        "env": with_home(
            with_links(
                process_env(&container.config, &hostname(container), &[]),
                engine.link_environment(container)?,
            ),
            &user.home,
        ),
        "cwd": working_dir(&container.config.working_dir),
        "capabilities": capability_sets(&capabilities),
        "rlimits": rlimits(&host.ulimits)?,
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    });
    if let Some((height, width)) = host.console_size.filter(|_| container.config.tty) {
        process["consoleSize"] = json!({ "height": height, "width": width });
    }
    if let Some(profile) = engine.apparmor.profile_to_start(&security)? {
        process["apparmorProfile"] = json!(profile);
    }
    let own_uts = host.uts_mode != "host";
    let name = |text: &str| {
        if own_uts {
            text.to_owned()
        } else {
            String::new()
        }
    };
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": "rootfs", "readonly": host.readonly_rootfs },
        "hostname": name(&container.config.hostname),
        "domainname": name(&container.config.domainname),
        "mounts": mounts,
        "linux": linux,
        "annotations": host.annotations,
    });
    serde_json::from_value(spec).map_err(json_error)
}

/// Checks that a container that runs knows a user.
///
/// # Errors
/// Docker's text for one it does not know.
pub(crate) fn check_exec_user(container: &Container, user: &str) -> Result<()> {
    let fd = wharf_runtime::open_root(container.state.pid)
        .map_err(super::runtime_error("cannot open the container's files"))?;
    resolve_user(&Root::from_fd(fd), user, &[])
        .map(drop)
        .map_err(|error| EngineError::invalid(error.message()))
}

/// Builds the process of an exec: the container's, with what the request changes.
///
/// # Errors
/// An unknown user; a default AppArmor profile that cannot be loaded.
pub(crate) fn exec_process(
    engine: &Engine,
    container: &Container,
    request: &CreateExec,
    tty: bool,
) -> Result<Process> {
    let fd = wharf_runtime::open_root(container.state.pid)
        .map_err(super::runtime_error("cannot open the container's files"))?;
    let root = Root::from_fd(fd);
    let user_text = if request.user.is_empty() {
        &container.config.user
    } else {
        &request.user
    };
    let user = resolve_user(&root, user_text, &container.host_config.group_add)?;
    let capabilities = if request.privileged {
        capability_rules::all_names()
    } else {
        capabilities(container)?
    };
    let mut config = container.config.clone();
    config.tty = tty;
    let cwd = if request.working_dir.is_empty() {
        &container.config.working_dir
    } else {
        &request.working_dir
    };
    if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
        return Err(EngineError::internal(
            "OCI runtime exec failed: exec failed: Cwd must be an absolute path",
        ));
    }
    let security = Security::parse(&container.host_config)?;
    let mut process = json!({
        "terminal": tty,
        "user": user_json(&user),
        "args": request.command,
        "env": with_home(
            with_links(
                process_env(&config, &hostname(container), &request.env),
                // A linked container may have ended meanwhile.
                engine.link_environment(container).unwrap_or_default(),
            ),
            &user.home,
        ),
        "cwd": working_dir(cwd),
        "capabilities": capability_sets(&capabilities),
        "rlimits": rlimits(&container.host_config.ulimits)?,
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": container.host_config.oom_score_adj,
    });
    if let Some(profile) = engine.apparmor.profile_to_exec(container, &security)? {
        process["apparmorProfile"] = json!(profile);
    }
    serde_json::from_value(process).map_err(json_error)
}

/// Returns the user and group that a container's process runs as.
pub(crate) fn owner_of(engine: &Engine, container: &Container) -> Result<(u32, u32)> {
    let root = engine.detached_root(container, true)?;
    let user = resolve_user(&root, &container.config.user, &[])?;
    Ok((user.uid, user.gid))
}

/// Returns where a container's control group lies below the hierarchies' roots.
pub(crate) fn cgroup_path(instance: &str, container: &Container) -> String {
    match container.host_config.resources.cgroup_parent.as_str() {
        "" => format!("/{instance}/{}", container.id),
        parent => format!(
            "{}/{}",
            super::mounts::clean(parent).trim_end_matches('/'),
            container.id
        ),
    }
}

pub(crate) fn json_error(e: serde_json::Error) -> EngineError {
    EngineError::wrap(
        ErrorKind::Internal,
        "cannot express the container as an OCI runtime spec",
        e,
    )
}

/// Returns the name that `HOSTNAME` carries.
fn hostname(container: &Container) -> String {
    if container.config.hostname.is_empty() {
        container.short_id().to_owned()
    } else {
        container.config.hostname.clone()
    }
}

fn working_dir(path: &str) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        super::mounts::clean(path)
    }
}

/// Makes what tells programs that they run in a container, and the list of mounts that old programs read
/// (spec runtime §4, init layer). A build's steps have neither: they would be part of what the step made.
pub(crate) fn ensure_marks(root: &Root) -> Result<()> {
    let failed = super::create::fs_error("cannot make the container's own files");
    if root.lstat(".dockerenv").is_err() {
        drop(root.create_new(".dockerenv", 0o755).map_err(&failed)?);
    }
    let etc = root.lstat("etc");
    if etc.as_ref().is_ok_and(|etc| !etc.is_dir()) {
        return Ok(());
    }
    match root.lstat("etc/mtab") {
        Ok(mtab) if mtab.is_symlink() || mtab.is_dir() => return Ok(()),
        Ok(_) => root.remove_file("etc/mtab").map_err(&failed)?,
        Err(_) => {}
    }
    if etc.is_err() {
        root.mkdir_all("etc", 0o755, Some((0, 0)))
            .map_err(&failed)?;
    }
    root.symlink("/proc/mounts", "etc/mtab").map_err(&failed)
}

/// Makes a missing working directory in the container's own layer (spec runtime §2.8).
fn ensure_working_dir(container: &Container, root: &Root) -> Result<()> {
    let cwd = working_dir(&container.config.working_dir);
    let path = Path::new(&cwd);
    if cwd == "/"
        || root.stat(path).is_ok()
        || container
            .mounts
            .iter()
            .any(|mount| path.starts_with(&mount.destination))
    {
        return Ok(());
    }
    root.mkdir_all(path, 0o755, Some((0, 0)))
        .map_err(super::create::fs_error("cannot make the working directory"))
}

fn resolve_user(
    root: &Root,
    text: &str,
    group_add: &[String],
) -> Result<wharf_runtime::users::ResolvedUser> {
    wharf_runtime::users::resolve(root, text, group_add)
        .map_err(|e| EngineError::new(ErrorKind::Internal, e.to_string()))
}

fn user_json(user: &wharf_runtime::users::ResolvedUser) -> Value {
    json!({ "uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids, "umask": 0o022 })
}

/// Adds the variables of links, which what the user says takes precedence over.
fn with_links(mut env: Vec<String>, links: Vec<String>) -> Vec<String> {
    for variable in links {
        let name = variable.split('=').next().unwrap_or_default();
        let known = env.iter().any(|own| own.split('=').next() == Some(name));
        if !known {
            env.push(variable);
        }
    }
    env
}

fn with_home(mut env: Vec<String>, home: &Path) -> Vec<String> {
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", home.display()));
    }
    env
}

fn capabilities(container: &Container) -> Result<Vec<String>> {
    let host = &container.host_config;
    capability_rules::tweak(&host.cap_add, &host.cap_drop, host.privileged)
        .map_err(|e| EngineError::invalid(e.to_string()))
}

fn capability_sets(names: &[String]) -> Value {
    json!(defaults::capability_sets(names))
}

/// Returns the limits of the process.
///
/// # Errors
/// A name that is no limit.
fn rlimits(ulimits: &[Ulimit]) -> Result<Value> {
    let limit = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let mut list = Vec::with_capacity(ulimits.len());
    for ulimit in ulimits {
        let kind = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
        if serde_json::from_value::<PosixRlimitType>(json!(kind)).is_err() {
            return Err(EngineError::internal(format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: wrong rlimit value: {kind}"
            )));
        }
        list.push(json!({ "type": kind, "hard": limit(ulimit.hard), "soft": limit(ulimit.soft) }));
    }
    Ok(Value::Array(list))
}
