//! Control groups: limits, freezing, killing and figures of a container, version 1 and 2
//! (kernel `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst`; spec runtime §9).

mod device_program;
mod devices;
mod layout;
mod limits;
mod stats;
mod tree;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

use crate::error::{Result, RuntimeError};
pub use layout::{Hierarchy, Layout, layout};
pub use stats::{BlockIoEntry, CpuStats, MemoryStats, PidsStats, Stats, ThrottlingStats};
use wharf_safefs::trusted;

/// The longest control file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How long a freeze or thaw is waited for.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a group with dying processes is waited for before it is removed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// One container's group, in every hierarchy.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    namespace: bool,
    layout: &'static Layout,
}

impl Cgroup {
    /// Names a group from the hierarchies' roots; `namespace` tells whether the container gets a
    /// cgroup namespace of its own.
    ///
    /// # Errors
    /// [`RuntimeError::Invalid`] for a path that is not absolute or holds `.` or `..`.
    pub fn new(path: &str, namespace: bool) -> Result<Self> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        let valid = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(plain));
        if !valid {
            let reason = format!("{path:?} is not an absolute path of plain names");
            return Err(RuntimeError::invalid("cgroup path", reason));
        }
        Ok(Self {
            path: path.to_owned(),
            namespace,
            layout: layout()?,
        })
    }

    /// Returns the names of the groups below a path, in any hierarchy.
    pub fn list(parent: &str) -> Vec<String> {
        let Ok(layout) = layout() else {
            return Vec::new();
        };
        let mut names: Vec<String> = layout
            .directories(parent)
            .iter()
            .flat_map(|directory| tree::children(directory))
            .filter_map(|child| Some(child.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the group's path from the hierarchies' roots.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Says whether the container gets a cgroup namespace of its own.
    pub fn namespace(&self) -> bool {
        self.namespace
    }

    /// Says whether the host uses version 2 only.
    pub fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2 { .. })
    }

    /// Returns version 2's mount point.
    pub fn v2_mount(&self) -> &Path {
        match self.layout {
            Layout::V2 { mount } => mount,
            Layout::V1 { .. } => Path::new("/sys/fs/cgroup"),
        }
    }

    /// Returns version 1's hierarchies; none on version 2.
    pub fn v1_hierarchies(&self) -> &[Hierarchy] {
        match self.layout {
            Layout::V1 { hierarchies, .. } => hierarchies,
            Layout::V2 { .. } => &[],
        }
    }

    /// Makes the group with its limits and device rules.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<()> {
        match self.layout {
            Layout::V1 { hierarchies, .. } => {
                for hierarchy in hierarchies {
                    tree::create_v1(hierarchy, &self.path)?;
                }
            }
            Layout::V2 { mount } => tree::create_v2(mount, &self.path)?,
        }
        let Some(resources) = resources else {
            return Ok(());
        };
        self.apply(resources)?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        match self.layout {
            Layout::V1 { .. } => {
                devices::apply_v1(rules, |file, rule| self.write("devices", file, rule))
            }
            Layout::V2 { .. } => devices::apply_v2(rules, &self.directory("")),
        }
    }

    /// Sets limits; what `resources` does not name stays as it is.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let settings = if self.is_v2() {
            limits::v2(resources)?
        } else {
            limits::v1(resources)?
        };
        let mut postponed = Vec::new();
        for setting in &settings {
            let result = self.write(setting.controller, &setting.file, &setting.value);
            match result {
                // Memory and memory+swap bound each other: the one that does not fit yet goes last.
                Err(RuntimeError::Io { ref source, .. })
                    if source.raw_os_error() == Some(libc::EINVAL)
                        && setting.controller == "memory" =>
                {
                    postponed.push(setting);
                }
                result => self.applied(setting, result)?,
            }
        }
        for setting in postponed {
            let result = self.write(setting.controller, &setting.file, &setting.value);
            self.applied(setting, result)?;
        }
        Ok(())
    }

    /// Puts the kernel's answer to a limit into the words clients know.
    fn applied(&self, setting: &limits::Setting, result: Result<()>) -> Result<()> {
        let Err(RuntimeError::Io { source, .. }) = &result else {
            return result;
        };
        let Some(errno) = source.raw_os_error() else {
            return result;
        };
        let path = self.directory(setting.controller).join(&setting.file);
        Err(RuntimeError::refused(format!(
            "unable to start container process: unable to apply cgroup configuration: failed to write {:?}: write {}: {}",
            setting.value,
            path.display(),
            crate::error::errno_text(errno)
        )))
    }

    /// Puts a process into the group.
    ///
    /// On version 1 the first write after an idle moment waits 8 to 18 ms for the kernel (an RCU
    /// grace period); see [`crate::warm_cgroups`].
    pub fn attach(&self, pid: u32) -> Result<()> {
        let pid = pid.to_string();
        match self.layout {
            Layout::V1 { hierarchies, .. } => hierarchies.iter().try_for_each(|hierarchy| {
                write_file(&hierarchy.directory(&self.path).join("cgroup.procs"), &pid)
            }),
            Layout::V2 { mount } => {
                write_file(&below(mount, &self.path).join("cgroup.procs"), &pid)
            }
        }
    }

    /// Opens the group's directory for `CLONE_INTO_CGROUP`; none on version 1.
    pub fn open_for_clone(&self) -> Result<Option<OwnedFd>> {
        if !self.is_v2() {
            return Ok(None);
        }
        let directory = trusted::open(self.directory(""))?;
        Ok(Some(OwnedFd::from(directory)))
    }

    /// Stops every process of the group where it is.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets every process of the group go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let (file, value) = match (self.is_v2(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        loop {
            self.write("freezer", file, value)?;
            match self.is_frozen() {
                // Who was killed while it was frozen ends on the thaw, and the group may go with it.
                Err(RuntimeError::File(error)) if error.is_not_found() && !frozen => return Ok(()),
                is_frozen => {
                    if is_frozen? == frozen {
                        return Ok(());
                    }
                }
            }
            if Instant::now() >= deadline {
                let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
                let action = if frozen { "freeze" } else { "thaw" };
                return Err(RuntimeError::io(format!("{action} {}", self.path), timeout));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a process of the group that was killed end, be the group frozen: version 1 freezes signals too, and a
    /// process thaws outside its group.
    pub fn let_die(&self, pid: u32) -> Result<()> {
        if self.is_v2() || !self.is_frozen()? {
            return Ok(());
        }
        let hierarchies = self.v1_hierarchies().iter();
        for hierarchy in hierarchies.filter(|hierarchy| hierarchy.has("freezer")) {
            write_file(
                &hierarchy.directory("/").join("cgroup.procs"),
                &pid.to_string(),
            )?;
        }
        Ok(())
    }

    /// Says whether the group is frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        if self.is_v2() {
            let events = self.read("freezer", "cgroup.events")?;
            return Ok(events.lines().any(|line| line == "frozen 1"));
        }
        Ok(self.read("freezer", "freezer.state")?.trim() == "FROZEN")
    }

    /// Returns the processes of the group and those below it.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut processes = Vec::new();
        tree::collect_processes(&self.directory("pids"), &mut processes, 0)?;
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }

    /// Kills every process of the group; returns whether there was any.
    pub fn kill_all(&self) -> Result<bool> {
        let processes = self.processes()?;
        if self.is_v2() && self.write("", "cgroup.kill", "1").is_ok() {
            return Ok(!processes.is_empty());
        }
        for pid in &processes {
            if let Ok(pid) = i32::try_from(*pid) {
                // SAFETY: plain system call; the process was listed in our group a moment ago.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        Ok(!processes.is_empty())
    }

    /// Returns how many processes of the group the kernel killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.is_v2() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        // Without a memory controller nobody is killed by it.
        let text = self.read("memory", file).unwrap_or_default();
        limits::keyed(&text, "oom_kill").unwrap_or(0)
    }

    /// Reads the group's figures.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    /// Removes the group, waiting a moment for processes that are ending.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for directory in self.layout.directories(&self.path) {
            tree::remove(&directory, deadline, 0)?;
        }
        Ok(())
    }

    /// Returns the group's directory in a controller's hierarchy (any name on version 2).
    pub(crate) fn directory(&self, controller: &str) -> PathBuf {
        match self.layout {
            Layout::V2 { mount } => below(mount, &self.path),
            Layout::V1 { hierarchies, .. } => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.has(controller))
                .or(hierarchies.first())
                .map(|hierarchy| hierarchy.directory(&self.path))
                .unwrap_or_default(),
        }
    }

    pub(crate) fn read(&self, controller: &str, file: &str) -> Result<String> {
        read_text(&self.directory(controller).join(file))
    }

    fn write(&self, controller: &str, file: &str, value: &str) -> Result<()> {
        if let Layout::V1 { hierarchies, .. } = self.layout
            && !hierarchies
                .iter()
                .any(|hierarchy| hierarchy.has(controller))
        {
            return Err(RuntimeError::Unsupported {
                what: format!("{file}: the {controller} controller of this host"),
            });
        }
        write_file(&self.directory(controller).join(file), value)
    }
}

/// Returns a directory beneath a hierarchy's mount point.
pub(crate) fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Reads a control file as text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = trusted::read_limited(path, MAX_FILE_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a control file in one go.
pub(crate) fn write_file(path: &Path, value: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    let mut file = trusted::open_with(path, &options)?;
    file.write_all(value.as_bytes())
        .map_err(|error| RuntimeError::io(format!("write {value:?} to {}", path.display()), error))
}
