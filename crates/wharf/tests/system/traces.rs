//! What an engine leaves in the kernel and on disk, to be counted before and after.

use crate::harness::Daemon;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Everything that carries a daemon's name or lies in its directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Shims and containers: processes with the test's directory in their arguments or groups.
    pub processes: BTreeSet<String>,
    /// Mounts that any process sees.
    pub mounts: BTreeSet<String>,
    pub cgroups: BTreeSet<String>,
    pub interfaces: usize,
    pub firewall_elements: usize,
    pub directories: BTreeSet<String>,
    pub open_files: usize,
}

impl Traces {
    /// Looks at what there is now.
    pub fn of(daemon: &Daemon) -> Self {
        let instance = instance(daemon);
        let own = daemon.path("").display().to_string();
        let mut traces = Self::default();
        for process in numbers("/proc") {
            let read =
                |name: &str| std::fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
            let groups = String::from_utf8_lossy(&read("cgroup")).into_owned();
            let holds = |fd: &str| {
                std::fs::read_link(format!("/proc/{process}/fd/{fd}"))
                    .is_ok_and(|target| target.starts_with(daemon.path("")))
            };
            let is_own = process == std::process::id() || process == daemon.pid();
            let is_shim = !is_own
                && children(Path::new(&format!("/proc/{process}/fd")))
                    .iter()
                    .any(|fd| holds(fd));
            if is_shim || groups.contains(&format!("/{instance}/")) {
                let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
                traces.processes.insert(format!("{process} {name}"));
            }
            // Mount namespaces of containers count too, whoever keeps them alive.
            let mounts = String::from_utf8_lossy(&read("mountinfo")).into_owned();
            let found = mounts.lines().filter(|line| line.contains(&own));
            traces.mounts.extend(found.map(str::to_owned));
        }
        for hierarchy in ["memory", "pids", "freezer", ""] {
            let parent = Path::new("/sys/fs/cgroup").join(hierarchy).join(&instance);
            traces.cgroups.extend(children(&parent));
        }
        let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        let digits = instance.rsplit('-').next().unwrap_or_default();
        let bridge = format!("wh{digits}");
        traces.interfaces = links.lines().filter(|line| line.contains(&bridge)).count();
        let table = Command::new("nft").args(["list", "ruleset"]).output();
        let table = table.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        traces.firewall_elements = own_tables(&table.unwrap_or_default(), digits);
        for name in [
            "root/containers",
            "root/volumes",
            "root/tmp",
            "run/containers",
        ] {
            let found = children(&daemon.path(name));
            traces
                .directories
                .extend(found.into_iter().map(|child| format!("{name}/{child}")));
        }
        traces.open_files = children(Path::new(&format!("/proc/{}/fd", daemon.pid()))).len();
        traces
    }
}

/// Returns the name that the kernel objects of a daemon carry.
pub fn instance(daemon: &Daemon) -> String {
    wharf_engine::instance_name(&daemon.path("root"))
}

fn children(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.path().starts_with("/sys") || entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn numbers(directory: &str) -> Vec<u32> {
    let names = children(Path::new(directory)).into_iter();
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Counts the lines of the tables of one engine.
fn own_tables(ruleset: &str, digits: &str) -> usize {
    let mut inside = false;
    let lines = ruleset.lines().filter(|line| {
        if line.starts_with("table ") {
            inside = line.contains(digits);
        }
        inside
    });
    lines.count()
}
