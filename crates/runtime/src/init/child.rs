//! The first process of a container, from clone to exec. No allocation, raw system calls only.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::init::command::find_command;
use crate::init::confinement::open_host_proc;
use crate::init::console;
use crate::init::mounts::{self, restrictions};
use crate::init::plan::{InitPlan, ProcessPlan};
use crate::init::privileges;
use crate::init::reaper;
use crate::init::report::{GROUPED, Report, ReportKind, START, Stage};
use crate::init::working_directory;
use crate::socket;
use crate::sys::{self, Errno, SysResult};

/// Flags for paths inside the container: resolved as if chrooted, no `/proc/<pid>/fd` links.
pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

/// Where the process is in its work, for the report when something fails.
pub struct Position {
    stage: Stage,
    index: u32,
}

impl Position {
    /// Starts before everything.
    pub fn new() -> Self {
        Self {
            stage: Stage::Begin,
            index: 0,
        }
    }

    /// Enters a stage.
    pub fn at(&mut self, stage: Stage) {
        self.stage = stage;
        self.index = 0;
    }

    /// Enters one item of a stage.
    pub fn at_item(&mut self, stage: Stage, index: usize) {
        self.stage = stage;
        self.index = index as u32;
    }

    fn report(&self, kind: ReportKind, errno: Errno) -> Report {
        Report {
            kind,
            stage: self.stage,
            index: self.index,
            errno,
        }
    }
}

/// Runs the container's first process; does not return.
///
/// Never inlined: its path buffers would become part of the shim's own stack for good.
#[inline(never)]
pub fn run_init(plan: &InitPlan, sync: RawFd) -> ! {
    let mut position = Position::new();
    position.at(Stage::AppArmor);
    let proc = open_host_proc(plan.process.apparmor.as_ref());
    let result = proc.and_then(|proc| {
        set_up(plan, sync, &mut position)?;
        finish(&plan.process, plan.init, proc.as_ref(), sync, &mut position)
    });
    let errno = result.err().unwrap_or(libc::EIO);
    fail(sync, &position, errno)
}

/// Runs one more process of a container; does not return. `namespaces` is a pidfd of its first.
#[inline(never)]
pub fn run_exec(process: &ProcessPlan, namespaces: RawFd, sync: RawFd) -> ! {
    let mut position = Position::new();
    position.at(Stage::AppArmor);
    let proc = open_host_proc(process.apparmor.as_ref());
    let result = proc.and_then(|proc| {
        join_container(process, namespaces, sync, &mut position)?;
        finish(process, false, proc.as_ref(), sync, &mut position)
    });
    let errno = result.err().unwrap_or(libc::EIO);
    fail(sync, &position, errno)
}

fn fail(sync: RawFd, position: &Position, errno: Errno) -> ! {
    let report = position.report(ReportKind::Failed, errno);
    let _ = sys::write(sync, &report.to_bytes());
    sys::exit_now(1)
}

fn set_up(plan: &InitPlan, sync: RawFd, position: &mut Position) -> SysResult<()> {
    position.at(Stage::Join);
    for (fd, kind) in &plan.join {
        sys::setns(fd.as_raw_fd(), *kind)?;
    }
    if plan.loopback {
        // A kernel without IPv4 has no loopback to bring up; nothing is lost by going on.
        let _ = bring_loopback_up();
    }
    // SAFETY: plain system call.
    unsafe { libc::umask(0) };
    if plan.cgroup_namespace {
        position.at(Stage::CgroupNamespace);
        await_byte(sync, GROUPED)?;
        sys::unshare(libc::CLONE_NEWCGROUP)?;
    }
    let root = mounts::mount_root(&plan.mounts, position)?;
    mounts::mount_all(&plan.mounts, root.as_raw_fd(), position)?;
    let terminal = plan.process.terminal;
    if let Some(size) = terminal {
        position.at(Stage::Console);
        let slave = console::open(root.as_raw_fd(), size, plan.process.uid, sync)?;
        console::bind(root.as_raw_fd(), slave.as_raw_fd())?;
        take_terminal(slave)?;
    }
    write_sysctls(plan, position)?;
    position.at(Stage::WorkingDirectory);
    working_directory::make(root.as_raw_fd(), &plan.process.cwd)?;
    restrictions::restrict(&plan.mounts, root.as_raw_fd(), position)?;
    position.at(Stage::Hostname);
    if let Some(name) = &plan.hostname {
        // SAFETY: the name is readable for its whole length.
        sys::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    }
    if let Some(name) = &plan.domainname {
        // SAFETY: the name is readable for its whole length.
        sys::check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into())?;
    }
    mounts::pivot(&plan.mounts, root.as_raw_fd(), position)?;
    prepare(
        &plan.process,
        root.as_raw_fd(),
        terminal.is_none(),
        position,
    )
}

fn join_container(
    process: &ProcessPlan,
    namespaces: RawFd,
    sync: RawFd,
    position: &mut Position,
) -> SysResult<()> {
    position.at(Stage::Join);
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    sys::setns(namespaces, kinds)?;
    let root = sys::openat2(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
    if let Some(size) = process.terminal {
        position.at(Stage::Console);
        let slave = console::open(root.as_raw_fd(), size, process.uid, sync)?;
        take_terminal(slave)?;
    }
    prepare(
        process,
        root.as_raw_fd(),
        process.terminal.is_none(),
        position,
    )
}

/// Everything both kinds of process do once they see the container's root.
fn prepare(
    process: &ProcessPlan,
    root: RawFd,
    pipes: bool,
    position: &mut Position,
) -> SysResult<()> {
    if pipes {
        position.at(Stage::Stdio);
        // SAFETY: plain system call; a new process is never a group leader of others.
        unsafe { libc::setsid() };
        for (target, source) in (0..).zip(process.stdio) {
            give_to_user(source, process.uid)?;
            duplicate(source, target)?;
        }
    }
    position.at(Stage::Limit);
    for (index, (resource, soft, hard)) in process.rlimits.iter().enumerate() {
        position.at_item(Stage::Limit, index);
        let limit = libc::rlimit {
            rlim_cur: *soft,
            rlim_max: *hard,
        };
        // SAFETY: the structure outlives the call.
        sys::check(unsafe { libc::setrlimit(*resource, &raw const limit) }.into())?;
    }
    position.at(Stage::WorkingDirectory);
    working_directory::enter(root, &process.cwd)?;
    // SAFETY: plain system call.
    unsafe { libc::umask(process.umask) };
    position.at(Stage::Capabilities);
    privileges::drop_bounding(process.capabilities.bounding)?;
    position.at(Stage::User);
    privileges::change_user(process)?;
    // A container never outlives the shim that knows its exit status.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    position.at(Stage::Lookup);
    find_command(process).map(drop)
}

/// Waits for the start, gives up the last privileges and executes.
fn finish(
    process: &ProcessPlan,
    init: bool,
    host_proc: Option<&OwnedFd>,
    sync: RawFd,
    position: &mut Position,
) -> SysResult<()> {
    let ready = position.report(ReportKind::Ready, 0);
    sys::write(sync, &ready.to_bytes())?;
    await_byte(sync, START)?;
    position.at(Stage::Exec);
    reset_signals();
    let profile = process.apparmor.as_ref().zip(host_proc);
    if init {
        // SAFETY: this process has one thread.
        let child = unsafe { sys::fork() }?;
        if child != 0 {
            position.at(Stage::AppArmor);
            if let Some((request, proc)) = profile {
                request.now(proc)?;
            }
            reaper::run(child, process);
        }
        reaper::become_main(process.terminal.is_some());
    }
    position.at(Stage::AppArmor);
    if let Some((request, proc)) = profile {
        request.at_exec(proc)?;
    }
    position.at(Stage::Lookup);
    let path = find_command(process)?;
    sys::close_on_exec_from(3)?;
    position.at(Stage::Seccomp);
    if process.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
        position.at(Stage::Capabilities);
        privileges::apply_capabilities(&process.capabilities)?;
        position.at(Stage::Seccomp);
        privileges::install_filter(process)?;
    } else {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, so the capabilities go last.
        privileges::install_filter(process)?;
        position.at(Stage::Capabilities);
        privileges::apply_capabilities(&process.capabilities)?;
    }
    position.at(Stage::Exec);
    // SAFETY: path and both vectors are null-terminated and live on.
    unsafe {
        libc::execve(
            path.as_ptr(),
            process.argv().as_ptr(),
            process.envp().as_ptr(),
        )
    };
    Err(sys::errno())
}

fn await_byte(sync: RawFd, expected: u8) -> SysResult<()> {
    let mut byte = [0];
    loop {
        match sys::read(sync, &mut byte) {
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
            // The shim is gone: nobody is left to run for.
            Ok(0) => sys::exit_now(1),
            Ok(_) if byte == [expected] => return Ok(()),
            Ok(_) => return Err(libc::EPROTO),
        }
    }
}

fn take_terminal(slave: OwnedFd) -> SysResult<()> {
    // SAFETY: plain system calls on an open descriptor.
    unsafe {
        sys::check(libc::setsid().into())?;
        sys::check(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0).into())?;
    }
    for target in 0..3 {
        duplicate(slave.as_raw_fd(), target)?;
    }
    Ok(())
}

fn duplicate(source: RawFd, target: RawFd) -> SysResult<()> {
    // SAFETY: plain system call.
    sys::check(unsafe { libc::dup2(source, target) }.into()).map(drop)
}

/// Lets a process that is not root open its own output again (`/dev/stdout`).
fn give_to_user(fd: RawFd, uid: u32) -> SysResult<()> {
    let stat = sys::fstat(fd)?;
    if uid == 0 || stat.st_mode & libc::S_IFMT == libc::S_IFCHR {
        return Ok(());
    }
    // SAFETY: plain system call.
    sys::check(unsafe { libc::fchown(fd, uid, u32::MAX) }.into()).map(drop)
}

fn write_sysctls(plan: &InitPlan, position: &mut Position) -> SysResult<()> {
    // The descriptor is the host's procfs, verified, and no mount may be in the way (CVE-2025-52881).
    let resolve = libc::RESOLVE_BENEATH
        | libc::RESOLVE_NO_XDEV
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_NO_MAGICLINKS;
    for (index, (path, value)) in plan.sysctls.iter().enumerate() {
        position.at_item(Stage::Sysctl, index);
        let file = sys::openat2(plan.proc.as_raw_fd(), path, libc::O_WRONLY, 0, resolve)?;
        sys::write(file.as_raw_fd(), value)?;
    }
    Ok(())
}

fn bring_loopback_up() -> SysResult<()> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, source) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = *source as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request outlives both calls; the socket is closed again.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        sys::check(socket.into())?;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        libc::close(socket);
        sys::check(result.into()).map(drop)
    }
}

/// Gives the command the signal dispositions and mask a fresh process has.
///
/// The kernel is asked itself: the C library keeps two signals to itself, which a parent may have ignored.
fn reset_signals() {
    /// The kernel's own `struct sigaction` with the default handler, no flags and an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    // SAFETY: resetting to default needs nothing that lives on; action and set are valid memory.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                let earlier = std::ptr::null_mut::<u64>();
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    DEFAULT.as_ptr(),
                    earlier,
                    MASK_BYTES,
                );
            }
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Sends the terminal's master side to the shim.
pub fn send_master(sync: RawFd, master: RawFd) -> SysResult<()> {
    let report = Report {
        kind: ReportKind::Console,
        stage: Stage::Console,
        index: 0,
        errno: 0,
    };
    socket::send(sync, &report.to_bytes(), &[master]).map(drop)
}
