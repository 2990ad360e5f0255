//! What is wrong with a mount of the long form, in docker's words.

use crate::error::{EngineError, Result};
use crate::model::host_config::MountRequest;
use crate::mount_syntax::tmpfs::tmpfs_options;
use crate::mount_syntax::{PROPAGATIONS, clean};

/// Checks the long form; without `exists` it does not matter whether a bind's source is there.
pub(super) fn check(request: &MountRequest, exists: Option<&dyn Fn(&str) -> bool>) -> Result<()> {
    check_parts(request, exists).map_err(|text| {
        EngineError::invalid(format!(
            "invalid mount config for type \"{}\": {text}",
            request.kind
        ))
    })
}

fn check_parts(
    request: &MountRequest,
    exists: Option<&dyn Fn(&str) -> bool>,
) -> Result<(), String> {
    check_foreign_options(request)?;
    if request.target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    check_target(&request.target)?;
    match request.kind.as_str() {
        "bind" => check_bind(request, exists),
        "volume" => match &request.volume {
            Some(options) if !options.subpath.is_empty() && request.source.is_empty() => {
                Err("must not set Subpath when using anonymous volumes".to_owned())
            }
            Some(options) => check_subpath(&options.subpath),
            None => Ok(()),
        },
        "tmpfs" if !request.source.is_empty() => Err("field Source must not be specified".into()),
        "tmpfs" => tmpfs_options(request.tmpfs.as_ref(), request.read_only)
            .map(drop)
            .map_err(|error| error.message().to_owned()),
        "image" if request.source.is_empty() => Err("field Source must not be empty".to_owned()),
        "image" => {
            let options = request.image.as_ref();
            check_subpath(options.map_or("", |options| &options.subpath))
        }
        _ => Err("mount type unknown".to_owned()),
    }
}

/// Refuses options of another type than the mount's.
fn check_foreign_options(request: &MountRequest) -> Result<(), String> {
    let given = [
        ("bind", "BindOptions", request.bind.is_some()),
        ("volume", "VolumeOptions", request.volume.is_some()),
        ("image", "ImageOptions", request.image.is_some()),
        ("tmpfs", "TmpfsOptions", request.tmpfs.is_some()),
        ("cluster", "ClusterOptions", request.cluster_options),
    ];
    let foreign = given
        .iter()
        .find(|(kind, _, given)| *given && request.kind != *kind);
    match foreign {
        Some((_, field, _)) => Err(format!("field {field} must not be specified")),
        None => Ok(()),
    }
}

/// Refuses the root and relative paths.
pub(super) fn check_target(target: &str) -> Result<(), String> {
    if clean(&target.replace('\\', "/")) == "/" && target.starts_with(['/', '\\']) {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    check_absolute(target)
}

fn check_absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!(
        "invalid mount path: '{path}' mount path must be absolute"
    ))
}

fn check_bind(request: &MountRequest, exists: Option<&dyn Fn(&str) -> bool>) -> Result<(), String> {
    if request.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let options = request.bind.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    check_absolute(&request.source)?;
    match exists {
        Some(exists) if !options.create_mountpoint && !exists(&request.source) => Err(format!(
            "bind source path does not exist: {}",
            request.source
        )),
        _ => Ok(()),
    }
}

/// Checks a path inside a volume: relative, and not leading out of it by its text.
fn check_subpath(subpath: &str) -> Result<(), String> {
    let mut depth = 0_i32;
    let stays_inside = subpath.split('/').all(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth >= 0
    });
    if stays_inside && !subpath.starts_with('/') {
        return Ok(());
    }
    Err("subpath must be a relative path within the volume".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_volumes_stay_inside() {
        for (path, inside) in [
            ("a/b", true),
            ("a/../b", true),
            ("../a", false),
            ("a/../../b", false),
            ("/a", false),
            ("", true),
        ] {
            assert_eq!(check_subpath(path).is_ok(), inside, "{path}");
        }
    }
}
