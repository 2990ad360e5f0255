//! From binds, mounts, tmpfs and image volumes to a container's mount points (spec runtime §4).

use crate::error::{EngineError, Result};
use crate::identity;
use crate::model::container::{Container, MountPoint};
use crate::model::host_config::{HostConfig, MountRequest};
use std::collections::BTreeMap;
use wharf_safefs::trusted;

/// A mount point and what has to be done for it when the container is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PlannedMount {
    pub point: MountPoint,
    /// The volume named by `point.name` must exist (or be made) first.
    pub volume: bool,
    /// An empty volume takes over the image's files.
    pub copy_up: bool,
    /// A missing host directory is made.
    pub create_source: bool,
    /// Labels of a volume that is made.
    pub labels: BTreeMap<String, String>,
    /// Driver options of a volume that is made.
    pub driver_options: BTreeMap<String, String>,
}

/// Plans all mounts of a container: volumes of other containers, then binds, mounts, tmpfs, then an
/// anonymous volume for every path of the config that nothing covers.
///
/// # Errors
/// Docker's texts for malformed entries and for two mounts at one path.
pub(crate) fn plan(
    host_config: &HostConfig,
    config_volumes: impl Iterator<Item = String>,
    find: &dyn Fn(&str) -> Result<std::sync::Arc<Container>>,
) -> Result<Vec<PlannedMount>> {
    let mut mounts: BTreeMap<String, PlannedMount> = BTreeMap::new();
    for source in &host_config.volumes_from {
        for mount in volumes_from(source, find)? {
            mounts.insert(mount.point.destination.clone(), mount);
        }
    }
    let mut asked: Vec<PlannedMount> = Vec::new();
    for bind in &host_config.binds {
        asked.push(parse_bind(bind, &host_config.volume_driver)?);
    }
    for request in &host_config.mounts {
        asked.push(from_request(request)?);
    }
    for (target, options) in &host_config.tmpfs {
        asked.push(tmpfs(target, options)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    for mount in asked {
        if !seen.insert(mount.point.destination.clone()) {
            return Err(EngineError::invalid(format!(
                "Duplicate mount point: {}",
                mount.point.destination
            )));
        }
        mounts.insert(mount.point.destination.clone(), mount);
    }
    for path in config_volumes {
        let destination = clean(&path);
        if destination == "/" {
            return Err(EngineError::invalid(
                "invalid volume specification: '/': destination can't be '/'",
            ));
        }
        if !mounts.contains_key(&destination) {
            mounts.insert(destination.clone(), anonymous(destination)?);
        }
    }
    Ok(mounts.into_values().collect())
}

/// Parses `source:target[:mode]`, `name:target[:mode]` or `target`.
fn parse_bind(raw: &str, volume_driver: &str) -> Result<PlannedMount> {
    let invalid = || EngineError::invalid(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] if !target.is_empty() => ("", *target, ""),
        [source, target] if !source.is_empty() => {
            if target.starts_with('/') || !is_mode(target) {
                (*source, *target, "")
            } else {
                ("", *source, *target)
            }
        }
        [source, target, mode] if !source.is_empty() && !target.is_empty() => {
            (*source, *target, *mode)
        }
        _ => return Err(invalid()),
    };
    if !target.starts_with('/') {
        return Err(EngineError::invalid(format!(
            "invalid volume specification: '{raw}': invalid mount config for type \"{}\": invalid mount path: '{target}' mount path must be absolute",
            if source.starts_with('/') {
                "bind"
            } else {
                "volume"
            }
        )));
    }
    let destination = clean(target);
    if destination == "/" {
        return Err(EngineError::invalid(format!(
            "invalid volume specification: '{raw}': invalid mount config for type \"{}\": invalid specification: destination can't be '/'",
            if source.starts_with('/') {
                "bind"
            } else {
                "volume"
            }
        )));
    }
    let options =
        parse_mode(mode).ok_or_else(|| EngineError::invalid(format!("invalid mode: {mode}")))?;
    if source.starts_with('/') {
        let point = MountPoint {
            kind: "bind".into(),
            source: clean(source),
            destination,
            mode: mode.into(),
            read_write: !options.read_only,
            propagation: if options.propagation.is_empty() {
                "rprivate".into()
            } else {
                options.propagation
            },
            ..MountPoint::default()
        };
        return Ok(PlannedMount {
            point,
            create_source: true,
            ..PlannedMount::default()
        });
    }
    if !options.propagation.is_empty() {
        return Err(EngineError::invalid(format!(
            "invalid volume specification: '{raw}': propagation is for bind mounts only"
        )));
    }
    if source.is_empty() {
        let mut mount = anonymous(destination)?;
        mode.clone_into(&mut mount.point.mode);
        mount.point.read_write = !options.read_only;
        mount.copy_up = !options.no_copy;
        return Ok(mount);
    }
    check_volume_name(source)?;
    named(source, destination, mode, &options, volume_driver)
}

fn named(
    name: &str,
    destination: String,
    mode: &str,
    options: &Mode,
    driver: &str,
) -> Result<PlannedMount> {
    check_driver(driver)?;
    let point = MountPoint {
        kind: "volume".into(),
        name: name.into(),
        destination,
        driver: "local".into(),
        mode: if mode.is_empty() {
            "z".into()
        } else {
            mode.into()
        },
        read_write: !options.read_only,
        ..MountPoint::default()
    };
    Ok(PlannedMount {
        point,
        volume: true,
        copy_up: !options.no_copy,
        ..PlannedMount::default()
    })
}

fn anonymous(destination: String) -> Result<PlannedMount> {
    let point = MountPoint {
        kind: "volume".into(),
        name: identity::random_id()?,
        destination,
        driver: "local".into(),
        read_write: true,
        anonymous: true,
        ..MountPoint::default()
    };
    Ok(PlannedMount {
        point,
        volume: true,
        copy_up: true,
        ..PlannedMount::default()
    })
}

/// Turns a mount of the long form into a plan.
fn from_request(request: &MountRequest) -> Result<PlannedMount> {
    let fail = |text: String| {
        Err(EngineError::invalid(format!(
            "invalid mount config for type \"{}\": {text}",
            request.kind
        )))
    };
    if request.target.is_empty() {
        return fail("field Target must not be empty".into());
    }
    if !request.target.starts_with('/') {
        return fail(format!(
            "invalid mount path: '{}' mount path must be absolute",
            request.target
        ));
    }
    let destination = clean(&request.target);
    if destination == "/" {
        return fail("invalid specification: destination can't be '/'".into());
    }
    match request.kind.as_str() {
        "bind" => bind_request(request, destination),
        "volume" => volume_request(request, destination),
        "tmpfs" if !request.source.is_empty() => fail("field Source must not be specified".into()),
        "tmpfs" => {
            let mut options = vec!["noexec".to_owned(), "nosuid".into(), "nodev".into()];
            if let Some(tmpfs) = &request.tmpfs {
                if tmpfs.size_bytes > 0 {
                    options.push(format!("size={}", tmpfs.size_bytes));
                }
                if tmpfs.mode != 0 {
                    options.push(format!("mode={:o}", tmpfs.mode));
                }
            }
            if request.read_only {
                options.push("ro".into());
            }
            Ok(tmpfs_point(destination, options.join(",")))
        }
        "image" | "npipe" | "cluster" => Err(EngineError::not_implemented(format!(
            "mounts of type {} are not supported",
            request.kind
        ))),
        other => Err(EngineError::invalid(format!(
            "invalid mount config for type {other:?}: mount type unknown"
        ))),
    }
}

fn bind_request(request: &MountRequest, destination: String) -> Result<PlannedMount> {
    let fail = |text: String| {
        Err(EngineError::invalid(format!(
            "invalid mount config for type \"bind\": {text}"
        )))
    };
    if request.source.is_empty() {
        return fail("field Source must not be empty".into());
    }
    if !request.source.starts_with('/') {
        return fail(format!(
            "invalid mount path: '{}' mount path must be absolute",
            request.source
        ));
    }
    if request.volume.is_some() {
        return fail("field VolumeOptions must not be specified".into());
    }
    let options = request.bind.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return fail(format!("invalid propagation mode: {}", options.propagation));
    }
    if !options.create_mountpoint && !trusted::exists(&request.source).unwrap_or(false) {
        return fail(format!(
            "bind source path does not exist: {}",
            request.source
        ));
    }
    let point = MountPoint {
        kind: "bind".into(),
        source: clean(&request.source),
        destination,
        read_write: !request.read_only,
        propagation: if options.propagation.is_empty() {
            "rprivate".into()
        } else {
            options.propagation
        },
        non_recursive: options.non_recursive,
        ..MountPoint::default()
    };
    Ok(PlannedMount {
        point,
        create_source: options.create_mountpoint,
        ..PlannedMount::default()
    })
}

fn volume_request(request: &MountRequest, destination: String) -> Result<PlannedMount> {
    if request.bind.is_some() {
        return Err(EngineError::invalid(
            "invalid mount config for type \"volume\": field BindOptions must not be specified",
        ));
    }
    let options = request.volume.clone().unwrap_or_default();
    let mut mount = if request.source.is_empty() {
        if !options.subpath.is_empty() {
            return Err(EngineError::invalid(
                "must not set Subpath when using anonymous volumes",
            ));
        }
        anonymous(destination)?
    } else {
        check_volume_name(&request.source)?;
        named(
            &request.source,
            destination,
            "z",
            &Mode::default(),
            &options.driver,
        )?
    };
    mount.point.read_write = !request.read_only;
    mount.point.subpath = options.subpath;
    mount.copy_up = !options.no_copy;
    mount.labels = options.labels;
    mount.driver_options = options.driver_options;
    Ok(mount)
}

fn tmpfs(target: &str, options: &str) -> Result<PlannedMount> {
    if !target.starts_with('/') || clean(target) == "/" {
        return Err(EngineError::invalid(format!(
            "invalid mount config for type \"tmpfs\": invalid mount path: '{target}'"
        )));
    }
    let mut merged = vec!["noexec".to_owned(), "nosuid".into(), "nodev".into()];
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let opposite = option
            .strip_prefix("no")
            .map_or_else(|| format!("no{option}"), str::to_owned);
        merged.retain(|known| *known != opposite && *known != option);
        merged.push(option.to_owned());
    }
    Ok(tmpfs_point(clean(target), merged.join(",")))
}

fn tmpfs_point(destination: String, options: String) -> PlannedMount {
    let read_write = !options.split(',').any(|option| option == "ro");
    let point = MountPoint {
        kind: "tmpfs".into(),
        destination,
        read_write,
        options,
        ..MountPoint::default()
    };
    PlannedMount {
        point,
        ..PlannedMount::default()
    }
}

/// Takes over the binds and volumes of another container: `container[:ro|:rw]`.
fn volumes_from(
    spec: &str,
    find: &dyn Fn(&str) -> Result<std::sync::Arc<Container>>,
) -> Result<Vec<PlannedMount>> {
    let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
    if name.is_empty() {
        return Err(EngineError::invalid(format!(
            "invalid volumes-from specification: '{spec}'"
        )));
    }
    let options =
        parse_mode(mode).ok_or_else(|| EngineError::invalid(format!("invalid mode: {mode}")))?;
    let other = find(name)?;
    let take = |point: &MountPoint| {
        let mut point = point.clone();
        point.anonymous = false;
        point.read_write = point.read_write && !options.read_only;
        let volume = point.kind == "volume";
        PlannedMount {
            point,
            volume,
            ..PlannedMount::default()
        }
    };
    Ok(other
        .mounts
        .iter()
        .filter(|point| point.kind != "tmpfs")
        .map(take)
        .collect())
}

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

#[derive(Debug, Default, PartialEq, Eq)]
struct Mode {
    read_only: bool,
    no_copy: bool,
    propagation: String,
}

fn is_mode(text: &str) -> bool {
    !text.is_empty() && parse_mode(text).is_some()
}

/// Parses a comma list with at most one word of each class (spec runtime §4).
fn parse_mode(text: &str) -> Option<Mode> {
    let mut mode = Mode::default();
    if text.is_empty() {
        return Some(mode);
    }
    let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    for word in text.split(',') {
        match word {
            "ro" | "rw" => {
                access += 1;
                mode.read_only = word == "ro";
            }
            "z" | "Z" => label += 1,
            "nocopy" => {
                copy += 1;
                mode.no_copy = true;
            }
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            _ if PROPAGATIONS.contains(&word) && mode.propagation.is_empty() => {
                word.clone_into(&mut mode.propagation)
            }
            _ => return None,
        }
    }
    (access <= 1 && label <= 1 && copy <= 1 && consistency <= 1).then_some(mode)
}

/// Checks a volume name.
pub(crate) fn check_volume_name(name: &str) -> Result<()> {
    if identity::is_valid_name(name) {
        return Ok(());
    }
    let text = if name.len() < 2 {
        "volume name is too short, names should be at least two alphanumeric characters".to_owned()
    } else {
        format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )
    };
    Err(EngineError::invalid(text))
}

/// Checks a volume driver: only `local` exists here.
pub(crate) fn check_driver(driver: &str) -> Result<()> {
    if driver.is_empty() || driver == "local" {
        return Ok(());
    }
    Err(EngineError::not_found(format!(
        "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
    )))
}

/// Cleans an absolute path by its text, as Go's `path.Clean` does.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Result<std::sync::Arc<Container>> {
        Err(EngineError::not_found("No such container"))
    }

    #[test]
    fn binds() {
        for (raw, expected) in [
            ("/a:/b", Ok("bind /a /b rw rprivate")),
            ("/a:/b:ro", Ok("bind /a /b ro rprivate")),
            ("/a:/b:ro,rshared", Ok("bind /a /b ro rshared")),
            ("name:/b:ro", Ok("volume  /b ro ")),
            ("/a:/b:x", Err("invalid mode: x")),
            ("/a:/", Err("destination can't be '/'")),
            ("/a:b", Err("mount path must be absolute")),
            (":/b", Err("invalid volume specification")),
            ("n!:/b", Err("includes invalid characters")),
        ] {
            let config = HostConfig {
                binds: vec![raw.into()],
                ..Default::default()
            };
            match (plan(&config, std::iter::empty(), &none), expected) {
                (Ok(mounts), Ok(text)) => {
                    let p = &mounts[0].point;
                    let access = if p.read_write { "rw" } else { "ro" };
                    assert_eq!(
                        format!(
                            "{} {} {} {access} {}",
                            p.kind, p.source, p.destination, p.propagation
                        ),
                        text,
                        "{raw}"
                    );
                }
                (Err(error), Err(text)) => {
                    assert!(error.message().contains(text), "{raw}: {error}")
                }
                (got, _) => panic!("{raw}: {got:?}"),
            }
        }
    }

    #[test]
    fn duplicates_and_image_volumes() {
        let config = HostConfig {
            binds: vec!["/a:/b".into(), "/c:/b/".into()],
            ..Default::default()
        };
        assert_eq!(
            plan(&config, std::iter::empty(), &none)
                .unwrap_err()
                .message(),
            "Duplicate mount point: /b"
        );
        let config = HostConfig {
            binds: vec!["/a:/b".into()],
            ..Default::default()
        };
        let mounts = plan(
            &config,
            ["/b".to_owned(), "/data".to_owned()].into_iter(),
            &none,
        )
        .unwrap();
        assert_eq!(mounts.len(), 2);
        assert!(mounts[1].point.anonymous && mounts[1].copy_up);
    }
}
