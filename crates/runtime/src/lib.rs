//! Containers: namespaces, mounts, control groups, system call filters, and the shim that is their
//! parent.
//!
//! [`launch`] spawns a shim, which sets a container up to just before exec; [`Shim`] starts it,
//! attaches to it, executes more processes in it and waits for it. The shim survives the daemon:
//! [`Shim::connect`] finds it again, and its exit status is kept when nobody is there.
//!
//! Nothing of a container is ever mounted in the host's mount namespace; only what the driver options of a
//! volume name is ([`mount_volume`]).

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)
)]

pub mod apparmor;
pub mod capabilities;
mod cgroup;
mod claim;
mod client;
pub mod defaults;
mod detached;
mod error;
mod group;
mod host;
mod init;
mod launch;
mod protocol;
mod request;
mod seccomp;
mod shim;
pub mod signals;
mod socket;
mod state;
mod sweep;
mod sys;
pub mod users;
mod volume;
mod warm;

pub use cgroup::{BlockIoEntry, CpuStats, MemoryStats, PidsStats, Stats, ThrottlingStats};
pub use client::Shim;
pub use detached::{mount_detached, open_root};
pub use error::{Result, RuntimeError};
pub use group::{peak_memory_bytes, peak_processes, remove_cgroup};
pub use host::{HostInfo, SupportedLimits, host};
pub use init::mount_plan::MAX_MOUNTS;
pub use init::overlay::MAX_LOWER_DIRS;
pub use init::start_failure_code;
pub use launch::launch;
pub use request::{
    AttachRequest, ExecRequest, ExecStarted, ExitStatus, ExternalRuntime, LaunchRequest,
    LogAddress, LogConfig, LogDriver, LogIdentity, LogTls, RemoteLog, RootMount, Started, Stdio,
    SyslogConfig, SyslogFormat,
};
pub use shim::{SHIM_ARGUMENT, shim_main};
pub use sweep::{remove_remains, sweep};
pub use volume::{is_mount_point, mount_volume, unmount_volume};
pub use warm::warm_cgroups;
