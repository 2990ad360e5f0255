//! Starting a shim: its executable, its socket, its request.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio as ProcessStdio;
use std::sync::OnceLock;
use std::time::Instant;

use tokio::net::UnixStream;
use wharf_safefs::trusted;

use crate::claim::{self, Claim};
use crate::client::{Shim, receive_message};
use crate::error::{Result, RuntimeError};
use crate::protocol::{self, LaunchMessage, Response};
use crate::request::LaunchRequest;
use crate::shim::SHIM_ARGUMENT;
use crate::{seccomp, socket, sweep, sys};

/// Names another executable for shims than the running one (tests).
const EXECUTABLE_VARIABLE: &str = "WHARF_SHIM_EXE";

/// Spawns a shim, which sets the container up to just before exec ("created").
///
/// The network namespace is entered if given; else the spec's own list counts. Dropping the future
/// or the handle before the start takes the container down again.
///
/// # Errors
/// [`RuntimeError::Start`] for what fails inside, with the text clients know; nothing is left behind.
pub async fn launch(
    request: &LaunchRequest,
    network_namespace: Option<BorrowedFd<'_>>,
) -> Result<Shim> {
    crate::warm_cgroups();
    let mut request = request.clone();
    // An external runtime compiles the profile itself.
    let is_own = request.runtime.is_none();
    let profile = request
        .spec
        .linux_mut()
        .as_mut()
        .filter(|_| is_own)
        .and_then(|linux| std::mem::take(linux.seccomp_mut()));
    let filter = profile.as_ref().map(seccomp::compile_cached).transpose()?;
    let message = LaunchMessage {
        seccomp_bytes: filter.as_ref().map_or(0, |filter| filter.bytes().len()),
        seccomp_flags: filter.as_ref().map_or(0, |filter| filter.flags()),
        has_network_namespace: network_namespace.is_some(),
        request,
    };
    let claim = claim(&message.request.state_dir).await?;
    let launched = launch_shim(&message, filter.as_deref(), &claim, network_namespace).await;
    drop(claim);
    if launched.is_err() {
        let LaunchRequest {
            state_dir,
            cgroup_path,
            ..
        } = message.request;
        // The first error is the one that tells. What stays is removed with the container.
        let _removed_later =
            tokio::task::spawn_blocking(move || sweep::remove_remains(&state_dir, &cgroup_path))
                .await;
    }
    launched
}

/// Takes a state directory for a new shim, and removes what an earlier one left there.
async fn claim(state_dir: &Path) -> Result<Claim> {
    if let Some(claim) = Claim::try_make(state_dir)?
        && trusted::read_dir_sorted(state_dir)?.is_empty()
    {
        return Ok(claim);
    }
    let state_dir = state_dir.to_path_buf();
    let claimed = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + claim::PATIENCE;
        sweep::remove_state(&state_dir, until)?;
        Claim::make(&state_dir, claim::PATIENCE)
    });
    claimed
        .await
        .map_err(|error| io("take a state directory", std::io::Error::other(error)))?
}

/// Spawns a shim and hands it its container.
async fn launch_shim(
    message: &LaunchMessage,
    filter: Option<&seccomp::Filter>,
    claim: &Claim,
    network_namespace: Option<BorrowedFd<'_>>,
) -> Result<Shim> {
    let (launcher, shim_side) = socket::pair(libc::SOCK_STREAM)
        .map_err(|errno| io("make a socket", std::io::Error::from_raw_os_error(errno)))?;
    spawn(shim_side)?;
    let header = protocol::encode(message);
    let network_namespace = network_namespace.as_ref().map(AsRawFd::as_raw_fd);
    let descriptors: Vec<i32> = [claim.as_raw_fd()]
        .into_iter()
        .chain(network_namespace)
        .collect();
    let (prefix, body) = header
        .split_at_checked(protocol::LENGTH_BYTES)
        .unwrap_or_default();
    // The descriptors go with the length alone, which always fits the socket at once.
    socket::send(launcher.as_raw_fd(), prefix, &descriptors)
        .map_err(|errno| io("ask the shim", std::io::Error::from_raw_os_error(errno)))?;
    let launcher = std::os::unix::net::UnixStream::from(launcher);
    let connected = launcher
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(launcher));
    let mut launcher = connected.map_err(|error| io("ask the shim", error))?;
    let filter_bytes = filter.map_or(&[][..], |filter| filter.bytes());
    send_parts(&mut launcher, body, filter_bytes).await?;
    match receive_message(&mut launcher).await? {
        Response::Created { pid } => {
            let request = &message.request;
            let keep = request.stop_on_disconnect;
            Shim::new(
                &request.state_dir,
                pid,
                &request.cgroup_path,
                Some(launcher),
                keep,
            )
        }
        Response::Failed(failure) => Err(failure.into()),
        other => Err(RuntimeError::Protocol {
            reason: format!("unexpected answer {other:?}"),
        }),
    }
}

async fn send_parts(socket: &mut UnixStream, first: &[u8], second: &[u8]) -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut parts = [IoSlice::new(first), IoSlice::new(second)];
    let mut parts = parts.as_mut_slice();
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let sent = socket.write_vectored(parts).await;
        let sent = sent.map_err(|error| io("ask the shim", error))?;
        IoSlice::advance_slices(&mut parts, sent);
    }
    Ok(())
}

/// Starts the shim process; it is reaped in the background.
fn spawn(socket: OwnedFd) -> Result<()> {
    let executable = executable()?;
    let mut command = tokio::process::Command::new(executable.path());
    command
        .arg0("wharf")
        .arg(SHIM_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(ProcessStdio::from(socket))
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null());
    let child = command.spawn();
    let mut child = child.map_err(|error| io("spawn a shim", error))?;
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// What shims are executed from.
///
/// A container's first process runs this file until it executes the command, so a container that
/// executes `/proc/self/exe` gets hold of it (CVE-2019-5736). It is therefore taken from a
/// read-only detached mount, which nobody can remount or write through, or from a sealed copy.
struct Executable {
    file: OwnedFd,
}

impl Executable {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn executable() -> Result<&'static Executable> {
    static EXECUTABLE: OnceLock<Executable> = OnceLock::new();
    if let Some(executable) = EXECUTABLE.get() {
        return Ok(executable);
    }
    let path = match std::env::var_os(EXECUTABLE_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from("/proc/self/exe"),
    };
    let file = match readonly_mount(&path) {
        Ok(file) => file,
        // Deleted, or not of our mount namespace: it can be copied still.
        Err(_) => sealed_copy(&path)?,
    };
    Ok(EXECUTABLE.get_or_init(|| Executable { file }))
}

fn readonly_mount(path: &Path) -> std::result::Result<OwnedFd, i32> {
    let path = path.as_os_str().as_encoded_bytes();
    let path = std::ffi::CString::new(path).map_err(|_| libc::EINVAL)?;
    let mount = sys::open_tree(libc::AT_FDCWD, &path, libc::OPEN_TREE_CLONE)?;
    sys::mount_setattr(mount.as_raw_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    Ok(mount)
}

fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    let action = "seal a copy of the shim's executable";
    let source = trusted::open(path)?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is null-terminated; a descriptor returned is ours.
    let copy = unsafe {
        let fd = libc::memfd_create(c"wharf-shim".as_ptr(), flags);
        sys::check(fd.into())
            .map(|fd| OwnedFd::from_raw_fd(fd as i32))
            .map_err(|errno| io(action, std::io::Error::from_raw_os_error(errno)))?
    };
    let mut target = std::fs::File::from(copy);
    let mut source = source;
    std::io::copy(&mut source, &mut target).map_err(|error| io(action, error))?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: plain system call.
    let sealed = unsafe { libc::fcntl(target.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) };
    sys::check(sealed.into())
        .map_err(|errno| io(action, std::io::Error::from_raw_os_error(errno)))?;
    Ok(OwnedFd::from(target))
}

fn io(action: &str, error: std::io::Error) -> RuntimeError {
    RuntimeError::io(action, error)
}
