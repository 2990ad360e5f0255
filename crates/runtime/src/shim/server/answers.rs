//! Carrying out what clients ask: starting, attaching, executing, waiting, signals.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use crate::error::{Result, RuntimeError};
use crate::init::plan::ProcessPlan;
use crate::init::{self, console};
use crate::protocol::{Request, Response};
use crate::request::{AttachRequest, ExecRequest, ExecStarted, Started, Stdio};
use crate::shim::connection::Role;
use crate::shim::external::Made;
use crate::shim::new_container::Waiting;
use crate::shim::process::{Exit, Process};
use crate::shim::server::Server;
use crate::sys;

/// The most execs that run at a time.
const MAX_EXECS: usize = 4096;

impl Server {
    /// Carries a request out; none where the answer comes later.
    pub(super) fn answer(&mut self, request: Request, index: usize) -> Option<Response> {
        let result = match request {
            Request::Start => self.start().map(Response::Started),
            Request::Attach(attach) => self.attach(index, attach),
            Request::Exec(exec) => self.exec(index, *exec),
            Request::State => Ok(Response::State(self.started)),
            Request::Wait => return self.wait(index),
            Request::WaitExec(id) => return self.wait_exec(index, id),
            Request::Resize {
                exec,
                height,
                width,
            } => self.resize(exec.as_deref(), height, width),
            Request::CloseStdin { exec } => self.find_exec(exec.as_deref()).map(|process| {
                process.close_input();
                Response::Done
            }),
            Request::Signal { exec, signal } => self.signal(exec.as_deref(), signal),
            Request::Release => {
                self.kill_container();
                return self.wait(index);
            }
        };
        Some(result.unwrap_or_else(|error| Response::Failed(crate::shim::failure(&error))))
    }

    fn start(&mut self) -> Result<Started> {
        let Some(waiting) = self.waiting.take() else {
            return Err(RuntimeError::invalid(
                "start",
                "the container was started already",
            ));
        };
        let result = match (waiting, &self.external) {
            (Waiting::Own(mut spawned), _) => init::start(&mut spawned),
            (Waiting::External, Some(external)) => external.start(),
            (Waiting::External, None) => Err(RuntimeError::NotRunning),
        };
        if let Err(error) = result {
            let code = init::start_failure_code(&error.to_string());
            self.kill_container();
            if let Some(process) = self.processes.first_mut() {
                process.exit = Some(Exit {
                    code,
                    at_ns: crate::state::now_ns(),
                    drain_until: Instant::now(),
                });
            }
            return Err(error);
        }
        if !self.stop_on_disconnect {
            self.launcher = None;
        }
        let started = Started {
            pid: self
                .processes
                .first()
                .map_or(0, |process| process.pid.unsigned_abs()),
        };
        self.started = Some(started);
        Ok(started)
    }

    fn attach(&mut self, index: usize, attach: AttachRequest) -> Result<Response> {
        let process = self.find_exec(None)?;
        if process.settled.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        let mut attach = attach;
        attach.stdin &= process.stdio.open_stdin;
        let (serial, framed) = (process.serial, !process.stdio.tty);
        self.make_stream(index, serial, attach, framed);
        Ok(Response::Attached)
    }

    fn exec(&mut self, index: usize, request: ExecRequest) -> Result<Response> {
        let container = self
            .processes
            .first()
            .filter(|process| process.exit.is_none());
        let Some(container) = container.filter(|_| self.waiting.is_none()) else {
            return Err(RuntimeError::NotRunning);
        };
        if self.cgroup.is_frozen().unwrap_or(false) {
            // It would join the frozen group and be given up at once.
            return Err(RuntimeError::Paused);
        }
        let runs = |process: &&Process| process.exec_id.is_some() && process.settled.is_none();
        if self.processes.iter().filter(runs).count() >= MAX_EXECS {
            let reason = format!("{MAX_EXECS} are running");
            return Err(RuntimeError::invalid("exec", reason));
        }
        if self
            .processes
            .iter()
            .any(|p| p.exec_id.as_ref() == Some(&request.id))
        {
            return Err(RuntimeError::invalid(
                "exec",
                "an exec of this id was started already",
            ));
        }
        let stdio = Stdio {
            stdin_once: true,
            ..request.stdio
        };
        let made = self.make_exec(&request.process, stdio, container.pidfd.as_raw_fd())?;
        let started = ExecStarted {
            pid: made.pid.unsigned_abs(),
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        let (id, pid, pidfd) = (Some(request.id), made.pid, made.pidfd);
        let process = Process::new(serial, id, pid, pidfd, made.streams, stdio);
        self.processes.push(process);
        if let Some(mut attach) = request.attach {
            attach.stdin &= stdio.open_stdin;
            let framed = request.framed.unwrap_or(!stdio.tty);
            self.make_stream(index, serial, attach, framed);
        }
        Ok(Response::ExecStarted(started))
    }

    fn make_exec(
        &self,
        process: &oci_spec::runtime::Process,
        stdio: Stdio,
        container: RawFd,
    ) -> Result<Made> {
        if let Some(external) = &self.external {
            return external.exec(process, stdio, &self.cgroup);
        }
        let mut plan = ProcessPlan::new(process, stdio.tty, self.seccomp.clone())?;
        if let Some(size) = stdio.console_size
            && plan.terminal.is_some()
        {
            plan.terminal = Some(Some(size));
        }
        let spawned = init::exec(plan, stdio, container, &self.cgroup)?;
        Ok(Made {
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            streams: spawned.streams,
        })
    }

    fn make_stream(&mut self, index: usize, process: u64, attach: AttachRequest, framed: bool) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::Stream {
                process,
                attach,
                framed,
                input_ended: false,
            };
        }
    }

    fn wait(&mut self, index: usize) -> Option<Response> {
        if let Some(status) = self.finished {
            return Some(Response::Exited(status));
        }
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::WaitsForExit;
        }
        None
    }

    fn wait_exec(&mut self, index: usize, id: String) -> Option<Response> {
        match self.find_exec(Some(&id)) {
            Err(error) => return Some(Response::Failed(crate::shim::failure(&error))),
            Ok(process) => {
                if let (Some(exit), Some(_)) = (process.exit, process.settled) {
                    return Some(Response::ExecExited(exit.code));
                }
            }
        }
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::WaitsForExec(id);
        }
        None
    }

    fn resize(&mut self, exec: Option<&str>, height: u16, width: u16) -> Result<Response> {
        let process = self.find_exec(exec)?;
        if process.exit.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        // Clients may say how large their terminal is whatever the process runs on.
        let Some(terminal) = process.terminal() else {
            return Ok(Response::Done);
        };
        console::resize(terminal, height, width).map_err(|errno| {
            RuntimeError::io(
                "resize the terminal",
                std::io::Error::from_raw_os_error(errno),
            )
        })?;
        Ok(Response::Done)
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32) -> Result<Response> {
        let process = self.find_exec(exec)?;
        if process.exit.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        match sys::pidfd_send_signal(process.pidfd.as_raw_fd(), signal) {
            Ok(()) => Ok(Response::Done),
            Err(libc::ESRCH) => Err(RuntimeError::NotRunning),
            Err(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Err(RuntimeError::io(format!("send signal {signal}"), error))
            }
        }
    }

    fn find_exec(&mut self, exec: Option<&str>) -> Result<&mut Process> {
        let found = self
            .processes
            .iter_mut()
            .find(|process| process.exec_id.as_deref() == exec);
        found.ok_or_else(|| RuntimeError::NoSuchExec {
            id: exec.unwrap_or_default().to_owned(),
        })
    }
}
