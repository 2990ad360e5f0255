//! The end of processes: reaping, draining, telling, cleaning up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::init::reaper::exit_code;
use crate::protocol::{EXIT_NAME, ExitFile, Response};
use crate::request::ExitStatus;
use crate::shim::connection::Role;
use crate::shim::process::{DRAIN_TIMEOUT, Exit, Process};
use crate::shim::server::Server;
use crate::state;

/// How long an ended exec's code is remembered.
const EXEC_MEMORY: Duration = Duration::from_secs(300);

/// The most ended execs whose codes are remembered; the first ones are forgotten for those that follow.
const MAX_ENDED_EXECS: usize = 256;

/// How long clients that do not read may hold the shim once all is over.
const LINGER: Duration = Duration::from_secs(10);

/// The code of a process that was killed and not seen to end.
const KILLED: i32 = 128 + libc::SIGKILL;

impl Server {
    /// Reaps every ended child, orphans of the container included.
    pub(super) fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: status outlives the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            let process = self
                .processes
                .iter_mut()
                .find(|process| process.pid == pid && process.exit.is_none());
            if let Some(process) = process {
                process.exit = Some(Exit {
                    code: exit_code(status),
                    at_ns: state::now_ns(),
                    drain_until: Instant::now() + DRAIN_TIMEOUT,
                });
                if process.exec_id.is_none() && !self.own_pid_namespace {
                    // Without a pid namespace of its own the rest does not end by itself.
                    let _ = self.cgroup.kill_all();
                }
            }
        }
    }

    /// Settles the processes whose output is drained and tells who waits for them.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        for index in 0..self.processes.len() {
            let is_over = self
                .processes
                .get(index)
                .is_some_and(|process| process.settled.is_none() && process.is_drained(now));
            if !is_over {
                continue;
            }
            self.pump_rest(index);
            let Some(process) = self.processes.get_mut(index) else {
                continue;
            };
            process.settle(now);
            if let Some(id) = process.exec_id.clone() {
                let code = process.exit.map_or(KILLED, |exit| exit.code);
                self.tell_exec(&id, code);
                self.close_streams(index);
            }
        }
        let container = self.processes.first();
        if self.finished.is_none() && container.is_some_and(|process| process.settled.is_some()) {
            self.finish(now);
        }
        self.forget_execs(now);
    }

    /// Forgets execs that ended long ago, or before many others.
    fn forget_execs(&mut self, now: Instant) {
        let ended = |process: &Process| process.settled.filter(|_| process.exec_id.is_some());
        let count = self.processes.iter().filter_map(ended).count();
        let mut excess = count.saturating_sub(MAX_ENDED_EXECS);
        self.processes.retain(|process| {
            let Some(settled) = ended(process) else {
                return true;
            };
            let is_forgotten = excess > 0 || now.duration_since(settled) >= EXEC_MEMORY;
            excess = excess.saturating_sub(1);
            !is_forgotten
        });
    }

    /// The container has ended: everything of it goes, then everybody is told.
    fn finish(&mut self, now: Instant) {
        let Some(exit) = self.processes.first().and_then(|process| process.exit) else {
            return;
        };
        self.reap();
        let status = ExitStatus {
            code: exit.code,
            oom_killed: self.cgroup.oom_kills() > 0,
            finished_at_ns: exit.at_ns,
        };
        let mut execs = BTreeMap::new();
        for process in &mut self.processes {
            if let Some(id) = process.exec_id.clone() {
                let ended = process.exit.get_or_insert(Exit {
                    code: KILLED,
                    at_ns: exit.at_ns,
                    drain_until: now,
                });
                execs.insert(id, ended.code);
            }
        }
        // Gone before anybody is told, so that a restart finds its place free. What cannot be
        // removed now is swept when the daemon starts.
        let _ = self.cgroup.kill_all();
        if let Some(external) = &self.external {
            external.delete();
        }
        let _ = self.cgroup.remove();
        let file = ExitFile {
            status,
            execs: execs.clone(),
            started: self.started,
        };
        // Whoever waits is told even if the file cannot be written.
        let _ = state::write(&self.state_dir, EXIT_NAME, &file);
        self.finished = Some(status);
        for (id, code) in &execs {
            self.tell_exec(id, *code);
        }
        for connection in &mut self.connections {
            if matches!(connection.role, Role::WaitsForExit) {
                connection.answer(&Response::Exited(status));
            }
        }
        for index in 0..self.processes.len() {
            if let Some(process) = self.processes.get_mut(index)
                && process.settled.is_none()
            {
                process.settle(now);
            }
            self.close_streams(index);
        }
        self.linger_until = Some(now + LINGER);
    }

    fn tell_exec(&mut self, exec: &str, code: i32) {
        for connection in &mut self.connections {
            if matches!(&connection.role, Role::WaitsForExec(id) if id == exec) {
                connection.answer(&Response::ExecExited(code));
            }
        }
    }

    fn close_streams(&mut self, index: usize) {
        let Some(serial) = self.processes.get(index).map(|process| process.serial) else {
            return;
        };
        for connection in &mut self.connections {
            if connection.is_stream_of(serial) {
                connection.closing = true;
            }
        }
    }
}
