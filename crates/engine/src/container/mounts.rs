//! From binds, mounts and image volumes to a container's mount points (spec runtime §4).

use crate::error::{EngineError, ErrorKind, Result};
use crate::identity;
use crate::model::container::{Container, MountPoint};
use crate::model::host_config::{HostConfig, MountRequest};
pub(crate) use crate::mount_syntax::clean;
use crate::mount_syntax::{self, DEFAULT_PROPAGATION, ParsedMount};
use std::collections::BTreeMap;
use std::path::Path;
use wharf_safefs::trusted;

/// Propagation of binds that hold the data root, or lie in it: what is mounted there later is seen.
const DATA_ROOT_PROPAGATION: &str = "rslave";

/// A mount point and what has to be done for it when the container is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PlannedMount {
    pub point: MountPoint,
    pub need: Need,
}

/// What a mount needs before the container is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Need {
    /// Nothing, or nothing before the start.
    #[default]
    Nothing,
    /// The volume named by the mount point; made if it is missing.
    Volume {
        /// An empty volume takes over the image's files.
        copy_up: bool,
        /// Labels of a volume that is made.
        labels: BTreeMap<String, String>,
        /// Driver options of a volume that is made.
        driver_options: BTreeMap<String, String>,
    },
    /// A volume that another container has already.
    ExistingVolume,
    /// The layers of the image named by the mount point.
    Image,
}

/// Whose mounts are planned.
pub(crate) struct Plan<'a> {
    /// What is asked for.
    pub host_config: &'a HostConfig,
    /// Paths of the config that are volumes.
    pub config_volumes: Vec<String>,
    /// Read-only mounts leave what is mounted below them writable.
    pub read_only_top_only: bool,
    /// The engine's data root.
    pub data_root: &'a Path,
    /// Finds another container.
    pub find: &'a dyn Fn(&str) -> Result<std::sync::Arc<Container>>,
}

impl Plan<'_> {
    /// Plans all mounts of a container: volumes of other containers, then binds, mounts, then an anonymous
    /// volume for every path of the config that nothing covers.
    ///
    /// # Errors
    /// Docker's texts for malformed entries and for two mounts at one path.
    pub(crate) fn mounts(&self) -> Result<Vec<PlannedMount>> {
        let mut mounts: BTreeMap<String, PlannedMount> = BTreeMap::new();
        for source in &self.host_config.volumes_from {
            for mount in self.volumes_from(source)? {
                mounts.insert(mount.point.destination.clone(), mount);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for raw in &self.host_config.binds {
            let mount = self.bind(raw)?;
            let destination = mount.point.destination.clone();
            if self.host_config.tmpfs.contains_key(&destination)
                || !seen.insert(destination.clone())
            {
                return Err(duplicate(&destination));
            }
            mounts.insert(destination, mount);
        }
        for request in &self.host_config.mounts {
            let mount = self.mount(request)?;
            let destination = mount.point.destination.clone();
            if !seen.insert(destination.clone()) {
                return Err(duplicate(&request.target));
            }
            mounts.insert(destination, mount);
        }
        for path in &self.config_volumes {
            let destination = clean(path);
            if destination == "/" {
                return Err(EngineError::invalid(
                    "invalid volume specification: '/': destination can't be '/'",
                ));
            }
            let covered = mounts.contains_key(&destination)
                || self.host_config.tmpfs.contains_key(&destination);
            if !covered {
                let driver = &self.host_config.volume_driver;
                mounts.insert(destination.clone(), config_volume(destination, driver)?);
            }
        }
        Ok(mounts.into_values().collect())
    }

    fn bind(&self, raw: &str) -> Result<PlannedMount> {
        let (parsed, request) = mount_syntax::parse_bind(raw, &self.host_config.volume_driver)?;
        let mut mount = self.planned(parsed, &request)?;
        mount.point.create_source = mount.point.kind == "bind";
        Ok(mount)
    }

    fn mount(&self, request: &MountRequest) -> Result<PlannedMount> {
        let parsed = mount_syntax::parse_mount(request, &exists_on_host)?;
        let mut mount = self.planned(parsed, request)?;
        let point = &mut mount.point;
        let options = request.bind.clone().unwrap_or_default();
        point.create_source = options.create_mountpoint;
        point.non_recursive = options.non_recursive;
        point.read_only_top_only |= options.read_only_non_recursive;
        if point.kind == "tmpfs" {
            point.options =
                mount_syntax::tmpfs::tmpfs_options(request.tmpfs.as_ref(), request.read_only)?;
        }
        Ok(mount)
    }

    fn planned(&self, parsed: ParsedMount, request: &MountRequest) -> Result<PlannedMount> {
        let mut point = MountPoint {
            kind: parsed.kind,
            name: parsed.name,
            source: parsed.source,
            destination: parsed.destination,
            mode: parsed.mode,
            read_write: parsed.read_write,
            propagation: parsed.propagation,
            ..MountPoint::default()
        };
        let need = match point.kind.as_str() {
            "volume" => {
                let options = request.volume.clone().unwrap_or_default();
                check_driver(&parsed.driver)?;
                if point.name.is_empty() {
                    point.anonymous = true;
                    point.name = identity::random_id()?;
                } else {
                    check_volume_name(&point.name)?;
                }
                "local".clone_into(&mut point.driver);
                if point.mode.is_empty() {
                    // What docker writes, for SELinux' sake.
                    "z".clone_into(&mut point.mode);
                }
                point.subpath = options.subpath;
                Need::Volume {
                    copy_up: parsed.copy_data,
                    labels: options.labels,
                    driver_options: options.driver_options,
                }
            }
            "image" => {
                point.name = std::mem::take(&mut point.source);
                point.read_write = false;
                point.subpath = request.image.clone().unwrap_or_default().subpath;
                Need::Image
            }
            "bind" => {
                self.check_data_root(&mut point, request)?;
                point.read_only_top_only = self.read_only_top_only;
                Need::Nothing
            }
            _ => Need::Nothing,
        };
        Ok(PlannedMount { point, need })
    }

    /// Gives binds around the data root a propagation that never holds on to what is mounted there.
    fn check_data_root(&self, point: &mut MountPoint, request: &MountRequest) -> Result<()> {
        let source = Path::new(&point.source);
        if !source.starts_with(self.data_root) && !self.data_root.starts_with(source) {
            return Ok(());
        }
        let own = request.bind.as_ref().map(|options| &options.propagation);
        match own.map_or("", String::as_str) {
            "" => {
                DATA_ROOT_PROPAGATION.clone_into(&mut point.propagation);
                point.propagation_by_default = true;
                Ok(())
            }
            DATA_ROOT_PROPAGATION | "rshared" => Ok(()),
            other => Err(EngineError::invalid(format!(
                "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {:?}, bind mount source: {:?}, propagation: {other:?}",
                self.data_root, point.source
            ))),
        }
    }

    /// Takes over the mounts of another container: `container[:ro|:rw]`.
    fn volumes_from(&self, spec: &str) -> Result<Vec<PlannedMount>> {
        let (name, mode) = mount_syntax::parse_volumes_from(spec)?;
        let other = (self.find)(name)
            .map_err(|error| EngineError::new(ErrorKind::Invalid, error.message()))?;
        let take = |point: &MountPoint| {
            let mut point = point.clone();
            point.mode.clear();
            point.read_write = point.read_write && mount_syntax::is_writable(mode);
            let need = if point.kind == "volume" {
                Need::ExistingVolume
            } else {
                Need::Nothing
            };
            PlannedMount { point, need }
        };
        Ok(other.mounts.iter().map(take).collect())
    }
}

fn duplicate(destination: &str) -> EngineError {
    EngineError::invalid(format!("Duplicate mount point: {destination}"))
}

fn config_volume(destination: String, driver: &str) -> Result<PlannedMount> {
    check_driver(driver)?;
    let point = MountPoint {
        kind: "volume".into(),
        name: identity::random_id()?,
        destination,
        driver: "local".into(),
        read_write: true,
        anonymous: true,
        ..MountPoint::default()
    };
    let need = Need::Volume {
        copy_up: true,
        labels: BTreeMap::new(),
        driver_options: BTreeMap::new(),
    };
    Ok(PlannedMount { point, need })
}

/// Says whether a path exists on the host, whatever it is.
pub(crate) fn exists_on_host(path: &str) -> bool {
    trusted::exists(path).unwrap_or(false)
}

/// Checks a volume name.
pub(crate) fn check_volume_name(name: &str) -> Result<()> {
    if identity::is_valid_name(name) {
        return Ok(());
    }
    let text = if name.len() < 2 {
        format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    } else {
        format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
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

/// Returns the propagation that a mount's source must allow, if it is more than docker's default.
pub(crate) fn wanted_propagation(point: &MountPoint) -> Option<&str> {
    let propagation = point.propagation.as_str();
    (!matches!(propagation, "" | "private" | DEFAULT_PROPAGATION)).then_some(propagation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Result<std::sync::Arc<Container>> {
        Err(EngineError::not_found("No such container"))
    }

    fn plan(host_config: &HostConfig, volumes: &[&str]) -> Result<Vec<PlannedMount>> {
        Plan {
            host_config,
            config_volumes: volumes.iter().map(|path| (*path).to_owned()).collect(),
            read_only_top_only: false,
            data_root: Path::new("/data/root"),
            find: &none,
        }
        .mounts()
    }

    fn binds(raw: &[&str]) -> HostConfig {
        HostConfig {
            binds: raw.iter().map(|bind| (*bind).to_owned()).collect(),
            ..HostConfig::default()
        }
    }

    #[test]
    fn binds_become_mount_points() {
        for (raw, expected) in [
            ("/a:/b", Ok("bind /a /b rw rprivate")),
            ("/a:/b:ro,rshared", Ok("bind /a /b ro rshared")),
            ("name:/b:ro", Ok("volume  /b ro ")),
            ("/data:/b", Ok("bind /data /b rw rslave")),
            (
                "/data/root/x:/b:rshared",
                Ok("bind /data/root/x /b rw rshared"),
            ),
            ("/data:/b:private", Err("must use either propagation mode")),
            ("/a:/b:x", Err("invalid mode: x")),
            ("n!:/b", Err("includes invalid characters")),
        ] {
            match (plan(&binds(&[raw]), &[]), expected) {
                (Ok(mounts), Ok(text)) => {
                    let p = &mounts[0].point;
                    let access = if p.read_write { "rw" } else { "ro" };
                    let found = format!(
                        "{} {} {} {access} {}",
                        p.kind, p.source, p.destination, p.propagation
                    );
                    assert_eq!(found, text, "{raw}");
                }
                (Err(error), Err(text)) => {
                    assert!(error.message().contains(text), "{raw}: {error}");
                }
                (got, _) => panic!("{raw}: {got:?}"),
            }
        }
    }

    #[test]
    fn duplicates_and_image_volumes() {
        let twice = plan(&binds(&["/a:/b", "/c:/b/"]), &[]).unwrap_err();
        assert_eq!(twice.message(), "Duplicate mount point: /b");
        let mounts = plan(&binds(&["/a:/b"]), &["/b", "/data"]).unwrap();
        assert_eq!(mounts.len(), 2);
        assert!(mounts[1].point.anonymous);
        assert!(matches!(mounts[1].need, Need::Volume { copy_up: true, .. }));
    }
}
