//! From a container's config to an OCI runtime spec (spec runtime §2).
//!
//! The document is written in the spec's own JSON and read back as [`Spec`]: what an external OCI
//! runtime would be given is what ours is given.

use super::devices;
use super::merge::process_env;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, MountPoint};
use crate::model::host_config::{Resources, Ulimit};
use crate::model::request::CreateExec;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde_json::{Value, json};
use std::path::Path;
use wharf_runtime::{capabilities as capability_rules, defaults};
use wharf_safefs::Root;

/// Builds the spec of a container whose files are seen through `root`.
///
/// # Errors
/// An unknown user, capability, seccomp profile or device.
pub(crate) fn build(engine: &Engine, container: &Container, root: &Root) -> Result<Spec> {
    let host = &container.host_config;
    let user = resolve_user(root, &container.config.user, &host.group_add)?;
    let security = Security::parse(container)?;
    let capabilities = capabilities(container)?;
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
        "rlimits": rlimits(&host.ulimits),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    });
    if let Some((height, width)) = host.console_size.filter(|_| container.config.tty) {
        process["consoleSize"] = json!({ "height": height, "width": width });
    }
    ensure_working_dir(container, root)?;
    let (devices, device_rules) = devices(container)?;
    let mut resources =
        serde_json::to_value(linux_resources(&host.resources)?).map_err(json_error)?;
    resources["devices"] = Value::Array(device_rules);
    let mut linux = json!({
        "namespaces": namespaces(engine, container)?,
        "resources": resources,
        "cgroupsPath": cgroup_path(engine, container),
        "maskedPaths": security.masked_paths,
        "readonlyPaths": security.readonly_paths,
        "devices": devices,
        "sysctl": sysctls(container),
        "rootfsPropagation": rootfs_propagation(container),
    });
    if let Some(profile) = security.seccomp_profile(&capabilities)? {
        linux["seccomp"] = profile;
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": "rootfs", "readonly": host.readonly_rootfs },
        "hostname": if own_uts(container) { container.config.hostname.clone() } else { Default::default() },
        "domainname": if own_uts(container) { container.config.domainname.clone() } else { Default::default() },
        "mounts": mounts(container),
        "linux": linux,
        "annotations": host.annotations,
    });
    serde_json::from_value(spec).map_err(json_error)
}

/// Builds the process of an exec: the container's, with what the request changes.
///
/// # Errors
/// An unknown user.
pub(crate) fn exec_process(
    _engine: &Engine,
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
    let process = json!({
        "terminal": tty,
        "user": user_json(&user),
        "args": request.command,
        "env": with_home(process_env(&config, &hostname(container), &request.env), &user.home),
        "cwd": working_dir(cwd),
        "capabilities": capability_sets(&capabilities),
        "rlimits": rlimits(&container.host_config.ulimits),
        "noNewPrivileges": Security::parse(container)?.no_new_privileges,
        "oomScoreAdj": container.host_config.oom_score_adj,
    });
    serde_json::from_value(process).map_err(json_error)
}

/// Returns the user and group that a container's process runs as.
pub(crate) fn owner_of(engine: &Engine, container: &Container) -> Result<(u32, u32)> {
    let root = engine.detached_root(container, true)?;
    let user = resolve_user(&root, &container.config.user, &[])?;
    Ok((user.uid, user.gid))
}

/// Returns where a container's control group lies below the hierarchies' roots.
pub(crate) fn cgroup_path(engine: &Engine, container: &Container) -> String {
    match container.host_config.resources.cgroup_parent.as_str() {
        "" => format!("/{}/{}", engine.instance, container.id),
        parent => format!(
            "{}/{}",
            super::mounts::clean(parent).trim_end_matches('/'),
            container.id
        ),
    }
}

/// Turns limits into the spec's resources.
///
/// # Errors
/// A device path that is no device.
pub(crate) fn linux_resources(limits: &Resources) -> Result<LinuxResources> {
    let some = |number: i64| (number != 0).then_some(number);
    let mut memory = json!({});
    set(&mut memory, "limit", some(limits.memory_bytes));
    set(
        &mut memory,
        "reservation",
        some(limits.memory_reservation_bytes),
    );
    set(&mut memory, "swap", some(limits.memory_swap_bytes));
    set(
        &mut memory,
        "swappiness",
        limits.memory_swappiness.filter(|value| *value >= 0),
    );
    set(
        &mut memory,
        "disableOOMKiller",
        limits.oom_kill_disable.filter(|on| *on),
    );
    let mut cpu = json!({});
    set(&mut cpu, "shares", some(limits.cpu_shares));
    if limits.nano_cpus > 0 {
        cpu["period"] = json!(100_000);
        cpu["quota"] = json!(limits.nano_cpus / 10_000);
    } else {
        set(&mut cpu, "period", some(limits.cpu_period_us));
        set(&mut cpu, "quota", some(limits.cpu_quota_us));
    }
    set(
        &mut cpu,
        "cpus",
        Some(&limits.cpuset_cpus).filter(|text| !text.is_empty()),
    );
    set(
        &mut cpu,
        "mems",
        Some(&limits.cpuset_mems).filter(|text| !text.is_empty()),
    );
    let mut resources = json!({ "memory": memory, "cpu": cpu, "blockIO": block_io(limits)? });
    if let Some(limit) = limits.pids_limit.filter(|limit| *limit > 0) {
        resources["pids"] = json!({ "limit": limit });
    }
    serde_json::from_value(resources).map_err(json_error)
}

fn block_io(limits: &Resources) -> Result<Value> {
    let mut io = json!({});
    if limits.blkio_weight != 0 {
        io["weight"] = json!(limits.blkio_weight);
    }
    let rates = [
        ("throttleReadBpsDevice", &limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &limits.blkio_device_write_iops),
    ];
    for (key, devices) in rates {
        let mut list = Vec::new();
        for (path, rate) in devices {
            let (major, minor) = device_number(path)?;
            list.push(json!({ "major": major, "minor": minor, "rate": rate }));
        }
        if !list.is_empty() {
            io[key] = Value::Array(list);
        }
    }
    let mut weights = Vec::new();
    for (path, weight) in &limits.blkio_weight_device {
        let (major, minor) = device_number(path)?;
        weights.push(json!({ "major": major, "minor": minor, "weight": weight }));
    }
    if !weights.is_empty() {
        io["weightDevice"] = Value::Array(weights);
    }
    Ok(io)
}

fn set<T: serde::Serialize>(object: &mut Value, key: &str, value: Option<T>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

fn json_error(e: serde_json::Error) -> EngineError {
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

fn own_uts(container: &Container) -> bool {
    container.host_config.uts_mode != "host" && container.host_config.network_mode != "host"
}

fn working_dir(path: &str) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        super::mounts::clean(path)
    }
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

fn rlimits(ulimits: &[Ulimit]) -> Value {
    let limit = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let list = ulimits.iter().map(|ulimit| {
        json!({ "type": format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()), "hard": limit(ulimit.hard), "soft": limit(ulimit.soft) })
    });
    list.collect()
}

fn namespaces(engine: &Engine, container: &Container) -> Result<Value> {
    let host = &container.host_config;
    let mut list = vec![json!({ "type": "mount" })];
    match host.network_mode.strip_prefix("container:") {
        Some(id) => list.push(json!({ "type": "network", "path": format!("/proc/{}/ns/net", running_pid(engine, id)?) })),
        None if host.network_mode != "host" => list.push(json!({ "type": "network" })),
        None => {}
    }
    let modes = [
        ("pid", host.pid_mode.as_str(), "pid"),
        ("ipc", host.ipc_mode.as_str(), "ipc"),
    ];
    for (kind, mode, file) in modes {
        match mode.strip_prefix("container:") {
            Some(id) => {
                if kind == "ipc" && engine.container(id)?.host_config.ipc_mode != "shareable" {
                    return Err(EngineError::conflict(format!(
                        "cannot join IPC of container {id}: its IPC mode is not shareable"
                    )));
                }
                list.push(json!({ "type": kind, "path": format!("/proc/{}/ns/{file}", running_pid(engine, id)?) }));
            }
            None if mode != "host" => list.push(json!({ "type": kind })),
            None => {}
        }
    }
    if own_uts(container) {
        match host.network_mode.strip_prefix("container:") {
            Some(id) => list.push(json!({ "type": "uts", "path": format!("/proc/{}/ns/uts", running_pid(engine, id)?) })),
            None => list.push(json!({ "type": "uts" })),
        }
    }
    if host.cgroupns_mode == "private" {
        list.push(json!({ "type": "cgroup" }));
    }
    Ok(Value::Array(list))
}

fn running_pid(engine: &Engine, id: &str) -> Result<u32> {
    let other = engine.container(id)?;
    if !other.is_running() {
        return Err(EngineError::conflict(format!(
            "cannot join namespaces of a non running container: {}",
            other.id
        )));
    }
    Ok(other.state.pid)
}

fn sysctls(container: &Container) -> Value {
    let host = &container.host_config;
    let mut map = serde_json::Map::new();
    if host.network_mode != "host" && !host.network_mode.starts_with("container:") {
        map.insert(
            "net.ipv4.ping_group_range".to_owned(),
            json!("0 2147483647"),
        );
        map.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), json!("0"));
    }
    for (key, value) in &host.sysctls {
        map.insert(key.clone(), json!(value));
    }
    Value::Object(map)
}

fn rootfs_propagation(container: &Container) -> &'static str {
    let has = |word: &str| {
        container
            .mounts
            .iter()
            .any(|mount| mount.propagation.ends_with(word))
    };
    if has("shared") {
        "shared"
    } else if has("slave") {
        "rslave"
    } else {
        "rprivate"
    }
}

/// Lists all mounts, parents before children; a user's mount replaces a default one (spec runtime §2.1).
fn mounts(container: &Container) -> Value {
    let host = &container.host_config;
    let user_destinations: Vec<&str> = container
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    let covered = |destination: &str| {
        user_destinations.contains(&destination)
            || (user_destinations.contains(&"/dev") && destination.starts_with("/dev/"))
    };
    let mut list: Vec<Value> = default_mounts(container)
        .into_iter()
        .filter(|mount| !covered(mount["destination"].as_str().unwrap_or_default()))
        .collect();
    let directory = Path::new(&container.directory);
    let file_access = if host.readonly_rootfs { "ro" } else { "rw" };
    for (name, destination) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        if !covered(destination) {
            let options = ["rbind", "rprivate", file_access];
            list.push(json!({ "destination": destination, "type": "bind", "source": directory.join(name), "options": options }));
        }
    }
    list.extend(container.mounts.iter().map(user_mount));
    list.sort_by_key(|mount| {
        mount["destination"]
            .as_str()
            .map_or(0, |path| path.matches('/').count())
    });
    Value::Array(list)
}

fn default_mounts(container: &Container) -> Vec<Value> {
    let host = &container.host_config;
    let mut list = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
    ];
    let system_access = if host.privileged { "rw" } else { "ro" };
    list.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", system_access] }));
    list.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [system_access, "nosuid", "noexec", "nodev"] }));
    if host.ipc_mode != "host" {
        list.push(json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }));
    } else {
        list.push(json!({ "destination": "/dev/mqueue", "type": "bind", "source": "/dev/mqueue", "options": ["rbind", "rprivate"] }));
        list.push(json!({ "destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"] }));
    }
    if matches!(host.ipc_mode.as_str(), "private" | "shareable") {
        let size = format!("size={}", host.shm_size_bytes);
        list.push(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", size] }));
    }
    list
}

fn user_mount(mount: &MountPoint) -> Value {
    let access = if mount.read_write { "rw" } else { "ro" };
    if mount.kind == "tmpfs" {
        let options: Vec<&str> = mount
            .options
            .split(',')
            .filter(|option| !option.is_empty())
            .chain(["rprivate"])
            .collect();
        return json!({ "destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options });
    }
    let bind = if mount.non_recursive { "bind" } else { "rbind" };
    let propagation = if mount.propagation.is_empty() {
        "rprivate"
    } else {
        &mount.propagation
    };
    let source = Path::new(&mount.source).join(mount.subpath.trim_start_matches('/'));
    json!({ "destination": mount.destination, "type": "bind", "source": source, "options": [bind, propagation, access] })
}

/// Returns the device nodes to make and the rules of the device control group (spec runtime §2.6).
fn devices(container: &Container) -> Result<(Vec<Value>, Vec<Value>)> {
    let host = &container.host_config;
    if host.privileged {
        let nodes = devices::host_devices();
        let nodes = nodes
            .iter()
            .map(|device| device_node(&device.path, &device.path, device))
            .collect();
        return Ok((nodes, vec![json!({ "allow": true, "access": "rwm" })]));
    }
    let mut nodes = Vec::new();
    let mut rules: Vec<Value> = defaults::device_rules()
        .iter()
        .map(|rule| json!(rule))
        .collect();
    for mapping in &host.devices {
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let access = if mapping.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &mapping.cgroup_permissions
        };
        if !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
            return Err(EngineError::invalid(format!(
                "invalid device mode: {access}"
            )));
        }
        let found = devices::devices_at(Path::new(&mapping.path_on_host))?;
        for device in &found {
            let rest = device
                .path
                .strip_prefix(&mapping.path_on_host)
                .unwrap_or(Path::new(""));
            let path = if rest.as_os_str().is_empty() {
                Path::new(inside).to_owned()
            } else {
                Path::new(inside).join(rest)
            };
            nodes.push(device_node(&path, &device.path, device));
            rules.push(json!({ "allow": true, "type": device.kind, "major": device.major, "minor": device.minor, "access": access }));
        }
    }
    for rule in &host.device_cgroup_rules {
        rules.push(parse_device_rule(rule)?);
    }
    Ok((nodes, rules))
}

fn device_node(path: &Path, _host_path: &Path, device: &devices::HostDevice) -> Value {
    json!({
        "path": path, "type": device.kind, "major": device.major, "minor": device.minor,
        "fileMode": device.mode & 0o7777, "uid": device.uid, "gid": device.gid,
    })
}

/// Parses rules such as `c 42:* rmw`.
fn parse_device_rule(rule: &str) -> Result<Value> {
    let invalid = || EngineError::invalid(format!("invalid device cgroup rule format: '{rule}'"));
    let words: Vec<&str> = rule.split_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words.as_slice() else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| {
        if text == "*" {
            Ok(-1)
        } else {
            text.parse::<i64>().map_err(|_| invalid())
        }
    };
    if access.is_empty() || !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        return Err(invalid());
    }
    Ok(
        json!({ "allow": true, "type": kind, "major": number(major)?, "minor": number(minor)?, "access": access }),
    )
}

fn device_number(path: &str) -> Result<(u32, u32)> {
    let found = devices::devices_at(Path::new(path))?;
    match found.as_slice() {
        [device] => Ok((device.major, device.minor)),
        _ => Err(EngineError::invalid(format!("{path} is not a device"))),
    }
}

/// What `--security-opt` and `--privileged` lead to.
struct Security {
    no_new_privileges: bool,
    seccomp: Seccomp,
    masked_paths: Vec<String>,
    readonly_paths: Vec<String>,
}

enum Seccomp {
    Default,
    Unconfined,
    Profile(String),
}

impl Security {
    fn parse(container: &Container) -> Result<Self> {
        let host = &container.host_config;
        let privileged = host.privileged;
        let list = |own: &Option<Vec<String>>, default: Vec<String>| match own {
            Some(own) => own.clone(),
            None if privileged => Vec::new(),
            None => default,
        };
        let mut security = Self {
            no_new_privileges: false,
            seccomp: if privileged {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            masked_paths: list(&host.masked_paths, defaults::masked_paths()),
            readonly_paths: list(&host.readonly_paths, defaults::readonly_paths()),
        };
        for option in &host.security_opt {
            let (key, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .unwrap_or((option, "true"));
            match (key, value) {
                ("no-new-privileges", value) => {
                    security.no_new_privileges = value.parse().map_err(|_| {
                        EngineError::invalid(format!("invalid --security-opt: {option:?}"))
                    })?;
                }
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
                ("seccomp", profile) => security.seccomp = Seccomp::Profile(profile.to_owned()),
                ("systempaths", "unconfined") => {
                    security.masked_paths.clear();
                    security.readonly_paths.clear();
                }
                ("apparmor", "unconfined") | ("label", "disable") => {}
                ("apparmor", profile) => {
                    return Err(EngineError::invalid(format!(
                        "AppArmor profile {profile:?} was asked for and AppArmor is not supported yet"
                    )));
                }
                ("label", _) => {
                    return Err(EngineError::invalid(
                        "SELinux labels are not supported: leave --security-opt label=… away",
                    ));
                }
                _ => {
                    return Err(EngineError::invalid(format!(
                        "invalid --security-opt 2: {option:?}"
                    )));
                }
            }
        }
        Ok(security)
    }

    fn seccomp_profile(&self, capabilities: &[String]) -> Result<Option<Value>> {
        match &self.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default => {
                let profile = defaults::seccomp_profile(capabilities);
                serde_json::to_value(profile).map(Some).map_err(json_error)
            }
            Seccomp::Profile(text) => super::seccomp::parse_profile(text, capabilities).map(Some),
        }
    }
}
