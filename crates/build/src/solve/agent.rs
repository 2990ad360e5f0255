//! An SSH agent of the caller's, for one step: a socket of our own that passes everything on.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use wharf_safefs::{Caller, FsError, trusted};
use wharf_store::Store;

use crate::BuildError;

static NEXT: AtomicU64 = AtomicU64::new(0);
/// Bytes that are passed on at once; an agent's messages are small.
const BUFFER_BYTES: usize = 16 << 10;
/// Connections of one step at once.
const MAX_CONNECTIONS: usize = 64;

/// The socket; gone when this is dropped.
pub(super) struct Agent {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts passing on what comes to a new socket, with the rights of the caller.
    ///
    /// # Errors
    /// A socket that the caller may not use, or that nobody listens on.
    pub fn start(
        store: &Store,
        agent: &Path,
        caller: Option<&Caller>,
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<Self, BuildError> {
        drop(connect(agent, caller)?);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = store
            .root()
            .join("tmp")
            .join(format!("agent-{}-{number}", std::process::id()));
        let listener =
            UnixListener::bind(&path).map_err(|error| FsError::io("listen on", &path, error))?;
        trusted::chmod(&path, mode & 0o777)?;
        trusted::chown(&path, Some(uid), Some(gid))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (agent, caller, stopped) =
                (agent.to_path_buf(), caller.cloned(), Arc::clone(&stopped));
            move || serve(&listener, &agent, caller.as_ref(), &stopped)
        });
        Ok(Self {
            path,
            stopped,
            thread: Some(thread),
        })
    }

    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which then sees that it is to stop.
        let _woken = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
        let _swept_later = trusted::remove_all(&self.path);
    }
}

fn connect(agent: &Path, caller: Option<&Caller>) -> Result<UnixStream, BuildError> {
    let _assumed = caller.map(Caller::assume).transpose()?;
    UnixStream::connect(agent)
        .map_err(|error| FsError::io("reach the ssh agent at", agent, error).into())
}

fn serve(listener: &UnixListener, agent: &Path, caller: Option<&Caller>, stopped: &AtomicBool) {
    let open = Arc::new(());
    for client in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(client), Ok(server)) = (client, connect(agent, caller)) else {
            continue;
        };
        if Arc::strong_count(&open) > MAX_CONNECTIONS {
            continue;
        }
        let open = Arc::clone(&open);
        std::thread::spawn(move || {
            pass_both_ways(client, server);
            drop(open);
        });
    }
}

fn pass_both_ways(client: UnixStream, server: UnixStream) {
    let (Ok(client_in), Ok(server_in)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let back = std::thread::spawn(move || pass(server_in, client));
    pass(client_in, server);
    let _ended = back.join();
}

/// Passes bytes on until either side is gone.
fn pass(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = [0_u8; BUFFER_BYTES];
    while let Ok(count) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _gone_already = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::Agent;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use wharf_store::Store;

    #[test]
    fn messages_go_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let path = directory.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let echo = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut client, _) = listener.accept().unwrap();
                let mut text = String::new();
                client.read_to_string(&mut text).unwrap();
                let _probed_only = client.write_all(text.to_uppercase().as_bytes());
            }
        });
        let agent = Agent::start(&store, &path, None, (0, 0, 0o600)).unwrap();
        let mut client = UnixStream::connect(agent.path()).unwrap();
        client.write_all(b"sign").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "SIGN");
        echo.join().unwrap();
        let socket = agent.path().to_path_buf();
        drop(agent);
        assert!(!socket.exists());
        assert!(Agent::start(&store, &directory.path().join("none"), None, (0, 0, 0)).is_err());
    }
}
