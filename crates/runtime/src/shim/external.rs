//! Containers made by an OCI runtime program (runc, crun, youki, …): the shim drives the program and stays
//! the parent of what it makes (OCI runtime specification, "Operations"; spec runtime §10).
//!
//! The root file system is mounted in a mount namespace of the shim's own, where the program finds it
//! as the bundle's `rootfs`; the host never sees it.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio as ProcessStdio};
use std::time::Duration;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use wharf_safefs::trusted;

use crate::cgroup::Cgroup;
use crate::error::{Result, RuntimeError};
use crate::init::console;
use crate::init::overlay::{RootPlan, plan_root};
use crate::init::patience;
use crate::init::plan::c_string;
use crate::init::streams::{ChildEnds, Streams, make_streams};
use crate::request::{ExternalRuntime, LaunchRequest, RootMount, Stdio};
use crate::socket;
use crate::sys;

/// The version that programs are told the spec has: the newest that all take that Debian ships (runc from 1.1,
/// crun from 1.8). What later versions added is left out by a program that does not know it.
const SPEC_VERSION: &str = "1.0.2";

/// How every error begins while a container is made, as clients know it.
const CREATE_FRAME: &str =
    "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
/// The same for a start.
const START_FRAME: &str = "failed to create task for container: OCI runtime start failed: ";
/// The same for an exec.
const EXEC_FRAME: &str = "OCI runtime exec failed: ";

/// The longest log, process number or diagnostic of a program that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// How long a program that has succeeded may take to hand over the terminal.
const TERMINAL_TIMEOUT: Duration = Duration::from_secs(10);
/// `f_flags` of a mount that is read-only.
const READ_ONLY: libc::c_ulong = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;

/// A container of a runtime program.
pub struct External {
    runtime: ExternalRuntime,
    id: String,
    /// `config.json`, `rootfs`, and what passes between the shim and the program.
    bundle: PathBuf,
    /// Where the program keeps its own state.
    root: PathBuf,
    /// The network namespace, which the spec names by this descriptor.
    _network: Option<OwnedFd>,
}

/// A process that a program made.
pub struct Made {
    /// Its number on the host.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The shim's ends of its standard streams.
    pub streams: Streams,
}

impl External {
    /// Makes a container up to just before its command is executed.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with the program's own words in the frame clients know;
    /// [`RuntimeError::Unsupported`] for what only the built-in runtime does.
    pub fn create(
        request: &LaunchRequest,
        runtime: &ExternalRuntime,
        network: Option<OwnedFd>,
    ) -> Result<(Self, Made)> {
        if request.init {
            return Err(RuntimeError::Unsupported {
                what: "an init process (--init) with an external runtime".to_owned(),
            });
        }
        let external = Self {
            runtime: runtime.clone(),
            id: request.id.clone(),
            bundle: request.state_dir.join("bundle"),
            root: request.state_dir.join("runtime"),
            _network: network,
        };
        for directory in [&external.bundle, &external.root] {
            trusted::remove_all(directory)?;
            trusted::create_dir_all(directory, 0o700)?;
        }
        let rootfs = external.bundle.join("rootfs");
        trusted::create_dir_all(&rootfs, 0o755)?;
        leave_mount_namespace()?;
        mount_root(&request.root, &rootfs)?;
        external.write("config.json", &external.spec(request)?)?;
        let made = external.make(request.stdio, CREATE_FRAME, None, |command| {
            command.arg("create").arg("--bundle").arg(&external.bundle);
        });
        if made.is_err() {
            external.delete();
        }
        Ok((external, made?))
    }

    /// Executes the command of a container that was made.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with the program's own words.
    pub fn start(&self) -> Result<()> {
        let mut command = self.command();
        command.arg("start").arg(&self.id);
        let (status, text) = self.run(command, &Streams::default(), None)?;
        self.check(status, START_FRAME, text)
    }

    /// Executes one more process.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with the program's own words; [`RuntimeError::Paused`] if the group was frozen before
    /// the program had done.
    pub fn exec(&self, process: &Process, stdio: Stdio, group: &Cgroup) -> Result<Made> {
        self.write("process.json", process)?;
        let made = self.make(stdio, EXEC_FRAME, Some(group), |command| {
            command
                .args(["exec", "--detach", "--process"])
                .arg(self.bundle.join("process.json"));
        });
        match made {
            // A program that looked itself: runc's words, then crun's.
            Err(RuntimeError::Start { message })
                if message.contains("cannot exec in a paused container")
                    || message.ends_with("is paused") =>
            {
                Err(RuntimeError::Paused)
            }
            made => made,
        }
    }

    /// Lets the program clean up; what it leaves is found by the control group and the state directory.
    pub fn delete(&self) {
        let mut command = self.command();
        command.args(["delete", "--force"]).arg(&self.id);
        let _swept_later = self.run(command, &Streams::default(), None);
    }

    /// Returns the spec as the program gets it: with the root, the control group and the network that
    /// the request names beside it.
    fn spec(&self, request: &LaunchRequest) -> Result<Spec> {
        let mut spec = request.spec.clone();
        spec.set_version(SPEC_VERSION.to_owned());
        let mut root = spec.root().clone().unwrap_or_default();
        root.set_path(PathBuf::from("rootfs"));
        spec.set_root(Some(root));
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_cgroups_path(Some(PathBuf::from(&request.cgroup_path)));
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        if let Some(network) = &self._network {
            let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
            let mut own = oci_spec::runtime::LinuxNamespace::default();
            own.set_typ(LinuxNamespaceType::Network)
                .set_path(Some(path.into()));
            namespaces.push(own);
        }
        linux.set_namespaces(Some(namespaces));
        spec.set_linux(Some(linux));
        Ok(spec)
    }

    /// Lets the program make a process and takes hold of it.
    fn make(
        &self,
        stdio: Stdio,
        frame: &str,
        group: Option<&Cgroup>,
        verb: impl Fn(&mut Command),
    ) -> Result<Made> {
        let (mut streams, ends) = make_streams(stdio)?;
        let pid_file = self.bundle.join("pid");
        let mut command = self.command();
        verb(&mut command);
        command.arg("--pid-file").arg(&pid_file);
        let listener = stdio.tty.then(|| self.listen()).transpose()?;
        if let Some((_, address)) = &listener {
            command.arg("--console-socket").arg(address);
        }
        command.arg(&self.id);
        if let Some(ChildEnds {
            stdin,
            stdout,
            stderr,
        }) = ends
        {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        let (status, text) = self.run(command, &streams, group)?;
        self.check(status, frame, text)?;
        if let Some((listener, _)) = listener {
            streams.terminal = Some(receive_terminal(&listener)?);
            if let (Some(terminal), Some((height, width))) = (&streams.terminal, stdio.console_size)
            {
                console::resize(terminal.as_raw_fd(), height, width)
                    .map_err(|errno| os("resize the terminal", errno))?;
            }
        }
        let text = trusted::read_to_string(&pid_file, MAX_TEXT_BYTES)?;
        let pid: i32 = text.trim().parse().map_err(|_| RuntimeError::Protocol {
            reason: format!("{} holds no process number: {text:?}", pid_file.display()),
        })?;
        let pidfd = patience::open_process(pid)?;
        Ok(Made {
            pid,
            pidfd,
            streams,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime.program);
        command
            .args(&self.runtime.arguments)
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json"])
            .env_clear()
            .env("PATH", crate::defaults::PATH)
            .current_dir(&self.bundle)
            .stdin(ProcessStdio::null())
            .stdout(ProcessStdio::null())
            .stderr(ProcessStdio::null());
        // SAFETY: only signal(2) and umask(2) are called, which allocate nothing.
        unsafe {
            command.pre_exec(|| {
                // What the shim ignores would stay ignored in the container.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                libc::umask(0o022);
                Ok(())
            });
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    /// Runs the program to its end, or until the group, if one is given, is frozen; returns what it said on the
    /// standard error it was given, if it failed.
    fn run(
        &self,
        mut command: Command,
        streams: &Streams,
        group: Option<&Cgroup>,
    ) -> Result<(ExitStatus, String)> {
        match trusted::remove_file(self.log()) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let failed =
            |error| RuntimeError::io(format!("run {}", self.runtime.program.display()), error);
        let status = match group {
            Some(group) => patience::run(&mut command, group, failed)?,
            None => command.status().map_err(failed)?,
        };
        // The command holds the process's ends: a failed program's text ends only without them.
        drop(command);
        let mut text = Vec::new();
        if !status.success()
            && let Some(stderr) = &streams.stderr
            && let Ok(stderr) = stderr.try_clone()
        {
            // Only what tells more about a failure that is told anyway.
            let _ = std::fs::File::from(stderr)
                .take(MAX_TEXT_BYTES)
                .read_to_end(&mut text);
        }
        Ok((status, String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// Turns a program's failure into an error in its own words: the last error of its log, else
    /// what it wrote to standard error.
    fn check(&self, status: ExitStatus, frame: &str, text: String) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let log = trusted::read_to_string(self.log(), MAX_TEXT_BYTES).unwrap_or_default();
        let reason = last_error(&log)
            .or_else(|| (!text.is_empty()).then_some(text))
            .unwrap_or_else(|| format!("{} ended with {status}", self.runtime.program.display()));
        Err(RuntimeError::Start {
            message: format!("{frame}{reason}"),
        })
    }

    /// Listens where the program sends a terminal; the address is short enough for a socket's.
    fn listen(&self) -> Result<(UnixListener, PathBuf)> {
        let name = "terminal.sock";
        match trusted::remove_file(self.bundle.join(name)) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let io = |error| RuntimeError::io("listen for the terminal", error);
        let directory = OwnedFd::from(trusted::open(&self.bundle)?);
        let short = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        // The program runs in the bundle, which is where it finds the name.
        Ok((listener, PathBuf::from(name)))
    }

    fn write(&self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        crate::state::write(&self.bundle, name, value)
    }
}

/// Returns the message of the last error in a log of JSON lines.
fn last_error(log: &str) -> Option<String> {
    let message = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = entry.get("level")?.as_str()?;
        let text = entry.get("msg")?.as_str()?;
        matches!(level, "error" | "fatal" | "panic").then(|| text.to_owned())
    };
    log.lines().rev().find_map(message)
}

/// Moves the shim into a mount namespace of its own, from which nothing gets back to the host.
fn leave_mount_namespace() -> Result<()> {
    sys::unshare(libc::CLONE_NEWNS).map_err(|errno| os("leave the mount namespace", errno))?;
    mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)
        .map_err(|errno| os("keep mounts from the host", errno))
}

/// Mounts a container's root at a directory of the bundle.
fn mount_root(root: &RootMount, target: &Path) -> Result<()> {
    let failed = |errno| os("mount the root file system", errno);
    let path = target
        .to_str()
        .ok_or_else(|| RuntimeError::invalid("state directory", "not UTF-8"))?;
    let target = c_string("root", path)?;
    match plan_root(root)? {
        RootPlan::Overlay { base, options } => {
            change_directory(&base).map_err(failed)?;
            let overlay = c"overlay";
            let mounted = mount(Some(overlay), &target, Some(overlay), 0, Some(&options));
            change_directory(c"/").map_err(failed)?;
            mounted.map_err(failed)
        }
        RootPlan::Directory { path, readonly } => {
            mount(Some(&path), &target, None, libc::MS_BIND, None).map_err(failed)?;
            if readonly {
                mount(None, &target, None, READ_ONLY, None).map_err(failed)?;
            }
            Ok(())
        }
    }
}

fn mount(
    source: Option<&std::ffi::CStr>,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    options: Option<&CString>,
) -> sys::SysResult<()> {
    let pointer = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: all strings are null-terminated and outlive the call.
    let result = unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(options.map(CString::as_c_str)).cast(),
        )
    };
    sys::check(result.into()).map(drop)
}

fn change_directory(path: &std::ffi::CStr) -> sys::SysResult<()> {
    // SAFETY: the path is null-terminated.
    sys::check(unsafe { libc::chdir(path.as_ptr()) }.into()).map(drop)
}

/// Receives the terminal that a program has sent.
fn receive_terminal(listener: &UnixListener) -> Result<OwnedFd> {
    let missing = || RuntimeError::Protocol {
        reason: "the runtime sent no terminal".to_owned(),
    };
    await_readable(listener.as_raw_fd());
    let (connection, _) = listener.accept().map_err(|_| missing())?;
    await_readable(connection.as_raw_fd());
    let mut name = [0; 4096];
    let (_, descriptors) = socket::receive(connection.as_raw_fd(), &mut name)
        .map_err(|errno| os("receive the terminal", errno))?;
    let [terminal, ..] = descriptors;
    terminal.ok_or_else(missing)
}

fn await_readable(fd: i32) {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry. What follows fails by itself when the time has passed.
    unsafe { libc::poll(&raw mut poll, 1, TERMINAL_TIMEOUT.as_millis() as i32) };
}

fn os(action: &str, errno: i32) -> RuntimeError {
    RuntimeError::io(action, std::io::Error::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::last_error;

    #[test]
    fn the_last_error_of_a_log_is_told() {
        let log = "{\"level\":\"debug\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n\
            not json\n{\"level\":\"warning\",\"msg\":\"c\"}\n";
        assert_eq!(last_error(log).as_deref(), Some("b"));
        assert_eq!(last_error(""), None);
    }
}
