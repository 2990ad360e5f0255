//! Repositories and a server of them, on loopback.

use crate::harness::eventually;
use crate::web::in_network;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs git in a directory, with names and times that are always the same.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "init.defaultBranch=main", "-c", "user.name=n"])
        .args(["-c", "user.email=n@e"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_COMMITTER_DATE", "1600000000 +0000")
        .env("GIT_AUTHOR_DATE", "1600000000 +0000")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `git daemon` over a directory.
pub struct Server {
    program: Child,
    /// Where it listens on loopback.
    pub port: u16,
}

impl Server {
    /// Serves all repositories below a directory.
    pub fn start(directory: &Path) -> Self {
        Self::start_in(directory, None)
    }

    /// The same in the network namespace that a path names.
    pub fn start_in(directory: &Path, namespace: Option<&Path>) -> Self {
        let port = in_network(namespace, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        });
        // The program itself: a wrapper would leave it running.
        let place = git(directory, &["--exec-path"]);
        let daemon = Path::new(&place).join("git-daemon");
        let mut command = match namespace {
            None => Command::new(daemon),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display()));
                command.arg(daemon);
                command
            }
        };
        let program = command
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.display()))
            .arg(directory)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { program, port };
        eventually("git daemon listens", || {
            in_network(namespace, || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.program.kill();
        let _reaped = self.program.wait();
    }
}
