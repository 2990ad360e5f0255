//! Namespaces of a container: which are new, which are joined.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use crate::init::os;
use crate::sys;

/// Namespaces of a container: new ones by `CLONE_NEW*` flags, and those of others that it joins.
#[derive(Default)]
pub(super) struct Namespaces {
    /// Flags for `clone3(2)`.
    pub(super) flags: u64,
    /// Descriptors to join, each with its kind.
    pub(super) join: Vec<(OwnedFd, i32)>,
    /// The pid namespace to join, which is done before the clone.
    pub(super) pid: Option<OwnedFd>,
}

/// Reads which namespaces are new and which are joined; `network` stands for any network namespace listed.
pub(super) fn plan_namespaces(spec: &Spec, network: Option<OwnedFd>) -> Result<Namespaces> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default();
    // The mount namespace is always new: nothing is ever mounted on the host.
    let mut plan = Namespaces {
        flags: libc::CLONE_NEWNS as u64,
        ..Namespaces::default()
    };
    let has_network = network.is_some();
    if let Some(fd) = network {
        plan.join.push((fd, libc::CLONE_NEWNET));
    }
    for namespace in listed {
        let kind = namespace.typ();
        let flag = kind as i32;
        let unsupported = |what: &str| RuntimeError::Unsupported {
            what: what.to_owned(),
        };
        match (kind, namespace.path()) {
            (LinuxNamespaceType::User, _) => return Err(unsupported("a user namespace")),
            (LinuxNamespaceType::Mount, None) => {}
            (LinuxNamespaceType::Mount, Some(_)) => {
                return Err(unsupported("joining a mount namespace"));
            }
            (LinuxNamespaceType::Cgroup, None) => {}
            (LinuxNamespaceType::Network, _) if has_network => {}
            (LinuxNamespaceType::Time, None) => plan.flags |= flag as u64,
            (_, None) => plan.flags |= u64::from(flag.unsigned_abs()),
            (LinuxNamespaceType::Pid, Some(path)) => {
                plan.pid = Some(OwnedFd::from(trusted::open(path)?));
            }
            (_, Some(path)) => {
                let fd = OwnedFd::from(trusted::open(path)?);
                plan.join.push((fd, flag));
            }
        }
    }
    Ok(plan)
}

/// Says whether a container gets a cgroup namespace of its own.
pub fn wants_cgroup_namespace(spec: &Spec) -> bool {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default()
        .iter()
        .any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Cgroup && namespace.path().is_none()
        })
}

/// Says whether a container's processes all end with its first one.
pub fn has_own_pid_namespace(spec: &Spec) -> bool {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default()
        .iter()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none())
}

/// While it lives, new children of the shim are made in another pid namespace.
pub(super) struct PidNamespaceScope {
    own: OwnedFd,
}

impl PidNamespaceScope {
    /// Takes a descriptor of a namespace.
    pub(super) fn enter(namespace: OwnedFd) -> Result<Self> {
        Self::enter_process(namespace.as_raw_fd())
    }

    /// Takes a pidfd or a descriptor of a namespace.
    pub(super) fn enter_process(fd: RawFd) -> Result<Self> {
        let own = OwnedFd::from(trusted::open("/proc/self/ns/pid")?);
        match sys::setns(fd, libc::CLONE_NEWPID) {
            Ok(()) => Ok(Self { own }),
            Err(libc::ESRCH) => Err(RuntimeError::NotRunning),
            Err(errno) => Err(os("enter the pid namespace", errno)),
        }
    }
}

impl Drop for PidNamespaceScope {
    fn drop(&mut self) {
        // Going back to the own namespace is always allowed (pid_namespaces(7)).
        let _ = sys::setns(self.own.as_raw_fd(), libc::CLONE_NEWPID);
    }
}
