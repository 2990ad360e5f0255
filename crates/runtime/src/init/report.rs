//! What a process tells its shim between clone and exec, and the texts made of it.

use crate::error::errno_text;
use crate::init::plan::{InitPlan, ProcessPlan};
use crate::sys::Errno;

/// Bytes of a report.
pub const REPORT_BYTES: usize = 16;

/// The byte the shim sends once the process is in its control group.
pub const GROUPED: u8 = b'g';

/// The byte the shim sends for the process to execute.
pub const START: u8 = b's';

/// A message of the new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What it is about.
    pub kind: ReportKind,
    /// Where in its work the process is.
    pub stage: Stage,
    /// The number of the item within the stage.
    pub index: u32,
    /// The kernel's error number.
    pub errno: Errno,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ReportKind {
    /// The terminal's master side comes with this message.
    Console = 1,
    /// All is set up; waiting for [`START`].
    Ready = 2,
    /// Something failed; the process ends.
    Failed = 3,
}

/// A step between clone and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Before anything.
    Begin,
    /// Entering existing namespaces.
    Join,
    /// Making mounts private.
    Private,
    /// Opening bind sources.
    Source,
    /// Mounting the root.
    Root,
    /// Opening a mount's target.
    Target,
    /// Mounting.
    Mount,
    /// Making a device.
    Device,
    /// Making the terminal.
    Console,
    /// Writing a kernel parameter.
    Sysctl,
    /// Setting the host name.
    Hostname,
    /// Hiding a path.
    Mask,
    /// Making a path read-only.
    Readonly,
    /// Making the working directory and entering it.
    WorkingDirectory,
    /// Changing the root.
    Pivot,
    /// Making the control group namespace.
    CgroupNamespace,
    /// Setting a limit.
    Limit,
    /// Wiring standard input, output, error.
    Stdio,
    /// Changing user and groups.
    User,
    /// Changing capabilities.
    Capabilities,
    /// Installing the filter.
    Seccomp,
    /// Asking for an AppArmor profile.
    AppArmor,
    /// Finding the command: it does not exist.
    Lookup,
    /// Executing.
    Exec,
}

const STAGES: [Stage; 24] = [
    Stage::Begin,
    Stage::Join,
    Stage::Private,
    Stage::Source,
    Stage::Root,
    Stage::Target,
    Stage::Mount,
    Stage::Device,
    Stage::Console,
    Stage::Sysctl,
    Stage::Hostname,
    Stage::Mask,
    Stage::Readonly,
    Stage::WorkingDirectory,
    Stage::Pivot,
    Stage::CgroupNamespace,
    Stage::Limit,
    Stage::Stdio,
    Stage::User,
    Stage::Capabilities,
    Stage::Seccomp,
    Stage::AppArmor,
    Stage::Lookup,
    Stage::Exec,
];

impl Report {
    /// Encodes for the socket.
    pub fn to_bytes(self) -> [u8; REPORT_BYTES] {
        let mut bytes = [0; REPORT_BYTES];
        let words = [
            self.kind as u32,
            self.stage as u32,
            self.index,
            self.errno as u32,
        ];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Decodes what [`Report::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let chunk = bytes.get(index * 4..index * 4 + 4)?;
            Some(u32::from_ne_bytes(chunk.try_into().ok()?))
        };
        let kind = match word(0)? {
            1 => ReportKind::Console,
            2 => ReportKind::Ready,
            3 => ReportKind::Failed,
            _ => return None,
        };
        Some(Self {
            kind,
            stage: *STAGES.get(word(1)? as usize)?,
            index: word(2)?,
            errno: word(3)? as i32,
        })
    }

    /// Says in words what failed while a container was set up; none if it was its process.
    pub fn describe_setup(&self, plan: &InitPlan) -> Option<String> {
        let reason = errno_text(self.errno);
        let index = self.index as usize;
        let mounts = &plan.mounts;
        let name = |path: Option<&std::ffi::CString>| {
            path.map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let text = match self.stage {
            Stage::Source => {
                let path = name(mounts.sources.get(index).map(|source| &source.path));
                format!("error mounting {path:?}: stat {path}: {reason}")
            }
            Stage::Target | Stage::Mount => {
                let mount = mounts.mounts.get(index);
                let target = format!("/{}", name(mount.map(|mount| &mount.target)));
                let source = mount
                    .map(|mount| mount.source_text.as_str())
                    .unwrap_or_default();
                let place = "must be mounted on an ordinary directory";
                if mount.is_some_and(|mount| mount.strict) && self.errno == libc::ELOOP {
                    return Some(format!(
                        "filesystem {source:?} {place}: {target} is a symlink"
                    ));
                }
                let hint = if self.errno == libc::ENOTDIR {
                    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
                } else {
                    ""
                };
                format!(
                    "error mounting {source:?} to rootfs at {target:?}: mount {source}:{target}: {reason}{hint}"
                )
            }
            Stage::Device => {
                let device = mounts
                    .devices
                    .as_ref()
                    .and_then(|devices| devices.get(index));
                let directory = name(device.map(|device| &device.directory));
                let file = name(device.map(|device| &device.name));
                format!("error creating device nodes: mknod /{directory}/{file}: {reason}")
            }
            Stage::Sysctl => {
                let path = name(plan.sysctls.get(index).map(|(path, _)| path));
                format!("open sysctl /proc/sys/{path}: {reason}")
            }
            Stage::Mask => {
                let path = name(mounts.masked.get(index));
                format!("can't mask path \"/{path}\": {reason}")
            }
            Stage::Readonly => {
                let path = name(mounts.readonly.get(index));
                format!("can't make \"/{path}\" read-only: {reason}")
            }
            Stage::Root => format!("error preparing rootfs: {reason}"),
            Stage::Pivot => format!("error jailing process inside rootfs: pivot_root: {reason}"),
            Stage::Hostname => format!("sethostname: {reason}"),
            Stage::Private => format!("error making mounts private: {reason}"),
            Stage::Join => format!("error joining namespaces: {reason}"),
            Stage::CgroupNamespace => format!("unshare cgroup namespace: {reason}"),
            _ => return None,
        };
        Some(text)
    }

    /// Says in words what failed while a process was prepared or executed.
    pub fn describe_process(&self, process: &ProcessPlan) -> String {
        let reason = errno_text(self.errno);
        let command = &process.command;
        match self.stage {
            Stage::Lookup if process.searched => {
                format!("exec: {command:?}: executable file not found in $PATH")
            }
            Stage::Lookup if self.errno == libc::EACCES || self.errno == libc::EISDIR => {
                let denied = if self.errno == libc::EISDIR {
                    ": permission denied"
                } else {
                    ""
                };
                format!("exec: {command:?}: {reason}{denied}")
            }
            Stage::Lookup => format!("exec: {command:?}: stat {command}: {reason}"),
            Stage::Exec => format!("exec {command}: {reason}"),
            Stage::WorkingDirectory => {
                let cwd = process.cwd.to_string_lossy();
                format!("chdir to cwd ({cwd:?}) set in config.json failed: {reason}")
            }
            Stage::Limit => format!("error setting rlimits: {reason}"),
            Stage::User => format!("unable to set user and groups: {reason}"),
            Stage::Capabilities => format!("unable to apply caps: {reason}"),
            Stage::Seccomp => format!("unable to init seccomp: {reason}"),
            Stage::AppArmor => format!(
                "unable to apply apparmor profile: apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec: {reason}"
            ),
            Stage::Console => format!("unable to set up the terminal: {reason}"),
            Stage::Join => format!("error joining the container's namespaces: {reason}"),
            stage => format!("{stage:?}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_socket() {
        for (index, stage) in STAGES.iter().enumerate() {
            let report = Report {
                kind: ReportKind::Failed,
                stage: *stage,
                index: index as u32,
                errno: libc::ENOENT,
            };
            assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes(&[0; 3]), None);
        assert_eq!(Report::from_bytes(&[9; REPORT_BYTES]), None);
    }
}
