//! Where this host's control groups are mounted.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};

/// `f_type` of cgroup2 (`linux/magic.h`).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Mount options of a version 1 hierarchy that are no controllers.
const NO_CONTROLLERS: [&str; 8] = [
    "rw",
    "ro",
    "xattr",
    "clone_children",
    "noprefix",
    "nsdelegate",
    "favordynmods",
    "cpuset_v2_mode",
];

/// The host's control groups.
#[derive(Debug)]
pub enum Layout {
    /// Version 1, also beside a version 2 without controllers ("hybrid").
    V1 {
        /// The mounted hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// Where version 2 is mounted beside them. Nothing is made there, but external runtimes do.
        unified: Option<PathBuf>,
    },
    /// Version 2 only.
    V2 {
        /// The mount point.
        mount: PathBuf,
    },
}

impl Layout {
    /// Returns every directory that a group can have, whoever made it.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        match self {
            Self::V1 {
                hierarchies,
                unified,
            } => hierarchies
                .iter()
                .map(|hierarchy| &hierarchy.mount)
                .chain(unified)
                .map(|mount| super::below(mount, path))
                .collect(),
            Self::V2 { mount } => vec![super::below(mount, path)],
        }
    }
}

/// One version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its mount point.
    pub mount: PathBuf,
    /// Its controllers, or `name=…`.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// Says whether a controller belongs to this hierarchy.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// Returns a group's directory.
    pub fn directory(&self, path: &str) -> PathBuf {
        super::below(&self.mount, path)
    }

    /// Returns the name of the mount point, for example `cpu,cpuacct`.
    pub fn directory_name(&self) -> &str {
        self.mount
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("cgroup")
    }
}

/// Returns the host's layout, looked up once.
pub fn layout() -> Result<&'static Layout> {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    if let Some(layout) = LAYOUT.get() {
        return Ok(layout);
    }
    let found = find()?;
    Ok(LAYOUT.get_or_init(|| found))
}

fn find() -> Result<Layout> {
    let mount = PathBuf::from("/sys/fs/cgroup");
    let directory = trusted::open(&mount)?;
    let kind = crate::sys::filesystem_type(std::os::fd::AsRawFd::as_raw_fd(&directory)).map_err(
        |errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            RuntimeError::io("look at /sys/fs/cgroup", error)
        },
    )?;
    if kind == CGROUP2_MAGIC {
        return Ok(Layout::V2 { mount });
    }
    let mounts = super::read_text(Path::new("/proc/self/mountinfo"))?;
    let (hierarchies, unified) = parse_mounts(&mounts);
    if hierarchies.is_empty() {
        return Err(RuntimeError::Unsupported {
            what: "a host without control groups at /sys/fs/cgroup".to_owned(),
        });
    }
    Ok(Layout::V1 {
        hierarchies,
        unified,
    })
}

/// Finds version 1 hierarchies, and version 2 beside them, in `/proc/self/mountinfo`
/// (`proc_pid_mountinfo(5)`).
fn parse_mounts(mounts: &str) -> (Vec<Hierarchy>, Option<PathBuf>) {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let kind = right.next();
        let options = right.nth(1).unwrap_or_default();
        let Some(mount) = left.split(' ').nth(4) else {
            continue;
        };
        let is_usual = Path::new(mount).starts_with("/sys/fs/cgroup");
        if kind == Some("cgroup2") && is_usual {
            unified.get_or_insert(PathBuf::from(mount));
        }
        if kind != Some("cgroup") {
            continue;
        }
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| {
                !NO_CONTROLLERS.contains(option) && !option.starts_with("release_agent=")
            })
            .map(str::to_owned)
            .collect();
        let known = hierarchies
            .iter()
            .any(|hierarchy| hierarchy.controllers == controllers);
        if !known && !controllers.is_empty() && is_usual {
            hierarchies.push(Hierarchy {
                mount: PathBuf::from(mount),
                controllers,
            });
        }
    }
    (hierarchies, unified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let mounts = "\
25 20 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
29 20 0:23 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct\n";
        let (found, unified) = parse_mounts(mounts);
        assert_eq!(
            unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[0].directory_name(), "cpu,cpuacct");
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert_eq!(
            found[0].directory("/a/b"),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b")
        );
        let layout = Layout::V1 {
            hierarchies: found,
            unified,
        };
        assert_eq!(
            layout.directories("/a").last().map(PathBuf::as_path),
            Some(Path::new("/sys/fs/cgroup/unified/a"))
        );
    }
}
