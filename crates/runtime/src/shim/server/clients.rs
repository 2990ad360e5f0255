//! Clients of a shim: who may connect, their requests, and the input they send.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::protocol::Response;
use crate::shim::connection::{Connection, Role};
use crate::shim::process::Process;
use crate::shim::server::{DEAF_TIME, MAX_CONNECTIONS, READ_BYTES, Server};
use crate::sys;

impl Server {
    /// Takes the clients that connect; those of other users are turned away.
    pub(super) fn accept(&mut self) {
        while self.connections.len() < MAX_CONNECTIONS {
            let fd = match self.listener.accept() {
                Ok((stream, _)) => OwnedFd::from(stream),
                // Whoever waits for a descriptor would be reported again at once.
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    self.deaf_until = Some(Instant::now() + DEAF_TIME);
                    return;
                }
                Err(_) => return,
            };
            if is_own_user(fd.as_raw_fd()) {
                self.connections.push(Connection::new(fd));
            }
        }
    }

    /// Says whether something is read from a client now.
    pub(super) fn listens_to(&self, connection: &Connection) -> bool {
        match &connection.role {
            Role::Asking => true,
            Role::Stream {
                process,
                attach,
                input_ended,
                ..
            } => {
                attach.stdin
                    && !input_ended
                    && !connection.closing
                    && self.find(*process).is_none_or(Process::takes_input)
            }
            _ => false,
        }
    }

    /// Serves a client that is ready.
    pub(super) fn serve(&mut self, index: usize, events: i16) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if events & libc::POLLOUT != 0 {
            connection.flush();
        }
        if events & libc::POLLIN != 0 {
            match &connection.role {
                Role::Asking => self.read_request(index),
                Role::Stream { .. } => self.read_input(index),
                _ => {}
            }
            return;
        }
        if events & (libc::POLLHUP | libc::POLLERR) != 0 {
            connection.dead = true;
            self.client_input_ended(index);
        }
    }

    fn read_request(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let response = match connection.read_request() {
            Ok(None) => return,
            Ok(Some(request)) => self.answer(request, index),
            Err(error) => Some(Response::Failed(crate::shim::failure(&error))),
        };
        if let (Some(response), Some(connection)) = (response, self.connections.get_mut(index)) {
            connection.answer(&response);
        }
    }

    fn read_input(&mut self, index: usize) {
        let mut buffer = [0; READ_BYTES];
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Role::Stream { process, .. } = connection.role else {
            return;
        };
        match sys::read(connection.fd(), &mut buffer) {
            Err(libc::EAGAIN | libc::EINTR) => {}
            Ok(count) if count > 0 => {
                let process = self.processes.iter_mut().find(|p| p.serial == process);
                if let Some(process) = process {
                    process.write_input(buffer.get(..count).unwrap_or_default());
                }
            }
            result => {
                connection.dead |= result.is_err();
                self.client_input_ended(index);
            }
        }
    }

    /// A client's input ended: the process's ends too (exec, `stdin_once`), or the client's
    /// output does (spec engine-api §2.2).
    fn client_input_ended(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Role::Stream {
            process,
            attach,
            input_ended,
            ..
        } = &mut connection.role
        else {
            return;
        };
        if !attach.stdin || *input_ended {
            return;
        }
        *input_ended = true;
        let serial = *process;
        let Some(process) = self.processes.iter_mut().find(|p| p.serial == serial) else {
            return;
        };
        if process.exec_id.is_some() || process.stdio.stdin_once {
            process.close_input();
        } else if !process.stdio.tty && process.stdio.open_stdin {
            connection.closing = true;
        }
    }
}

/// Says whether the other side of a connection is root or the shim's own user (`SO_PEERCRED`).
fn is_own_user(fd: RawFd) -> bool {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: peer and length outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    // SAFETY: plain system call.
    result == 0 && (peer.uid == 0 || peer.uid == unsafe { libc::geteuid() })
}
