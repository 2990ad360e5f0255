//! A real dockerd to record from.

use crate::harness::PATIENCE;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A real dockerd in namespaces of its own.
pub struct Peer {
    directory: tempfile::TempDir,
    child: Child,
}

impl Peer {
    /// Starts a daemon of a root as `scripts/peer-daemon` takes it, on empty data, with further flags.
    pub fn start(root: &Path, flags: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wharf-peer-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peer-daemon");
        let child = Command::new(script)
            .arg(root)
            .arg(directory.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let peer = Self { directory, child };
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(peer.path("docker.sock")).is_err() {
            let log = std::fs::read_to_string(peer.path("log")).unwrap_or_default();
            assert!(Instant::now() < until, "dockerd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        peer
    }

    /// Returns the path of its network namespace, in which only loopback is.
    pub fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.child.id()))
    }

    /// Returns a path in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // `unshare --kill-child` takes everything with it once its parent is gone.
        let _already_dead = self.child.kill();
        let _ended = self.child.wait();
        std::thread::sleep(Duration::from_millis(500));
    }
}
