//! An SSH agent for one step: a socket of our own that passes everything on to the caller's agent, or to one that holds
//! keys of the caller's files.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wharf_safefs::{Caller, FileType, FsError, trusted};
use wharf_store::Store;

use crate::BuildError;

static NEXT: AtomicU64 = AtomicU64::new(0);
/// Bytes that are passed on at once; an agent's messages are small.
const BUFFER_BYTES: usize = 16 << 10;
/// Connections of one step at once.
const MAX_CONNECTIONS: usize = 64;

/// Most bytes of a key's file.
const MAX_KEY_BYTES: u64 = 100 << 10;
/// Ends the agent when the other end of its input is closed, also by a crash of the daemon.
const KEEPER: &str =
    "command -v ssh-agent >/dev/null || exit; ssh-agent -D -a \"$0\" & read -r end; kill $!; wait";
/// How long a new agent may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The socket; gone when this is dropped.
pub(super) struct Agent {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What holds the keys, where the caller named files.
    _keys: Option<KeyAgent>,
}

/// A program that holds keys; ended when this is dropped.
struct KeyAgent {
    program: Child,
    socket: PathBuf,
}

/// Returns what is told where a build is not given an agent that it needs.
pub(super) fn no_agent(id: &str) -> BuildError {
    BuildError::instruction(format!(
        "ssh agent {id}: not found: pass it with --ssh {id}, or --ssh {id}=SOCKET, or --ssh {id}=KEYFILE"
    ))
}

impl Agent {
    /// Starts passing on what comes to a new socket, with the rights of the caller: to the socket that is given, or to
    /// the keys in the files that are.
    ///
    /// # Errors
    /// A socket that the caller may not use, or that nobody listens on; files that are no keys or need a passphrase.
    pub fn start(
        store: &Store,
        given: &[PathBuf],
        caller: Option<&Caller>,
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<Self, BuildError> {
        let (agent, caller, keys) = match given {
            [socket] if is_socket(socket, caller)? => (socket.clone(), caller, None),
            files => {
                let keys = KeyAgent::start(store, &read_keys(files, caller)?)?;
                (keys.socket.clone(), None, Some(keys))
            }
        };
        drop(connect(&agent, caller)?);
        let path = new_path(store);
        let listener =
            UnixListener::bind(&path).map_err(|error| FsError::io("listen on", &path, error))?;
        trusted::chmod(&path, mode & 0o777)?;
        trusted::chown(&path, Some(uid), Some(gid))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (caller, stopped) = (caller.cloned(), Arc::clone(&stopped));
            move || serve(&listener, &agent, caller.as_ref(), &stopped)
        });
        Ok(Self {
            path,
            stopped,
            thread: Some(thread),
            _keys: keys,
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

/// Returns a path that nothing else has.
fn new_path(store: &Store) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("agent-{}-{number}", std::process::id());
    store.root().join("tmp").join(name)
}

fn is_socket(path: &Path, caller: Option<&Caller>) -> Result<bool, BuildError> {
    let _assumed = caller.map(Caller::assume).transpose()?;
    Ok(trusted::metadata(path)?.file_type == FileType::Socket)
}

/// Reads files of keys with the rights of the caller.
fn read_keys(
    files: &[PathBuf],
    caller: Option<&Caller>,
) -> Result<Vec<(PathBuf, Vec<u8>)>, BuildError> {
    let _assumed = caller.map(Caller::assume).transpose()?;
    let read = |file: &PathBuf| Ok((file.clone(), trusted::read_limited(file, MAX_KEY_BYTES)?));
    files.iter().map(read).collect()
}

impl KeyAgent {
    fn start(store: &Store, keys: &[(PathBuf, Vec<u8>)]) -> Result<Self, BuildError> {
        let socket = new_path(store);
        let program = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| no_program("sh", &error))?;
        let mut agent = Self { program, socket };
        agent.wait()?;
        for (file, key) in keys {
            agent.add(file, key)?;
        }
        Ok(agent)
    }

    /// Waits until the program listens.
    fn wait(&mut self) -> Result<(), BuildError> {
        let began = Instant::now();
        while UnixStream::connect(&self.socket).is_err() {
            let has_ended = !matches!(self.program.try_wait(), Ok(None));
            if has_ended || began.elapsed() > START_TIMEOUT {
                return Err(BuildError::instruction(
                    "--ssh with files of keys needs the program ssh-agent (Debian's package openssh-client), which does not start",
                ));
            }
            std::thread::sleep(START_POLL_INTERVAL);
        }
        Ok(())
    }

    fn add(&self, file: &Path, key: &[u8]) -> Result<(), BuildError> {
        let mut program = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &self.socket)
            // Nobody is there to be asked for a passphrase.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "/bin/false")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| no_program("ssh-add", &error))?;
        if let Some(mut input) = program.stdin.take() {
            // A program that does not want the key says why when it ends.
            let _refused = input.write_all(key);
        }
        let output = program
            .wait_with_output()
            .map_err(|error| no_program("ssh-add", &error))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(BuildError::instruction(format!(
            "--ssh: {} cannot be used: it is no private key, or it needs a passphrase; add it to an agent and pass \
             that ({told})",
            file.display()
        )))
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _reaped = self.program.wait();
        let _swept_later = trusted::remove_all(&self.socket);
    }
}

fn no_program(name: &str, error: &std::io::Error) -> BuildError {
    BuildError::instruction(format!(
        "--ssh with files of keys needs the program {name} (Debian's package openssh-client): {error}"
    ))
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
    use std::process::Command;
    use wharf_safefs::trusted;
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
        let agent = Agent::start(&store, &[path], None, (0, 0, 0o600)).unwrap();
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
        let none = directory.path().join("none");
        assert!(Agent::start(&store, &[none], None, (0, 0, 0)).is_err());
    }

    #[test]
    fn keys_come_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let key = |name: &str, passphrase: &str| {
            let path = directory.path().join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-C", name, "-N", passphrase, "-f"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
            path
        };
        let (one, two, locked) = (key("one", ""), key("two", ""), key("locked", "secret"));
        let agent = Agent::start(&store, &[one, two], None, (0, 0, 0o600)).unwrap();
        let listed = Command::new("ssh-add")
            .arg("-L")
            .env("SSH_AUTH_SOCK", agent.path())
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(
            listed.contains(" one\n") && listed.contains(" two\n"),
            "{listed}"
        );
        drop(agent);
        for wrong in [locked, directory.path().join("one.pub")] {
            let shown = wrong.display().to_string();
            let error = Agent::start(&store, &[wrong], None, (0, 0, 0))
                .err()
                .unwrap();
            assert!(
                error
                    .to_string()
                    .contains(&format!("{shown} cannot be used")),
                "{error}"
            );
        }
        let left = trusted::read_dir_sorted(directory.path().join("root/tmp")).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
