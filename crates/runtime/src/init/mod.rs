//! Making a container's processes: planning, cloning, and talking to them until they execute.

pub mod child;
mod command;
pub mod confinement;
pub mod console;
pub mod mount_plan;
pub mod mounts;
pub mod namespaces;
pub mod options;
pub mod overlay;
pub mod patience;
pub mod plan;
pub mod privileges;
pub mod reaper;
pub mod report;
pub mod streams;
mod sysctl;
mod working_directory;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use wharf_safefs::trusted;

use crate::cgroup::Cgroup;
use crate::error::{Result, RuntimeError, errno_text};
use crate::init::namespaces::{PidNamespaceScope, plan_namespaces};
use crate::init::plan::{InitPlan, ProcessPlan, SeccompFilter};
use crate::init::report::{GROUPED, REPORT_BYTES, Report, ReportKind, START};
use crate::init::streams::{Streams, make_streams};
use crate::request::{LaunchRequest, Stdio};
use crate::socket;
use crate::sys::{self, Cloned};

/// The words around every error while a container is set up, as clients know them.
const CREATE_FRAME: &str = "failed to create task for container: failed to create shim task: \
     OCI runtime create failed: runc create failed: unable to start container process: \
     error during container init: ";

/// The words around every error of an exec.
const EXEC_FRAME: &str =
    "OCI runtime exec failed: exec failed: unable to start container process: ";

/// How long a process may take from clone to "ready" (a network mount may be slow), and to exec.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// `f_type` of procfs (`linux/magic.h`).
const PROC_MAGIC: i64 = 0x9fa0;

/// A process that is set up and waits for its start.
pub struct Spawned {
    /// Its number on the host.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// Where it reports and is told to start.
    pub sync: OwnedFd,
    /// The shim's ends of its standard streams.
    pub streams: Streams,
    /// What it was made from, for errors.
    pub process: ProcessPlan,
}

/// What a process said.
enum Event {
    Console(OwnedFd),
    Ready,
    Failed(Report),
    Closed,
}

/// Sets a container up to just before exec, in its control group.
///
/// # Errors
/// [`RuntimeError::Start`] with the frame clients know for what fails inside; the process is gone then.
pub fn create(
    request: &LaunchRequest,
    network_namespace: Option<OwnedFd>,
    seccomp: Option<SeccompFilter>,
    cgroup: &Cgroup,
) -> Result<Spawned> {
    let (mut plan, flags, pid_namespace) = plan_init(request, network_namespace, seccomp, cgroup)?;
    let (streams, ends) = make_streams(request.stdio)?;
    if let Some(ends) = &ends {
        plan.process.stdio = ends.numbers();
    }
    let (sync, child_sync) =
        socket::pair(libc::SOCK_SEQPACKET).map_err(|e| os("make a socket", e))?;
    let group = cgroup.open_for_clone()?;
    let group = group.as_ref().map(std::os::fd::AsFd::as_fd);
    let _scope = pid_namespace.map(PidNamespaceScope::enter).transpose()?;
    // SAFETY: the shim has one thread.
    let (pid, pidfd) = match unsafe { sys::clone3(flags, group) } {
        Ok(Cloned::Child) => child::run_init(&plan, child_sync.as_raw_fd()),
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Err(errno) => return Err(os("clone the container's process", errno)),
    };
    drop((ends, child_sync));
    let mut spawned = Spawned {
        pid,
        pidfd,
        sync,
        streams,
        process: std::mem::replace(&mut plan.process, ProcessPlan::placeholder()),
    };
    let placed =
        place(&spawned, cgroup, &spawned.process).and_then(|()| announce_group(&spawned, cgroup));
    let result = placed.and_then(|()| {
        await_ready(
            &mut spawned,
            None,
            |report, process| {
                // Descriptions of mounts need the plan, those of the process its own part.
                match report.describe_setup(&plan) {
                    Some(text) => text,
                    None => report.describe_process(process),
                }
            },
            CREATE_FRAME,
        )
    });
    match result {
        Ok(()) => Ok(spawned),
        Err(error) => {
            patience::abandon(spawned.pid, &spawned.pidfd, cgroup);
            Err(error)
        }
    }
}

/// Executes a process that is set up.
///
/// # Errors
/// [`RuntimeError::Start`] with the frame clients know; the process is gone then.
pub fn start(spawned: &mut Spawned) -> Result<()> {
    execute(spawned, None, CREATE_FRAME)
}

fn execute(spawned: &Spawned, group: Option<&Cgroup>, frame: &str) -> Result<()> {
    sys::write(spawned.sync.as_raw_fd(), &[START])
        .map_err(|errno| os("start the process", errno))?;
    match next_event(spawned.sync.as_raw_fd(), group)? {
        Event::Closed => Ok(()),
        Event::Failed(report) => {
            let text = report.describe_process(&spawned.process);
            Err(RuntimeError::Start {
                message: format!("{frame}{text}"),
            })
        }
        Event::Ready | Event::Console(_) => Err(RuntimeError::Protocol {
            reason: "unexpected report at start".to_owned(),
        }),
    }
}

/// Sets one more process of a running container up and executes it.
///
/// # Errors
/// [`RuntimeError::Start`] with the frame clients know; [`RuntimeError::Paused`] if the group was frozen before
/// the process was executed. The process is gone then.
pub fn exec(
    mut process: ProcessPlan,
    stdio: Stdio,
    container: RawFd,
    cgroup: &Cgroup,
) -> Result<Spawned> {
    let (streams, ends) = make_streams(stdio)?;
    if let Some(ends) = &ends {
        process.stdio = ends.numbers();
    }
    let (sync, child_sync) =
        socket::pair(libc::SOCK_SEQPACKET).map_err(|e| os("make a socket", e))?;
    let group = cgroup.open_for_clone()?;
    let group = group.as_ref().map(std::os::fd::AsFd::as_fd);
    let scope = PidNamespaceScope::enter_process(container)?;
    // SAFETY: the shim has one thread.
    let (pid, pidfd) = match unsafe { sys::clone3(0, group) } {
        Ok(Cloned::Child) => child::run_exec(&process, container, child_sync.as_raw_fd()),
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Err(errno) => return Err(os("clone a process", errno)),
    };
    drop((scope, ends, child_sync));
    let mut spawned = Spawned {
        pid,
        pidfd,
        sync,
        streams,
        process,
    };
    let describe = |report: &Report, process: &ProcessPlan| report.describe_process(process);
    let result = place(&spawned, cgroup, &spawned.process)
        .and_then(|()| await_ready(&mut spawned, Some(cgroup), describe, EXEC_FRAME))
        .and_then(|()| execute(&spawned, Some(cgroup), EXEC_FRAME));
    match result {
        Ok(()) => Ok(spawned),
        Err(error) => {
            patience::abandon(spawned.pid, &spawned.pidfd, cgroup);
            Err(error)
        }
    }
}

/// Puts a new process where it belongs while it sets itself up.
fn place(spawned: &Spawned, cgroup: &Cgroup, process: &ProcessPlan) -> Result<()> {
    let score = process.oom_score_adj.to_string();
    let path = format!("/proc/{}/oom_score_adj", spawned.pid);
    let current = crate::cgroup::read_text(Path::new(&path))?;
    if current.trim() != score {
        crate::cgroup::write_file(Path::new(&path), &score)?;
    }
    if !cgroup.is_v2() {
        cgroup.attach(spawned.pid.unsigned_abs())?;
    }
    Ok(())
}

/// Tells a container's first process that it is in its group, where it then makes a namespace of it.
/// A later process joins that namespace and waits for nothing.
fn announce_group(spawned: &Spawned, cgroup: &Cgroup) -> Result<()> {
    if cgroup.namespace() {
        sys::write(spawned.sync.as_raw_fd(), &[GROUPED])
            .map_err(|errno| os("place the process", errno))?;
    }
    Ok(())
}

fn await_ready(
    spawned: &mut Spawned,
    group: Option<&Cgroup>,
    describe: impl Fn(&Report, &ProcessPlan) -> String,
    frame: &str,
) -> Result<()> {
    loop {
        match next_event(spawned.sync.as_raw_fd(), group)? {
            Event::Ready => return Ok(()),
            Event::Console(master) => spawned.streams.terminal = Some(master),
            Event::Failed(report) => {
                let text = describe(&report, &spawned.process);
                return Err(RuntimeError::Start {
                    message: format!("{frame}{text}"),
                });
            }
            Event::Closed => {
                return Err(RuntimeError::Start {
                    message: format!("{frame}the process ended before it was ready"),
                });
            }
        }
    }
}

fn next_event(sync: RawFd, group: Option<&Cgroup>) -> Result<Event> {
    if !patience::await_readable(sync, group, SETUP_TIMEOUT)? {
        return Err(RuntimeError::Start {
            message: format!("{CREATE_FRAME}no answer within {SETUP_TIMEOUT:?}"),
        });
    }
    let mut buffer = [0; REPORT_BYTES];
    let (length, descriptors) = match socket::receive(sync, &mut buffer) {
        // A killed process leaves what we sent it unread.
        Err(libc::ECONNRESET) => return Ok(Event::Closed),
        result => result.map_err(|errno| os("hear from the process", errno))?,
    };
    if length == 0 {
        return Ok(Event::Closed);
    }
    let report = buffer.get(..length).and_then(Report::from_bytes);
    let [descriptor, ..] = descriptors;
    match (report, descriptor) {
        (Some(report), _) if report.kind == ReportKind::Ready => Ok(Event::Ready),
        (Some(report), _) if report.kind == ReportKind::Failed => Ok(Event::Failed(report)),
        (Some(_), Some(master)) => Ok(Event::Console(master)),
        _ => Err(RuntimeError::Protocol {
            reason: "unreadable report".to_owned(),
        }),
    }
}

fn plan_init(
    request: &LaunchRequest,
    network_namespace: Option<OwnedFd>,
    seccomp: Option<SeccompFilter>,
    cgroup: &Cgroup,
) -> Result<(InitPlan, u64, Option<OwnedFd>)> {
    let spec = &request.spec;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| RuntimeError::invalid("spec", "no process"))?;
    if spec.hooks().is_some() {
        return Err(RuntimeError::Unsupported {
            what: "an OCI hook".to_owned(),
        });
    }
    let mut process = ProcessPlan::new(process, request.stdio.tty, seccomp)?;
    if let Some(size) = request.stdio.console_size
        && process.terminal.is_some()
    {
        process.terminal = Some(Some(size));
    }
    let namespaces = plan_namespaces(spec, network_namespace)?;
    let plan = InitPlan {
        join: namespaces.join,
        loopback: namespaces.flags & libc::CLONE_NEWNET as u64 != 0,
        cgroup_namespace: cgroup.namespace(),
        hostname: name_bytes(spec.hostname().as_deref()),
        domainname: name_bytes(spec.domainname().as_deref()),
        sysctls: sysctl::plan_sysctls(spec)?,
        proc: open_proc()?,
        mounts: mount_plan::plan_mounts(spec, &request.root, &request.state_dir, cgroup)?,
        init: request.init,
        process,
    };
    Ok((plan, namespaces.flags, namespaces.pid))
}

fn name_bytes(name: Option<&str>) -> Option<Vec<u8>> {
    name.filter(|name| !name.is_empty())
        .map(|name| name.as_bytes().to_vec())
}

/// Opens `/proc/sys` of the host's procfs and makes sure that it is one.
fn open_proc() -> Result<OwnedFd> {
    let directory = OwnedFd::from(trusted::open("/proc/sys")?);
    match sys::filesystem_type(directory.as_raw_fd()) {
        Ok(PROC_MAGIC) => Ok(directory),
        Ok(_) => Err(RuntimeError::Unsupported {
            what: "a host whose /proc is not procfs".to_owned(),
        }),
        Err(errno) => Err(os("look at /proc", errno)),
    }
}

fn os(action: &str, errno: i32) -> RuntimeError {
    RuntimeError::io(action, std::io::Error::from_raw_os_error(errno))
}

/// Returns the exit code a failed start stands for (spec engine-api §7.4).
pub fn start_failure_code(message: &str) -> i32 {
    let message = message.to_lowercase();
    let has = |text: &str| message.contains(text);
    if has("permission denied") || has("is a directory") || has(&errno_text(libc::ENOEXEC)) {
        126
    } else if has("not a directory")
        || has("executable file not found")
        || has("no such file or directory")
    {
        127
    } else {
        128
    }
}
