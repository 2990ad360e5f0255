//! Everything the new process needs, prepared before it is cloned, so that it allocates nothing.

use std::ffi::{CString, c_char};
use std::os::fd::{OwnedFd, RawFd};

use oci_spec::runtime::{LinuxCapabilities, PosixRlimitType, Process};

use crate::capabilities;
use crate::error::{Result, RuntimeError, errno_text};
use crate::init::confinement::ProfileRequest;
use crate::init::mount_plan::MountsPlan;

/// The most arguments and environment variables of a process together.
pub const MAX_ARGUMENTS: usize = 1 << 17;

/// The most supplementary groups (`NGROUPS_MAX`).
pub const MAX_GROUPS: usize = 65_536;

/// What a container's first process does between clone and exec.
pub struct InitPlan {
    /// Namespaces to enter: descriptor and kind.
    pub join: Vec<(OwnedFd, i32)>,
    /// Whether the new network namespace's loopback device is brought up.
    pub loopback: bool,
    /// Whether a cgroup namespace is made once the process is in its control group.
    pub cgroup_namespace: bool,
    /// Host name and domain name.
    pub hostname: Option<Vec<u8>>,
    /// See `hostname`.
    pub domainname: Option<Vec<u8>>,
    /// Kernel parameters: path below `/proc/sys` and value.
    pub sysctls: Vec<(CString, Vec<u8>)>,
    /// A verified descriptor of the host's procfs.
    pub proc: OwnedFd,
    /// The root and all that is mounted below it.
    pub mounts: MountsPlan,
    /// Whether a small init stays as process 1.
    pub init: bool,
    /// The process itself.
    pub process: ProcessPlan,
}

/// What every process of a container does last: identity, limits, filter, exec.
pub struct ProcessPlan {
    /// The command as it was given, for errors.
    pub command: String,
    /// The files to try, in order.
    pub candidates: Vec<CString>,
    /// Whether the command was searched in `PATH`.
    pub searched: bool,
    argv: StringVector,
    envp: StringVector,
    /// The working directory, from the container's root.
    pub cwd: CString,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Capability sets as bit masks.
    pub capabilities: CapabilitySets,
    /// Whether exec never gains privileges.
    pub no_new_privileges: bool,
    /// What asks the kernel for an AppArmor profile.
    pub apparmor: Option<ProfileRequest>,
    /// The compiled seccomp filter, 8 bytes an instruction.
    pub seccomp: Option<SeccompFilter>,
    /// Limits: resource, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The terminal: none for pipes, else its size as (height, width) if known.
    pub terminal: Option<Option<(u16, u16)>>,
    /// Standard input, output, error of a process without a terminal.
    pub stdio: [RawFd; 3],
    /// The kernel's out-of-memory preference, written from outside.
    pub oom_score_adj: i32,
}

/// A seccomp filter ready for the kernel.
#[derive(Clone)]
pub struct SeccompFilter {
    /// `sock_filter` instructions.
    pub program: std::sync::Arc<[libc::sock_filter]>,
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
}

/// Capability sets as bit masks (`capabilities(7)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What exec may ever give.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What exec keeps for files with inheritable capabilities.
    pub inheritable: u64,
    /// What exec keeps.
    pub ambient: u64,
}

/// A null-terminated vector of C strings, ready for `execve(2)`.
pub struct StringVector {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl StringVector {
    fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }

    /// Returns the vector as the kernel takes it.
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

impl ProcessPlan {
    /// Prepares a process from its OCI form; `default_oom_score_adj` counts where it names none.
    ///
    /// # Errors
    /// [`RuntimeError::Invalid`] for what cannot be carried out, named by field.
    pub fn new(process: &Process, terminal: bool, seccomp: Option<SeccompFilter>) -> Result<Self> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let environment = process.env().as_deref().unwrap_or_default();
        if arguments.len() + environment.len() > MAX_ARGUMENTS {
            let reason = format!("more than {MAX_ARGUMENTS} arguments and variables");
            return Err(RuntimeError::invalid("process", reason));
        }
        let command = arguments
            .first()
            .cloned()
            .ok_or_else(|| RuntimeError::invalid("process.args", "no command specified"))?;
        let searched = !command.contains('/');
        let candidates = if searched {
            search_path(&command, environment)?
        } else {
            vec![c_string("process.args", &command)?]
        };
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        if groups.len() > MAX_GROUPS {
            let reason = format!("more than {MAX_GROUPS} supplementary groups");
            return Err(RuntimeError::invalid("process.user.additionalGids", reason));
        }
        refuse_unsupported(process)?;
        Ok(Self {
            candidates,
            searched,
            argv: StringVector::new(c_strings("process.args", arguments)?),
            envp: StringVector::new(c_strings("process.env", environment)?),
            cwd: working_directory(process)?,
            uid: user.uid(),
            gid: user.gid(),
            groups,
            umask: user.umask().unwrap_or(0o022),
            capabilities: capability_sets(process.capabilities().as_ref()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: ProfileRequest::new(process)?,
            seccomp,
            rlimits: resource_limits(process)?,
            terminal: terminal.then(|| console_size(process)),
            stdio: [-1; 3],
            oom_score_adj: process.oom_score_adj().unwrap_or(0),
            command,
        })
    }

    /// Returns a plan of nothing, to leave behind where one was taken out.
    pub fn placeholder() -> Self {
        Self {
            command: String::new(),
            candidates: Vec::new(),
            searched: false,
            argv: StringVector::new(Vec::new()),
            envp: StringVector::new(Vec::new()),
            cwd: CString::default(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            umask: 0o022,
            capabilities: CapabilitySets::default(),
            no_new_privileges: false,
            apparmor: None,
            seccomp: None,
            rlimits: Vec::new(),
            terminal: None,
            stdio: [-1; 3],
            oom_score_adj: 0,
        }
    }

    /// Returns the arguments for `execve(2)`.
    pub fn argv(&self) -> &StringVector {
        &self.argv
    }

    /// Returns the environment for `execve(2)`.
    pub fn envp(&self) -> &StringVector {
        &self.envp
    }
}

fn refuse_unsupported(process: &Process) -> Result<()> {
    let asks = |name: &Option<String>| {
        let name = name.as_deref();
        name.is_some_and(|name| !matches!(name, "" | "unconfined"))
    };
    let unsupported = [
        (asks(process.selinux_label()), "an SELinux label"),
        (process.io_priority().is_some(), "an I/O priority"),
        (process.scheduler().is_some(), "a scheduler policy"),
        (
            process.exec_cpu_affinity().is_some(),
            "an exec CPU affinity",
        ),
    ];
    match unsupported.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(RuntimeError::Unsupported {
            what: (*what).to_owned(),
        }),
        None => Ok(()),
    }
}

fn search_path(command: &str, environment: &[String]) -> Result<Vec<CString>> {
    let path = environment
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or_default();
    // An empty element would mean the working directory; it is never searched.
    path.split(':')
        .filter(|directory| !directory.is_empty() && !command.is_empty())
        .map(|directory| c_string("process.env", &format!("{directory}/{command}")))
        .collect()
}

fn working_directory(process: &Process) -> Result<CString> {
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        let reason = format!("{} is not an absolute path", cwd.display());
        return Err(RuntimeError::invalid("process.cwd", reason));
    }
    c_string("process.cwd", &cwd.to_string_lossy())
}

fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let height = u16::try_from(size.height()).ok()?;
    let width = u16::try_from(size.width()).ok()?;
    Some((height, width))
}

fn capability_sets(sets: Option<&LinuxCapabilities>) -> CapabilitySets {
    let Some(sets) = sets else {
        return CapabilitySets::default();
    };
    let known = capabilities::known_mask();
    let mask = |set: &Option<_>| set.as_ref().map_or(0, capabilities::mask) & known;
    CapabilitySets {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        permitted: mask(sets.permitted()),
        inheritable: mask(sets.inheritable()),
        ambient: mask(sets.ambient()),
    }
}

fn resource_limits(process: &Process) -> Result<Vec<(u32, u64, u64)>> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    let mut prepared = Vec::with_capacity(limits.len());
    for limit in limits {
        let resource = resource_number(limit.typ());
        if limit.soft() > limit.hard() {
            // What the kernel would say, without the pains of getting there.
            return Err(RuntimeError::refused(format!(
                "unable to start container process: error during container init: error setting rlimits for ready process: error setting rlimit type {resource}: {}",
                errno_text(libc::EINVAL)
            )));
        }
        check_hard_limit(resource, &limit.typ().to_string(), limit.hard())?;
        prepared.push((resource, limit.soft(), limit.hard()));
    }
    Ok(prepared)
}

/// Refuses a hard limit above the current one where the machine does not let us raise it.
fn check_hard_limit(resource: u32, name: &str, hard: u64) -> Result<()> {
    let mut current = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    let result = unsafe { libc::getrlimit(resource, &raw mut current) };
    let may_raise = capabilities::effective_mask() & capabilities::SYS_RESOURCE != 0;
    if result == 0 && hard > current.rlim_max && !may_raise {
        let reason = format!(
            "{name}: hard limit {hard} is above {}, and raising it needs CAP_SYS_RESOURCE",
            current.rlim_max
        );
        return Err(RuntimeError::invalid("ulimit", reason));
    }
    Ok(())
}

fn resource_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// Turns text into a C string, refusing a NUL byte inside.
pub fn c_string(what: &'static str, text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| RuntimeError::invalid(what, format!("{text:?} holds a NUL byte")))
}

fn c_strings(what: &'static str, texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().map(|text| c_string(what, text)).collect()
}
