//! Unix sockets: binding one for clients, seeing that a client has read, and that it left.

use crate::error::ApiError;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Gid, Uid};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode};
use rustix::net::AddressFamily;
use rustix::process::{Pid, test_kill_process};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, UnixListener};
use wharf_safefs::{FileType, trusted};

/// Mode of a socket: its owner and its group may use it.
const SOCKET_MODE: u32 = 0o660;
/// File of the group names.
const GROUP_FILE: &str = "/etc/group";
/// Bytes of the group file that are looked at.
const MAX_GROUP_FILE_BYTES: u64 = 4 << 20;
/// The request that tells how much the other end has not read (`linux/sockios.h`).
const SIOCOUTQ: Opcode = 0x5411;
/// First and longest pause between two looks at whether a client has read.
const MIN_READ_PAUSE: Duration = Duration::from_millis(1);
const MAX_READ_PAUSE: Duration = Duration::from_millis(16);
/// Longest wait for the socket of a server that has ended, and the pause between two looks.
const MAX_RELEASE_WAIT: Duration = Duration::from_secs(10);
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

/// Binds a unix socket with mode 0660, owned by `group` if a group of that name exists.
///
/// A socket that nobody listens on any more is replaced; the end of one that outlives its server is
/// waited for. The socket appears under its name only with its final mode and owner.
///
/// # Errors
/// Fails when a server listens there, when the path is something other than a socket, or when the
/// directory does not allow it. Needs a tokio runtime.
pub fn bind_unix(path: &Path, group: Option<&str>) -> Result<UnixListener, ApiError> {
    refuse_what_is_in_use(path)?;
    let fail = |source: io::Error| ApiError::Bind {
        path: path.to_owned(),
        source,
    };
    let hidden = hidden_name(path);
    remove_if_there(&hidden).map_err(fail)?;
    let listener = UnixListener::bind(&hidden).map_err(fail)?;
    let publish = || -> io::Result<()> {
        if let Some(gid) = group.and_then(group_id) {
            let gid = Some(Gid::from_raw(gid));
            rustix::fs::chownat(CWD, &hidden, None::<Uid>, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        trusted::chmod(&hidden, SOCKET_MODE)?;
        Ok(trusted::rename(&hidden, path)?)
    };
    publish().map_err(|error| {
        // The name is ours and of no use to anybody; a failure to remove it changes nothing.
        let _ = remove_if_there(&hidden);
        fail(error)
    })?;
    Ok(listener)
}

/// Binds `host:port`; the first address of the name that can be bound is taken.
///
/// # Errors
/// A name that cannot be resolved, an address in use. Needs a tokio runtime.
pub async fn bind_tcp(address: &str) -> Result<TcpListener, ApiError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ApiError::BindAddress {
            address: address.to_owned(),
            source,
        })
}

/// Returns a name in the same directory, short enough for a socket address.
fn hidden_name(path: &Path) -> PathBuf {
    let name = format!(".{:x}", std::process::id());
    path.parent()
        .map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name))
}

/// Fails unless the path is free or a socket nobody listens on.
fn refuse_what_is_in_use(path: &Path) -> Result<(), ApiError> {
    let found = match trusted::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => {
            return Err(ApiError::Bind {
                path: path.to_owned(),
                source: error.into(),
            });
        }
    };
    if found.file_type != FileType::Socket {
        return Err(ApiError::NotASocket {
            path: path.to_owned(),
        });
    }
    let until = Instant::now() + MAX_RELEASE_WAIT;
    loop {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(stream) => {
                if Instant::now() >= until || !has_ended(stream) {
                    return Err(ApiError::InUse {
                        path: path.to_owned(),
                    });
                }
                std::thread::sleep(RELEASE_PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(source) => {
                return Err(ApiError::Bind {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}

/// Tells whether the process that made the socket at the other end has ended.
///
/// One that was killed while it started a program leaves its sockets to that child until the child
/// executes it (`SO_PEERCRED` of unix(7) tells who called `listen`).
fn has_ended(stream: std::os::unix::net::UnixStream) -> bool {
    let maker = stream
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stream)?.peer_cred());
    // A maker outside this PID namespace has the number 0.
    let pid = maker.ok().and_then(|maker| Pid::from_raw(maker.pid()?));
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match trusted::remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells whether this machine has a group of that name.
pub fn group_exists(name: &str) -> bool {
    group_id(name).is_some()
}

/// Returns the number of a group of this machine; None when there is none of that name.
fn group_id(name: &str) -> Option<u32> {
    let text = trusted::read_to_string(GROUP_FILE, MAX_GROUP_FILE_BYTES).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// Returns a future that ends when the other end of `socket` is closed altogether.
///
/// A client that only closes its sending half is still there, so the end of its bytes says nothing;
/// a long answer that has nothing to send at the moment would otherwise never end. The future holds
/// the socket by a descriptor of its own.
pub(crate) fn hang_up_of(socket: BorrowedFd<'_>) -> impl Future<Output = ()> + Send + use<> {
    let watched = socket
        .try_clone_to_owned()
        .map_err(drop)
        .and_then(|descriptor| {
            // SAFETY: an owned descriptor stays open and the same until it is dropped, and the value
            // registered here is never taken out again.
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::WRITABLE) }.map_err(drop)
        });
    async move {
        let Ok(watched) = watched else {
            return std::future::pending().await;
        };
        // Room to write comes and goes, the end of the other side's bytes is not seen at all; both
        // sides closed shows as the end of writing.
        while !is_hung_up(watched.get_ref()) {
            match watched.writable().await {
                Ok(ready) if ready.ready().is_write_closed() => return,
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

/// Returns a future that ends once the client has read everything that was written to a unix socket so far.
///
/// Over TCP only the arrival at the other machine can be seen, so that there it ends at once. The
/// future holds the socket by a descriptor of its own.
pub(crate) fn all_read(socket: BorrowedFd<'_>) -> impl Future<Output = ()> + Send + use<> {
    let is_unix = rustix::net::sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX);
    let watched = is_unix.then(|| socket.try_clone_to_owned().ok()).flatten();
    async move {
        let Some(watched) = watched else { return };
        let mut pause = MIN_READ_PAUSE;
        while unread_bytes(&watched) > 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_READ_PAUSE);
        }
    }
}

/// Returns how many bytes (with the kernel's own overhead) the other end of a unix socket has not
/// read (`unix(7)`); zero where that cannot be told.
fn unread_bytes(socket: &OwnedFd) -> i32 {
    // SAFETY: the request writes one int (unix(7), SIOCOUTQ).
    unsafe { rustix::ioctl::ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }.unwrap_or(0)
}

fn is_hung_up(socket: &OwnedFd) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut sockets, Some(&at_once)).is_ok()
        && sockets
            .iter()
            .any(|socket| socket.revents().contains(PollFlags::HUP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// A directory of one test, removed when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wharf-api-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn replaces_a_stale_socket_and_refuses_a_live_one() {
        let scratch = Scratch::new("bind");
        let path = scratch.0.join("s.sock");
        let listener = bind_unix(&path, Some("no such group")).expect("bound");
        let mode = std::fs::metadata(&path)
            .expect("a socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(
            bind_unix(&path, None),
            Err(ApiError::InUse { .. })
        ));
        drop(listener);
        let _again = bind_unix(&path, None).expect("a stale socket is replaced");
        let names: Vec<_> = std::fs::read_dir(&scratch.0)
            .expect("a directory")
            .collect();
        assert_eq!(names.len(), 1);
    }

    #[tokio::test]
    async fn refuses_what_is_no_socket() {
        let scratch = Scratch::new("file");
        let path = scratch.0.join("file");
        std::fs::write(&path, "keep").expect("written");
        assert!(matches!(
            bind_unix(&path, None),
            Err(ApiError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "keep");
    }

    #[tokio::test]
    async fn a_reader_is_waited_for() {
        let (mut client, mut server) = UnixStream::pair().expect("a socket pair");
        all_read(server.as_fd()).await;
        server.write_all(b"head").await.expect("sent");
        let read = all_read(server.as_fd());
        tokio::pin!(read);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut read).await;
        assert!(early.is_err(), "nothing was read");
        client.read_exact(&mut [0; 4]).await.expect("read");
        read.await;
    }

    #[tokio::test]
    async fn half_closing_is_no_hang_up() {
        let (mut client, server) = UnixStream::pair().expect("a socket pair");
        let hang_up = hang_up_of(server.as_fd());
        tokio::pin!(hang_up);
        client.write_all(b"x").await.expect("sent");
        client.shutdown().await.expect("half closed");
        let early = tokio::time::timeout(Duration::from_millis(50), &mut hang_up).await;
        assert!(early.is_err(), "the client is still there");
        drop(client);
        hang_up.await;
    }
}
